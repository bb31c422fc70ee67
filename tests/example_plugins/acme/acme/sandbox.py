"""The Acme sandbox, from https://acme.example/docs/events."""

from gateway.plugin import Request
from gateway.sandbox import (
    INTEGER,
    NUMBER,
    OBJECT,
    TEXT,
    Sandbox,
    SandboxResponse,
    json_body,
    json_response,
)


class AcmeSandbox(Sandbox):
    """The documented endpoint, which requires a key."""

    name = "acme"
    docs = "https://acme.example/docs/events"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Respond to one request; see ``Sandbox.respond``."""
        sent = request.headers.get("x-acme-key")
        if not sent or key not in (None, sent):
            return _refused(401, "no key" if not sent else "another key")
        if (request.method, request.path) != ("POST", "/v1/events"):
            return _refused(404, "no such call")
        body = json_body(request)
        body.need("what", TEXT).filled()
        body.need("who", TEXT, INTEGER).filled()
        body.may("at", NUMBER)
        body.may("more", OBJECT)
        if body.problems:
            return _refused(400, body.problems[0].reason)
        return SandboxResponse(json_response(202, {"ok": True}))


def _refused(status: int, reason: str) -> SandboxResponse:
    return SandboxResponse(json_response(status, {"ok": False, "error": reason}), reason)
