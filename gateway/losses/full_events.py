"""Sample events with every field that Segment's specs give them, with plausible values.

The properties of each event follow https://segment.com/docs/connections/spec/ecommerce/v2/; events
that only the gateway knows (`gateway.event.Names`) have those of the most similar event there.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from gateway.event import (
    App,
    Campaign,
    Context,
    Device,
    Event,
    EventType,
    Names,
    Page,
    Product,
    Properties,
    Traits,
)

OTHER = "any other event"
"""The label of track events whose names are in no spec."""
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
CONTEXT = Context(
    page=Page(
        url="https://shop.example/p/42?a=1", path="/p/42", title="Boots",
        referrer="https://search.example/?q=boots", search="?a=1",
    ),
    device=Device(id="device-1", type="ios", manufacturer="Acme", model="One", name="My phone"),
    campaign=Campaign(name="may", source="mail", medium="email", term="boots", content="top"),
    app=App(name="Shop", version="1.2", build="7", namespace="example.shop"),
    ip="192.0.2.7", user_agent="Mozilla/5.0", locale="en-GB", timezone="Europe/London",
    channel="web", extra={"own": "of the context"},
)  # fmt: skip
TRAITS = Traits(
    email="ada@shop.example", phone="+442079460000", name="Ada Lovelace", first_name="Ada",
    last_name="Lovelace", gender="female", birthday="1990-12-10", age=35, username="ada",
    title="Countess", avatar="https://shop.example/ada.png", website="https://ada.example",
    description="Likes engines", created_at="2025-01-02T03:04:05.000Z",
    address={"city": "London"}, company={"name": "Engines"}, extra={"own": "of the user"},
)  # fmt: skip
BOOTS = Product(
    product_id="42", sku="B-42", name="Boots", category="shoes", brand="Acme", variant="brown",
    price=59.9, quantity=1, coupon="MAY", position=1, url="https://shop.example/p/42",
    image_url="https://shop.example/p/42.png", description="Warm", extra={"own": "of the product"},
)  # fmt: skip
SOCKS = Product(product_id="43", price=4.0, quantity=2)
FREE = {"own": "of the event"}
ORDER = Properties(
    order_id="o-1", checkout_id="c-1", affiliation="app", subtotal=67.9, total=71.9, revenue=65.9,
    shipping=5.0, tax=1.0, discount=2.0, coupon="MAY", currency="EUR", products=(BOOTS, SOCKS),
    extra=FREE,
)  # fmt: skip
ONE = Properties(coupon="MAY", currency="EUR", value=59.9, products=(BOOTS,), extra=FREE)
CART = Properties(cart_id="k-1", currency="EUR", products=(BOOTS, SOCKS), extra=FREE)
LIST = Properties(list_id="l-1", category="shoes", products=(BOOTS, SOCKS), extra=FREE)
WISHES = Properties(
    wishlist_id="w-1", wishlist_name="Later", currency="EUR", products=(BOOTS, SOCKS), extra=FREE
)
WISH = Properties(
    wishlist_id="w-1", wishlist_name="Later", currency="EUR", products=(BOOTS,), extra=FREE
)
MESSAGE = Properties(extra={**FREE, "type": "bulk", "code": "m-1"})

PROPERTIES: dict[str, Properties] = {
    "Products Searched": Properties(query="boots", extra=FREE),
    "Product List Viewed": LIST,
    "Product Clicked": ONE,
    "Product Viewed": ONE,
    "Product Added": ONE,
    "Product Removed": ONE,
    "Product Shared": ONE,
    "Product Reviewed": ONE,
    "Cart Viewed": CART,
    Names.CART_UPDATED: CART,
    Names.CART_CLEARED: Properties(cart_id="k-1", extra=FREE),
    "Checkout Started": ORDER,
    "Order Completed": ORDER,
    "Order Updated": ORDER,
    "Order Refunded": ORDER,
    "Order Cancelled": ORDER,
    "Product Added to Wishlist": WISH,
    "Product Removed from Wishlist": WISH,
    "Wishlist Product Added to Cart": WISH,
    Names.WISHLIST_UPDATED: WISHES,
    Names.WISHLIST_CLEARED: Properties(wishlist_id="w-1", wishlist_name="Later", extra=FREE),
    "Push Notification Received": MESSAGE,
    "Push Notification Tapped": MESSAGE,
    Names.PUSH_DISPLAYED: MESSAGE,
    Names.PUSH_DISMISSED: MESSAGE,
    Names.SMS_LINK_CLICKED: MESSAGE,
    OTHER: Properties(category="plans", currency="EUR", value=9.9, extra=FREE),
}
"""Names of track events with their properties."""


def _event(kind: EventType, **more: Any) -> Event:
    return Event(
        type=kind, id="specimen-0", message_id="m-1", timestamp=AT, sent_at=AT, received_at=AT,
        user_id="u-1", anonymous_id="a-1", session_id="s-1", context=CONTEXT,
        consent={"newsletter": True}, **more,
    )  # fmt: skip


def full_events() -> Iterator[tuple[str, Event]]:
    """Yield the label of each kind of event with a full event."""
    yield "identify", _event("identify", traits=TRAITS)
    yield "alias", _event("alias", previous_id="p-1")
    yield "group", _event("group", group_id="g-1", traits=TRAITS)
    yield "page", _event("page", name="Home", properties=Properties(category="c", extra=FREE))
    yield "screen", _event("screen", name="Home", properties=Properties(category="c", extra=FREE))
    for name, properties in PROPERTIES.items():
        spelt = "Plan Upgraded" if name == OTHER else name
        yield name, _event("track", name=spelt, properties=properties)
    yield "product", _event("product", properties=Properties(products=(BOOTS,)))
