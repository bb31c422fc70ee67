"""The neutral event: every input produces it and every output consumes it.

The vocabulary is Segment's: the Spec (https://segment.com/docs/connections/spec/) and the
E-commerce Spec V2 (https://segment.com/docs/connections/spec/ecommerce/v2/), in snake_case.
Values are frozen, so no later step can change an accepted event. They are msgspec structs, which
cost a tenth of frozen dataclasses (docs/decisions/0003-event-structs.md).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec

EPOCH = datetime.fromtimestamp(0, UTC)
"""1970, in UTC: the time of what has none."""

Json = Mapping[str, Any]
EventType = Literal["track", "identify", "alias", "page", "screen", "group", "product"]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

NOTHING: Json = {}
"""An empty mapping, which nobody may change: the default of free fields."""
EMPTY: tuple[Any, ...] = ("", {}, [])


class Page(msgspec.Struct, frozen=True, omit_defaults=True):
    """The page of the event; Segment Spec, ``context.page``."""

    url: str | None = None
    path: str | None = None
    title: str | None = None
    referrer: str | None = None
    search: str | None = None


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """The device of the event; Segment Spec, ``context.device``."""

    id: str | None = None
    type: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    name: str | None = None


class Campaign(msgspec.Struct, frozen=True, omit_defaults=True):
    """The marketing campaign of the visit; Segment Spec, ``context.campaign``."""

    name: str | None = None
    source: str | None = None
    medium: str | None = None
    term: str | None = None
    content: str | None = None


class App(msgspec.Struct, frozen=True, omit_defaults=True):
    """The app of the event; Segment Spec, ``context.app``."""

    name: str | None = None
    version: str | None = None
    build: str | None = None
    namespace: str | None = None


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """The context of the event; Segment Spec, ``context``. Other fields are in ``extra``."""

    page: Page = Page()
    device: Device = Device()
    campaign: Campaign = Campaign()
    app: App = App()
    ip: str | None = None
    user_agent: str | None = None
    locale: str | None = None
    timezone: str | None = None
    channel: str | None = None
    """The channel: ``web``, ``ios``, ``android``, ``server``, or any value of the sender."""
    extra: Json = NOTHING


class Traits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Traits of a user or group; Segment Spec, ``traits``. Other traits are in ``extra``."""

    email: str | None = None
    phone: str | None = None
    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    gender: str | None = None
    birthday: str | None = None
    """``YYYY-MM-DD`` if the sender uses that format, else as sent."""
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


class Product(msgspec.Struct, frozen=True, omit_defaults=True):
    """One product; E-commerce Spec V2, the product object."""

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
    """Not in the Spec's product object, but in every catalogue."""
    extra: Json = NOTHING


class Properties(msgspec.Struct, frozen=True, omit_defaults=True):
    """Properties of the event; E-commerce Spec V2. Other properties are in ``extra``.

    An event about one product has it in ``products`` too, as a tuple of one, so that products are
    always in the same place (docs/decisions/0004-one-place-for-products.md).
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
    """The amount that the customer pays: subtotal after discounts, plus shipping and tax."""
    revenue: float | None = None
    """The amount after discounts, without shipping and tax."""
    shipping: float | None = None
    tax: float | None = None
    discount: float | None = None
    coupon: str | None = None
    currency: str | None = None
    value: float | None = None
    products: tuple[Product, ...] = ()
    extra: Json = NOTHING


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action or state of a user, independent of any vendor's format."""

    type: EventType
    """The kind of event. ``product`` is an entry of a catalogue."""
    name: str | None = None
    """``track``: the Spec's name if there is one, else the sender's name. ``page``, ``screen``:
    the name of the page."""
    id: str = ""
    """The gateway's id: the id of the request and the index of the event in it."""
    message_id: str | None = None
    """The sender's id."""
    timestamp: datetime | None = None
    """Time of the event according to the sender; UTC."""
    sent_at: datetime | None = None
    """Time at which the sender sent the request, by the sender's clock."""
    received_at: datetime = EPOCH
    """Time at which the gateway received the request."""
    user_id: str | None = None
    """The user, as the sender's systems know them."""
    anonymous_id: str | None = None
    """The visitor or device before the user is known."""
    previous_id: str | None = None
    """``alias``: the former id of the user."""
    group_id: str | None = None
    """``group``: the company or team that the user belongs to."""
    session_id: str | None = None
    """The visit."""
    traits: Traits = Traits()
    properties: Properties = Properties()
    context: Context = Context()
    consent: Mapping[str, bool] = NOTHING
    """Categories of consent, each granted or denied."""
    derived: Mapping[str, str] = NOTHING
    """Computed fields, each with the field it was computed from: ``properties.total`` from
    ``properties.products``. They are not sent to ``origin``."""
    extra: Json = NOTHING
    """Unmapped fields, exactly as sent. They are restored when the event goes to ``origin``."""
    origin: str = ""
    """The vendor whose format the event arrived in."""

    @property
    def time(self) -> datetime:
        """Return the time of the event: ``timestamp``, else ``received_at``."""
        return self.timestamp or self.received_at

    @property
    def user_key(self) -> str:
        """Return the key that orders deliveries; empty if the event identifies no user."""
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
    """The user gave or withdrew consent, by category. Segment's name contains "Segment"."""
    CART_UPDATED = "Cart Updated"
    """The whole cart is replaced. Cart Viewed only says that the user looked at it."""
    CART_CLEARED = "Cart Cleared"
    """The whole cart is emptied at once; its products are unknown."""
    WISHLIST_UPDATED = "Wishlist Updated"
    """The whole wishlist is replaced."""
    WISHLIST_CLEARED = "Wishlist Cleared"
    """The whole wishlist is emptied at once."""
    PUSH_DISPLAYED = "Push Notification Displayed"
    """The notification was shown. The Mobile Spec has only Received."""
    PUSH_DISMISSED = "Push Notification Dismissed"
    """The user closed the notification. The Mobile Spec's Bounced means a failed delivery."""
    SMS_LINK_CLICKED = "SMS Link Clicked"
    """The specs cover push and e-mail, but not SMS."""


SINGLE_PRODUCT = frozenset({
    "Product Clicked", "Product Viewed", "Product Added", "Product Removed",
    "Product Added to Wishlist", "Product Removed from Wishlist", "Wishlist Product Added to Cart",
    "Product Shared", "Product Reviewed",
})  # fmt: skip
"""Events to which the E-commerce Spec V2 gives one product, flat among the properties."""


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
"""Names of track events: those of https://segment.com/docs/connections/spec/ and `Names`."""


def as_json(value: Any) -> Any:
    """Return a struct of the event as plain JSON values, without missing and empty fields.

    Times become ISO 8601 text; free-form values stay exactly as they came.
    """
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return [as_json(member) for member in value]
    if not isinstance(value, msgspec.Struct):
        return value
    found = {name: as_json(getattr(value, name)) for name in value.__struct_fields__}
    return {k: v for k, v in found.items() if v is not None and v not in EMPTY}
