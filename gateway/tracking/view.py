"""An event as schemas see it: plain JSON, and the names of conditions."""

from sys import float_info
from typing import Any

import msgspec

from gateway.event import Event
from gateway.json_text import LongInteger, LongNumber

OWN = ("id", "origin", "received_at")
"""Fields that the gateway fills; no sender is to blame for them."""
LONGEST = 300
"""Digits of a whole number that is judged exactly."""


def view(event: Event) -> dict[str, Any]:
    """Return *event* as a schema judges it.

    Names under ``properties``, ``traits`` and a product that the vocabulary lacks stand beside
    those that it has; elsewhere they are in ``extra``. Times are ISO 8601 text. What nobody said
    is left out.
    """
    seen: dict[str, Any] = msgspec.to_builtins(event, enc_hook=_judged)
    for name in OWN:
        seen.pop(name, None)
    for part in ("properties", "traits"):
        held = seen.get(part)
        if held is None:
            continue
        if "extra" in held:
            held = seen[part] = _united(held)
        if not held:
            del seen[part]
    properties = seen.get("properties")
    if properties is not None and event.properties.products:
        properties["products"] = [_united(product) for product in properties["products"]]
    return seen


def _judged(value: Any) -> Any:
    """Return a long number as schemas take it: whole, or the nearest double."""
    if isinstance(value, LongInteger) and len(value.text) <= LONGEST:
        return int(value.text)
    if isinstance(value, LongNumber):
        return max(-float_info.max, min(value, float_info.max)) + 0.0
    raise NotImplementedError(type(value))


def _united(held: dict[str, Any]) -> dict[str, Any]:
    """Return what is known together with the free names beside it."""
    free = held.pop("extra", None)
    return {**held, **free, **held} if free else held
