"""An event as schemas see it: plain JSON, and the names of conditions."""

from typing import Any

import msgspec

from gateway.event import Event

OWN = ("id", "origin", "received_at")
"""Fields that the gateway fills; no sender is to blame for them."""


def view(event: Event) -> dict[str, Any]:
    """Return *event* as a schema judges it.

    Names under ``properties``, ``traits`` and a product that the vocabulary lacks stand beside
    those that it has; elsewhere they are in ``extra``. Times are ISO 8601 text. What nobody said
    is left out.
    """
    seen: dict[str, Any] = msgspec.to_builtins(event)
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


def _united(held: dict[str, Any]) -> dict[str, Any]:
    """Return what is known together with the free names beside it."""
    free = held.pop("extra", None)
    return {**held, **free, **held} if free else held
