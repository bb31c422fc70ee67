"""How events of other vendors go out to chrts, and what is declined or lost."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.event import Context, Device, Event, Names, Page, Product, Properties, Traits
from gateway.http import Request
from gateway.mapping import Loss
from gateway.plugin.settings import Secret
from gateway.testing.samples import EVENTS
from gateway.verdict import Declined
from plugins.chrts.input import ChrtsInput
from plugins.chrts.output import ChrtsOutput
from plugins.chrts.sandbox import ChrtsSandbox

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


def declined(event: Event) -> str:
    """Return why *event* is declined."""
    refusal = output().render(event)
    assert isinstance(refusal, Declined)
    return refusal.reason


def track(name: str | None = "x", **fields: Any) -> Event:
    """Return an event of another vendor."""
    return Event(type="track", name=name, **{"user_id": "u1", "origin": "growlytics", **fields})


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.type}-{event.name}")
def test_sends_only_what_chrts_takes(event: Event) -> None:
    """Whatever goes out, a server as strict as the document accepts."""
    request = output().render(event)
    if isinstance(request, Declined):
        return
    path = request.url.removeprefix("https://chrts.example")
    answer = ChrtsSandbox().respond(replace(request, url=path), "api_chrts_out")
    assert answer.reason is None
    assert answer.response.status == 200


def test_sends_an_order() -> None:
    """An order is an event by its Spec name, its properties and products by theirs."""
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
    """An event about one product names the product's fields among its properties."""
    product = Product(product_id="42", name="Red shoes", extra={"colour": "red"})
    event = track("Product Viewed", properties=Properties(currency="EUR", products=(product,)))
    assert sent(event)[1]["properties"] == {
        "product_id": "42",
        "name": "Red shoes",
        "currency": "EUR",
        "colour": "red",
    }


def test_sends_a_customer() -> None:
    """An identify goes out with the Spec's traits as attributes."""
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
    """The customer is the known one; a visitor's id stands in for a missing previous id."""
    event = Event(type="alias", user_id="u1", previous_id="p1", anonymous_id="a1")
    assert sent(event) == ("/customer/alias", {"knownUid": "u1", "uid": "p1"})
    assert output().losses(event) == [Loss("anonymous_id", "lost", "a1")]
    assert sent(replace(event, previous_id=None)) == (
        "/customer/alias",
        {"knownUid": "u1", "uid": "a1"},
    )


@pytest.mark.parametrize(("kind", "name"), [("page", "Page Viewed"), ("screen", "Screen Viewed")])
def test_sends_a_page_as_an_event(kind: Any, name: str) -> None:
    """A page or screen is tracked, with what is known of it."""
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
    """A group is tracked as Group Joined, with its id and traits."""
    event = Event(type="group", user_id="u1", group_id="g1", traits=Traits(name="Engines Ltd"))
    assert sent(event)[1] == {
        "uid": "u1",
        "name": "Group Joined",
        "properties": {"group_id": "g1", "name": "Engines Ltd"},
    }


def test_names_events_as_told() -> None:
    """Events of others are named by the destination's convention, its own keep their names."""
    assert sent(track(Names.CART_UPDATED), naming="kebab-case")[1]["name"] == "cart-updated"
    assert sent(track(Names.CART_UPDATED))[1]["name"] == "Cart Updated"
    own = track("accountSignup", origin="chrts")
    assert sent(own, naming="kebab-case")[1]["name"] == "accountSignup"


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"user_id": "u1", "anonymous_id": "a1"}, {"uid": "u1", "anonymousId": "a1"}),
        ({"user_id": " ", "anonymous_id": "a1"}, {"anonymousId": "a1"}),
        ({"user_id": None, "context": Context(device=Device(id="d1"))}, {"anonymousId": "d1"}),
    ],
)
def test_names_the_customer(fields: dict[str, Any], ids: dict[str, str]) -> None:
    """Both ids go out where both are known; the device's stands in where neither is."""
    assert sent(track(**fields))[1] == {**ids, "name": "x"}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event(type="product", user_id="u1"), "no catalogue"),
        (track(user_id=None), "needs to know whom"),
        (track("  "), "no event without a name"),
        (Event(type="alias", user_id="u1"), "one of them is missing"),
        (Event(type="alias", previous_id="p1", anonymous_id="a1"), "one of them is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_declines_what_it_cannot_say(event: Event, reason: str) -> None:
    """What chrts has no way to say is declined with the reason."""
    assert reason in declined(event)
    assert output().losses(event) == []


def test_declares_what_has_no_place() -> None:
    """Message, session, most of the context and the repeated consent have no place."""
    event = track(
        timestamp=AT, message_id="m1", session_id="s1", consent={"email": True},
        context=Context(ip="192.0.2.7"), properties=Properties(extra={"address.city": "London"}),
    )  # fmt: skip
    assert {loss.path for loss in output().losses(event)} == {
        "message_id", "session_id", "consent.email", "context.ip",
    }  # fmt: skip


def test_loses_nothing_of_its_own_envelope() -> None:
    """The message id and time of a Segment-shaped body go back to chrts, and are no losses."""
    body = {"event": "x", "userId": "u1", "messageId": "m1", "timestamp": "2024-03-28T10:15:30Z"}
    request = Request(method="POST", url="/event/track", body=orjson.dumps(body))
    (event,) = ChrtsInput().parse(request)
    assert output().losses(event) == []
    assert {loss.path for loss in output().losses(replace(event, origin="segment"))} == {
        "message_id", "extra.messageId", "extra.timestamp",
    }  # fmt: skip
