"""Deeply nested values fail at most their own event, without a traceback."""

import math
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.delivery.job import Job
from gateway.delivery.renderer import PreparedRequest, Renderer
from gateway.event import Event
from gateway.http import Request
from gateway.losses.field_outcomes import LossCounter
from gateway.losses.full_events import full_events
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.vendor import Output
from gateway.spool import DeliveryRef, Entry

OUTPUTS = load_plugins().outputs
ENTRY = Entry("r", "shop", Request(method="POST", url="/"), {"out": (0,)})


def nested(depth: int, kind: type) -> Any:
    """Return lists or objects nested in each other."""
    value: Any = "deep"
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def events(deep: Any) -> list[Event]:
    """Return an event of every type with *deep* in each of its free fields."""
    extra = {"deep": deep}
    return [
        replace(
            event,
            properties=replace(event.properties, extra=extra),
            traits=replace(event.traits, extra=extra),
            context=replace(event.context, extra=extra),
        )
        for _, event in full_events()
    ]


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("depth", [200, 300, 990])
@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_deeply_nested_events_log_nothing(output: type[Output], depth: int, kind: type) -> None:
    """A deeply nested event is sent or fails with a reason, and nothing is logged."""
    rendering = Renderer(placeholder_output(output))
    meter = LossCounter(rendering.output, per_second=math.inf, share=math.inf)
    with capture_logs() as logged:
        for event in events(nested(depth, kind)):
            prepared = rendering.prepare([Job(DeliveryRef(1, 0), ENTRY, event)])
            assert isinstance(prepared, PreparedRequest) or prepared.reason
            meter.offer(lambda event=event: event)  # type: ignore[misc]  # bound now
    assert not logged
