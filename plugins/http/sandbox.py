"""An emulated server for any API: it accepts what is well formed (RFC 9110).

It knows no configuration, so it checks what holds for all: the path, the query and the headers are
readable, the body is what its content type says, and there is a credential where one is asked for.
"""

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import parse_qsl

import orjson

from gateway.plugin import Request, Response, basic, bearer
from gateway.sandbox import Sandbox, SandboxResponse, json_labelled, json_response, status_text

FORM = "application/x-www-form-urlencoded"
LINES = "application/x-ndjson"


class HttpSandbox(Sandbox):
    """Accepts well-formed requests to any path, by any method."""

    name: ClassVar[str] = "http"
    docs: ClassVar[str] = "https://www.rfc-editor.org/rfc/rfc9110"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request; see ``Sandbox.respond``."""
        if key is not None and key not in set(_credentials(request)):
            return SandboxResponse(self.failure(401, request), "the credential is missing or wrong")
        wrong = _malformed(request)
        if wrong:
            body = {"ok": False, "error": wrong}
            return SandboxResponse(json_response(400, body), wrong)
        return SandboxResponse(json_response(200, {"ok": True}))

    def failure(self, status: int, request: Request) -> Response:
        """Return an error as many APIs write it: a status and a sentence."""
        del request
        return json_response(status, {"ok": False, "error": status_text(status)})


def _credentials(request: Request) -> Iterator[str]:
    """Yield every value in which a credential may be sent."""
    yield from request.headers.values()
    yield bearer(request) or ""
    login = basic(request)
    yield from login or ()
    yield from (value for _, value in parse_qsl(request.query))
    try:
        body = orjson.loads(request.body or b"null")
    except orjson.JSONDecodeError:
        return
    if isinstance(body, dict):
        yield from (value for value in body.values() if isinstance(value, str))


def _malformed(request: Request) -> str:
    """Return what is wrong with the body; empty if nothing is."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if json_labelled(request):
            orjson.loads(request.body)
        elif media == LINES:
            for line in request.body.splitlines():
                orjson.loads(line)
        elif media == FORM:
            parse_qsl(request.body.decode(), strict_parsing=bool(request.body))
    except ValueError as error:
        return f"the body is not {media}: {error}"
    return ""
