"""The emulated chrts server; every rule comes from https://chrts.co/docs/api.

The document has format and messages of a 400. It does not describe 401, 404 and 405; here they
have the same format and other messages.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from gateway.plugin import Request, Response
from gateway.sandbox import (
    OBJECT,
    TEXT,
    BodyField,
    Sandbox,
    SandboxResponse,
    json_body,
    json_labelled,
    json_response,
    status_text,
)

CUSTOMER: Final = ("uid", "userId", "anonymousId")
"""Identify and track take any of them for the customer."""
ALIAS: Final = ("uid", "userId")
KNOWN: Final = ("knownUid", "previousId", "anonymousId")

NO_CUSTOMER: Final = (
    "Customer UID is required. "
    "You can use `uid`, `userId` or `anonymousId` to identify the customer"
)
NO_ALIAS: Final = "Customer UID is required. You can use `uid` or `userId` to identify the customer"
"""Not documented: the message for an alias without ``uid``."""
NO_KNOWN: Final = (
    "Known UID is required. You can use `knownUid`, `previousId` or `anonymousId` "
    "to identify the known customer UID"
)
IN_WORDS: Final[Mapping[tuple[str, str], str]] = {
    ("/customer/identify", "uid"): NO_CUSTOMER,
    ("/customer/alias", "uid"): NO_ALIAS,
    ("/customer/alias", "knownUid"): NO_KNOWN,
    ("/event/track", "uid"): NO_CUSTOMER,
}
"""Messages by path and field of the problem."""


def identify(body: BodyField) -> None:
    """Check "Identify a customer": an id, and ``attributes`` or ``traits`` but not both."""
    body.need_one(CUSTOMER, TEXT)
    body.may("attributes", OBJECT)
    if body.may("traits", OBJECT) and "attributes" in body:
        body.clash("traits", "attributes or traits, not both")


def alias(body: BodyField) -> None:
    """Check "Alias a customer": an id, and the known id; ``anonymousId`` is a known one here."""
    body.need_one(ALIAS, TEXT)
    body.need_one(KNOWN, TEXT)


def track(body: BodyField) -> None:
    """Check "Track an event": an id and a name; all other keys are properties."""
    body.need_one(CUSTOMER, TEXT)
    body.need("name", TEXT).filled()
    body.may("properties", OBJECT)


ENDPOINTS: Final[Mapping[str, tuple[Callable[[BodyField], None], str]]] = {
    "/customer/identify": (identify, "Customer identified successfully"),
    "/customer/alias": (alias, "Customer alias set successfully"),
    "/event/track": (track, "Event tracked successfully"),
}


class ChrtsSandbox(Sandbox):
    """Emulates the three documented calls, with a Bearer key."""

    name: ClassVar[str] = "chrts"
    docs: ClassVar[str] = "https://chrts.co/docs/api"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request; see ``Sandbox.respond``."""
        token = _bearer(request)
        if token is None or key not in (None, token):
            why = "no Bearer key in the authorization header" if token is None else "wrong key"
            return SandboxResponse(self.failure(401, request), why)
        unknown = self.unknown_call(request, ENDPOINTS)
        if unknown is not None:
            return unknown
        if not json_labelled(request):
            return _refused("content-type: expected application/json", "Invalid request body")
        check, success = ENDPOINTS[request.path]
        body = json_body(request)
        check(body)
        if not body.problems:
            return SandboxResponse(
                json_response(200, {"status": True, "code": 200, "message": success})
            )
        problem = body.problems[0]
        field = str(problem.path[0]) if problem.path else ""
        return _refused(problem.reason, IN_WORDS.get((request.path, field), problem.reason))

    def failure(self, status: int, request: Request) -> Response:
        """Return an error in the format of the documented 400."""
        del request
        message = status_text(status)
        return json_response(status, {"status": False, "code": status, "message": message})


def _bearer(request: Request) -> str | None:
    """Return the token of "Authentication": a Bearer token in the authorization header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _refused(reason: str, message: str) -> SandboxResponse:
    status = 400
    said = {"status": False, "code": status, "message": message}
    return SandboxResponse(json_response(status, said), reason)
