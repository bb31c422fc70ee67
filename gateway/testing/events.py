"""One neutral event of every kind, for outputs to render or decline."""

from datetime import UTC, datetime

from gateway.event import (
    Campaign,
    Context,
    Device,
    Event,
    Names,
    Page,
    Product,
    Properties,
    Traits,
)

AT = datetime(2024, 3, 28, 10, 15, 30, 523000, UTC)
SHOES = Product(product_id="42", name="Red shoes", price=59.9, quantity=1, brand="Acme")
SOCKS = Product(product_id="43", sku="S-43", price=4, quantity=2, extra={"colour": "grey"})
ORDER = Properties(
    order_id="o1", total=72.9, revenue=67.9, shipping=5, tax=0, discount=2, coupon="MAY",
    currency="EUR", products=(SHOES, SOCKS), extra={"gift": True},
)  # fmt: skip
WHERE = Context(
    page=Page(url="https://shop.example/p/42", title="Red shoes", referrer="https://a.example/"),
    device=Device(id="dev-1"),
    campaign=Campaign(name="may", source="mail", medium="email"),
    ip="192.0.2.7",
    user_agent="Mozilla/5.0",
    locale="en-GB",
    channel="web",
)

_ONE = (
    "Product Viewed", "Product Clicked", "Product Added", "Product Removed",
    "Product Added to Wishlist", "Product Removed from Wishlist", "Product Shared",
    "Product Reviewed", "Wishlist Product Added to Cart",
)  # fmt: skip
_MANY = (
    "Product List Viewed", "Cart Viewed", "Checkout Started", "Order Completed", "Order Updated",
    "Order Refunded", "Order Cancelled", Names.CART_UPDATED, Names.WISHLIST_UPDATED,
)  # fmt: skip
_BARE = (
    "Products Searched", "Payment Info Entered", "Promotion Viewed", "Coupon Applied", "Signed Up",
    "Signed In", "Segment Consent Preference Updated", "Push Notification Received",
    "Push Notification Tapped", Names.PUSH_DISPLAYED, Names.PUSH_DISMISSED, Names.SMS_LINK_CLICKED,
    Names.CART_CLEARED, Names.WISHLIST_CLEARED, "never heard of it",
)  # fmt: skip


def _track(name: str, properties: Properties) -> Event:
    return Event(
        type="track", name=name, id="kit-0", message_id="m1", timestamp=AT, received_at=AT,
        user_id="u1", anonymous_id="a1", session_id="s1", properties=properties, context=WHERE,
    )  # fmt: skip


TRAITS = Traits(
    email="ada@shop.example", phone="+442079460000", first_name="Ada", last_name="L",
    gender="female", birthday="1990-12-10",
    extra={"city": "London", "vip": True, "nested": {"deep": [1]}},
)  # fmt: skip
_TEXTS = (
    "email", "phone", "name", "first_name", "last_name", "gender", "birthday", "username", "title",
    "avatar", "website", "description", "created_at", "address", "company",
)  # fmt: skip
ODD = Traits(**dict.fromkeys(_TEXTS, "neither a date nor a number"))  # type: ignore[arg-type]
"""Texts as other vendors' senders write them: no date where one is expected, no address."""
EVENTS: tuple[Event, ...] = (
    *(_track(name, Properties(products=(SHOES,), currency="EUR")) for name in _ONE),
    *(_track(name, ORDER) for name in _MANY),
    *(_track(name, Properties(query="shoes", extra={"plan": "pro", "n": 3})) for name in _BARE),
    Event(
        type="identify", id="kit-0", received_at=AT, user_id="u1", anonymous_id="a1", traits=TRAITS
    ),
    Event(type="identify", id="kit-0", received_at=AT, traits=TRAITS, consent={"newsletter": True}),
    Event(type="alias", id="kit-0", received_at=AT, user_id="u1", previous_id="a1"),
    Event(type="page", id="kit-0", received_at=AT, anonymous_id="a1", name="Home", context=WHERE),
    Event(type="screen", id="kit-0", received_at=AT, anonymous_id="a1", name="Home"),
    Event(type="group", id="kit-0", received_at=AT, user_id="u1", group_id="g1", traits=TRAITS),
    Event(type="product", id="kit-0", received_at=AT, properties=Properties(products=(SHOES,))),
    *(_track(kind, Properties()) for kind in ("page", "screen", "identify", "group", "alias")),
    Event(type="identify", id="kit-0", received_at=AT, user_id="u1", traits=ODD),
    Event(type="track", id="kit-0", received_at=AT, name="nobody did it"),
    Event(type="track", id="kit-0", received_at=AT, user_id="u1", name="Product Viewed"),
    Event(type="track", id="kit-0", received_at=AT, user_id="u1", name="Order Completed"),
    Event(type="identify", id="kit-0", received_at=AT),
)
