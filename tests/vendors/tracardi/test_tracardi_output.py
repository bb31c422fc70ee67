"""How events of other vendors are sent to Tracardi."""

from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.event import (
    App,
    Campaign,
    Context,
    Device,
    Event,
    Names,
    Page,
    Properties,
    Traits,
)
from gateway.mapping import Loss
from gateway.testing.samples import ARRIVAL
from plugins.tracardi.mapping import PREDEFINED, SPEAKS
from plugins.tracardi.values import derived
from tests.vendors.tracardi.rendering import (
    AT,
    SHOES,
    SOCKS,
    item,
    output,
    request_for,
    sent,
    track,
)

WRITTEN = "2024-03-28T10:15:30.523Z"


@pytest.mark.parametrize("name", ["Product Viewed", "Product Shared", "Product Reviewed"])
def test_says_what_else_is_known_of_the_one_product(name: str) -> None:
    """An event about one product has the product's free fields among its own."""
    properties = Properties(products=(SOCKS,), extra={"shelf": 7})
    event = Event(type="track", name=name, id="r-0", received_at=ARRIVAL, anonymous_id="a1",
                  properties=properties)  # fmt: skip
    said = item(event)["properties"]
    assert (said["colour"], said["shelf"]) == ("grey", 7)


def test_sends_an_order() -> None:
    """An order is sent as order-started, the type with income and products."""
    properties = Properties(
        order_id="o1",
        total=72.9,
        revenue=67.9,
        shipping=5,
        coupon="MAY",
        currency="EUR",
        products=(SHOES, SOCKS),
        extra={"gift": True},
    )
    context = Context(
        page=Page(url="https://shop.example/thanks", referrer="https://a.example/b?c"),
        device=Device(id="dev-1"),
        app=App(name="Shop"),
        campaign=Campaign(name="may", source="mail", medium="email"),
        ip="192.0.2.7",
        user_agent="Mozilla/5.0",
        locale="en-GB",
        timezone="Europe/London",
        channel="web",
        extra={"os": {"name": "Linux"}},
    )
    event = track(
        "Order Completed",
        properties,
        message_id="m1",
        timestamp=AT,
        anonymous_id="a1",
        session_id="s1",
        context=context,
        consent={"ads": False},
    )
    request = request_for(event)
    assert request.method == "POST"
    assert request.url == "https://tracardi.example/track"
    assert request.headers == {"content-type": "application/json"}
    assert orjson.loads(request.body) == {
        "source": {"id": "source-out"},
        "session": {"id": "s1"},
        "profile": {"id": "a1"},
        "device": {"id": "dev-1"},
        "context": {
            "utm": {"campaign": "may", "source": "mail", "medium": "email"},
            "browser": {"local": {"browser": {"userAgent": "Mozilla/5.0", "language": "en-GB"}}},
            "time": {"tz": "Europe/London"},
        },
        "events": [
            {
                "type": "order-started",
                "id": "m1",
                "time": {"create": WRITTEN, "insert": WRITTEN},
                "context": {
                    "user_id": "u1",
                    "page": {
                        "url": "https://shop.example/thanks",
                        "referer": {"host": "a.example"},
                    },
                    "device": {"id": "dev-1"},
                    "app": {"name": "Shop"},
                    "ip": "192.0.2.7",
                    "channel": "web",
                    "consent": {"ads": False},
                    "os": {"name": "Linux"},
                },
                "properties": {
                    "id": "o1",
                    "income": {"value": 72.9, "currency": "EUR"},
                    "revenue": 67.9,
                    "shipping": 5,
                    "tax": 0,
                    "coupon": "MAY",
                    "products": [
                        {"id": "42", "name": "Red shoes", "price": 59.9, "quantity": 1},
                        {"id": "43", "price": 4, "quantity": 2, "colour": "grey"},
                    ],
                    "gift": True,
                },
            }
        ],
    }
    assert output().losses(event) == [
        Loss("context.page.referrer", "coerced", "https://a.example/b?c")
    ]


def test_takes_the_revenue_for_the_income() -> None:
    """An order without a total has its revenue as both income and revenue."""
    properties = Properties(order_id="o1", revenue=67.9)
    assert item(track("Order Updated", properties))["properties"] == {
        "id": "o1",
        "income": {"value": 67.9},
        "revenue": 67.9,
    }
    assert item(track("Checkout Started", properties))["properties"] == {
        "order_id": "o1",
        "total": 67.9,
        "revenue": 67.9,
    }


def test_sends_a_person() -> None:
    """An identify is sent as profile-update, in the format that Tracardi copies to the profile."""
    traits = Traits(
        email="ada@shop.example",
        phone="+442079460000",
        first_name="Ada",
        birthday="1990-12-10",
        age=33,
        address={"city": "London", "postalCode": "NW1", "country": "GB"},
        extra={"vip": True},
    )
    event = Event(type="identify", id="r-1-0", received_at=AT, user_id="u1", traits=traits)
    assert sent(event) == {
        "source": {"id": "source-out"},
        "session": {"id": derived("session", f"user u1 {int(AT.timestamp() // 14400)}")},
        "events": [
            {
                "type": "profile-update",
                "id": "r-1-0",
                "time": {"insert": WRITTEN},
                "context": {"user_id": "u1"},
                "properties": {
                    "identifier": {"id": "u1"},
                    "pii": {"firstname": "Ada", "birthday": "1990-12-10 00:00:00"},
                    "contact": {
                        "email": {"main": "ada@shop.example"},
                        "phone": {"main": "+442079460000"},
                        "address": {"town": "London", "postcode": "NW1", "country": "GB"},
                    },
                    "age": 33,
                    "vip": True,
                },
            }
        ],
    }
    assert output().losses(event) == []


def test_free_keys_add_to_known_objects() -> None:
    """A free key with the name of a Tracardi object adds to it and overwrites nothing."""
    company = {"name": "Acme"}
    free = {"job": {"company": {"name": "Other", "size": 9}, "salary": 1}, "pii": "x"}
    traits = Traits(first_name="Ada", company=company, extra=free)
    event = Event(type="identify", user_id="u1", received_at=AT, traits=traits)
    properties = item(event)["properties"]
    assert properties["job"] == {"company": {"name": "Acme", "size": 9}, "salary": 1}
    assert properties["pii"] == {"firstname": "Ada"}
    assert (company, free["job"]) == (
        {"name": "Acme"},
        {"company": {"name": "Other", "size": 9}, "salary": 1},
    )


def test_sends_one_product_flat() -> None:
    """An event about one product has it among its properties, for any event type."""
    properties = Properties(products=(replace(SHOES, extra={"color": "red"}),), currency="EUR")
    flat = {
        "id": "42",
        "name": "Red shoes",
        "variant": {"color": "red"},
        "price": 59.9,
        "quantity": 1,
        "currency": "EUR",
    }
    viewed = item(track("Product Viewed", properties))
    assert (viewed["type"], viewed["properties"]) == ("product-details-page-view", flat)
    wished = item(track("Product Added to Wishlist", properties))
    assert (wished["type"], wished["properties"]) == ("product-added-to-wishlist", flat)


def test_sends_pages_and_screens() -> None:
    """A page is sent as page-view and a screen as screen-view, with their names."""
    page = Page(url="https://shop.example/", title="Home")
    known: dict[str, Any] = {"received_at": ARRIVAL, "name": "Home", "anonymous_id": "a1"}
    seen = item(Event(type="page", context=Context(page=page), **known))
    assert seen["type"] == "page-view"
    assert seen["properties"] == {"name": "Home"}
    assert seen["context"] == {"page": {"url": "https://shop.example/", "title": "Home"}}
    assert item(Event(type="screen", **known))["type"] == "screen-view"


def test_sends_a_group_as_an_event() -> None:
    """A group is sent as group-joined, with the group among the properties."""
    event = Event(
        type="group", user_id="u1", group_id="g1", received_at=AT, traits=Traits(name="Acme")
    )
    joined = item(event)
    assert joined["type"] == "group-joined"
    assert joined["properties"] == {"group_id": "g1", "name": "Acme"}


def test_sends_consent_as_properties() -> None:
    """Consent is in the properties of consent-update, and in the context of other events."""
    consent = {"analytics": True, "ads": False}
    event = track(Names.CONSENT_UPDATED, consent=consent)
    assert item(event)["type"] == "consent-update"
    assert item(event)["properties"] == consent
    assert "consent" not in item(event)["context"]
    assert output().losses(event) == []
    assert item(track(consent=consent))["context"]["consent"] == consent


@pytest.mark.parametrize(
    ("naming", "expected"),
    [
        (None, "my-own-event"),
        ("as-is", "My Own_Event"),
        ("snake_case", "my_own_event"),
        ("camelCase", "myOwnEvent"),
    ],
)
def test_spells_types_by_the_convention(naming: str | None, expected: str) -> None:
    """A type that Tracardi does not predefine is spelled as configured, by default as a slug."""
    settings = {} if naming is None else {"naming": naming}
    assert item(track("My Own_Event"), **settings)["type"] == expected
    assert item(track("Signed Up"), **settings)["type"] == "sign-up"


def test_sends_every_predefined_type() -> None:
    """Each event of the Segment Spec has one Tracardi type, which is read back as the event."""
    for (kind, name), word in SPEAKS.items():
        assert item(replace(track(name or kind), type=kind, name=name))["type"] == word
        assert PREDEFINED[word].event == (name or kind)
    assert item(track("Order Refunded"))["type"] == "order-refunded"
