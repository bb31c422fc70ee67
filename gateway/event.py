"""The neutral event: what every input produces and every output consumes.

The vocabulary is Segment's: the Spec (https://segment.com/docs/connections/spec/) and the
E-commerce Spec V2 (https://segment.com/docs/connections/spec/ecommerce/v2/), in snake_case.
Values are frozen; nothing downstream can change what was accepted. They are msgspec structs
because one is built per event and they cost a tenth of frozen dataclasses
(docs/decisions/0003-event-structs.md).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec

EPOCH = datetime.fromtimestamp(0, UTC)


Json = Mapping[str, Any]
EventType = Literal["track", "identify", "alias", "page", "screen", "group", "product"]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

NOTHING: Json = {}
EMPTY: tuple[Any, ...] = ("", {}, [])


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The page it happened on; Segment Spec, ``context.page``."""

    url: str | None = None
    path: str | None = None
    title: str | None = None
    referrer: str | None = None
    search: str | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The device it happened on; Segment Spec, ``context.device``."""

    id: str | None = None
    type: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    name: str | None = None


class Campaign(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The campaign that led here; Segment Spec, ``context.campaign``."""

    name: str | None = None
    source: str | None = None
    medium: str | None = None
    term: str | None = None
    content: str | None = None


class App(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The app it happened in; Segment Spec, ``context.app``."""

    name: str | None = None
    version: str | None = None
    build: str | None = None
    namespace: str | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The circumstances; Segment Spec, ``context``. What it does not name is in ``extra``."""

    page: Page = Page()
    device: Device = Device()
    campaign: Campaign = Campaign()
    app: App = App()
    ip: str | None = None
    user_agent: str | None = None
    locale: str | None = None
    timezone: str | None = None
    channel: str | None = None
    """Where it came through: ``web``, ``ios``, ``android``, ``server``, or the sender's word."""
    extra: Json = NOTHING


class Traits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a user or group; Segment Spec, ``traits``. Others are in ``extra``."""

    email: str | None = None
    phone: str | None = None
    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    gender: str | None = None
    birthday: str | None = None
    """``YYYY-MM-DD`` where the sender says so; as sent otherwise."""
    age: int | float | None = None
    username: str | None = None
    title: str | None = None
    avatar: str | None = None
    website: str | None = None
    description: str | None = None
    created_at: str | None = None
    address: Json | str | None = None
    company: Json | str | None = None
    extra: Json = NOTHING


class Product(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing looked at, carted or bought; E-commerce Spec V2, the product object."""

    product_id: str | None = None
    sku: str | None = None
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    variant: str | None = None
    price: float | None = None
    quantity: float | None = None
    coupon: str | None = None
    position: int | None = None
    url: str | None = None
    image_url: str | None = None
    description: str | None = None
    """Not in the Spec's product object; every catalogue has it."""
    extra: Json = NOTHING


class Properties(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the event is about; E-commerce Spec V2. What it does not name is in ``extra``.

    An event about one product holds it in ``products`` too, as a tuple of one, so that there
    is one place to look for a product (docs/decisions/0004-one-place-for-products.md).
    """

    order_id: str | None = None
    checkout_id: str | None = None
    cart_id: str | None = None
    list_id: str | None = None
    wishlist_id: str | None = None
    wishlist_name: str | None = None
    category: str | None = None
    query: str | None = None
    affiliation: str | None = None
    subtotal: float | None = None
    total: float | None = None
    """What the customer pays: subtotal after discounts, plus shipping and tax."""
    revenue: float | None = None
    """After discounts, without shipping and tax."""
    shipping: float | None = None
    tax: float | None = None
    discount: float | None = None
    coupon: str | None = None
    currency: str | None = None
    value: float | None = None
    products: tuple[Product, ...] = ()
    extra: Json = NOTHING


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something a user did or is, in no vendor's dialect."""

    type: EventType
    name: str | None = None
    """``track``: the Spec's name where one exists, else the sender's own. ``page``, ``screen``:
    the page's name."""
    id: str = ""
    """The gateway's own: the request's id and the event's index in it."""
    message_id: str | None = None
    """The sender's own."""
    timestamp: datetime | None = None
    """When the sender says it happened; UTC."""
    sent_at: datetime | None = None
    received_at: datetime = EPOCH
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    group_id: str | None = None
    session_id: str | None = None
    traits: Traits = Traits()
    properties: Properties = Properties()
    context: Context = Context()
    consent: Mapping[str, bool] = NOTHING
    derived: Mapping[str, str] = NOTHING
    """Fields that the sender did not say, to what they follow from, such as ``properties.total``
    from ``properties.products``. They are not told to ``origin``."""
    extra: Json = NOTHING
    """What no row maps, exactly as sent: restored when the event goes back to ``origin``."""
    origin: str = ""
    """The vendor in whose format it came."""

    @property
    def time(self) -> datetime:
        """Return when it happened, as well as is known."""
        return self.timestamp or self.received_at

    @property
    def user_key(self) -> str:
        """Return the key that orders deliveries; empty when nothing names the user."""
        return (
            self.user_id
            or self.anonymous_id
            or self.context.device.id
            or self.session_id
            or self.traits.email
            or ""
        )


class Names:
    """Event names that Segment's specs lack and that the gateway needs."""

    CONSENT_UPDATED = "Consent Preference Updated"
    """Consent was given or withdrawn, by category. Segment's name for it has its own in it."""
    CART_UPDATED = "Cart Updated"
    """The whole cart is replaced: a state, which Cart Viewed (a look at it) does not say."""
    CART_CLEARED = "Cart Cleared"
    """The whole cart is emptied at once, products unknown."""
    WISHLIST_UPDATED = "Wishlist Updated"
    """The whole wishlist is replaced."""
    WISHLIST_CLEARED = "Wishlist Cleared"
    """The whole wishlist is emptied at once."""
    PUSH_DISPLAYED = "Push Notification Displayed"
    """Shown to the person; the Mobile Spec knows only that it was received."""
    PUSH_DISMISSED = "Push Notification Dismissed"
    """Closed by the person; the Mobile Spec's Bounced is a failed delivery, not this."""
    SMS_LINK_CLICKED = "SMS Link Clicked"
    """The specs cover push and e-mail, not SMS."""


SINGLE_PRODUCT = frozenset({
    "Product Clicked", "Product Viewed", "Product Added", "Product Removed",
    "Product Added to Wishlist", "Product Removed from Wishlist", "Wishlist Product Added to Cart",
    "Product Shared", "Product Reviewed",
})  # fmt: skip
"""Events that the E-commerce Spec V2 gives one product, flat among the properties."""


VOCABULARY = SINGLE_PRODUCT | {
    "Products Searched", "Product List Viewed", "Product List Filtered", "Promotion Viewed",
    "Promotion Clicked", "Cart Viewed", "Checkout Started", "Checkout Step Viewed",
    "Checkout Step Completed", "Payment Info Entered", "Order Completed", "Order Updated",
    "Order Refunded", "Order Cancelled", "Coupon Entered", "Coupon Applied", "Coupon Denied",
    "Coupon Removed", "Cart Shared", "Signed Up", "Signed In", "Signed Out", "Email Delivered",
    "Email Opened", "Email Link Clicked", "Email Bounced", "Email Marked as Spam", "Unsubscribed",
    "Push Notification Received", "Push Notification Tapped", "Push Notification Bounced",
    *(value for key, value in vars(Names).items() if not key.startswith("_")),
}  # fmt: skip
"""Names of track events that the specs or we know: https://segment.com/docs/connections/spec/."""


def as_json(value: Any) -> Any:
    """Return a struct of the event as plain JSON values, without what it does not know.

    Times become ISO 8601 text; what is free-form stays exactly as it came.
    """
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return [as_json(member) for member in value]
    if not isinstance(value, msgspec.Struct):
        return value
    found = {name: as_json(getattr(value, name)) for name in value.__struct_fields__}
    return {k: v for k, v in found.items() if v is not None and v not in EMPTY}
