"""What fitting an event to PersonaClick cut off or reshaped."""

from collections.abc import Iterator
from typing import Any

from gateway.event import Event, Product
from gateway.mapping import SILENT, Loss, filled

DELIVERED = "properties.extra.delivered"
"""Told by the endpoint, ``/track/delivered``."""


def unsaid(event: Event, fitted: Event) -> Iterator[Loss]:
    """Yield what of *event* is no longer in *fitted*, or is there with another value."""
    before, after = dict(filled(event)), dict(filled(fitted))
    moved = [value for path, value in after.items() if path not in before]
    kept = fitted.properties.products
    for path, value in before.items():
        if path in SILENT or (kept and path.startswith("properties.products[]")):
            continue
        if value is True and path == DELIVERED:
            continue
        if path == "properties.category" and value == fitted.properties.list_id:
            continue
        if path not in after:
            if not any(_alike(value, other) for other in moved):
                yield Loss(path, "lost", value)
        elif not _alike(value, after[path]):
            yield Loss(path, "coerced", value)
    yield from _unsaid_products(event.properties.products, kept)


def _unsaid_products(before: tuple[Product, ...], after: tuple[Product, ...]) -> Iterator[Loss]:
    rest = list(after)
    for index, product in enumerate(before if after else ()):
        if not rest or rest[0].product_id != product.product_id:
            yield Loss(f"properties.products[{index}]", "lost", product)
            continue
        fitted = dict(filled(rest.pop(0)))
        for path, value in filled(product):
            if not _alike(value, fitted.get(path)):
                how = "coerced" if path in fitted else "lost"
                yield Loss(f"properties.products[].{path}", how, value)


def _alike(one: Any, other: Any) -> bool:
    return one == other and (type(one) is bool) is (type(other) is bool)
