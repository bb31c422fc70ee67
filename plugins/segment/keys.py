"""Find write keys in requests, and replace them.

Source: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
(Basic, ``writeKey`` in the body, Bearer beside it); GitHub rudderlabs/rudder-server,
gateway/handle_http_beacon.go and handle_http_pixel.go (the query).
"""

import base64
from collections import Counter
from typing import Any, Final
from urllib.parse import quote, unquote

import orjson

from gateway.plugin import (
    Request,
    Unrenderable,
    as_valid_json,
    basic,
    bearer,
    dumps,
    loads,
    query_fields,
)
from plugins.segment.files import SOURCE_CONFIG
from plugins.segment.pixel import PIXELS, unpacked

BEACON: Final = "/beacon/v1/batch"


def found(request: Request, payload: Any) -> str | None:
    """Return the write key of a request.

    The first of these counts: the user name of a Basic header, ``writeKey`` in the query of a
    beacon, a pixel or RudderStack's settings, ``writeKey`` in the body, the token of a Bearer
    header.
    """
    named = payload.get("writeKey") if type(payload) is dict else None
    in_query = request.path in {BEACON, *PIXELS, *SOURCE_CONFIG}
    asked = dict(query_fields(request.query)) if in_query else {}
    shown = basic(request)
    return (
        (shown.user if shown else None)
        or asked.get("writeKey")
        or (named if type(named) is str else None)
        or bearer(request)
    )


def in_body(body: bytes, key: str) -> bytes:
    """Return *body* with every write key replaced by *key*; every other byte stays.

    Keys are in the call or batch, and in the members of the batch. If a key also occurs in other
    text, the whole JSON is written again.

    Raises:
        ValueError: the body is not JSON.
        Unrenderable: the JSON must be written again, but is nested too deeply.
    """
    body = as_valid_json(body)
    payload = loads(body)
    if type(payload) is not dict:
        return body
    members = payload.get("batch")
    holders = [payload, *(members if type(members) is list else ())]
    named = [h for h in holders if type(h) is dict and type(h.get("writeKey")) is str]
    counts = Counter(holder["writeKey"] for holder in named)
    if all(body.count(dumps(old)) == count for old, count in counts.items()):
        for old in counts:
            body = body.replace(dumps(old), dumps(key))
        return body
    for holder in named:
        holder["writeKey"] = key
    try:
        return dumps(payload)
    except orjson.JSONEncodeError as error:
        raise Unrenderable(f"its write key cannot be replaced: {error}") from error


def in_query(query: str, key: str) -> str:
    """Return *query* with every write key replaced by *key*; every other byte stays."""
    return "&".join(_parameter(part, key) for part in query.split("&"))


def _parameter(part: str, key: str) -> str:
    name, _, value = part.partition("=")
    if unquote(name) == "writeKey":
        return f"{name}={quote(key, safe='')}"
    return f"{name}={_data(value, key)}" if unquote(name) == "data" else part


def _data(value: str, key: str) -> str:
    """Return the JSON in *value* with its keys replaced, in the same encoding.

    A value that is not JSON stays.
    """
    text = unquote(value)
    plain = text.lstrip().startswith("{")
    try:
        before = unpacked(text.replace("+", " ") if plain else text)
        after = in_body(before, key)
    except ValueError:
        return value
    if after == before:
        return value
    if plain:
        return quote(after.decode(), safe="")
    encode = base64.urlsafe_b64encode if {"-", "_"} & {*text} else base64.b64encode
    packed = encode(after).decode()
    if not text.endswith("="):
        packed = packed.rstrip("=")
    return quote(packed, safe="" if "%" in value else "+/=")
