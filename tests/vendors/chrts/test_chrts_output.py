"""How events of other vendors are sent to chrts, and which are declined or lost."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.event import Context, Device, Event, Page, Product, Properties, Traits
from gateway.http import Request
from gateway.mapping import Loss
from gateway.plugin.settings import Secret
from plugins.chrts.input import ChrtsInput
from plugins.chrts.output import ChrtsOutput

AT = datetime(2024, 3, 28, 10, 15, 30, tzinfo=UTC)


def output(**settings: Any) -> ChrtsOutput:
    """Return a destination with *settings*."""
    key = Secret("api_chrts_out")
    return ChrtsOutput(ChrtsOutput.Config(url="https://chrts.example/", api_key=key, **settings))


def sent(event: Event, **settings: Any) -> tuple[str, Any]:
    """Return the path and the body that deliver *event*."""
    request = output(**settings).render(event)
    assert isinstance(request, Request), request
    return request.url.removeprefix("https://chrts.example"), orjson.loads(request.body)


def track(name: str | None = "x", **fields: Any) -> Event:
    """Return an event of another vendor."""
    return Event(type="track", name=name, **{"user_id": "u1", "origin": "growlytics", **fields})


def test_sends_an_order() -> None:
    """An order is sent with the Spec's names for the event, its properties and its products."""
    properties = Properties(
        order_id="o1",
        total=72.9,
        products=(Product(product_id="42", price=59.9), Product(sku="S", extra={"size": 38})),
        extra={"gift": True, "at": AT},
    )
    assert sent(track("Order Completed", properties=properties)) == (
        "/event/track",
        {
            "uid": "u1",
            "name": "Order Completed",
            "properties": {
                "order_id": "o1",
                "total": 72.9,
                "products": [{"product_id": "42", "price": 59.9}, {"sku": "S", "size": 38}],
                "gift": True,
                "at": "2024-03-28T10:15:30+00:00",
            },
        },
    )


def test_sends_one_product_flat() -> None:
    """An event about one product has the product's fields among its properties."""
    product = Product(product_id="42", name="Red shoes", extra={"colour": "red"})
    event = track("Product Viewed", properties=Properties(currency="EUR", products=(product,)))
    assert sent(event)[1]["properties"] == {
        "product_id": "42",
        "name": "Red shoes",
        "currency": "EUR",
        "colour": "red",
    }


def test_sends_a_customer() -> None:
    """An identify is sent with the Spec's traits as attributes."""
    traits = Traits(email="ada@shop.example", first_name="Ada", extra={"plan": "pro"})
    event = Event(type="identify", user_id="u1", anonymous_id="a1", traits=traits)
    assert sent(event) == (
        "/customer/identify",
        {
            "uid": "u1",
            "anonymousId": "a1",
            "attributes": {"email": "ada@shop.example", "firstName": "Ada", "plan": "pro"},
        },
    )


def test_sends_an_alias() -> None:
    """An alias names the known customer; without a previous id it uses the anonymous id."""
    event = Event(type="alias", user_id="u1", previous_id="p1", anonymous_id="a1")
    assert sent(event) == ("/customer/alias", {"knownUid": "u1", "uid": "p1"})
    assert output().losses(event) == [Loss("anonymous_id", "lost", "a1")]
    assert sent(replace(event, previous_id=None)) == (
        "/customer/alias",
        {"knownUid": "u1", "uid": "a1"},
    )


@pytest.mark.parametrize(("kind", "name"), [("page", "Page Viewed"), ("screen", "Screen Viewed")])
def test_sends_a_page_as_an_event(kind: Any, name: str) -> None:
    """A page or screen is sent as a track event with its known fields."""
    where = Context(page=Page(url="https://shop.example/", title="Shop"))
    event = Event(type=kind, name="Home", anonymous_id="a1", context=where)
    assert sent(event) == (
        "/event/track",
        {
            "anonymousId": "a1",
            "name": name,
            "properties": {"name": "Home", "url": "https://shop.example/", "title": "Shop"},
        },
    )


def test_sends_a_group_as_an_event() -> None:
    """A group is sent as Group Joined, with its id and traits."""
    event = Event(type="group", user_id="u1", group_id="g1", traits=Traits(name="Engines Ltd"))
    assert sent(event)[1] == {
        "uid": "u1",
        "name": "Group Joined",
        "properties": {"group_id": "g1", "name": "Engines Ltd"},
    }


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"user_id": "u1", "anonymous_id": "a1"}, {"uid": "u1", "anonymousId": "a1"}),
        ({"user_id": " ", "anonymous_id": "a1"}, {"anonymousId": "a1"}),
        ({"user_id": None, "context": Context(device=Device(id="d1"))}, {"anonymousId": "d1"}),
    ],
)
def test_names_the_customer(fields: dict[str, Any], ids: dict[str, str]) -> None:
    """Both ids are sent if known; without them the device id is used."""
    assert sent(track(**fields))[1] == {**ids, "name": "x"}


def test_declares_what_has_no_place() -> None:
    """Message id, session, consent and most of the context are reported as lost."""
    event = track(
        timestamp=AT, message_id="m1", session_id="s1", consent={"email": True},
        context=Context(ip="192.0.2.7"), properties=Properties(extra={"address.city": "London"}),
    )  # fmt: skip
    assert {loss.path for loss in output().losses(event)} == {
        "message_id", "session_id", "consent.email", "context.ip",
    }  # fmt: skip


def test_loses_no_field_that_it_includes() -> None:
    """An included field is a property, so it is no loss; any other field without a place is."""
    page = Page(url="https://shop.example/", title="Shop")
    known = track(timestamp=datetime(2024, 3, 28, tzinfo=UTC), context=Context(page=page))
    assert sent(known)[1]["properties"]["page_url"] == "https://shop.example/"
    assert [loss.path for loss in output().losses(known)] == ["context.page.title"]


def test_loses_nothing_of_its_own_envelope() -> None:
    """The message id and time of a Segment-shaped body are sent back to chrts without a loss."""
    body = {"event": "x", "userId": "u1", "messageId": "m1", "timestamp": "2024-03-28T10:15:30Z"}
    request = Request(method="POST", url="/event/track", body=orjson.dumps(body))
    (event,) = ChrtsInput().parse(request)
    assert output().losses(event) == []
    assert {loss.path for loss in output().losses(replace(event, origin="segment"))} == {
        "message_id", "extra.messageId", "extra.timestamp",
    }  # fmt: skip
