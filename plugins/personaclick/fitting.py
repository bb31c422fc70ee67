"""Reduce events to what PersonaClick accepts; `plugins.personaclick.rules` has the limits.

`plugins.personaclick.unsaid` compares both events and lists the losses.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from hashlib import sha256
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.plugin import (
    CONVENTIONS,
    EPOCH,
    Campaign,
    Event,
    Page,
    Product,
    Properties,
    Traits,
    Unrenderable,
    as_json,
    dumps,
)
from gateway.plugin.spec import PRODUCT, PROPERTIES, is_single_product, to_track
from plugins.personaclick.rules import (
    EMAIL,
    FREE_NAME,
    LONGEST_ID,
    RECOMMENDED_BY,
    RESERVED,
    SEGMENTS,
    amount,
    is_product_id,
    number,
    price,
    text,
    whole,
)

Fit = Callable[[Any], Any]
"""Converts a value to one that PersonaClick accepts; None if there is none."""
SESSION = 10
"""Characters of PersonaClick's session ids."""
GENDERS = {"m": "male", "male": "male", "f": "female", "female": "female"}
OWN_TRAITS = frozenset({"email", "phone", "first_name", "last_name", "gender", "birthday", "age"})
TAKEN = RESERVED | OWN_TRAITS | {"kids", "auto", "location"}
"""Names of a profile's fields that free traits cannot have."""
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _one_of(words: tuple[str, ...]) -> Fit:
    return lambda value: value if value in words else None


def _list(value: Any) -> list[Any] | None:
    return value if type(value) is list else None


def _declared(custom: Any) -> dict[str, Any] | None:
    """Return an order's custom properties: the page allows text and whole numbers."""
    if not isinstance(custom, Mapping):
        return None
    plain = {key: as_json(value) for key, value in custom.items()}
    return {k: _declarable(v) for k, v in plain.items() if isinstance(v, str | int | float)}


def _declarable(value: Any) -> str | int:
    if type(value) is bool:
        return int(value)
    return str(value) if isinstance(value, float) else value


ACTIVITY: Mapping[str, Fit] = {
    "segment": _one_of(SEGMENTS),
    "recommended_by": _one_of(RECOMMENDED_BY),
    "recommended_code": text,
}
ORDER: Mapping[str, Fit] = {
    "order_cash": number,
    "order_bonuses": number,
    "delivery_address": text,
    "shipping_method": lambda value: value if type(value) is str else None,
    "payment_method": lambda value: value if type(value) is str else None,
    "tax_free": lambda value: value if type(value) is bool else None,
    "custom": _declared,
}


OWN_WORDS: Mapping[str, tuple[str, ...]] = {
    "payment_method": ("payment_type",),
    "shipping_method": ("delivery_type",),
    "delivery_address": ("shipping_address", "address"),
}
"""Free properties of an order, with their other names; the first two are the Spec's."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
ADDRESS_PARTS = ("street", "postalCode", "city", "state", "country")
"""Parts of an address, in the order of the text."""


PROFILE: Mapping[str, Fit] = {
    "loyalty_id": text, "telegram_id": text, "location": text, "fb_id": text, "vk_id": text,
    "kids": _list, "auto": _list,
}  # fmt: skip
"""Free traits that PersonaClick supports (https://github.com/rees46/documentation-unified,
docs/integration/cdp/profile/set.md)."""


def on_its_page(event: Event) -> Event:
    """Return *event* as a track event with the page's URL still in its context."""
    tracked = to_track(event)
    if tracked is None or event.type not in {"page", "screen"}:
        return tracked or event
    url = event.context.page.url
    held = tracked.properties
    extra = {k: v for k, v in held.extra.items() if k != "url" or v != url}
    return replace(
        tracked,
        properties=replace(held, extra=extra),
        context=replace(tracked.context, page=Page(url=url)),
    )


def fit_basics(event: Event, stream: str, window: float) -> Event:
    """Return *event* with the fields of every call: person, session, *stream*, page, campaign.

    The sender's session id is kept; without one a session lasts *window* seconds.
    """
    context, traits = event.context, event.traits
    device = text(event.anonymous_id)
    if device is None and text(context.device.id):
        device = context.device.id
        context = replace(context, device=replace(context.device, id=None))
    email = traits.email if traits.email and EMAIL.fullmatch(traits.email) else None
    known = replace(
        event,
        anonymous_id=device,
        user_id=text(event.user_id),
        traits=replace(
            traits,
            email=email,
            phone=text(traits.phone),
            extra=_fitted(traits.extra, {"loyalty_id": text, "telegram_id": text}),
        ),
        context=replace(
            context,
            channel=stream,
            page=replace(context.page, url=text(context.page.url)),
            campaign=_campaign(event),
        ),
        properties=replace(event.properties, extra=_fitted(event.properties.extra, ACTIVITY)),
    )
    return replace(known, session_id=text(event.session_id) or _session(known, window))


def person(event: Event) -> str | None:
    """Return an id of the event's person other than the device id; None if there is none."""
    traits = event.traits
    extra = traits.extra
    named = event.user_id or traits.email or traits.phone
    return named or extra.get("loyalty_id") or extra.get("telegram_id")


def _session(event: Event, window: float) -> str | None:
    """Return a session id computed from the person and the time window; None without a person.

    The device id is used before other ids, so that a session continues after a login. The kind of
    id is part of it, since a cookie may equal another user's id.
    """
    kind = "device" if event.anonymous_id else "user" if event.user_id else "contact"
    key = event.anonymous_id or person(event)
    if not key:
        return None
    stretch = int(event.time.timestamp() // window) if window else 0
    return sha256(f"{kind} {key} {stretch}".encode()).hexdigest()[:SESSION]


def _campaign(event: Event) -> Campaign:
    """Return the campaign for ``source``, which needs both medium and name, with a known medium."""
    campaign = event.context.campaign
    medium, code = text(campaign.medium), text(campaign.name)
    if medium and code and (event.origin == "personaclick" or medium in RECOMMENDED_BY):
        return campaign
    return replace(campaign, medium=None, name=None)


def fit_products(event: Event, *, most: int | None = None, counted: bool = False) -> Event:
    """Return *event* with the products that PersonaClick accepts, at *most* so many.

    If they are *counted*, a missing quantity is 1, as in PersonaClick. Otherwise they have no
    quantity, unless the event came from PersonaClick.
    """
    found = [p for p in event.properties.products if is_product_id(p.product_id)][:most]
    kept = counted or event.origin == "personaclick"
    fitted = tuple(_product(product, counted=counted, kept=kept) for product in found)
    assumed = counted and any(amount(product.quantity) is None for product in found)
    derived = {"properties.products[].quantity": "nothing: 1 is assumed"} if assumed else {}
    return replace(
        event,
        properties=replace(event.properties, products=fitted),
        derived={**event.derived, **derived},
    )


def _product(product: Product, *, counted: bool, kept: bool) -> Product:
    quantity = amount(product.quantity) if kept else None
    return replace(
        product,
        quantity=1 if counted and quantity is None else quantity,
        price=price(product.price),
        extra=_fitted(product.extra, {"line_id": text, "size": text}),
    )


def fit_order(event: Event, prefix: str) -> Event:
    """Return an order with fields of PersonaClick's types.

    ``order_price`` is the amount that the customer pays. An id that is a UUID gets the *prefix*:
    according to the page the account does not show such ids, and a prefix helps.
    """
    order = event.properties
    order_id = order.order_id if len(order.order_id or "") <= LONGEST_ID else None
    if order_id and UUID.fullmatch(order_id) and event.origin != "personaclick":
        order_id = f"{prefix}{order_id}"
    extra = dict(order.extra)
    for name, others in OWN_WORDS.items():
        word = next((word for word in (name, *others) if extra.get(word) is not None), None)
        if word is not None:
            found = extra.pop(word)
            extra[name] = _address(found) if name == "delivery_address" else found
    return replace(
        event,
        properties=replace(
            order, order_id=order_id, coupon=text(order.coupon), extra=_fitted(extra, ORDER)
        ),
    )


def _address(found: Any) -> Any:
    """Return an address as one line of text."""
    if not isinstance(found, Mapping):
        return found
    parts = [text(found.get(part)) for part in ADDRESS_PARTS]
    return ", ".join(part for part in parts if part) or None


def fit_custom(event: Event) -> Event:
    """Return *event* with its properties as the free fields of a custom event.

    Fields are scalars with names in ``[a-z0-9_]+``; other names become snake_case. Nested values
    get names such as ``a_b``, lists become JSON text. Products become JSON text too, except in an
    event about one product: its fields become separate fields.
    """
    held = event.properties
    one = is_single_product(event)
    flat = PROPERTIES.write(replace(held, products=()) if one else held)
    if one:
        flat = {**PRODUCT.write(held.products[0]), **flat}
    value = number(flat.pop("value", None))
    label, category = text(flat.pop("label", None)), text(flat.pop("category", None))
    extra = free_fields(flat, ACTIVITY, "property_")
    if label:
        extra["label"] = label
    own = event.origin == "personaclick"
    told = event.timestamp is None and event.received_at != EPOCH and not own
    return replace(
        event,
        timestamp=event.time if told else event.timestamp,
        derived={**event.derived, "timestamp": "received_at"} if told else event.derived,
        properties=Properties(category=category, value=_whole_or_none(value), extra=extra),
    )


def _whole_or_none(value: float | None) -> int | None:
    try:
        return None if value is None else whole(value)
    except ValueError:
        return None


def fit_profile(event: Event) -> Event:
    """Return an identify with traits of PersonaClick's types."""
    held = _with_loose(event.traits)
    birthday, age = held.birthday or "", held.age
    typed = {name: getattr(held, name) for name in held.__struct_fields__ if name != "extra"}
    other = {name: value for name, value in typed.items() if name not in OWN_TRAITS}
    loose: Mapping[str, Any] = _without(held.extra, OWN_TRAITS)
    if not any(free_name(key) == "location" for key in loose):
        other["location"], loose = _city(held.address, loose)
    return replace(
        event,
        traits=Traits(
            email=held.email,
            phone=held.phone,
            first_name=held.first_name,
            last_name=held.last_name,
            gender=GENDERS.get((held.gender or "").lower()),
            birthday=birthday[:10] if _is_day(birthday[:10]) else None,
            age=None if age is None else _whole_or_none(age // 1),
            extra=free_fields({**other, **loose}, PROFILE, "trait_", TAKEN),
        ),
    )


def _with_loose(held: Traits) -> Traits:
    """Return *held* with PersonaClick's own fields filled from free traits of the same name.

    For example, Growlytics' attributes have names such as ``First Name`` and ``firstName``.
    """
    found = {free_name(key): as_json(value) for key, value in held.extra.items()}
    known = {name: text(found[name]) for name in OWN_TRAITS - {"age"} if name in found}
    absent = {name: value for name, value in known.items() if getattr(held, name) is None}
    if held.age is None and (age := number(found.get("age"))) is not None:
        return replace(held, **absent, age=age)
    return replace(held, **absent) if absent else held


def _city(address: Any, loose: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Return the city of a profile, and the *loose* traits without it.

    It is in the address, or a separate trait, as in the examples of chrts and Growlytics.
    """
    within = address.get("city") if isinstance(address, Mapping) else None
    if text(within) is not None:
        return within, loose
    key = next((key for key in loose if free_name(key) == "city"), None)
    if key is None or text(loose[key]) is None:
        return None, loose
    return loose[key], {name: value for name, value in loose.items() if name != key}


def _without(held: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in held.items() if free_name(key) not in names}


def _is_day(birthday: str) -> bool:
    try:
        return bool(DAY.fullmatch(birthday)) and bool(date.fromisoformat(birthday))
    except ValueError:
        return False


def fit_message(event: Event, stream: str) -> Event:
    """Return an event about a message, with its *stream*; the endpoint expresses ``delivered``."""
    properties = event.properties
    extra = {**properties.extra, "code": text(properties.extra["code"])}
    extra.pop("delivered", None)
    return replace(
        event,
        anonymous_id=text(event.anonymous_id),
        session_id=text(event.session_id),
        context=replace(event.context, channel=stream),
        properties=replace(properties, extra=extra),
    )


def _fitted(extra: Mapping[str, Any], fits: Mapping[str, Fit]) -> dict[str, Any]:
    """Return *extra* with the values in *fits* converted, or removed if that is impossible."""
    if not extra:
        return {}
    found = {key: fits[key](value) if key in fits else value for key, value in extra.items()}
    return {key: value for key, value in found.items() if value is not None}


def free_fields(
    held: Mapping[str, Any],
    fits: Mapping[str, Fit],
    own: str,
    taken: frozenset[str] = RESERVED,
) -> dict[str, Any]:
    """Return *held* as free fields; of two equal names the first counts.

    Args:
        held: values by the event's names.
        fits: fields that PersonaClick has, with their conversions.
        own: prefix for names with another meaning in PersonaClick.
        taken: these names.
    """
    found: dict[str, Any] = {}
    for key, value in held.items():
        name = free_name(key)
        if name in fits:
            fitted = fits[name](value)
            if fitted is not None:
                found.setdefault(name, fitted)
            continue
        for inner, leaf in leaves(name, value):
            spelt = f"{own}{inner}" if inner in taken else inner
            if FREE_NAME.fullmatch(spelt):
                found.setdefault(spelt, leaf)
    return found


def free_name(key: str) -> str:
    """Return *key* as the name of a free field: unchanged if valid, else in snake_case."""
    return key if FREE_NAME.fullmatch(key) else CONVENTIONS["snake_case"](key)


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the scalars in *value*: nested ones as ``a_b``, a list as JSON text.

    Raises:
        Unrenderable: a list cannot be written as JSON.
    """
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from leaves(f"{name}_{free_name(key)}", below)
    elif isinstance(value, list | tuple):
        yield name, _json_text(name, value)
    elif isinstance(value, datetime):
        yield name, as_json(value)
    elif isinstance(value, str | int | float):
        yield name, value


def _json_text(name: str, value: Any) -> str:
    try:
        return dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise Unrenderable(f"{name} cannot be written as JSON: {error}") from error
