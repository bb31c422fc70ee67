"""The Acme input, which reads events; https://acme.example/docs/events."""

from collections.abc import Sequence
from typing import Any

from gateway.plugin import Event, Fault, Input, Rejected, Request, Response, json_response

from .mapping import ENDPOINTS

STATUS = {
    Fault.UNAUTHENTICATED: 401, Fault.FORBIDDEN: 403, Fault.TOO_LARGE: 413,
    Fault.NOT_FOUND: 404, Fault.METHOD: 405, Fault.UNAVAILABLE: 503,
}  # fmt: skip


class AcmeInput(Input):
    """Reads the requests of Acme's clients."""

    name = "acme"
    docs = "https://acme.example/docs/events"
    endpoints = ENDPOINTS
    credential_headers = frozenset({"x-acme-key"})
    prefixes = ("/v1/",)
    example = Request(
        method="POST",
        url="/v1/events",
        headers={"x-acme-key": "acme-example-key"},
        body=b'{"what": "looked", "who": "u1", "product": "42"}',
    )

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - it is in a header
        """Return the key."""
        return request.headers.get("x-acme-key") or None

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - it is always the same
        """Return Acme's success response."""
        return json_response(202, {"ok": True})

    def refuse(self, request: Request, error: Rejected) -> Response:  # noqa: ARG002 - it depends on the error alone
        """Return an error in Acme's format, with 400 for an invalid body."""
        where = "" if error.path == "$" else f"{error.path}: "
        status = STATUS.get(error.fault, 400)
        return json_response(status, {"ok": False, "error": f"{where}{error.reason}"})
