"""Find the client's own key in a request, and send it on."""

import base64
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_plus

import orjson

from gateway.errors import Fault, Rejected, Unrenderable
from gateway.http import Request, header_text
from gateway.json_text import as_valid_json, dumps, loads, text_of
from gateway.plugin.vendor import Input
from gateway.redact import CREDENTIAL_NAME


def check_client_key(request: Request, vendor: str, reads: Input) -> None:
    """Check that a stored request has the client's key to send on.

    Args:
        request: the stored request.
        vendor: the vendor whose format it is in.
        reads: the input of the destination's vendor.

    Raises:
        Unrenderable: the request is in another vendor's format, or was stored without its key.
    """
    if vendor != reads.name:
        raise Unrenderable(
            f"the destination sends the client's own key, but a {vendor} request has no key for "
            f"{reads.name}"
        )
    if not reads.credential_in_body and reads.credential(request, None) is None:
        raise Unrenderable("the request was stored without the client's key")


def forward_as_sent(request: Request, base: str) -> Request:
    """Return a stored *request* to *base* as its client sent it, with the client's key."""
    return Request(
        method=request.method,
        url=base.rstrip("/") + request.url,
        headers=request.headers,
        body=as_valid_json(request.body),
    )


def with_client_key(rendered: Request, client: Request, reads: Input) -> Request:
    """Return *rendered*, which has a placeholder key, with the key of *client*.

    Args:
        rendered: a request from an output.
        client: the stored request of the event, in the same vendor's format.
        reads: that vendor's input.
    """
    headers = {k: v for k, v in rendered.headers.items() if k not in reads.credential_headers}
    headers |= {k: client.headers[k] for k in reads.credential_headers if k in client.headers}
    body = rendered.body
    if reads.credential_keys:
        payload, original = loads(body), _said(client.body, client.query)
        if not headers.keys() & reads.credential_headers:
            original.setdefault(reads.credential_keys[0], _credential(client, reads))
        for key in reads.credential_keys:
            _copy(payload, original, key.split("."))
        body = dumps(payload)
    return Request(method=rendered.method, url=rendered.url, headers=headers, body=body)


def _copy(payload: Any, original: Any, path: list[str]) -> None:
    """Copy the value at *path* from *original* to *payload*; if it is missing, remove it there."""
    name, *below = path
    mine = original.get(name) if isinstance(original, dict) else None
    if below:
        inner = payload.get(name)
        if isinstance(inner, dict):
            _copy(inner, mine, below)
    elif mine is None:
        payload.pop(name, None)
    else:
        payload[name] = mine


def client_secrets(request: Request, reads: Input) -> tuple[str, ...]:
    """Return all keys in a client's *request* in all spellings, the longest first."""
    found = {form for text in _texts(request, reads) for form in _forms(text)}
    return tuple(sorted(found, key=len, reverse=True))


def _texts(request: Request, reads: Input) -> Iterator[str]:
    for name in reads.credential_headers:
        if name in request.headers:
            yield from _header(header_text(request.headers[name]))
    found = _credential(request, reads)
    if found is not None:
        yield found
    yield from (said for key, said in parse_qsl(request.query) if key in reads.credential_keys)
    said = _said(request.body, request.query)
    yield from _keyed(said, reads)
    names = {key for key in reads.credential_keys if "." not in key}
    yield from _below(said, names)


def _credential(request: Request, reads: Input) -> str | None:
    """Return the key that the vendor's input finds; None if it finds none."""
    try:
        payload = reads.decode(request) if reads.credential_in_body else None
        return reads.credential(request, payload)
    except Exception:  # noqa: BLE001 - after any error of a plugin, the other places are still searched
        return None


def _below(payload: Any, names: Collection[str]) -> Iterator[str]:
    """Yield the texts under any of *names* at any depth in *payload*, as in calls of a batch.

    It also yields the texts under names of secrets, whoever they belong to.
    """
    left = [payload]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, str):
                    if inner and (name in names or CREDENTIAL_NAME.search(name)):
                        yield inner
                else:
                    left.append(inner)
        elif isinstance(value, list):
            left += value


def second_credentials(request: Request, reads: Input) -> Iterator[str | None]:
    """Yield each second key in *request*, such as a server's secret besides a page's key.

    It yields None for one that servers may read differently: a name in another spelling, in
    brackets or nested, a value that is not text, or a cookie or header of that name.
    """
    for key in reads.secret_keys:
        word = _letters(key)
        for name, value in request.headers.items():
            if word in _letters(name) or (name.lower() == "cookie" and word in _letters(value)):
                yield None
        yield from _seconds(_parts(request.query), key)
        yield from _seconds(_pairs(request.body), key)


def _seconds(pairs: Iterable[tuple[str, Any, bool]], key: str) -> Iterator[str | None]:
    word = _letters(key)
    for name, value, plain in pairs:
        if word in _letters(name):
            yield value if plain and name == key and isinstance(value, str) else None


def _parts(query: str) -> Iterator[tuple[str, Any, bool]]:
    """Yield the names and values of a query or form, and whether each name has no escapes."""
    for part in re.split("[&;]", query):
        name, _, value = part.partition("=")
        decoded = unquote_plus(unquote_plus(name))
        yield decoded, unquote_plus(value), decoded == name


def _pairs(body: bytes) -> list[tuple[str, Any, bool]]:
    """Return the names and values in a body, including repeated ones.

    Only members at the top level are plain, not nested ones.
    """
    if not body:
        return []
    within: list[list[tuple[str, Any]]] = []
    text = body.decode("utf-8", "replace")
    try:
        whole = json.loads(text, object_pairs_hook=within.append, parse_int=str, parse_float=str)
    except ValueError:
        return list(_parts(text))
    except RecursionError as error:
        raise Rejected("$", "the body is nested too deeply", Fault.MALFORMED) from error
    top = len(within) - 1 if whole is None and text.lstrip()[:1] == "{" else -1
    return [
        (name, value, index == top)
        for index, members in enumerate(within)
        for name, value in members
    ]


def _letters(name: str) -> str:
    """Return the letters and digits of *name* in lower case, as lenient servers compare names."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", name).lower())


def key_in_body(body: bytes, reads: Input) -> str | None:
    """Return the key in the *body* of a request that is not an event; None if it has none there."""
    return next(_keyed(_said(body), reads), None) if reads.credential_in_body else None


def _keyed(payload: Any, reads: Input) -> Iterator[str]:
    for key in reads.credential_keys:
        value = payload
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str | int) and str(value):
            yield str(value)


def _header(value: str) -> Iterator[str]:
    """Yield a header's value, and the keys in it (RFC 9110, section 11.4; RFC 7617)."""
    yield value
    scheme, _, rest = value.partition(" ")
    if rest.strip():
        yield rest.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(rest, validate=True).decode()
        except ValueError:  # not base64, or not text
            return
        yield from (decoded, *decoded.split(":", 1))


def _forms(text: str) -> Iterator[str]:
    """Yield *text*, trimmed, and as in JSON and in URLs."""
    yield text
    yield text.strip()
    yield orjson.dumps(text).decode()[1:-1]
    yield quote(text, safe="")


def _said(body: bytes, query: str = "") -> dict[str, Any]:
    """Return the fields of a body (JSON or form), and the fields of the query that it lacks."""
    found: dict[str, Any] = dict(parse_qsl(query))
    try:
        payload = loads(body)
    except orjson.JSONDecodeError:
        return found | dict(parse_qsl(text_of(body)))
    return found | payload if isinstance(payload, dict) else found
