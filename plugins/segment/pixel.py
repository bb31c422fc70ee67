"""Read calls from the query of a pixel, an image URL.

Sources: https://segment.com/docs/connections/sources/catalog/libraries/server/pixel-tracking-api/
(``?data=`` with JSON, base64-encoded or not); GitHub rudderlabs/rudder-server,
gateway/handle_http_pixel.go (a parameter per field, its name a dotted path).
"""

import base64
from collections.abc import Iterable
from typing import Any, Final

from gateway.plugin import Fault, Rejected, Response, loads, query_fields

PIXELS: Final = {
    **{
        f"/v1/pixel/{kind}": kind
        for kind in ("identify", "group", "alias", "page", "screen", "track")
    },
    "/pixel/v1/page": "page",
    "/pixel/v1/track": "track",
}
"""Kind of call by pixel path, of Segment and RudderStack."""
GIF: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent pixel."""
DEEPEST: Final = 32
"""Most steps in a dotted name."""
URL_SAFE: Final = str.maketrans("-_ ", "+/+")
"""Converts the URL-safe alphabet of RFC 4648 to the standard one; a plus sign may have become a
space."""


def image() -> Response:
    """Return the response to every pixel."""
    return Response(200, {"content-type": "image/gif"}, GIF)


def call_in(query: str) -> dict[str, Any]:
    """Return the call in *query*.

    Raises:
        Rejected: its data is not a JSON object, or a name has too many steps.
    """
    pairs = query_fields(query)
    given = dict(pairs)
    if "data" not in given:
        return _nested(pairs)
    try:
        call = loads(unpacked(given["data"]))
    except ValueError as error:
        raise Rejected("data", "expected JSON, or JSON in base64", Fault.MALFORMED) from error
    if type(call) is not dict:
        raise Rejected("data", "expected an object", Fault.TYPE, call)
    return {"writeKey": given["writeKey"], **call} if "writeKey" in given else call


def unpacked(data: str) -> bytes:
    """Return the JSON in *data*, which may be base64 of either alphabet, padded or not.

    Raises:
        ValueError: it is neither JSON nor base64.
    """
    if data.lstrip().startswith("{"):
        return data.encode()
    text = data.translate(URL_SAFE).rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    call: dict[str, Any] = {}
    for name, value in pairs:
        *above, last = name.split(".")
        if len(above) >= DEEPEST:
            raise Rejected("$", f"a name of more than {DEEPEST} steps", Fault.VALUE, name)
        node = call
        for step in above:
            inner = node.get(step)
            if type(inner) is not dict:
                inner = node[step] = {}
            node = inner
        node[last] = value
    visitor = call.get("anonymousId")
    if type(visitor) is str and len(visitor) > 1 and visitor[0] == visitor[-1] == '"':
        call["anonymousId"] = visitor[1:-1]
    return call
