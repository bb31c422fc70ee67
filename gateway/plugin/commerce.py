"""Compute missing amounts of an order from others, for all vendors.

By Segment's E-commerce Spec V2 the revenue is the price of the products after discounts, and the
total is the revenue plus shipping and tax. Computed fields are listed in `Event.derived`.
"""

import math
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from gateway.event import Event, Product, Properties

ORDERS = frozenset({"Order Completed", "Order Updated", "Checkout Started"})
"""Events with the amounts of a whole order. The amounts of a refund may be of a part of it."""
OUT_OF_RANGE = (OverflowError, ValueError)
"""What a sum raises that no float can hold, such as that of 1e308 and 1e308."""
PLACES = 6
"""Decimal places of a sum; further ones are rounding errors of floats."""


def goods(products: Iterable[Product]) -> float | None:
    """Return the price of all *products* together.

    None if a price is missing, if there are none, or if the sum is out of range. A missing quantity
    is 1.
    """
    listed = list(products)
    if not listed or any(product.price is None for product in listed):
        return None
    try:
        return _rounded((p.price or 0) * (1 if p.quantity is None else p.quantity) for p in listed)
    except OUT_OF_RANGE:
        return None


def with_amounts(event: Event) -> Event:
    """Return an order *event* with its missing revenue, total, shipping and tax computed."""
    if event.type != "track" or event.name not in ORDERS:
        return event
    order = event.properties
    summed = order.revenue is not None and order.total is not None
    if summed and order.shipping is not None and order.tax is not None:
        return event
    told: dict[str, tuple[float, str]] = {}
    for name, rule in RULES.items():
        if getattr(order, name) is None and (found := _computed(rule, order)) is not None:
            told[name] = found
            order = replace(order, **{name: found[0]})
    if not told:
        return event
    derived = {f"properties.{name}": f"properties.{why}" for name, (_, why) in told.items()}
    return replace(event, properties=order, derived={**event.derived, **derived})


def _computed(rule: "Rule", order: Properties) -> tuple[float, str] | None:
    """Return the amount by *rule*; None if it cannot be computed."""
    try:
        return rule(order)
    except OUT_OF_RANGE:
        return None


def _revenue(order: Properties) -> tuple[float, str] | None:
    if order.total is not None and (order.shipping is not None or order.tax is not None):
        return _at_least_none(order.total - (order.shipping or 0) - (order.tax or 0), "total")
    cost, discount = goods(order.products), order.discount or 0
    if cost is None:
        return None
    revenue = _rounded([cost, -discount])
    if order.total is not None and revenue > order.total:
        return None
    return _at_least_none(revenue, "products")


def _total(order: Properties) -> tuple[float, str] | None:
    if order.revenue is None:
        return None
    return _rounded([order.revenue, order.shipping or 0, order.tax or 0]), "revenue"


def _shipping(order: Properties) -> tuple[float, str] | None:
    if order.total is None or order.revenue is None or order.tax is None:
        return None
    return _at_least_none(order.total - order.revenue - order.tax, "total")


def _tax(order: Properties) -> tuple[float, str] | None:
    if order.total is None or order.revenue is None or order.shipping is None:
        return None
    return _at_least_none(order.total - order.revenue - order.shipping, "total")


def _at_least_none(amount: float, why: str) -> tuple[float, str] | None:
    found = _rounded([amount])
    return (found, why) if found >= 0 else None


def _rounded(amounts: Iterable[float]) -> float:
    found = round(math.fsum(amounts), PLACES)
    return int(found) if found == int(found) else found


Rule = Callable[[Properties], tuple[float, str] | None]
RULES: Mapping[str, Rule] = {
    "shipping": _shipping,
    "tax": _tax,
    "revenue": _revenue,
    "total": _total,
}
"""In this order: shipping and tax can only be computed if total and revenue were sent."""
