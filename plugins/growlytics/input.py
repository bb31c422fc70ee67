"""The Growlytics input: turn requests into events.

Source: https://docs.growlytics.in/rest-apis/tracking-users-1.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway.plugin import Event, Fault, Input, Rejected, Request, Response, json_response
from plugins.growlytics.attributes import kind_of, read_attributes, unpacked
from plugins.growlytics.mapping import ENDPOINTS, WRITTEN, table_for
from plugins.growlytics.rules import (
    CONTACTS,
    LONGEST_NAME,
    MOST_FOR_CUSTOMER,
    MOST_FOR_EVENT,
    RESERVED,
    STANDARD,
    Violation,
    checked_text,
    report,
)

STATUS = {
    Fault.UNAUTHENTICATED: 401, Fault.FORBIDDEN: 401, Fault.TOO_LARGE: 413,
    Fault.NOT_FOUND: 404, Fault.METHOD: 405, Fault.UNSUPPORTED: 501, Fault.UNAVAILABLE: 503,
}  # fmt: skip
"""Growlytics documents 200 and 422, and its SDK handles 401; the others are standard HTTP."""
WORDS = {
    Fault.UNAUTHENTICATED: "no API key: send it in the header x-growlytics-key",
    Fault.FORBIDDEN: "unknown API key in x-growlytics-key",
}
"""Messages about keys; Growlytics documents none."""


class GrowlyticsInput(Input):
    """Reads the requests of Growlytics' customers."""

    name = "growlytics"
    docs = "https://docs.growlytics.in/rest-apis/tracking-users-1"
    endpoints = ENDPOINTS
    browser_headers = Input.browser_headers | {"x-growlytics-key"}
    example = Request(
        method="POST",
        url="/rest-api/event",
        headers={"x-growlytics-key": "growlytics-example-key"},
        body=b'{"customerId": "your-system-unique-id", "name": "Product Viewed", "attributes": ['
        b'{"name": "product_id", "type": "string", "value": "100500"}, '
        b'{"name": "price", "type": "number", "value": 34.43}]}',
    )
    unsupported = frozenset({
        "POST /track/user", "POST /track/event", "POST /track/event/v2",
        "POST /product", "POST /collection",
        "POST /mcrs_appl_v1", "POST /msv_cevt", "POST /msv_cs_id", "POST /logout",
        "POST /mpush_token",
    })  # fmt: skip
    """Endpoints of the Shopify app (https://docs.growlytics.in/rest-apis/tracking-events), the
    catalogue (https://docs.growlytics.in/rest-apis/syncing-products) and mobile apps
    (https://docs.growlytics.in/rest-apis/mobile-app-apis)."""

    credential_headers = frozenset({"x-growlytics-key"})
    prefixes = (
        "/rest-api/", "/track/user", "/track/event", "/product", "/collection",
        "/mcrs_appl_v1", "/msv_cevt", "/msv_cs_id", "/logout", "/mpush_token",
    )  # fmt: skip

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - it is in a header
        """Return the key."""
        return request.headers.get("x-growlytics-key", "").strip() or None

    def decode(self, request: Request) -> Any:
        """Return the body of *request*, with its attributes as an object by name.

        Raises:
            Rejected: the body is not JSON, or violates a documented rule.
        """
        payload = super().decode(request)
        if type(payload) is not dict:
            raise Violation("$", "object.base", payload)
        if request.path == "/rest-api/customer":
            return _customer(payload)
        return _event(payload)

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the event in *payload*; types that it cannot express are in its leftovers."""
        (event,) = super().read(request, payload)
        return [_with_contact(_with_kinds(event, payload["attributes"]))]

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - it is always the same
        """Return the documented response."""
        return json_response(200, {"success": True})

    def refuse(self, request: Request, error: Rejected) -> Response:  # noqa: ARG002 - it depends on the error alone
        """Return Joi's report for an invalid body, else an error in the format of a success."""
        status = STATUS.get(error.fault, 422)
        if status == 422:  # noqa: PLR2004 - the documented one
            return json_response(status, report(error))
        said = WORDS.get(error.fault, error.reason)
        return json_response(status, {"success": False, "message": said})


def _customer(payload: dict[str, Any]) -> dict[str, Any]:
    checked_text(payload, "id")
    found = read_attributes(payload)
    _limit(sum(name not in STANDARD for name in found), MOST_FOR_CUSTOMER)
    return {**payload, "attributes": found}


def _event(payload: dict[str, Any]) -> dict[str, Any]:
    checked_text(payload, "customerId")
    name = checked_text(payload, "name", LONGEST_NAME)
    if name.lower() in RESERVED:
        raise Violation("name", "any.invalid", name)
    found = read_attributes(payload)
    _limit(len(found), MOST_FOR_EVENT)
    if "products" in found:
        found["products"] = unpacked(found["products"])
    return {**payload, "attributes": found}


def _limit(count: int, most: int) -> None:
    if count > most:
        raise Violation("attributes", "array.max", limit=most)


def _with_contact(event: Event) -> Event:
    """Return *event* with the customer's id as e-mail address or phone number, if it is one.

    The document: "The identifier can be a customer's email id or mobile number". Only a number with
    a country code is certainly a phone number.
    """
    found = event.user_id or ""
    for name, pattern in CONTACTS.items():
        if getattr(event.traits, name) is None and pattern.fullmatch(found):
            traits = replace(event.traits, **{name: found})
            return replace(event, traits=traits, derived={f"traits.{name}": "user_id"})
    return event


def _with_kinds(event: Event, found: dict[str, Any]) -> Event:
    """Return *event* with the types of attributes that would be sent back with another type.

    For example, an order id that came as a number is text in an event. Growlytics ignores an
    attribute whose type changes, so the type is kept in the leftovers.
    """
    if not any(kind_of(found[name]) != WRITTEN[name] for name in WRITTEN.keys() & found.keys()):
        return event
    again = table_for(event).write(event).get("attributes", {})
    kinds = {
        name: kind_of(value)
        for name, value in found.items()
        if kind_of(again.get(name)) != kind_of(value)
    }
    return replace(event, extra={**event.extra, "attributes": kinds}) if kinds else event
