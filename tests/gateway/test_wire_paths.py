"""A field of an event is named by its path in the sender's payload."""

from pathlib import Path

import pytest

from gateway.mapping import wire_path
from gateway.plugin.registry import load_plugins
from gateway.testing import load_samples
from gateway.testing.samples import request_of

SAMPLES = Path(__file__).parents[1] / "vendors"
PRICE = ("properties", "products", 1, "price")


@pytest.mark.parametrize(
    ("sample", "path", "spelling"),
    [
        ("chrts/event-order-completed", PRICE, "properties.products.1.price"),
        ("chrts/event-product-viewed", ("properties", "products", 0, "price"), "properties.price"),
        ("chrts/event-properties", ("user_id",), "uid"),
        ("chrts/event-segment-shaped", ("user_id",), "userId"),
        ("chrts/event-properties", ("properties", "platform"), "properties.platform"),
        ("personaclick/purchase", PRICE, "items.1.price"),
        ("personaclick/purchase", ("properties", "total"), "order_price"),
        ("personaclick/purchase", ("properties", "custom", "boxes"), "custom.boxes"),
        ("personaclick/purchase", ("properties", "products", 1), "items.1"),
        ("tracardi/order-started", PRICE, "events.0.properties.products.1.price"),
        ("tracardi/order-started", ("properties", "total"), "events.0.properties.income.value"),
        ("quartic/event-transaction", ("user_id",), "userId"),
        ("chrts/event-properties", ("context", "page", "zork"), "context.page.zork"),
        ("chrts/event-properties", (), "$"),
    ],
)
def test_a_path_is_the_senders(sample: str, path: tuple[str | int, ...], spelling: str) -> None:
    """A field's path leads to its place in the sent payload, also if the field is missing."""
    vendor, _, name = sample.partition("/")
    reads = load_plugins().inputs[vendor]()
    request = request_of(load_samples(SAMPLES / vendor)[name])
    payload = reads.decode(request)
    mapped = reads.endpoints[f"{request.method} {request.path}"]
    event = reads.read(request, payload)[0]
    assert wire_path(mapped, payload, event, 0, path) == spelling
