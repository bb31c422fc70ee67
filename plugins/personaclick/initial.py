"""Respond to ``GET /init`` without PersonaClick: a device id and a session id.

Sources: PersonaClick, "Initialization (REST API)", https://personaclick.atlassian.net/wiki (query
and response; a device without an id gets one); GitHub PersonaClick/rn-sdk, lib/client.js (the
cookie ``did``) and MainSDK.js (it needs only ``did`` and ``seance``, and a ``message`` means a
failure).
"""

from string import ascii_letters, digits
from typing import Final
from urllib.parse import parse_qs

from gateway.plugin import Request, Response, json_response

ALPHABET: Final = digits + ascii_letters
"""Characters of the ids in the documents' examples, ``7rjVGhMykT`` and ``R5eQXkrKCf``."""
LENGTH: Final = 10
COOKIE: Final = "did={}; Path=/; Max-Age=31536000; SameSite=Lax"
"""It lasts a year; PersonaClick's own attributes are not documented."""
LONGEST: Final = 255


def parameter(request: Request, *names: str) -> str | None:
    """Return the first of *names* that the query has; blank ones count as missing."""
    query = parse_qs(request.query)
    return next((query[name][0] for name in names if query.get(name)), None)


def initialised(request: Request, made: str) -> Response:
    """Return the response to ``GET /init``: the received ids, and new ones for missing ids.

    Args:
        request: as received; ``did`` may be in its query or cookie.
        made: 32 random hexadecimal digits.
    """
    device = parameter(request, "did") or _cookie(request) or _id(made[:16])
    session = parameter(request, "seance", "sid") or _id(made[16:])
    answer = {"did": device, "seance": session}
    if not _plain(device):
        return json_response(200, answer)
    return json_response(200, answer, {"set-cookie": COOKIE.format(device)})


def _id(made: str) -> str:
    number, letters = int(made, 16), ""
    for _ in range(LENGTH):
        number, letter = divmod(number, len(ALPHABET))
        letters += ALPHABET[letter]
    return letters


def _cookie(request: Request) -> str | None:
    for part in request.headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "did" and _plain(value):
            return value
    return None


def _plain(device: str) -> bool:
    """Return whether *device* is valid in a cookie (RFC 6265, section 4.1.1)."""
    return 0 < len(device) <= LONGEST and all(c in ALPHABET or c in "-_." for c in device)
