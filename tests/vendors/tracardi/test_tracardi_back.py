"""How Tracardi's own events are sent back to it, with or without changes by a route."""

from typing import Any

import orjson
from msgspec.structs import replace

from gateway.event import Event, Traits, as_json
from gateway.http import Request
from gateway.testing.samples import ARRIVAL
from plugins.tracardi.input import TracardiInput
from tests.vendors.tracardi.rendering import (
    item,
    output,
    request_for,
    sent,
)

WRITTEN = "2024-03-28T10:15:30.523Z"


def own(*events: dict[str, Any], url: str = "/track", **more: Any) -> list[Event]:
    """Return the events that Tracardi's input reads from *events*."""
    body = {"source": {"id": "a"}, "session": {"id": "s-1"}, "profile": {"id": "p-1"}, **more}
    raw = orjson.dumps({**body, "events": list(events)})
    request = Request(method="POST", url=url, body=raw, id="r-1", received_at=ARRIVAL)
    return TracardiInput().parse(request)


def test_sends_its_own_back_without_a_profile() -> None:
    """An event with ``profile_less`` in the query is sent back with it."""
    (event,) = own({"type": "sign-in"}, url="/track?profile_less=true", session=None, profile=None)
    request = request_for(event)
    assert request.url == "https://tracardi.example/track?profile_less=true"
    assert "session" not in orjson.loads(request.body)


def test_keeps_the_received_type() -> None:
    """Of two equivalent types the received one is sent back, unless a route renames the event."""
    (event,) = own({"type": "order-completed", "properties": {"id": "o1", "status": "completed"}})
    assert item(event)["type"] == "order-completed"
    renamed = replace(event, name="Order Cancelled")
    assert item(renamed)["type"] == "Order Cancelled"
    (spelled,) = own({"type": "Product Added"})
    assert item(spelled)["type"] == "Product Added"
    assert item(replace(spelled, name="Signed Up"))["type"] == "sign-up"


def test_puts_the_context_back_where_it_was() -> None:
    """The payload's context and the event's context are each sent back in their place."""
    (event,) = own({"type": "sign-in", "context": {"tag": "x"}}, context={"system": "shop"})
    assert sent(event)["context"] == {"system": "shop"}
    assert item(event)["context"] == {"tag": "x"}


def test_does_not_bring_back_what_a_route_dropped() -> None:
    """A field that a route dropped is not sent back through the leftovers."""
    (event,) = own(
        {"type": "profile-update", "properties": {"contact": {"email": {"main": "a@b.example"}}}},
        context={"system": "shop", "client": "secret"},
    )
    changed = replace(
        event, traits=Traits(), context=replace(event.context, extra={"system": "shop"})
    )
    text = request_for(changed).body.decode()
    assert "a@b.example" not in text
    assert "secret" not in text
    assert "a@b.example" not in str(as_json(event)["extra"])


def test_collects_at_the_time_of_arrival() -> None:
    """Tracardi's own events have the arrival as insert time, unless they have their own."""
    (event,) = own({"type": "sign-in", "time": {"create": WRITTEN}})
    assert item(event)["time"] == {"create": WRITTEN, "insert": "2026-01-02T03:04:05.000Z"}
    (backdated,) = own({"type": "sign-in", "time": {"insert": WRITTEN}})
    assert item(backdated)["time"] == {"create": WRITTEN, "insert": WRITTEN}


def test_forwards_the_received_bytes() -> None:
    """A forwarded payload has the configured source, and is otherwise unchanged."""
    body = b'{"source" : {"id":"a-source"},\n "events": [{"type": "sign-in"}], "x": 1.0}'
    came = Request(method="POST", url="/track?profile_less=true", body=body)
    request = output().forward(came)
    assert request is not None
    assert request.url == "https://tracardi.example/track?profile_less=true"
    assert request.body == body.replace(b"a-source", b"source-out")


def test_reads_products_that_are_null_as_none() -> None:
    """If ``products`` is null, the other properties are read as usual."""
    (event,) = own({"type": "compared", "properties": {"products": None, "total": "12.5"}})
    assert event.properties.total == 12.5
