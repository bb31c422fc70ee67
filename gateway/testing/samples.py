"""Sample requests and events, and a source of neutral events.

    about       what the case shows, in one sentence
    source      the URL of the document or code that the request is taken from
    request     method, url, headers, body (JSON, or text for a body that is none)
    events      what the gateway makes of it, as JSON: the fields of `gateway.plugin.Event`, without
                its id, received_at and origin, and without what is empty
    answer      status, body (JSON, or "base64:…" for bytes that are none), and the headers that
                matter: what the sender reads back
    deliveries  per event, what goes out to the same vendor: method, url, headers, body;
                or {"declined": reason}

An input without an output needs no ``deliveries``; an output without an input needs no ``request``
and no ``answer``.

Samples are written by hand from the vendor's documents, never recorded from the code's output.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias, TypedDict

import msgspec
import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import Rejected
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
    as_json,
)
from gateway.event_diff import MISSING, diff_json
from gateway.http import Request, Response
from gateway.mapping import NO_FIELD, EventMapping, Row, Table
from gateway.plugin.vendor import Input, json_response
from gateway.testing.plugin_watch import PluginSuite

Sample: TypeAlias = dict[str, Any]

ARRIVAL = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
"""The arrival time of every sample: Unix time 1767323045."""
REQUEST_ID = "sample"
GARBAGE = [b"", b"{", b"null", b"[]", b"0", b'"x"', b'{"a":' * 300, b"\xff\xfe"]
"""Bodies that no vendor accepts."""


KEYS: Final = ("about", "source", "request", "events", "answer", "deliveries")


def load_samples(folder: Path) -> dict[str, Sample]:
    """Return the samples in *folder* by file name.

    Raises:
        FileNotFoundError: it has none.
        ValueError: a sample is not JSON, or has an unknown key.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no samples (*.json) in {folder}")
    return {path.stem: _loaded(path) for path in paths}


def _loaded(path: Path) -> Sample:
    try:
        sample: Sample = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    unknown = ", ".join(sorted(sample.keys() - set(KEYS)))
    if unknown:
        raise ValueError(f"{path}: unknown: {unknown}; a sample has {', '.join(KEYS)}")
    return sample


def events_of(sample: Sample) -> list[Event]:
    """Return the events of *sample*, as if from another vendor.

    Raises:
        msgspec.ValidationError: one is not an event; the message names the field.
    """
    return [
        msgspec.convert({**event, "id": f"{REQUEST_ID}-{index}", "received_at": ARRIVAL}, Event)
        for index, event in enumerate(sample["events"])
    ]


class SampleSuite(PluginSuite):
    """Base of the suites with samples."""

    samples: ClassVar[Path]
    """The folder of the samples."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each sample test once per file, each endpoint test once per endpoint."""
        super().pytest_generate_tests(metafunc)
        if "sample" in metafunc.fixturenames:
            if not hasattr(self, "samples"):
                where = 'samples = Path(__file__).parent / "samples"'
                pytest.fail(f"{type(self).__name__} has no samples; write {where}", pytrace=False)
            found = load_samples(self.samples)
            metafunc.parametrize("sample", found.values(), ids=found.keys())
        if "endpoint" in metafunc.fixturenames:
            metafunc.parametrize("endpoint", sorted(self.input.endpoints))

    def test_cites_its_source(self, sample: Sample) -> None:
        """A sample has a description and a source."""
        assert sample["source"].startswith("https://")
        assert sample["about"]


def request_of(sample: Sample) -> Request:
    """Return the request of *sample*, as the gateway passes it to an input."""
    raw = sample["request"]
    body = raw.get("body", "")
    return Request(
        method=raw["method"],
        url=raw["url"],
        headers={name.lower(): value for name, value in raw.get("headers", {}).items()},
        body=body.encode() if isinstance(body, str) else orjson.dumps(body),
        id=REQUEST_ID,
        received_at=ARRIVAL,
    )


def plain(event: Event) -> dict[str, Any]:
    """Return *event* in the form of a sample."""
    shown: dict[str, Any] = orjson.loads(orjson.dumps(as_json(event)))
    for own in ("id", "received_at", "origin"):
        shown.pop(own, None)
    return shown


def assert_json(found: Any, expected: Any, where: str) -> None:
    """Fail the test if two JSON values differ, with a line for each path that does.

    Args:
        found: what the plugin makes.
        expected: what the sample has.
        where: what is compared, such as ``"deliveries"``.
    """
    __tracebackhide__ = True
    if found == expected:
        return
    lines = [
        f"  {path}: expected {_one_line(before)}, found {_one_line(after)}"
        for path, before, after in diff_json(expected, found)
    ]
    pytest.fail("\n".join([f"difference in {where}:", *lines]), pytrace=False)


def _one_line(value: Any) -> str:
    """Return a JSON value as text; ``nothing`` if it is missing."""
    return "nothing" if value is MISSING else orjson.dumps(value, default=str).decode()


def json_of(body: bytes) -> Any:
    """Return *body* as JSON values; None if it is empty, base64 if it is not JSON."""
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return f"base64:{base64.b64encode(body).decode()}"


def paths_in(node: Any, here: str = "") -> Iterator[str]:
    """Yield the dotted paths in a JSON value; ``[]`` stands for the items of an array."""
    if isinstance(node, dict):
        for key, below in node.items():
            yield from paths_in(below, f"{here}.{key}".removeprefix("."))
    elif isinstance(node, list):
        for item in node:
            yield from paths_in(item, f"{here}[]")
    if here and node is not None:
        yield here


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
"""Texts as other vendors' senders write them, where a date or a number is expected."""
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


PATH = "/neutral"


class Numbered(TypedDict):
    """The body: the index of one of the kit's events."""

    number: int


ENDPOINTS: Mapping[str, EventMapping] = {
    f"POST {PATH}": Table(Numbered, [Row("number", NO_FIELD, required=True)])
}


class NeutralInput(Input):
    """Takes the index of one of the kit's `EVENTS`, and returns that event."""

    name = "neutral"
    docs = "https://segment.com/docs/connections/spec/"
    endpoints = ENDPOINTS
    example = Request(method="POST", url=PATH, body=b'{"number": 0}')

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - anybody may send
        """Return a constant key."""
        return "anybody"

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the event with the index in *payload*."""
        (read,) = super().read(request, payload)
        event = EVENTS[payload["number"]]
        return [replace(event, id=read.id, received_at=read.received_at, origin=self.name)]

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - it is always the same
        """Respond 200."""
        return json_response(200, {})

    def refuse(self, request: Request, error: Rejected) -> Response:  # noqa: ARG002 - it depends on the error alone
        """Respond 400 with the error."""
        return json_response(400, {"error": str(error)})
