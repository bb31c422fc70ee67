"""List the losses of fitting an event to PersonaClick."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.plugin import NEVER_LOST, Event, Loss, Product, filled_fields
from plugins.personaclick.fitting import free_name, leaves

DELIVERED = "properties.extra.delivered"
"""A field that the endpoint ``/track/delivered`` expresses."""


def unsaid(event: Event, fitted: Event) -> Iterator[Loss]:
    """Yield the fields of *event* that *fitted* lacks or has with another value."""
    before, after = dict(filled_fields(event)), dict(filled_fields(fitted))
    moved = [value for path, value in after.items() if path not in before]
    kept = fitted.properties.products
    for path, value in before.items():
        of_product = path.startswith("properties.products[]")
        if path in NEVER_LOST or (kept and of_product):
            continue
        if of_product and type(fitted.properties.extra.get("products")) is str:
            yield Loss(path, "coerced", value, "products are sent as JSON text")
            continue
        if value is True and path == DELIVERED:
            continue
        if path == "properties.category" and value == fitted.properties.list_id:
            continue
        if path not in after:
            if _taken_apart(path, value, fitted):
                yield Loss(path, "coerced", value, "flattened: b in a becomes a_b, lists JSON text")
            elif not any(_alike(value, other) for other in moved):
                yield Loss(path, "lost", value)
        elif not _alike(value, after[path]):
            yield Loss(path, "coerced", value)
    yield from _unsaid_products(event.properties.products, kept)


def _taken_apart(path: str, value: Any, fitted: Event) -> bool:
    """Return whether all values nested in *value* are separate fields."""
    if not isinstance(value, Mapping | list | tuple):
        return False
    named = f"{free_name(path.rpartition('.')[2])}"
    extra = fitted.traits.extra if path.startswith("traits.") else fitted.properties.extra
    found = dict(leaves(named, value))
    return bool(found) and all(
        extra.get(name, extra.get(f"property_{name}", extra.get(f"trait_{name}"))) == leaf
        for name, leaf in found.items()
    )


def _unsaid_products(before: tuple[Product, ...], after: tuple[Product, ...]) -> Iterator[Loss]:
    rest = list(after)
    for index, product in enumerate(before if after else ()):
        if not rest or rest[0].product_id != product.product_id:
            yield Loss(f"properties.products[{index}]", "lost", product)
            continue
        fitted = dict(filled_fields(rest.pop(0)))
        for path, value in filled_fields(product):
            if not _alike(value, fitted.get(path)):
                how = "coerced" if path in fitted else "lost"
                yield Loss(f"properties.products[].{path}", how, value)


def _alike(one: Any, other: Any) -> bool:
    return one == other and (type(one) is bool) is (type(other) is bool)
