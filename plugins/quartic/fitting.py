"""Events cut to what Quartic takes, and what that cuts off.

Source: https://docs.quarticon.com/storeapi/documentation/.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from gateway.errors import Rejected
from gateway.event import Event, Product, Traits, as_json
from gateway.mapping import SILENT, Loss
from gateway.mapping import filled as fields_of
from plugins.quartic.mapping import TAGS
from plugins.quartic.rules import CATEGORY, SYMBOL, check_members, email, filled, in_time

FREE_FIELDS: Mapping[str, tuple[type, ...]] = {
    "price_old": (int, float), "custom1": (str,), "custom2": (str,), "custom3": (str,),
    "status": (bool,), "categories": (list,), "catalog_symbol": (str,),
}  # fmt: skip
"""Fields of a catalogue's product that the event has no field for, and their types."""


def fit_basics(event: Event) -> Event:
    """Return *event* without blank ids and without an address that is none."""
    return replace(
        event,
        user_id=filled(event.user_id),
        anonymous_id=filled(event.anonymous_id),
        traits=replace(event.traits, email=email(event.traits.email)),
        context=replace(
            event.context, device=replace(event.context.device, id=filled(event.context.device.id))
        ),
    )


def fit_time(event: Event) -> Event:
    """Return *event* with a time that Quartic can say: its own, else that of its arrival."""
    moment = event.timestamp
    if moment is not None and in_time(moment.timestamp()):
        return event
    return replace(event, timestamp=event.received_at.replace(microsecond=0))


def fit_contact(event: Event, tags: Collection[str] | None, texts: Mapping[str, str]) -> Event:
    """Return *event* with the traits that are *tags* and the consents that have *texts*.

    Args:
        event: it names an e-mail address.
        tags: those that the account has; None for every one.
        texts: what was agreed to, by category of consent.
    """
    traits = event.traits
    kept = {
        field: getattr(traits, field)
        for tag, field in TAGS.items()
        if getattr(traits, field) is not None and (tags is None or tag in tags)
    }
    free = {
        key: text
        for key, value in traits.extra.items()
        if (tags is None or key in tags) and TAGS.get(key) not in kept
        if filled(key) and (text := _tag_text(value)) is not None
    }
    consent = {kind: said for kind, said in event.consent.items() if kind in texts}
    return replace(event, traits=Traits(email=traits.email, **kept, extra=free), consent=consent)


def _tag_text(value: Any) -> str | None:
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, datetime):
        value = as_json(value)
    return str(value) if isinstance(value, str | int | float) else None


def fit_ordered(product: Product) -> Product:
    """Return *product* as one of a whole quantity: 0.5 of it at 8 is 1 of it at 4."""
    price, quantity = product.price, product.quantity
    if price is None or quantity is None or quantity == int(quantity):
        return product
    return replace(product, price=round(price * quantity, 6), quantity=1)


def fit_catalogued(event: Event) -> Event:
    """Return *event* with those free fields of its product that have the types Quartic takes."""
    product = event.properties.products[0]
    kept = {
        key: value
        for key, value in product.extra.items()
        if type(value) in FREE_FIELDS.get(key, (type(value),))
        if key != "categories" or _are_categories(value)
    }
    products = (replace(product, extra=kept), *event.properties.products[1:])
    return replace(event, properties=replace(event.properties, products=products))


def _are_categories(listed: list[Any]) -> bool:
    try:
        check_members({"categories": listed}, "categories", CATEGORY)
    except Rejected:
        return False
    return True


def unfit_id(product: Product) -> str | None:
    """Return why Quartic takes no product of this id; None if it does."""
    found = filled(product.product_id)
    if found is None:
        return "quartic knows products by their ids: this one has none"
    if not SYMBOL.fullmatch(found):
        return f"quartic takes product ids of letters, digits, - and _ only: {found!r} is none"
    return None


def unfit_order(event: Event) -> str | None:
    """Return what *event*, an order, lacks for Quartic; None if it has all."""
    properties = event.properties
    if filled(properties.order_id) is None:
        return "quartic takes orders by their ids: this one has no order id"
    if not properties.products:
        return "quartic takes orders as their products: this one has none"
    for product in properties.products:
        reason = unfit_id(product)
        if reason is not None:
            return reason
        needed = {"price": product.price, "quantity": product.quantity}
        missing = " and no ".join(name for name, value in needed.items() if value is None)
        if missing:
            return (
                "quartic needs the price and the quantity of every product in an order: "
                f"{product.product_id!r} has no {missing}"
            )
    return None


def cut(event: Event, fitted: Event) -> Iterator[Loss]:
    """Yield what of *event* is no longer in *fitted*, or is there with another value."""
    after = dict(fields_of(fitted))
    for path, value in fields_of(event):
        if path in SILENT or path.startswith("properties.products[]") or value == "":
            continue
        if path not in after:
            yield Loss(path, "lost", value)
        elif not _alike(after[path], value):
            yield Loss(path, "coerced", value)
    pairs = zip(event.properties.products, fitted.properties.products, strict=True)
    for before, now_is in pairs:
        kept = dict(fields_of(now_is))
        for path, value in fields_of(before):
            if path not in kept or kept[path] != value:
                how = "coerced" if path in kept else "lost"
                yield Loss(f"properties.products[].{path}", how, value)


def _alike(one: Any, other: Any) -> bool:
    return one == other and type(one) is type(other)
