"""The mapping between PersonaClick's fields and the neutral event.

Sources: see `plugins.personaclick.wire`. ``referer`` is the page of the event, not the previous one
(https://github.com/rees46/documentation-unified, docs/integration/cdp/standard-events/view.md).
"""

from collections.abc import Mapping
from typing import Any

from gateway.plugin import (
    EPOCH_SECONDS,
    NO_FIELD,
    NUMBER,
    TEXT,
    EventMapping,
    Fault,
    Names,
    Product,
    Rejected,
    Row,
    Switch,
    Table,
    constant,
    nested_list,
    quoted,
    vocabulary,
)
from plugins.personaclick.rules import (
    ADDRESS,
    AMOUNT,
    FILLED,
    FILLED_OR_ABSENT,
    MESSAGE_TYPES,
    ORDER_ID,
    PRICE,
    RECOMMENDED_BY,
    SEGMENTS,
    STREAM,
    WHOLE,
    one_of,
)
from plugins.personaclick.wire import Custom, Item, Message, Profile, Push

# fmt: off
KEYS = (
    #   PersonaClick            event
    Row("shop_id",              NO_FIELD,                           required=True,
        note="names the shop"),
    Row("shop_secret",          NO_FIELD),
)
SESSION = (
    Row("did",                  "anonymous_id",                     FILLED_OR_ABSENT,
        note="a device's id, issued by PersonaClick"),
    Row("seance|sid",           "session_id",                       FILLED),
    Row("stream",               "context.channel",                  STREAM),
)
BASICS = (
    *KEYS,
    *SESSION,
    Row("email",                "traits.email",                     ADDRESS),
    Row("phone",                "traits.phone",                     FILLED_OR_ABSENT),
    Row("loyalty_id",           "traits.extra.loyalty_id",          FILLED),
    Row("telegram_id",          "traits.extra.telegram_id",         FILLED),
    Row("segment",              "properties.extra.segment",         one_of(SEGMENTS),
        note="the half of an A/B test"),
    Row("referer",              "context.page.url",                 FILLED,
        note="the page on which it happened"),
    Row("source.from|from",     "context.campaign.medium",          FILLED,
        note="source goes out as JSON text"),
    Row("source.code|code",     "context.campaign.name",            FILLED),
)
USER = (
    Row("external_id",          "user_id",                          FILLED_OR_ABSENT,
        note="the shop's own id of the person"),
)

ITEM_ROWS = (
    Row("id",                   "product_id",                       TEXT,   required=True),
    Row("price",                "price",                            PRICE),
    Row("line_id",              "extra.line_id",                    FILLED),
    Row("fashion_size",         "extra.size",                       FILLED),
)
ITEM = Table(Item, [*ITEM_ROWS, Row("amount|quantity", "quantity", AMOUNT)], into=Product)
CART_ITEM = Table(Item, [*ITEM_ROWS, Row("quantity|amount", "quantity", AMOUNT)], into=Product)
ITEMS = Row("items", "properties.products", nested_list(ITEM, bare="id"), required=True)
CART = Row("items", "properties.products", nested_list(CART_ITEM, bare="id"), required=True)
PART = (
    Row("full_cart",            NO_FIELD,   note="true makes it Cart Updated or Cart Cleared"),
    Row("full_wish",            NO_FIELD,   note="true makes it Wishlist Updated or Cleared"),
)
YES = constant(True)  # noqa: FBT003 - a codec's value is no switch
FULL_CART = Row("full_cart",    NO_FIELD,               YES)
FULL_WISH = Row("full_wish",    NO_FIELD,               YES)

ORDER = (
    ITEMS,
    Row("order_id",             "properties.order_id",              ORDER_ID),
    Row("order_price",          "properties.total",                 NUMBER,
        note="after discounts, delivery included"),
    Row("order_cash",           "properties.extra.order_cash",      NUMBER),
    Row("order_bonuses",        "properties.extra.order_bonuses",   NUMBER),
    Row("order_delivery",       "properties.shipping",              NUMBER),
    Row("order_discount",       "properties.discount",              NUMBER),
    Row("promocode",            "properties.coupon",                FILLED),
    Row("delivery_address",     "properties.extra.delivery_address", FILLED),
    Row("delivery_type",        "properties.extra.shipping_method", note="the Spec's name"),
    Row("payment_type",         "properties.extra.payment_method",  note="the Spec's name"),
    Row("tax_free",             "properties.extra.tax_free"),
    Row("custom",               "properties.extra.custom",
        note="properties that the shop declared in its account"),
)


def _push(event: str, says: str, *rows: Row, apart: bool = False) -> Table:
    return Table(Push, [
        Row("event",            NO_FIELD,                           constant(event)),
        *BASICS,
        *USER,
        Row("recommended_by",   "properties.extra.recommended_by",  one_of(RECOMMENDED_BY)),
        Row("recommended_code", "properties.extra.recommended_code", FILLED),
        *rows,
    ], event=says, split_products=apart, strict=True)


PUSHES = {
    "view":             _push("view", "Product Viewed", ITEMS, apart=True),
    "category":         _push("category", "Product List Viewed",
                              Row("category_id", "properties.list_id", FILLED, required=True,
                                  note="is properties.category, too")),
    "cart":             _push("cart", "Product Added", ITEMS, *PART, apart=True),
    "cart, full":       _push("cart", Names.CART_UPDATED, CART, FULL_CART),
    "cart, none":       _push("cart", Names.CART_CLEARED, FULL_CART),
    "remove_from_cart": _push("remove_from_cart", "Product Removed", ITEMS, apart=True),
    "purchase":         _push("purchase", "Order Completed", *ORDER),
    "search":           _push("search", "Products Searched",
                              Row("search_query", "properties.query", FILLED, required=True)),
    "wish":             _push("wish", "Product Added to Wishlist", ITEMS, *PART, apart=True),
    "wish, full":       _push("wish", Names.WISHLIST_UPDATED, ITEMS, FULL_WISH),
    "wish, none":       _push("wish", Names.WISHLIST_CLEARED, FULL_WISH),
    "remove_wish":      _push("remove_wish", "Product Removed from Wishlist", ITEMS, apart=True),
}

CUSTOM = Table(Custom, [
    *BASICS,
    *USER,
    Row("event",                "name",                             FILLED, required=True),
    Row("category",             "properties.category",              FILLED),
    Row("label",                "properties.extra.label",           FILLED),
    Row("value",                "properties.value",                 WHOLE),
    Row("time",                 "timestamp",                        EPOCH_SECONDS),
    Row("*",                    "properties.extra"),
], strict=True)

PROFILE = Table(Profile, [
    *BASICS,
    Row("external_id|id",       "user_id",                          FILLED_OR_ABSENT),
    Row("first_name",           "traits.first_name"),
    Row("last_name",            "traits.last_name"),
    Row("gender", "traits.gender", vocabulary({"m": "male", "f": "female"}, "m and f")),
    Row("birthday",             "traits.birthday"),
    Row("age",                  "traits.age",                       NUMBER),
    Row("*",                    "traits.extra"),
], event="identify", strict=True)


def _message(says: str) -> Table:
    return Table(Message, [
        *KEYS,
        *SESSION,
        Row("code",             "properties.extra.code",            FILLED, required=True),
        Row("type",             "properties.extra.type", one_of(MESSAGE_TYPES), required=True),
    ], event=says, strict=True)
# fmt: on


FULL = {"cart": "full_cart", "wish": "full_wish"}
"""The field that makes an event about the whole list, by event."""
FALSE = frozenset({"", "0", "f", "false", "off"})
"""Texts that mean false in such a field; any other means true."""


def is_full(payload: dict[str, Any]) -> bool:
    """Return whether a ``cart`` or ``wish`` event is about the whole list."""
    event = payload.get("event")
    said = payload.get(FULL[event]) if type(event) is str and event in FULL else False
    if type(said) is str:
        return said.lower() not in FALSE
    return said is True or (type(said) is int and said != 0)


def which(payload: dict[str, Any]) -> str:
    """Return the key of the table for a ``POST /push``.

    Raises:
        Rejected: the event is missing, or PersonaClick does not have it.
    """
    event = payload.get("event")
    if event is None:
        raise Rejected("event", "required", Fault.MISSING)
    if type(event) is not str or event not in PUSHES or "," in event:
        raise Rejected("event", f"unknown: {quoted(event)}", Fault.VALUE, event)
    if is_full(payload):
        return f"{event}, full" if payload.get("items") else f"{event}, none"
    return event


PUSH = Switch("event", PUSHES, pick=which)
RECEIVED = _message("Push Notification Received")
DELIVERED = _message("Push Notification Received")
OPENED = _message(Names.PUSH_DISPLAYED)
TAPPED = _message("Push Notification Tapped")
SMS_CLICKED = _message(Names.SMS_LINK_CLICKED)
CLICKED = Switch(
    "stream",
    {"sms": SMS_CLICKED, "push": TAPPED},
    pick=lambda payload: "sms" if payload.get("stream") == "sms" else "push",
)
CLOSED = _message(Names.PUSH_DISMISSED)

ENDPOINTS: Mapping[str, EventMapping] = {
    "POST /push": PUSH,
    "POST /push/custom": CUSTOM,
    "POST /profile/set": PROFILE,
    "POST /track/received": RECEIVED,
    "POST /track/delivered": DELIVERED,
    "POST /track/opened": OPENED,
    "POST /track/clicked": CLICKED,
    "POST /track/closed": CLOSED,
}
