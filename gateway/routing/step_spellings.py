"""Read an event's properties again after a step renamed it.

The event's name decides which properties are its product's. After a rename they are read again, so
that a ``Viewed Product`` renamed to ``Product Viewed`` gets its product.
"""

from typing import Any, Final

from msgspec.structs import asdict, replace

from gateway.event import SINGLE_PRODUCT, Event, Properties
from gateway.plugin.spec import PRODUCT as PRODUCT_TABLE
from gateway.plugin.spec import PROPERTIES as PROPERTIES_TABLE
from gateway.plugin.spec_spellings import (
    ORDER_EVENTS,
    PRODUCT_NAMES,
    PROPERTY_NAMES,
    in_spec_spelling,
)
from gateway.routing.step_values import Change

SHARED: Final = PRODUCT_NAMES & PROPERTY_NAMES
"""Properties of an event that are those of its product, if it is about one product."""


def rereading(change: Change) -> Change:
    """Return *change*, followed by `reread` if it changed the event's name."""

    def changed(event: Event) -> Event:
        made = change(event)
        if made.name == event.name or made.type != "track":
            return made
        return reread(made)

    return changed


def reread(event: Event) -> Event:
    """Return *event* with its free properties read by its current name.

    Fields that are already set stay.
    """
    name, properties = event.name or "", event.properties
    if name in SINGLE_PRODUCT and not properties.products:
        return _with_product(event)
    an_id = "order_id" if name in ORDER_EVENTS else ""
    free = in_spec_spelling(dict(properties.extra), PROPERTY_NAMES, an_id)
    if PROPERTY_NAMES.isdisjoint(free):
        return event
    listed = free.get("products")
    if type(listed) is list:
        free["products"] = [
            in_spec_spelling(one, PRODUCT_NAMES, "product_id") if type(one) is dict else one
            for one in listed
        ]
    found: Properties = PROPERTIES_TABLE.build(free)
    known = {k: v for k, v in asdict(properties).items() if v is not None and v not in ((), {})}
    return replace(event, properties=replace(found, **{**known, "extra": found.extra}))


def _with_product(event: Event) -> Event:
    properties = event.properties
    free = in_spec_spelling(dict(properties.extra), PRODUCT_NAMES, "product_id")
    shared = {key: value for key in SHARED if (value := getattr(properties, key)) is not None}
    if PRODUCT_NAMES.isdisjoint([*free, *shared]):
        return event
    named = {key: value for key, value in free.items() if key in PRODUCT_NAMES}
    product = PRODUCT_TABLE.build({**named, **shared})
    rest = {key: value for key, value in free.items() if key not in PRODUCT_NAMES}
    left: dict[str, Any] = dict.fromkeys(shared)
    return replace(event, properties=replace(properties, **left, products=(product,), extra=rest))
