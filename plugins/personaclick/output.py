"""The PersonaClick output: turn events into requests.

Sources: see `plugins.personaclick.wire`.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from gateway.plugin import (
    JSON,
    Declined,
    Duration,
    Event,
    FreeFormSettings,
    Loss,
    Names,
    Naming,
    OutgoingCall,
    Output,
    Refused,
    Request,
    Response,
    Secret,
    Table,
    Verdict,
    dumps,
    in_form,
    loads,
    verdict_by_envelope,
    with_amounts,
    with_query_values,
)
from gateway.plugin.spec import with_flags
from plugins.personaclick.fitting import (
    fit_basics,
    fit_custom,
    fit_message,
    fit_order,
    fit_products,
    fit_profile,
    on_its_page,
    person,
)
from plugins.personaclick.forms import is_form
from plugins.personaclick.mapping import (
    CLOSED,
    CUSTOM,
    DELIVERED,
    ENDPOINTS,
    OPENED,
    PROFILE,
    PUSH,
    RECEIVED,
    SMS_CLICKED,
    TAPPED,
)
from plugins.personaclick.rules import (
    MESSAGE_TYPES,
    RESERVED,
    STREAM_KEPT,
    STREAM_SENT,
    is_product_id,
    text,
)
from plugins.personaclick.unsaid import unsaid
from plugins.personaclick.wire import DOCS

UNSAYABLE = {
    "alias": (
        "personaclick has no alias call: it links a device to a person by a "
        "profile with both ids; send an identify with the anonymous id and the "
        "user id"
    ),
    "group": "personaclick has no groups",
    "product": "personaclick accepts products only as a feed or an import, not as events",
}
NOBODY = (
    "personaclick needs a person: the event has no anonymous, device or user id, no "
    "e-mail and no phone"
)
UNVOUCHED = (
    "personaclick needs the shop secret for a profile without a device id: set "
    "shop_secret, or send an anonymous id"
)
NO_PRODUCT = (
    "personaclick needs a product id of 1 to 255 characters without a backslash: {name!r} has none"
)
NO_CATEGORY = (
    "personaclick needs the id of the category: the event has neither list_id nor category"
)
NO_QUERY = "personaclick needs the search query: the event has none"
NO_NAME = "personaclick needs an event name"
SET_PROFILE = "POST /profile/set"
ABOUT_ONE = frozenset({
    "Product Viewed", "Product Added", "Product Removed", "Product Added to Wishlist",
    "Product Removed from Wishlist",
})  # fmt: skip
"""Events whose ``items`` have one product, according to the page."""
COUNTED = frozenset({"Product Added", "Order Completed", Names.CART_UPDATED})
"""Events whose items need an amount, according to the page."""
MESSAGES: Mapping[str, tuple[str, Table]] = {
    "Push Notification Received": ("POST /track/received", RECEIVED),
    "Push Notification Tapped": ("POST /track/clicked", TAPPED),
    Names.SMS_LINK_CLICKED: ("POST /track/clicked", SMS_CLICKED),
    Names.PUSH_DISPLAYED: ("POST /track/opened", OPENED),
    Names.PUSH_DISMISSED: ("POST /track/closed", CLOSED),
}
NOT_THE_KEY = re.compile(rb"device|identifier", re.IGNORECASE)
"""Words in newer servers' messages if a 401 is about the person, not the shop
(https://github.com/rees46/documentation-unified, docs/integration/cdp)."""


class PersonaclickOutput(Output):
    """Sends one event per request."""

    name = "personaclick"
    docs = DOCS
    endpoints = ENDPOINTS
    more_secret = frozenset({"shop_secret"})

    class Config(FreeFormSettings):
        """``[destinations.*]`` with ``vendor = "personaclick"``."""

        url: str = "https://api.personaclick.com"
        """Scheme and host of PersonaClick's API."""
        shop_id: Secret
        """The shop's key, from the account's store settings."""
        shop_secret: Secret | None = None
        """The shop's secret key, from the account's store settings. It goes out with profiles
        only; without it, profiles need a device's id."""
        stream: str | None = None
        """The data stream to write to, at most 16 letters and digits. Without it, the channel of
        the event where it is such a word, else ``web``."""
        session_window: Duration = 4 * 3600.0
        """How long a visit may go on whose sender has no session id of its own. The session's id
        then follows from the device or the person, and from the stretch of time, of this length,
        in which the event happened."""
        order_prefix: str = "order-"
        """What stands before the id of an order where that is a UUID: PersonaClick's pages show
        no such ids, and its document advises a prefix. Orders that came from PersonaClick keep
        theirs."""
        include: tuple[str, ...] = ("context.campaign",)
        """What of an event's circumstances goes out among the fields of a custom event: see the
        other vendors with free properties. PersonaClick has places of its own for the page, the
        time and the stream."""
        naming: Naming = "snake_case"
        """How to spell the names of custom events. PersonaClick takes only those that the shop
        has declared in its account; events that came from PersonaClick keep theirs."""

        def model_post_init(self, _: Any, /) -> None:
            """Check the stream.

            Raises:
                ValueError: PersonaClick would not take it.
            """
            if self.stream is not None and not STREAM_SENT.fullmatch(self.stream):
                raise ValueError(f"stream: {self.stream!r} is not 1 to 16 letters and digits")

    config: Config

    def headers(self) -> Mapping[str, str]:
        """Return the content type; the key is in the body."""
        return JSON

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the call for *event*: message, profile, standard event or custom event."""
        if event.type in UNSAYABLE:
            return Declined(UNSAYABLE[event.type])
        own = event.origin == self.name
        tracked = on_its_page(event)
        if not own:
            tracked = with_amounts(with_flags(_in_cart(tracked), *RESERVED))
        message = self._message(tracked)
        if message is not None:
            return message
        known = fit_basics(tracked, self._stream(event), self.config.session_window)
        if event.type == "identify":
            return self._profile(known)
        if not known.anonymous_id and not person(known):
            return Declined(NOBODY)
        table = PUSH.table_for(known)
        if table is None:
            return self._custom(known, tracked)
        return _push(known, table, self.config.order_prefix)

    def envelope(self) -> dict[str, Any]:
        """Return the shop's key, which every payload contains."""
        return {"shop_id": self.config.shop_id.get_secret_value()}

    def forward(self, request: Request) -> Request | None:
        """Return *request* with the destination's key; None if its query or form may have a key.

        None also for a request with another secret, unless it is a profile, which gets the
        destination's secret.
        """
        if request.query or is_form(request):
            return None
        profile = f"{request.method} {request.path}" == SET_PROFILE
        if not profile and b"shop_secret" in request.body and not self._ours(request.body):
            return None
        return super().forward(request)

    def _ours(self, body: bytes) -> bool:
        """Return whether the secret in *body* is the destination's own."""
        said, secret = loads(body), self.config.shop_secret
        held = said.get("shop_secret") if type(said) is dict else None
        return secret is not None and held == secret.get_secret_value()

    def credential_fields(self, path: str, body: bytes) -> dict[str, Any]:
        """Return the shop's key, and its secret if a profile has one."""
        secret = self.config.shop_secret
        if secret is None or path != "/profile/set" or b'"shop_secret"' not in body:
            return self.envelope()
        return {**self.envelope(), "shop_secret": secret.get_secret_value()}

    def with_credential(
        self, request: Request, changes: Mapping[str, Any] | None = None
    ) -> Request:
        """Return *request* with keys in its query or body replaced by the destination's."""
        ours, secret = self.envelope(), self.config.shop_secret
        if secret is not None:
            ours["shop_secret"] = secret.get_secret_value()
        url = with_query_values(request.url, ours)
        if is_form(request):
            body = in_form(request.body.decode("latin-1"), ours).encode("latin-1")
            return replace(request, url=url, headers={}, body=body)
        try:
            said = loads(request.body)
        except ValueError:
            said = None
        held = said.keys() if type(said) is dict else ()
        changes = {key: value for key, value in ours.items() if key in held}
        return replace(super().with_credential(request, changes), url=url)

    def request(self, endpoint: str, payload: dict[str, Any], event: Event) -> Request:
        """Return *payload* as a request: the campaign as JSON text, a profile with the secret.

        Raises:
            Unrenderable: a value of *event* cannot be written as JSON.
        """
        if type(payload.get("source")) is dict:
            payload["source"] = dumps(payload["source"]).decode()
        if endpoint == SET_PROFILE and self.config.shop_secret is not None:
            payload["shop_secret"] = self.config.shop_secret.get_secret_value()
        return super().request(endpoint, payload, event)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that its request lacks or changes, limits included."""
        call = self.select(event)
        if isinstance(call, Declined):
            return []
        found: dict[str, Loss] = {}
        for loss in (*super().losses(event), *unsaid(event, call.event)):
            found.setdefault(loss.path, loss)
        return list(found.values())

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status; a body with the status ``error`` is a failure.

        A 401 or 403 about the person refuses the event, not the key.
        """
        if response.status in {401, 403} and NOT_THE_KEY.search(response.body):
            said = response.body[:200].decode("utf-8", "replace")
            return Refused(f"HTTP {response.status}: {said}")
        return verdict_by_envelope(response, _failed, now)

    def _stream(self, event: Event) -> str:
        if self.config.stream is not None:
            return self.config.stream
        channel = event.context.channel or ""
        allowed = STREAM_KEPT if event.origin == self.name else STREAM_SENT
        return channel if allowed.fullmatch(channel) else "web"

    def _message(self, event: Event) -> OutgoingCall | None:
        """Return the call for an event about a message of PersonaClick; None for other events."""
        extra = event.properties.extra
        found = MESSAGES.get(event.name or "") if event.type == "track" else None
        if found is None or not text(extra.get("code")) or extra.get("type") not in MESSAGE_TYPES:
            return None
        endpoint, table = found
        if table is RECEIVED and extra.get("delivered") is True:
            endpoint, table = "POST /track/delivered", DELIVERED
        stream = "sms" if table is SMS_CLICKED else self._stream(event)
        return OutgoingCall(endpoint, table, fit_message(event, stream))

    def _profile(self, event: Event) -> OutgoingCall | Declined:
        if not event.anonymous_id and not person(event):
            return Declined(NOBODY)
        if not event.anonymous_id and self.config.shop_secret is None:
            return Declined(UNVOUCHED)
        return OutgoingCall(SET_PROFILE, PROFILE, fit_profile(event))

    def _custom(self, event: Event, tracked: Event) -> OutgoingCall | Declined:
        name = self.event_name(event) if event.name else ""
        if not name.strip():
            return Declined(NO_NAME)
        campaign = event.context.campaign
        whole = replace(event.context, campaign=tracked.context.campaign)
        said = self.included(replace(event, context=whole)).event
        told = replace(said.context.campaign, name=campaign.name, medium=campaign.medium)
        known = replace(said, context=replace(said.context, campaign=told))
        return OutgoingCall("POST /push/custom", CUSTOM, replace(fit_custom(known), name=name))


def _in_cart(event: Event) -> Event:
    """Return a Cart Viewed as Cart Updated, with the whole cart.

    The page of that call: "This method is required for use on the cart page". A cart without known
    products stays as it is, because the call would empty it.
    """
    known = any(is_product_id(product.product_id) for product in event.properties.products)
    if event.type != "track" or event.name != "Cart Viewed" or not known:
        return event
    return replace(event, name=Names.CART_UPDATED)


def _push(event: Event, table: Table, prefix: str) -> OutgoingCall | Declined:
    """Return the call for a standard event by *table*, or what the event lacks."""
    name, properties = event.name or "", event.properties
    fitted = event
    if name == "Product List Viewed":
        category = text(properties.list_id) or text(properties.category)
        if category is None:
            return Declined(NO_CATEGORY)
        same = None if properties.category == category else properties.category
        fitted = replace(event, properties=replace(properties, list_id=category, category=same))
    elif name == "Products Searched":
        if text(properties.query) is None:
            return Declined(NO_QUERY)
    elif name not in {Names.CART_CLEARED, Names.WISHLIST_CLEARED}:
        most = 1 if name in ABOUT_ONE else None
        fitted = fit_products(event, most=most, counted=name in COUNTED)
        if not fitted.properties.products:
            return Declined(NO_PRODUCT.format(name=name))
        if name == "Order Completed":
            fitted = fit_order(fitted, prefix)
    return OutgoingCall("POST /push", table, fitted)


def _failed(said: Mapping[str, Any]) -> bool:
    """Return whether a body reports an error, as PersonaClick or as related products do."""
    status = said.get("status")
    return status == "error" or status is False or said.get("success") is False
