"""The mapping between Tracardi's fields and the neutral event.

Sources: https://docs.tracardi.com/events/event_tracking/ (the payload); GitHub Tracardi/tracardi,
tracardi/service/setup/events (the predefined types), tracardi/domain/payload (the fields read).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.plugin import NO_FIELD, TEXT, Event, Names, Row, Switch, Table, constant, prefixed
from gateway.plugin.spec import TRAIT_ROWS
from plugins.tracardi import commerce, people
from plugins.tracardi.values import FLAGS, HOST, TIME, TRIMMED
from plugins.tracardi.wire import (
    IdentificationEvent,
    ProductEvent,
    ProfileEvent,
    TrackedEvent,
    TrackerPayload,
)

CONSENT: Final = Names.CONSENT_UPDATED
STARTED: Final = "order-started"
COMPLETED: Final = "order-completed"
ALREADY_PLACED: Final = "order-completed, of an order that was placed before"
"""An ``order-completed`` with only an id and a status, which is all that Tracardi predefines for
it, or one that comes with the ``order-started`` of the same order."""
MOVED: Final = "context.*"
"""The leftover that lists the keys of the payload's context that were moved into the events."""

# fmt: off
PAYLOAD = (
    #   Tracardi                        event
    Row("source.id",                    NO_FIELD,                   TRIMMED,
        note="the credential"),
    Row("session.id",                   "session_id",               TRIMMED),
    Row("profile.id",                   "anonymous_id",             TRIMMED),
    Row("device.id",                    "context.device.id",        TEXT,
        note="tracardi-js sends it, the server ignores it"),
    Row("context.utm.source",           "context.campaign.source"),
    Row("context.utm.medium",           "context.campaign.medium"),
    Row("context.utm.campaign",         "context.campaign.name"),
    Row("context.utm.term",             "context.campaign.term"),
    Row("context.utm.content",          "context.campaign.content"),
    Row("context.browser.local.browser.userAgent", "context.user_agent"),
    Row("context.browser.local.browser.language",  "context.locale"),
    Row("context.time.tz",              "context.timezone"),
)
"""Rows that apply to every event of a payload."""

COMMON = (
    Row("id",                           "message_id"),
    Row("time.create",                  "timestamp",                TIME,
        note="time.insert is read where it stands alone"),
    Row("context.user_id",              "user_id",                  TEXT,
        note="Tracardi has no field for it; a context is free"),
    Row("context.group_id",             "group_id",                 TEXT,
        note="likewise"),
    Row("context.page.url",             "context.page.url"),
    Row("context.page.path",            "context.page.path"),
    Row("context.page.title",           "context.page.title"),
    Row("context.page.search",          "context.page.search"),
    Row("context.page.referer.host",    "context.page.referrer",    HOST),
    Row("context.device.id",            "context.device.id",        TEXT),
    Row("context.device.type",          "context.device.type"),
    Row("context.device.manufacturer",  "context.device.manufacturer"),
    Row("context.device.model",         "context.device.model"),
    Row("context.device.name",          "context.device.name"),
    Row("context.app.name",             "context.app.name"),
    Row("context.app.version",          "context.app.version"),
    Row("context.app.build",            "context.app.build"),
    Row("context.app.namespace",        "context.app.namespace"),
    Row("context.ip",                   "context.ip"),
    Row("context.channel",              "context.channel"),
    Row("context.consent",              "consent",                  FLAGS),
    Row("context.*",                    "context.extra"),
)
"""Rows of every event."""
WHO = tuple(prefixed("context.traits", "traits", TRAIT_ROWS))
"""The user on events that are not about the user; any keys are allowed in a context."""

ANYTHING = tuple(prefixed("properties", "properties", commerce.ANYTHING))
VISIT = (
    *WHO,
    Row("properties.name",              "name"),
    *ANYTHING,
)
# fmt: on


def _said(word: str, says: str, wire: type, rows: Sequence[Row]) -> tuple[str, Table]:
    """Return the predefined type *word* with its table."""
    written = COMPLETED if word == ALREADY_PLACED else word
    return word, Table(wire, [Row("type", NO_FIELD, constant(written)), *COMMON, *rows], event=says)


def _about(
    word: str, says: str, rows: Sequence[Row] = commerce.ANYTHING, wire: type = TrackedEvent
) -> tuple[str, Table]:
    return _said(word, says, wire, (*WHO, *prefixed("properties", "properties", rows)))


def _product(word: str, says: str, rows: Sequence[Row] = commerce.ONE_PRODUCT) -> tuple[str, Table]:
    return _about(word, says, rows, ProductEvent)


def _person(word: str, wire: type, rows: Sequence[Row]) -> tuple[str, Table]:
    return _said(word, "identify", wire, tuple(prefixed("properties", "", rows)))


# fmt: off
PREDEFINED: Final[dict[str, Table]] = dict((
    #        Tracardi                        event
    _said(   "page-view",                    "page",                 TrackedEvent, VISIT),
    _said(   "screen-view",                  "screen",               TrackedEvent, VISIT),
    _product("product-details-page-view",    "Product Viewed"),
    _product("product-clicked",              "Product Clicked"),
    _product("product-added-to-basket",      "Product Added"),
    _product("product-removed-from-basket",  "Product Removed"),
    _product("product-shared",               "Product Shared",       commerce.SHARED),
    _product("product-reviewed",             "Product Reviewed",     commerce.REVIEWED),
    _about(  "product-search-result",        "Product List Viewed"),
    _about(  "search",                       "Products Searched"),
    _about(  "basket-viewed",                "Cart Viewed",          commerce.BASKET),
    _about(  "checkout-started",             "Checkout Started",     commerce.CHECKOUT),
    _about(  "payment-info-entered",         "Payment Info Entered", commerce.PAYMENT),
    _about(  "order-started",                "Order Completed",      commerce.ORDER),
    _about(  "order-completed",              "Order Completed",      commerce.ORDER),
    _about(  "order-status-change",          "Order Updated",        commerce.ORDER),
    _about(  "sale-completed",               "Order Updated",        commerce.SALE),
    _about(  ALREADY_PLACED,                 "Order Updated",        commerce.ORDER),
    _product("product-returned",             "Order Refunded"),
    _about(  "promotion-viewed",             "Promotion Viewed",     commerce.PROMOTION),
    _about(  "promotion-clicked",            "Promotion Clicked",    commerce.PROMOTION),
    _about(  "sign-up",                      "Signed Up"),
    _about(  "sign-in",                      "Signed In"),
    _person( "profile-update",               ProfileEvent,           people.PROFILE),
    _person( "identification",               IdentificationEvent,    people.IDENTIFICATION),
    _about(  "consent-update",               CONSENT),
    _about(  "consent-granted",              CONSENT),
))
"""The predefined types that the Segment Spec has too, and the document's ``consent-granted``. Of
two types with the same meaning, the first is written."""

ANY_TYPE = Table(TrackedEvent, [
    Row("type",                         "name"),
    *COMMON,
    *WHO,
    *ANYTHING,
])
"""Events of all other types, which keep their names."""
ANY_TYPE_ONE = Table(ProductEvent, [
    Row("type",                         "name"),
    *COMMON,
    *WHO,
    *prefixed("properties", "properties", commerce.ONE_PRODUCT),
])
"""The same for an event about one product; only written."""
LOOSE = Table(TrackedEvent, [
    Row("type",                         "name"),
    *COMMON,
    *WHO,
    Row("properties.*",                 "properties.extra"),
])
"""The same with ``products`` of another shape; only read."""
# fmt: on

LOOSE_WORD: Final = "any type, with products of another shape"
CONSENT_TYPES: Final = frozenset(word for word in PREDEFINED if PREDEFINED[word].event == CONSENT)
ORDER_TYPES: Final = frozenset(
    {STARTED, COMPLETED, ALREADY_PLACED, "order-status-change", "sale-completed"}
)
"""The types with an income."""
ONLY_READ: Final = frozenset({"product-returned", "product-search-result", ALREADY_PLACED})
"""Types that are only read: a refund in the Segment Spec is about an order, not a product; and a
list of products, such as a category, is not always a search result."""
SPEAKS: Final[Mapping[tuple[str, str | None], str]] = {
    kind: word
    for word in reversed(PREDEFINED)
    if word not in ONLY_READ
    for kind in PREDEFINED[word].kinds()
}
"""The type to write, by the type of an event, and by its name if it is a track event."""


SOLD: Final = frozenset({"products", "income", "total", "revenue"})
"""Properties of an order with the products or the amount."""


def _pick(event: dict[str, Any]) -> str:
    word, properties = str(event["type"]), event.get("properties")
    if word == COMPLETED and not (properties and (properties.keys() & SOLD)):
        return ALREADY_PLACED
    products = None if word in PREDEFINED or not properties else properties.get("products")
    if products is None:
        return word
    fits = type(products) is list and any(type(product) is dict for product in products)
    return word if fits else LOOSE_WORD


EVENTS = Switch("type", {**PREDEFINED, LOOSE_WORD: LOOSE}, otherwise=ANY_TYPE, pick=_pick)

ENDPOINTS = {"POST /track": Table(TrackerPayload, PAYLOAD, items=("events", EVENTS))}


def _whole(table: Table) -> Table:
    return Table(TrackerPayload, PAYLOAD, items=("events", table))


WRITERS: Final[Mapping[str, Table]] = {word: _whole(PREDEFINED[word]) for word in PREDEFINED}
"""The payload of one event, by the predefined type of that event."""
ANY_WRITER: Final = _whole(ANY_TYPE)
ANY_ONE_WRITER: Final = _whole(ANY_TYPE_ONE)


def spoken(event: Event) -> str | None:
    """Return the predefined type for *event*; None if there is none."""
    return SPEAKS.get((event.type, event.name if event.type == "track" else None))


def leftover(event: Event) -> Mapping[str, Any]:
    """Return the unmapped fields of the event itself, without those of its payload."""
    items = event.extra.get("events")
    found: Mapping[str, Any] = items[0] if items else {}
    return found


def sent_as(event: Event) -> str | None:
    """Return the type that *event* came with, if another one would be written; else None."""
    word = leftover(event).get("type")
    return word if type(word) is str else None


def inserted(event: Event) -> Any:
    """Return the time of collection if the sender set it, else None."""
    time = leftover(event).get("time")
    return time.get("insert") if time else None
