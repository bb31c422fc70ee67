"""``GET /init``, answered without PersonaClick: a device's id and a session's.

Sources: PersonaClick, "Initialization (REST API)", https://personaclick.atlassian.net/wiki (the
query and the answer; a device that is not named gets an id); GitHub PersonaClick/rn-sdk,
lib/client.js (the cookie ``did``) and MainSDK.js (``did`` and ``seance`` are all that it needs, and
a ``message`` would be a failure).
"""

from string import ascii_letters, digits
from typing import Final
from urllib.parse import parse_qs

from gateway.plugin import Request, Response, json_response

ALPHABET: Final = digits + ascii_letters
"""Of the ids in the documents' examples, ``7rjVGhMykT`` and ``R5eQXkrKCf``."""
LENGTH: Final = 10
COOKIE: Final = "did={}; Path=/; Max-Age=31536000; SameSite=Lax"
"""A year; PersonaClick's own attributes are not documented."""
LONGEST: Final = 255


def parameter(request: Request, *names: str) -> str | None:
    """Return the first of some parameters that the query has; blank ones count as absent."""
    query = parse_qs(request.query)
    return next((query[name][0] for name in names if query.get(name)), None)


def initialised(request: Request, made: str) -> Response:
    """Return the answer to ``GET /init``: the ids that came along, and new ones for the others.

    Args:
        request: as received; ``did`` may stand in its query or its cookie.
        made: 32 hexadecimal digits that nobody can guess.
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
    """Tell whether *device* can stand in a cookie as it is (RFC 6265, section 4.1.1)."""
    return 0 < len(device) <= LONGEST and all(c in ALPHABET or c in "-_." for c in device)
