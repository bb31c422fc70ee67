"""Prepare calls for the tables: shared fields of a batch, spelling, and clock correction.

Sources: https://segment.com/docs/connections/spec/common/ (timestamps, context);
https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/ (batches).
"""

from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from gateway.plugin import (
    ALL_NAMES,
    ISO8601,
    ORDER_EVENTS,
    PRODUCT_NAMES,
    PROPERTY_NAMES,
    SINGLE_PRODUCT,
    Event,
    respelled,
    spec_name,
)
from plugins.segment.mapping import CALLS

SPELLING: Final = "properties.*"
"""The leftover with the sender's spelling of names that the Spec spells differently."""
SHARED: Final = ("context", "integrations")
"""Fields of a batch that apply to each of its calls."""
DEEPEST: Final = 8
"""Levels of nested objects that are merged; deeper ones are replaced as a whole."""
MOST_SKEWED: Final = timedelta(days=1)
"""A sender's clock that is further ahead is not corrected by ``sentAt``."""
PAGE_FIELDS: Final = ("url", "path", "title", "referrer", "search")


def of_batch(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calls in *batch*, each with the shared fields of the batch.

    Fields of a call take precedence. Members without a known call type are skipped, as Segment
    does, so that they do not cost the others.
    """
    calls = []
    for member in batch["batch"]:
        if type(member) is not dict or member.get("type") not in CALLS:
            continue
        call = dict(member)
        for part in SHARED:
            if type(batch.get(part)) is dict:
                call[part] = _merged(batch[part], member.get(part))
        if call.get("sentAt") is None:
            call["sentAt"] = batch.get("sentAt")
        calls.append(prepared(call, call["type"]))
    return calls


def prepared(call: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return *call* in the form that the tables read.

    The traits of an identify are in one place, the address of a page is in its context, and a track
    has the Spec's names.
    """
    if kind == "track":
        return spelled(call)
    if type(call.get("context")) not in {dict, type(None)}:
        return call
    context = call.get("context") or {}
    if kind == "identify" and type(context.get("traits")) is dict:
        if type(call.get("traits")) not in {dict, type(None)}:
            return call
        rest = {key: value for key, value in context.items() if key != "traits"}
        return {
            **call,
            "context": rest,
            "traits": _merged(context["traits"], call.get("traits"), 1),
        }
    if kind == "page" and type(call.get("properties")) is dict:
        given = call["properties"]
        said = {key: given[key] for key in PAGE_FIELDS if type(given.get(key)) is str}
        if said and type(context.get("page")) in {dict, type(None)}:
            page = _merged(said, context.get("page"), 1)
            return {**call, "context": {**context, "page": page}}
    return call


def spelled(call: dict[str, Any]) -> dict[str, Any]:
    """Return a track *call* with the Spec's names of its event and properties.

    The sender's spelling is kept in the leftover `SPELLING`, for the way back.
    """
    name, properties = call.get("event"), call.get("properties")
    known = spec_name(name) if type(name) is str else ""
    changed: dict[str, Any] = {"event": known} if known and known != name else {}
    spelling: dict[str, Any] = {"event": name} if changed else {}
    if type(properties) is dict and properties:
        one = known in SINGLE_PRODUCT
        an_id = "product_id" if one else "order_id" if known in ORDER_EVENTS else ""
        fields = ALL_NAMES if one else PROPERTY_NAMES
        if not fields.issuperset(properties) or (an_id and an_id not in properties):
            theirs = respelled(properties, fields, an_id)
            if theirs:
                spelling["properties"] = theirs
                properties = {theirs.get(key, key): value for key, value in properties.items()}
        products = properties.get("products")
        if type(products) is list:
            properties = _with_products(properties, products, spelling)
        if properties is not call["properties"]:
            changed["properties"] = properties
    if spelling:
        changed[SPELLING] = spelling
    return {**call, **changed} if changed else call


def _with_products(
    properties: dict[str, Any], products: list[Any], spelling: dict[str, Any]
) -> dict[str, Any]:
    """Return *properties* with the Spec's names in their *products*; add to the *spelling*."""
    for product in products:
        if type(product) is not dict or "product_id" not in product:
            break
        if not PRODUCT_NAMES.issuperset(product):
            break
    else:
        return properties
    all_theirs: dict[str, str] = {}
    made = []
    for product in products:
        if type(product) is dict:
            theirs = respelled(product, PRODUCT_NAMES, "product_id")
            all_theirs |= theirs
            made.append({theirs.get(key, key): value for key, value in product.items()})
        else:
            made.append(product)
    if not all_theirs:
        return properties
    spelling["products"] = all_theirs
    return {**properties, "products": made}


def sent_back(payload: dict[str, Any], spelling: dict[str, Any]) -> None:
    """Restore the sender's spelling of names in *payload*, if they still match."""
    if spec_name(spelling.get("event", "")) == payload.get("event"):
        payload["event"] = spelling["event"]
    properties = payload.get("properties")
    if type(properties) is not dict:
        return
    products = properties.get("products")
    for product in products if type(products) is list else ():
        if type(product) is dict:
            _renamed(product, spelling.get("products", {}))
    _renamed(properties, spelling.get("properties", {}))


def _renamed(held: dict[str, Any], theirs: dict[str, str]) -> None:
    for key, ours in theirs.items():
        if ours in held and key not in held:
            held[key] = held.pop(ours)


def dated(event: Event, call: dict[str, Any]) -> Event:
    """Return the *event* of *call* with its time corrected for the sender's clock.

    It is ``receivedAt - (sentAt - originalTimestamp)``; a ``timestamp`` of the sender counts as the
    original one. A call with both was already corrected.
    """
    original = event.extra.get("originalTimestamp")
    if event.timestamp is not None and original is not None:
        return event
    base = event.timestamp or _instant(original)
    if base is None:
        return event
    moment = _corrected(event, base)
    if moment == event.timestamp:
        return event
    kept = {**event.extra, "originalTimestamp": original or call["timestamp"]}
    return replace(event, timestamp=moment, extra=kept)


def _corrected(event: Event, base: datetime) -> datetime:
    """Return *base* corrected for the sender's clock, if that is plausible.

    A ``sentAt`` that is more than `MOST_SKEWED` after the arrival is probably not a time of
    sending. Then a time in the past stays, and one in the future is moved back, at most to the
    arrival. A ``sentAt`` before the arrival always corrects, as Segment's page says.
    """
    if event.sent_at is None:
        return base
    try:
        skew, moment = event.sent_at - event.received_at, event.received_at - (event.sent_at - base)
    except OverflowError:
        return base
    if skew <= MOST_SKEWED:
        return moment
    return base if base <= event.received_at else min(moment, event.received_at)


def _instant(text: Any) -> datetime | None:
    if type(text) is not str:
        return None
    try:
        moment: datetime = ISO8601.decode(text)
    except ValueError:
        return None
    return moment


def _merged(outer: dict[str, Any], inner: Any, depth: int = DEEPEST) -> Any:
    """Return both objects merged; values of *inner* take precedence."""
    if inner is None:
        return outer
    if type(inner) is not dict:
        return inner
    merged = {**outer, **{key: value for key, value in inner.items() if value is not None}}
    if depth > 1:
        for key in outer.keys() & inner.keys():
            if type(outer[key]) is dict and type(inner[key]) is dict:
                merged[key] = _merged(outer[key], inner[key], depth - 1)
    return merged
