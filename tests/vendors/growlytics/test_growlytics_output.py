"""How events of other vendors are sent to Growlytics."""

from datetime import timedelta, timezone
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.event import Context, Device, Event, Page, Product, Properties, Traits
from gateway.http import Request
from gateway.mapping import Loss
from plugins.growlytics.input import GrowlyticsInput
from tests.vendors.growlytics.rendering import (
    AT,
    declined,
    identify,
    number,
    output,
    sent,
    text,
    track,
)


def test_sends_an_order() -> None:
    """An order is sent with the Spec's names, and its products as compact JSON text."""
    properties = Properties(
        order_id="o1",
        total=72.9,
        currency="EUR",
        products=(
            Product(product_id="42", price=59.9, quantity=1),
            Product(product_id="43", price=4, quantity=2, extra={"colour": "grey"}),
        ),
        extra={"gift": True},
    )
    request = output().render(track("Order Completed", properties, timestamp=AT))
    assert isinstance(request, Request)
    assert request.method == "POST"
    assert request.url == "https://growlytics.example/rest-api/event"
    assert request.headers == {"content-type": "application/json", "x-growlytics-key": "key-out"}
    products = (
        '[{"product_id":"42","price":59.9,"quantity":1},'
        '{"product_id":"43","price":4,"quantity":2,"colour":"grey"}]'
    )
    assert orjson.loads(request.body) == {
        "customerId": "u1",
        "name": "Order Completed",
        "attributes": [
            text("order_id", "o1"),
            number("total", 72.9),
            number("revenue", 67.9),
            text("currency", "EUR"),
            text("products", products),
            {"name": "timestamp", "type": "date", "value": "2024-03-28 10:15:30"},
            {"name": "gift", "type": "boolean", "value": True},
        ],
    }


def test_sends_one_product_flat() -> None:
    """An event about one product has the product's fields among its attributes."""
    product = Product(product_id="42", name="Red shoes", price=59.9, extra={"colour": "red"})
    event = track("Product Viewed", Properties(currency="EUR", products=(product,)))
    assert sent(event)["attributes"] == [
        text("product_id", "42"),
        text("name", "Red shoes"),
        number("price", 59.9),
        text("currency", "EUR"),
        text("colour", "red"),
    ]


def test_sends_a_customer() -> None:
    """Traits have Growlytics' reserved names; objects become dotted names, and lists text."""
    traits = Traits(
        email="ada@shop.example",
        phone="+442079460000",
        first_name="Ada",
        address={"city": "London", "geo": {"lat": 51.5, "lon": None}},
        extra={"tags": ["a", {"b": 1}], "vip": True, "nothing": None, "since": AT},
    )
    assert sent(identify(traits)) == {
        "id": "u1",
        "attributes": [
            text("email", "ada@shop.example"),
            text("mobile", "+442079460000"),
            text("firstName", "Ada"),
            text("address.city", "London"),
            number("address.geo.lat", 51.5),
            text("tags", '["a",{"b":1}]'),
            {"name": "vip", "type": "boolean", "value": True},
            {"name": "since", "type": "date", "value": "2024-03-28 10:15:30"},
        ],
    }
    assert output().losses(identify(traits)) == [
        Loss("traits.extra.nothing", "lost", None),
        Loss("traits.address", "coerced", traits.address),
        Loss("traits.extra.tags", "coerced", ["a", {"b": 1}]),
    ]


def test_sends_configured_dates() -> None:
    """A text configured as a date is sent as a UTC date if it is ISO 8601."""
    extra = {
        "since": "2024-03-28T15:45:30+05:30",
        "until": "next year",
        "when": {"first": "2024-03-28"},
        "count": 3,
        "other": "2024-03-28",
    }
    event = identify(Traits(birthday="1990-12-10", extra=extra))
    dates = ("birthday", "since", "until", "when.first", "count")
    assert sent(event, dates=dates)["attributes"] == [
        {"name": "birthday", "type": "date", "value": "1990-12-10 00:00:00"},
        {"name": "since", "type": "date", "value": "2024-03-28 10:15:30"},
        text("until", "next year"),
        {"name": "when.first", "type": "date", "value": "2024-03-28 00:00:00"},
        number("count", 3),
        text("other", "2024-03-28"),
    ]


def test_sends_times_as_dates_in_utc() -> None:
    """A time is sent in UTC without its fraction of a second, which is reported as coerced."""
    early = AT.replace(microsecond=5).astimezone(timezone(timedelta(hours=5, minutes=30)))
    event = track(properties=Properties(extra={"at": early, "exact": AT}))
    assert [attribute["value"] for attribute in sent(event)["attributes"]] == [
        "2024-03-28 10:15:30",
        "2024-03-28 10:15:30",
    ]
    assert output().losses(event) == [Loss("properties.extra.at", "coerced", early)]


def test_sends_a_page_as_an_event() -> None:
    """A page is sent as Page Viewed with its known fields."""
    where = Context(page=Page(url="https://shop.example/", title="Shop"))
    event = Event(type="page", name="Home", user_id="u1", context=where)
    assert sent(event) == {
        "customerId": "u1",
        "name": "Page Viewed",
        "attributes": [
            text("name", "Home"),
            text("url", "https://shop.example/"),
            text("title", "Shop"),
        ],
    }
    assert sent(replace(event, type="screen"))["name"] == "Screen Viewed"


def test_sends_a_group_as_an_event() -> None:
    """A group is sent as Group Joined; its e-mail never becomes the customer's id."""
    event = Event(type="group", user_id="u1", group_id="g1", traits=Traits(email="g@g.example"))
    assert sent(event) == {
        "customerId": "u1",
        "name": "Group Joined",
        "attributes": [text("group_id", "g1"), text("email", "g@g.example")],
    }
    assert "growlytics needs a customer" in declined(replace(event, user_id=None))


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"user_id": "u1", "anonymous_id": "a1"}, "u1"),
        ({"user_id": " ", "anonymous_id": "a1"}, "a1"),
        ({"anonymous_id": "a1", "traits": Traits(email="ada@shop.example")}, "a1"),
        ({"context": Context(device=Device(id="d1"))}, "d1"),
        ({"traits": Traits(email="ada@shop.example", phone="+44")}, "ada@shop.example"),
        ({"traits": Traits(phone="+44")}, "+44"),
    ],
)
def test_names_the_customer(fields: dict[str, Any], known: str) -> None:
    """The customer's id is the user's, else the anonymous, device, e-mail or phone id."""
    assert sent(Event(type="identify", **fields))["id"] == known


def test_keeps_a_type_only_while_the_value_allows() -> None:
    """An attribute's original type is sent back unless a route changed the value's type."""
    body = {
        "customerId": "c-1",
        "name": "x",
        "attributes": [{"name": "order_id", "type": "number", "value": 4711}],
    }
    (event,) = GrowlyticsInput().parse(
        Request(method="POST", url="/rest-api/event", body=orjson.dumps(body))
    )
    assert sent(event) == body
    hashed = replace(event, properties=Properties(order_id="af3c"))
    assert sent(hashed)["attributes"] == [text("order_id", "af3c")]
    dropped = replace(event, properties=Properties())
    assert sent(dropped)["attributes"] == []
