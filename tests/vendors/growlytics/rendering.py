"""Events of other vendors, rendered by Growlytics' output."""

from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.event import Event, Properties, Traits
from gateway.http import Request
from gateway.plugin.settings import Secret
from gateway.verdict import Declined
from plugins.growlytics.output import GrowlyticsOutput

AT = datetime(2024, 3, 28, 10, 15, 30, tzinfo=UTC)


def output(**settings: Any) -> GrowlyticsOutput:
    """Return a destination with *settings*."""
    key = Secret("key-out")
    return GrowlyticsOutput(
        GrowlyticsOutput.Config(url="https://growlytics.example/", api_key=key, **settings)
    )


def sent(event: Event, **settings: Any) -> dict[str, Any]:
    """Return the body that delivers *event*."""
    request = output(**settings).render(event)
    assert isinstance(request, Request), request
    body: dict[str, Any] = orjson.loads(request.body)
    return body


def declined(event: Event, **settings: Any) -> str:
    """Return why *event* is declined."""
    refusal = output(**settings).render(event)
    assert isinstance(refusal, Declined)
    return refusal.reason


def track(name: str = "x", properties: Properties = Properties(), **fields: Any) -> Event:  # noqa: B008 - immutable
    """Return an event of another vendor."""
    known = {"user_id": "u1", "origin": "chrts", **fields}
    return Event(type="track", name=name, properties=properties, **known)


def identify(traits: Traits, **fields: Any) -> Event:
    """Return an identify of another vendor."""
    return Event(type="identify", traits=traits, **{"user_id": "u1", "origin": "chrts", **fields})


def text(name: str, value: str) -> dict[str, str]:
    """Return a text attribute."""
    return {"name": name, "type": "string", "value": value}


def number(name: str, value: float) -> dict[str, Any]:
    """Return a number attribute."""
    return {"name": name, "type": "number", "value": value}
