"""Reduce events to what Quartic accepts, and list the losses.

Source: https://docs.quarticon.com/storeapi/documentation/.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from gateway.plugin import NEVER_LOST, Event, Loss, Product, Rejected, Traits, as_json
from gateway.plugin import filled_fields as fields_of
from plugins.quartic.mapping import TAGS
from plugins.quartic.rules import CATEGORY, SYMBOL, check_members, email, filled, in_time

APPS = frozenset({"ios", "ipados", "android", "huawei", "mobile", "app", "tvos", "watchos"})
"""Channels and device types of apps, as opposed to browsers."""
PARTS: Mapping[str, str] = {
    "city": "city", "country": "country", "state": "state", "street": "street",
    "zip": "postalCode", "postcode": "postalCode", "postalcode": "postalCode",
    "postal_code": "postalCode",
}  # fmt: skip
"""Tags, and the names of address parts in the Segment Spec."""
SIGNS = {ord(sign): None for sign in " -_"}
"""Separators that names are compared without: ``Loyalty Level`` is ``loyalty_level``."""
OBJECTS = ("traits.address", "traits.company")
FREE_FIELDS: Mapping[str, tuple[type, ...]] = {
    "price_old": (int, float), "custom1": (str,), "custom2": (str,), "custom3": (str,),
    "status": (bool,), "categories": (list,), "catalog_symbol": (str,),
}  # fmt: skip
"""Fields of a catalogue product that the event has no field for, with their types."""


def fit_basics(event: Event) -> Event:
    """Return *event* without blank ids and without an invalid e-mail address."""
    return replace(
        event,
        user_id=filled(event.user_id),
        anonymous_id=filled(event.anonymous_id),
        traits=replace(event.traits, email=email(event.traits.email)),
        context=replace(
            event.context, device=replace(event.context.device, id=filled(event.context.device.id))
        ),
    )


def on_its_device(event: Event) -> Event:
    """Return *event* with an app's anonymous id as device id: in Quartic a cookie is a browser's.

    Events from Quartic's own clients already distinguish the two.
    """
    visitor, device = event.anonymous_id, event.context.device
    if visitor is None or device.id not in {None, visitor} or not _in_app(event):
        return event
    context = replace(event.context, device=replace(device, id=visitor))
    return replace(event, anonymous_id=None, context=context)


def _in_app(event: Event) -> bool:
    words = (event.context.channel, event.context.device.type)
    return event.origin != "quartic" and any((word or "").lower() in APPS for word in words)


def fit_time(event: Event) -> Event:
    """Return *event* with a time that Quartic accepts: its own, else its arrival."""
    moment = event.timestamp
    if moment is not None and in_time(moment.timestamp()):
        return event
    return replace(event, timestamp=event.received_at.replace(microsecond=0))


def fields_beside_email(traits: Traits) -> bool:
    """Return whether *traits* contain more than the e-mail address."""
    return any(path != "email" for path, _ in fields_of(traits))


def fit_contact(event: Event, tags: Collection[str] | None, texts: Mapping[str, str]) -> Event:
    """Return *event* with only the traits that are *tags* and the consents that can be sent.

    Granted consent needs the text that the user agreed to. Withdrawn consent is always sent.

    Args:
        event: it has an e-mail address.
        tags: the tags of the account; None for all.
        texts: the agreed texts by category of consent.
    """
    traits = event.traits
    objects = {k: v for path in OBJECTS for k, v in _tags_of(path, _at(traits, path)).items()}
    kept = {
        field: getattr(traits, field)
        for tag, field in TAGS.items()
        if getattr(traits, field) is not None and (tags is None or tag in tags)
    }
    free = {
        key: text
        for key, value in _called(tags, {**objects, **_flat(traits.extra)}).items()
        if (tags is None or key in tags) and TAGS.get(key) not in kept
        if filled(key) and (text := _tag_text(value)) is not None
    }
    consent = {kind: given for kind, given in event.consent.items() if kind in texts or not given}
    return replace(event, traits=Traits(email=traits.email, **kept, extra=free), consent=consent)


def _called(tags: Collection[str] | None, held: Mapping[str, Any]) -> dict[str, Any]:
    """Return *held* with the spelling of the account's *tags*: ``City`` becomes ``city``."""
    names = {_folded(tag): tag for tag in tags or ()}
    called = {names.get(_folded(key), key): value for key, value in held.items()}
    return {**called, **held}


def _folded(name: str) -> str:
    return name.translate(SIGNS).casefold()


def _at(traits: Traits, path: str) -> Any:
    return getattr(traits, path.rpartition(".")[2])


def _tags_of(path: str, value: Any) -> dict[str, Any]:
    """Return an address or company as tags: ``address.city``, and also ``city``."""
    name = path.rpartition(".")[2]
    parts = {}
    if name == "address" and isinstance(value, Mapping):
        parts = {tag: value[part] for tag, part in PARTS.items() if part in value}
    return {**_flat({name: value}), **parts} if value is not None else {}


def _flat(held: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return *held* flattened, with names such as ``company.name``."""
    found: dict[str, Any] = {}
    for key, value in held.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def _tag_text(value: Any) -> str | None:
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, datetime):
        value = as_json(value)
    return str(value) if isinstance(value, str | int | float) else None


def fit_ordered(product: Product) -> Product:
    """Return *product* with a whole quantity: 0.5 at price 8 becomes 1 at price 4.

    A missing quantity becomes 1.
    """
    price, quantity = product.price, product.quantity
    if quantity is None:
        return replace(product, quantity=1)
    if price is None or quantity == int(quantity):
        return product
    return replace(product, price=round(price * quantity, 6), quantity=1)


def fit_catalogued(event: Event) -> Event:
    """Return *event* with only those free fields of its product that have Quartic's types."""
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
    """Return why Quartic rejects the product's id; None if it accepts it."""
    found = filled(product.product_id)
    if found is None:
        return "quartic needs a product id: the product has none"
    if not SYMBOL.fullmatch(found):
        return f"quartic accepts only letters, digits, - and _ in product ids, not {found!r}"
    return None


def unfit_order(event: Event) -> str | None:
    """Return what the order *event* lacks for Quartic; None if it is complete."""
    properties = event.properties
    if filled(properties.order_id) is None:
        return "quartic needs an order id: the order has none"
    if not properties.products:
        return "quartic needs the products of an order: the order has none"
    for product in properties.products:
        reason = unfit_id(product)
        if reason is not None:
            return reason
        if product.price is None:
            return (
                "quartic needs the price of every product in an order: "
                f"{product.product_id!r} has none"
            )
    return None


def cut(event: Event, fitted: Event) -> Iterator[Loss]:
    """Yield the fields of *event* that *fitted* lacks or has with another value."""
    after = dict(fields_of(fitted))
    for path, value in fields_of(event):
        if path in NEVER_LOST or path.startswith("properties.products[]") or value == "":
            continue
        if path in OBJECTS and not fitted.traits.extra.keys().isdisjoint(_tags_of(path, value)):
            yield Loss(
                path, "coerced", value, "its parts are sent as tags, if the account has them"
            )
        elif path not in after and not _moved(path, value, fitted):
            yield Loss(path, "lost", value)
        elif path in after and not _alike(after[path], value):
            yield Loss(path, "coerced", value)
    pairs = zip(event.properties.products, fitted.properties.products, strict=True)
    for before, now_is in pairs:
        kept = dict(fields_of(now_is))
        for path, value in fields_of(before):
            if path not in kept or kept[path] != value:
                how = "coerced" if path in kept else "lost"
                yield Loss(f"properties.products[].{path}", how, value)


def _moved(path: str, value: Any, fitted: Event) -> bool:
    """Return whether the anonymous id is sent as device id, or a trait as a tag of its name."""
    if path.startswith("traits.extra."):
        name, tags = _folded(path.removeprefix("traits.extra.")), fitted.traits.extra
        return any(_folded(tag) == name and _alike(tags[tag], value) for tag in tags)
    return path == "anonymous_id" and value == fitted.context.device.id


def _alike(one: Any, other: Any) -> bool:
    return one == other and type(one) is type(other)
