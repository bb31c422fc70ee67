"""The PersonaClick input: turn requests into events.

Sources: the pages in `plugins.personaclick.wire`; for responses also
https://github.com/rees46/documentation-unified (docs/integration/cdp) and
https://github.com/rees46/ios-sdk, which reads them.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway.plugin import (
    Event,
    Fault,
    Input,
    Rejected,
    Request,
    Response,
    json_name,
    json_response,
    text_of,
)
from plugins.personaclick.forms import fields, is_form
from plugins.personaclick.initial import initialised, parameter
from plugins.personaclick.mapping import ENDPOINTS
from plugins.personaclick.repair import repaired
from plugins.personaclick.rules import IDENTIFIERS
from plugins.personaclick.wire import DOCS

STATUS = {
    Fault.UNAUTHENTICATED: 403, Fault.FORBIDDEN: 403, Fault.NOT_FOUND: 404, Fault.METHOD: 405,
    Fault.TOO_LARGE: 413, Fault.UNSUPPORTED: 501, Fault.UNAVAILABLE: 503,
}  # fmt: skip
"""The page documents 400 and 403; the others are standard HTTP, in PersonaClick's format."""
SILENT = {
    "/push/custom": Response(204),
    "/track/received": Response(200),
    "/track/clicked": Response(200),
    "/track/closed": Response(200),
}
"""Responses without a body, according to the page."""
SUCCESS = json_response(200, {"status": "success"})


class PersonaclickInput(Input):
    """Reads the requests of PersonaClick's customers."""

    name = "personaclick"
    docs = DOCS
    endpoints = ENDPOINTS
    example = Request(
        method="POST",
        url="/push",
        body=b'{"event": "view", "shop_id": "0d42fd8b713d0752776ca589cc0056", "did": "7rjVGhMykT", '
        b'"seance": "R5eQXkrKCf", "stream": "web", '
        b'"referer": "https://mystore.com/product/100500", "items": [{"id": "100500"}]}',
    )
    credential_in_body = True
    stored_headers = Input.stored_headers | {"accept"}
    credential_keys = ("shop_id", "shop_secret")
    secret_keys = ("shop_secret",)
    relayed_reads = frozenset({
        "GET /init", "GET /profile", "GET /products/cart", "GET /recommend/{code}", "GET /search",
    })  # fmt: skip
    prefixes = (
        "/push", "/profile", "/track/", "/init", "/search", "/recommend/", "/products",
        "/subscriptions", "/sync/", "/import/", "/mobile_push_tokens",
    )  # fmt: skip
    """https://github.com/rees46/documentation-unified, docs/integration, and the app SDKs."""
    browsers_allowed = True
    """For its browser script, cdn.personaclick.com/v3.js
    (https://github.com/rees46/api-docs, source/includes/_init.md)."""
    unsupported = frozenset({
        "GET /init", "GET /profile", "GET /search", "GET /products/cart",
        "POST /mobile_push_tokens", "POST /sync/orders", "POST /track/stories",
        "PUT /import/products", "PATCH /import/products", "DELETE /import/products",
    })  # fmt: skip

    def decode(self, request: Request) -> Any:
        """Return the fields in the query and the body (JSON or a form) of *request*.

        Raises:
            Rejected: the body is invalid, or ``shop_id`` is not a key.
        """
        payload = self._decoded(request)
        shop = payload.get("shop_id") if type(payload) is dict else None
        if shop is None:
            return payload
        if type(shop) is not str:
            raise Rejected("shop_id", f"expected string, got {json_name(shop)}", Fault.TYPE, shop)
        if not shop.strip():
            raise Rejected("shop_id", "must not be empty", Fault.VALUE, shop)
        return payload

    def _decoded(self, request: Request) -> Any:
        asked = fields(request.query) if request.query else {}
        if asked and not request.body:
            return asked
        if not is_form(request):
            payload = super().decode(request)
            return {**asked, **payload} if asked and type(payload) is dict else payload
        return {**asked, **fields(text_of(request.body))}

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - it is in the body
        """Return the id of the shop."""
        shop = payload.get("shop_id") if type(payload) is dict else None
        return shop if type(shop) is str else None

    def relayed_credential(self, request: Request) -> str | None:
        """Return the id of the shop from the query, as in reads."""
        return parameter(request, "shop_id")

    def needs_secret(self, request: Request, payload: Any) -> bool:
        """Return whether the request sets a profile without a device id."""
        named = type(payload) is dict and payload.get("did")
        return request.path == "/profile/set" and not named

    def static_response(self, request: Request, made: str) -> Response | None:
        """Return a device id and a session id for ``GET /init``; None for other reads.

        Raises:
            Rejected: ``shop_id`` is missing.
        """
        if request.path != "/init":
            return None
        if self.relayed_credential(request) is None:
            raise Rejected("shop_id", "required", Fault.MISSING)
        return initialised(request, made)

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the events in *payload*: one, or one per listed product.

        Raises:
            Rejected: PersonaClick would respond 400 or 403.
        """
        if type(payload) is not dict:
            raise Rejected("$", "expected an object", Fault.TYPE, payload)
        path = request.path
        events = super().read(request, repaired(path, payload))
        if path == "/track/delivered":
            return [_with_extra(event, delivered=True) for event in events]
        if path.startswith("/push") or path == "/profile/set":
            _check_person(events[0], session=path != "/profile/set", cookie=request.client_id)
        return [_in_category(event) for event in events]

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - it depends on the request alone
        """Return the documented response; ``{"status":"success"}`` if none is documented.

        A client that asks for JSON gets it for a custom event too: the iOS SDK reports an empty
        response as a failure (https://github.com/rees46/ios-sdk), and newer servers send one.
        """
        if request.path == "/push/custom" and "json" in request.headers.get("accept", ""):
            return SUCCESS
        return SILENT.get(request.path, SUCCESS)

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return an error in PersonaClick's format; the page has only 403 for ``/track/``.

        The message is in two places: the page has it at the top level, newer documentation in
        ``payload``.
        """
        message_call = request.path.startswith("/track/")
        status = STATUS.get(error.fault, 403 if message_call else 400)
        if error.fault is Fault.MISSING and error.path == "shop_id":
            status = 403
        message = f"{error.path}: {error.reason}" if error.path != "$" else error.reason
        return json_response(
            status, {"status": "error", "message": message, "payload": {"message": message}}
        )


def _check_person(event: Event, *, session: bool, cookie: str) -> None:
    """Check that an event, or its *cookie*, identifies a person.

    With *session*, a device id needs a session id.

    Raises:
        Rejected: an id is missing.
    """
    traits = event.traits
    known = (
        event.user_id or traits.email or traits.phone
        or traits.extra.get("loyalty_id") or traits.extra.get("telegram_id")
    )  # fmt: skip
    if not event.anonymous_id and not known and not cookie:
        reason = f"required, unless {', '.join(IDENTIFIERS[1:])} is given"
        raise Rejected("did", reason, Fault.MISSING)
    if session and event.anonymous_id and not event.session_id:
        raise Rejected("seance", "required", Fault.MISSING)


def _in_category(event: Event) -> Event:
    """Return *event* with the id of its category as category: PersonaClick has only the id."""
    properties = event.properties
    if properties.list_id is None:
        return event
    return replace(event, properties=replace(properties, category=properties.list_id))


def _with_extra(event: Event, **known: Any) -> Event:
    properties = event.properties
    return replace(event, properties=replace(properties, extra={**properties.extra, **known}))
