"""Misspelt names and keys are read as Segment's own destinations read them."""

from typing import Any

import orjson
import pytest

from gateway.event import Event
from gateway.http import Request
from gateway.mapping import MONEY
from gateway.plugin.settings import Secret
from gateway.plugin.spec_spellings import SPELT, V1, V2, spec_name
from gateway.verdict import Declined
from plugins.segment.input import SegmentInput
from plugins.segment.output import SegmentOutput

OUTPUT = SegmentOutput(SegmentOutput.Config(write_key=Secret("key-out")))


def read(event: Any, properties: Any, kind: str = "track") -> Event:
    """Return the event of a call with *event* and *properties*."""
    call = {"type": kind, "userId": "u1", "event": event, "properties": properties}
    request = Request(method="POST", url="/v1/batch", body=orjson.dumps({"batch": [call]}), id="r")
    (found,) = SegmentInput().parse(request)
    return found


@pytest.mark.parametrize("name", sorted({*V2, *V1}))
def test_names_are_read_in_any_case(name: str) -> None:
    """An event name of the Spec, or of its first version, is read in any case and separator."""
    wanted = V1.get(name, name)
    joined = name.replace(" ", "")
    for spelled in (name, name.lower(), name.upper(), name.replace(" ", "_"), joined, f" {name} "):
        assert read(spelled, {}).name == wanted, spelled


@pytest.mark.parametrize("name", ["order-completed!", "My Order", "orders completed", "x" * 99])
def test_other_names_stay(name: str) -> None:
    """A name that is not in the Spec stays unchanged."""
    assert read(name, {}).name == name
    assert spec_name(name) == name


@pytest.mark.parametrize("key", ["orderId", "orderID", "OrderId", "ORDER_ID", "order id", "id"])
def test_keys_are_read_in_any_spelling(key: str) -> None:
    """A property of the Spec, such as the order's id, is read in any spelling."""
    event = read("Order Completed", {key: "o1", "Total": 5})
    assert event.properties.order_id == "o1"
    assert event.properties.total == 5
    assert not event.properties.extra


@pytest.mark.parametrize("key", ["productId", "productID", "ProductId", "product_id", "ID", "id"])
def test_products_are_found_in_any_spelling(key: str) -> None:
    """A product's id is read in any spelling, flat or in a list."""
    flat = read("Viewed Product", {key: "p1", "Price": "$5"})
    listed = read("completed order", {"Products": [{key: "p1", "Price": "$5"}, None]})
    for event in (flat, listed):
        (product,) = event.properties.products
        assert (product.product_id, product.price) == ("p1", 5)


def test_the_specs_own_spelling_has_priority() -> None:
    """If a property occurs twice, the Spec's spelling is used and the other is a free field."""
    event = read("Order Completed", {"orderId": "other", "order_id": "o1", "id": 7})
    assert event.properties.order_id == "o1"
    assert event.properties.extra == {"orderId": "other", "id": 7}


def test_other_events_keep_their_id() -> None:
    """An ``id`` of neither an order nor a product is a free field."""
    assert read("Signed Up", {"id": 7}).properties.extra == {"id": 7}


@pytest.mark.parametrize(
    ("event", "properties"),
    [
        ("completed order", {"orderId": "o1", "Total": 5, "products": [{"id": "p1", "Name": "n"}]}),
        ("viewedProduct", {"productID": "p1", "free": {"orderId": 1}}),
        ("PRODUCT ADDED", {"id": "p1", "cartId": "c1"}),
    ],
)
def test_keeps_the_spelling_of_its_own_events(event: str, properties: dict[str, Any]) -> None:
    """An event sent back to Segment has its original spelling of name and keys."""
    request = OUTPUT.render(read(event, properties))
    assert not isinstance(request, Declined)
    said = orjson.loads(request.body)
    assert (said["event"], said["properties"]) == (event, properties)
    assert said.keys() <= {"type", "userId", "event", "properties", "messageId", "timestamp"}


@pytest.mark.parametrize("event", [None, "", "  ", 7, {"a": 1}, ["Order Completed"], True])
def test_a_track_without_a_name_has_none(event: Any) -> None:
    """A track call without a text as event name is accepted, and has no name."""
    found = read(event, {"id": 1})
    assert not (found.name or "").strip()
    assert isinstance(OUTPUT.render(found), Declined)


@pytest.mark.parametrize("properties", [None, [], "x", 7, {"products": {"0": {}}}, {"products": 3}])
def test_invalid_properties_do_not_affect_the_call(properties: Any) -> None:
    """Properties of a wrong type do not affect the rest of the call."""
    assert read("viewed product", properties).name == "Product Viewed"


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$25.50", 25.5), ("25.50 \u20ac", 25.5), ("EUR 25", 25), ("-$5", -5), ("$-5", -5),
        ("1 299,00", 1299), ("1\u00a0299,00", 1299), ("1\u202f299.5", 1299.5), ("1'299.50", 1299.5),
        ("1,299.00", 1299), ("1.299,00", 1299), ("1,234,567", 1234567), ("1.234.567", 1234567),
        ("12,5", 12.5), ("0,500", 0.5), ("$1,299", 1299), ("299 kr", 299), ("1.299", 1.299),
        (" 7 ", 7), ("1e3", 1000), ("1234,567", 1234.567),
    ],
)  # fmt: skip
def test_amounts_are_read_as_people_write_them(text: str, amount: float) -> None:
    """An amount may have a currency, a sign and either decimal separator."""
    assert MONEY.decode(text) == amount
    assert read("Order Completed", {"total": text}).properties.total == amount


@pytest.mark.parametrize(
    "text",
    ["1,299", "\u20ac1.299", "5%", "12kg", "1 29 9", "--5", "1_000", "nan", "", "1,2,3", "."],
)
def test_ambiguous_amounts_stay_free(text: str) -> None:
    """Text that is no amount, or is ambiguous, stays a free property."""
    with pytest.raises(ValueError, match=r"^(must be|is ambiguous)"):
        MONEY.decode(text)
    properties = read("Order Completed", {"total": text, "order_id": "o1"}).properties
    assert properties.total is None
    assert properties.extra == {"total": text}


def test_the_names_of_the_spec_are_distinct() -> None:
    """No two names of the Spec are equal without spaces and in lower case."""
    assert len({name.replace(" ", "").lower() for name in SPELT}) == len(SPELT)
