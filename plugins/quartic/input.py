"""The Quartic input: turn requests into events.

Source: https://docs.quarticon.com/storeapi/documentation/.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway.plugin import Event, Fault, Input, Rejected, Request, Response, json_response
from plugins.quartic.mapping import ENDPOINTS, EVENTS
from plugins.quartic.rules import CATEGORY, by_name, check_members, derived_total, filled

STATUS = {
    Fault.UNAUTHENTICATED: 401, Fault.FORBIDDEN: 401, Fault.TOO_LARGE: 413,
    Fault.NOT_FOUND: 404, Fault.UNSUPPORTED: 501, Fault.UNAVAILABLE: 503,
}  # fmt: skip
"""Quartic documents 200, 405 for invalid input, and 500; the others are standard HTTP."""
WORDS = {
    Fault.UNAUTHENTICATED: "no API key: send it in the header x-api-key",
    Fault.FORBIDDEN: "unknown API key in x-api-key",
}
"""Messages about keys; Quartic documents none."""
INVALID = frozenset({Fault.MALFORMED, Fault.MISSING, Fault.TYPE, Fault.VALUE})
KINDS = f"one of {', '.join(EVENTS.tables)}"


class QuarticInput(Input):
    """Reads the requests of Quartic's shops."""

    name = "quartic"
    docs = "https://docs.quarticon.com/storeapi/documentation/"
    endpoints = ENDPOINTS
    browser_headers = Input.browser_headers | {"x-api-key", "accept-version"}
    example = Request(
        method="POST",
        url="/store/track/event",
        headers={"x-api-key": "quartic-example-key"},
        body=b'{"customer": "quartic_account", "eventType": "eventProductView", "userId": "1", '
        b'"userEmail": "test@example.com", "timestamp": 1482840417, "cookie": "8sjfe8fh", '
        b'"productId": "101"}',
    )
    unsupported = frozenset({"GET /store/contact", "GET /store/recommendation"})
    """Endpoints that read data."""
    stored_headers = Input.stored_headers | {"accept-version"}
    credential_headers = frozenset({"x-api-key"})
    credential_keys = ("customer",)
    prefixes = ("/store/",)

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - it is in a header
        """Return the key."""
        return request.headers.get("x-api-key", "").strip() or None

    def static_response(self, request: Request, made: str) -> Response | None:
        """Return no recommendations, and 404 for a contact.

        The document requires ``x-api-key`` only for contacts.
        """
        if request.path == "/store/recommendation":
            at = int(request.received_at.timestamp())
            said = {"qrId": f"ad_{made[:13]}", "duplicatesCount": 0, "data": []}
            return json_response(200, {"status": "OK", "timestamp": at, **said})
        if self.credential(request, None) is None:
            raise Rejected("$", "the request has no key", Fault.UNAUTHENTICATED)
        return self.refuse(request, Rejected("$", "no such contact", Fault.NOT_FOUND))

    def decode(self, request: Request) -> Any:
        """Return the body of *request*, with a contact's lists as objects by name.

        Raises:
            Rejected: the body is not JSON, or has a list that Quartic does not accept.
        """
        payload = super().decode(request)
        if type(payload) is not dict:
            return payload
        if request.path == "/store/contact":
            cookie = payload.get("cookie")
            if cookie is not None and type(cookie) is not str:
                raise Rejected("cookie", "expected string", Fault.TYPE, cookie)
            return by_name(payload)
        if request.path == "/store/data/product":
            check_members(payload, "categories", CATEGORY)
        if request.path == "/store/track/event":
            _check_event(payload)
        return payload

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the event in *payload*; an order gets the total of its basket.

        Raises:
            Rejected: Quartic would refuse the request.
        """
        (event,) = super().read(request, payload)
        if event.name != "Order Completed":
            return [event]
        total = derived_total(event.properties.products)
        order = replace(event.properties, total=total)
        derived = {"properties.total": "properties.products"}
        return [replace(event, properties=order, derived=derived)]

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - it depends on the path alone
        """Return success with the time in the format of the endpoint's example."""
        arrived = request.received_at
        events_path = request.path == "/store/track/event"
        at = int(arrived.timestamp()) if events_path else f"{arrived:%Y-%m-%d %H:%M:%S}"
        return json_response(200, {"status": "OK", "timestamp": at})

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return an error in Quartic's envelope; 405 for an invalid body."""
        status = STATUS.get(error.fault, 405)
        data = {"error_code": f"http.status.{status}", "error_message": _message(error)}
        at = int(request.received_at.timestamp())
        return json_response(status, {"status": "ERROR", "timestamp": at, "data": data})


def _check_event(payload: dict[str, Any]) -> None:
    if type(payload.get("customer")) is str and not filled(payload["customer"]):
        raise Rejected("customer", "is blank", Fault.VALUE)
    if payload.get("eventType") == "eventTransaction" and payload.get("basket") == []:
        raise Rejected("basket", "has no product", Fault.VALUE)


def _message(error: Rejected) -> str:
    if error.fault not in INVALID:
        return WORDS.get(error.fault, error.reason)
    where = "" if error.path == "$" else f"{error.path}: "
    kinds = f"; send {KINDS}" if error.path == "eventType" else ""
    return f"Invalid data: {where}{error.reason}{kinds}"
