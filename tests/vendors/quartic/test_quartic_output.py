"""How events of other vendors are sent to Quartic, and the verdicts on its responses."""

from datetime import UTC, datetime

import orjson
import pytest
from msgspec.structs import replace

from gateway.event import Context, Device, Event, Page, Product, Properties, Traits
from gateway.http import Response
from gateway.verdict import Delivered, Refused, RetryLater
from tests.vendors.quartic.rendering import (
    AT,
    SECONDS,
    SHOES,
    SOCKS,
    losses,
    output,
    request,
    sent,
    track,
)


def test_sends_a_view() -> None:
    """A view is sent with the account, the time in whole seconds, and the known ids."""
    where = Context(device=Device(id="d1"), page=Page(referrer="https://a.example/"))
    event = replace(
        track("Product Viewed", Product(product_id="g1pk_4-b", name="Red shoes")),
        timestamp=AT.replace(microsecond=523000),
        anonymous_id="a1",
        traits=Traits(email="ada@shop.example"),
        context=where,
    )
    made = request(event)
    assert made.method == "POST"
    assert made.headers == {"content-type": "application/json", "x-api-key": "key-out"}
    assert (made.url, orjson.loads(made.body)) == (
        "/store/track/event",
        {
            "customer": "account_out",
            "eventType": "eventProductView",
            "userId": "u1",
            "userEmail": "ada@shop.example",
            "deviceId": "d1",
            "timestamp": SECONDS,
            "referrer": "https://a.example/",
            "cookie": "a1",
            "productId": "g1pk_4-b",
        },
    )
    assert losses(event) == {"timestamp": "coerced", "properties.products[].name": "lost"}


def test_sends_the_first_of_several_products() -> None:
    """A view has one product, and the others are reported as lost."""
    event = track("Product Viewed", SHOES, SOCKS)
    assert sent(event)[1]["productId"] == "42"
    assert losses(event)["properties.products[1:]"] == "lost"


def test_sends_a_click_on_a_recommendation() -> None:
    """A click is sent with the tracking string from Quartic, also if another vendor sent it."""
    event = track("Product Clicked", SHOES, extra={"tracking_string": "x-1"})
    assert sent(event) == (
        "/store/track/event",
        {
            "customer": "account_out",
            "eventType": "eventClick",
            "userId": "u1",
            "timestamp": SECONDS,
            "productId": "42",
            "trackingString": "x-1",
        },
    )
    assert "properties.extra.tracking_string" not in losses(event)


def test_sends_an_order() -> None:
    """An order is sent as its products; a total that differs from their sum is a loss."""
    event = track("Order Completed", SHOES, SOCKS, order_id="o1", total=67.9)
    assert sent(event) == (
        "/store/track/event",
        {
            "customer": "account_out",
            "eventType": "eventTransaction",
            "userId": "u1",
            "timestamp": SECONDS,
            "transactionId": "o1",
            "basket": [
                {"productId": "42", "price": 59.9, "quantity": 1},
                {"productId": "43", "price": 4, "quantity": 2},
            ],
        },
    )
    assert losses(event) == {}
    shipped = track("Order Completed", SHOES, SOCKS, order_id="o1", total=72.9, shipping=5)
    assert losses(shipped) == {"properties.total": "lost", "properties.shipping": "lost"}


def test_sends_whole_quantities() -> None:
    """A fractional quantity becomes one piece with the same sum: 0.5 at 8 becomes 1 at 4."""
    cheese = Product(product_id="44", price=8, quantity=0.5)
    event = track("Order Completed", replace(SOCKS, quantity=2.0), cheese, order_id="o1")
    basket = sent(event)[1]["basket"]
    assert basket == [
        {"productId": "43", "price": 4, "quantity": 2},
        {"productId": "44", "price": 4, "quantity": 1},
    ]
    assert type(basket[0]["quantity"]) is int
    assert losses(event) == {
        "properties.products[].price": "coerced",
        "properties.products[].quantity": "coerced",
    }


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [(AT, SECONDS), (None, SECONDS), (datetime(1960, 1, 1, tzinfo=UTC), SECONDS)],
)
def test_sends_a_time_that_quartic_can_say(timestamp: datetime | None, seconds: int) -> None:
    """An event without a time, or with one before 1970, is sent with its arrival time."""
    event = replace(track("Product Viewed", SHOES), timestamp=timestamp)
    arrived = replace(event, received_at=AT.replace(microsecond=1))
    assert sent(arrived)[1]["timestamp"] == seconds
    declared = losses(arrived).get("timestamp")
    assert declared == (None if timestamp in {None, AT} else "coerced")


def test_sends_no_blank_ids_and_no_address_that_is_none() -> None:
    """Blank ids are left out; an invalid e-mail address is a loss."""
    event = replace(
        track("Product Viewed", SHOES),
        user_id=" ",
        anonymous_id="",
        traits=Traits(email="nobody"),
        context=Context(device=Device(id="")),
    )
    body = sent(event)[1]
    assert body.keys() == {"customer", "eventType", "timestamp", "productId"}
    assert losses(event)["traits.email"] == "lost"


def test_sends_a_product() -> None:
    """A product is sent to the catalogue, with the free fields that have Quartic's types."""
    extra = {
        "price_old": "24.50", "custom1": "38", "custom2": 5, "status": True,
        "categories": [{"id": "c1", "name": "Shoes"}], "catalog_symbol": "shoes", "colour": "red",
    }  # fmt: skip
    product = Product(product_id="42", name="Red shoes", price=19.99, brand="Acme", extra=extra)
    event = Event(type="product", properties=Properties(products=(product,)), origin="segment")
    assert sent(event) == (
        "/store/data/product",
        {
            "id": "42",
            "title": "Red shoes",
            "price": 19.99,
            "custom1": "38",
            "status": True,
            "catalogSymbol": "shoes",
        },
    )
    lost = ("brand", "extra.price_old", "extra.custom2", "extra.categories", "extra.colour")
    assert losses(event) == {f"properties.products[].{name}": "lost" for name in lost}


def test_sends_a_configured_version() -> None:
    """A configured API version is sent as a header."""
    event = track("Product Viewed", SHOES)
    assert request(event, accept_version="1.0.6").headers["accept-version"] == "1.0.6"


def answer(status: int, code: str | None) -> Response:
    """Return an error in Quartic's envelope."""
    data = {} if code is None else {"error_code": code, "error_message": "said so"}
    said = {"status": "ERROR", "timestamp": SECONDS, "data": data}
    return Response(status, {}, orjson.dumps(said))


def test_judges_the_envelope() -> None:
    """An error in the envelope counts with any status; 405 is final, 500 is retried."""
    verdict = output().verdict
    assert verdict(Response(200, {}, b'{"status": "OK", "timestamp": 1}')) == Delivered()
    assert verdict(Response(200, {}, b"OK")) == Delivered()
    assert verdict(Response(200, {}, b"[]")) == Delivered()
    for bad in (answer(405, "http.status.405"), answer(200, "http.status.405")):
        refused = verdict(bad)
        assert isinstance(refused, Refused)
        assert "said so" in refused.reason
    for passing in (answer(500, "http.status.500"), answer(200, None), answer(200, "odd")):
        assert isinstance(verdict(passing), RetryLater)
    locked = verdict(answer(200, "http.status.401"))
    assert isinstance(locked, RetryLater)
    assert locked.cause == "credential"
