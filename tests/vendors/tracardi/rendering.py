"""Events of other vendors, rendered by Tracardi's output."""

from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.event import Event, Product, Properties
from gateway.http import Request
from gateway.plugin.settings import Secret
from gateway.testing.samples import ARRIVAL
from plugins.tracardi.output import TracardiOutput

AT = datetime(2024, 3, 28, 10, 15, 30, 523000, UTC)
SHOES = Product(product_id="42", name="Red shoes", price=59.9, quantity=1)
SOCKS = Product(product_id="43", price=4, quantity=2, extra={"colour": "grey"})


def output(**settings: Any) -> TracardiOutput:
    """Return a destination with *settings*."""
    source = Secret("source-out")
    return TracardiOutput(
        TracardiOutput.Config(url="https://tracardi.example/", source_id=source, **settings)
    )


def request_for(event: Event, **settings: Any) -> Request:
    """Return the request that delivers *event*."""
    request = output(**settings).render(event)
    assert isinstance(request, Request), request
    return request


def sent(event: Event, **settings: Any) -> dict[str, Any]:
    """Return the body that delivers *event*."""
    body: dict[str, Any] = orjson.loads(request_for(event, **settings).body)
    return body


def item(event: Event, **settings: Any) -> dict[str, Any]:
    """Return the one event in the body that delivers *event*."""
    (only,) = sent(event, **settings)["events"]
    found: dict[str, Any] = only
    return found


def track(name: str = "x", properties: Properties = Properties(), **fields: Any) -> Event:  # noqa: B008 - immutable
    """Return an event of another vendor."""
    known = {"id": "r-1-0", "user_id": "u1", "origin": "segment", "received_at": ARRIVAL, **fields}
    return Event(type="track", name=name, properties=properties, **known)
