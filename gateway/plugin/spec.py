"""Tables with the Segment Spec's names, for vendors that accept any properties.

Sources: https://segment.com/docs/connections/spec/identify/ (traits),
https://segment.com/docs/connections/spec/ecommerce/v2/ (properties, the product object).
Such vendors get properties by these names, so that events of all origins look the same there.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypedDict

from msgspec.structs import replace

from gateway.event import NOTHING, SINGLE_PRODUCT, Event, Names, Page, Product, Properties, Traits
from gateway.mapping import (
    INTEGER,
    MONEY,
    NUMBER,
    TEXT,
    Codec,
    Row,
    Table,
    nested_list,
    prefixed,
    unchanged,
)


class SpecProduct(TypedDict, total=False):
    """The product object, E-commerce Spec V2."""

    product_id: str | int
    sku: str | int
    name: str
    category: str
    brand: str
    variant: str
    price: float | str
    quantity: float | str
    coupon: str
    position: int | float | str
    url: str
    image_url: str
    description: str


class SpecProperties(TypedDict, total=False):
    """Properties, E-commerce Spec V2; further keys are allowed."""

    order_id: str | int
    checkout_id: str | int
    cart_id: str | int
    list_id: str | int
    wishlist_id: str | int
    wishlist_name: str
    category: str
    query: str
    affiliation: str
    subtotal: float | str
    total: float | str
    revenue: float | str
    shipping: float | str
    tax: float | str
    discount: float | str
    coupon: str
    currency: str
    value: float | str
    products: list[SpecProduct]


class SpecProductProperties(SpecProperties, SpecProduct, total=False):
    """Properties of an event about one product: both at one level."""


class SpecTraits(TypedDict, total=False):
    """Traits, Segment Spec; further keys are allowed."""

    email: str
    phone: str | int | float
    name: str
    firstName: str
    first_name: str
    lastName: str
    last_name: str
    gender: str
    birthday: str
    age: int | float | str
    username: str | int
    title: str
    avatar: str
    website: str
    description: str
    createdAt: str
    created_at: str
    address: dict[str, Any] | str
    company: dict[str, Any] | str


def phone_text(value: str | float) -> str:
    """Return a phone number as text; ``4.4e11``, as in a spreadsheet, becomes ``440000000000``."""
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value)


PHONE = Codec("text or number", phone_text, unchanged, (str,))
"""A phone number, which some senders write as a number; written as text."""


def _shared(*rows: Row) -> tuple[Row, ...]:
    return tuple(dataclasses.replace(row, shared=True) for row in rows)


# fmt: off
PRODUCT_ROWS = _shared(
    Row("product_id",           "product_id",       TEXT),
    Row("sku",                  "sku",              TEXT),
    Row("name",                 "name"),
    Row("category",             "category"),
    Row("brand",                "brand"),
    Row("variant",              "variant"),
    Row("price",                "price",            MONEY),
    Row("quantity",             "quantity",         NUMBER),
    Row("coupon",               "coupon"),
    Row("position",             "position",         INTEGER),
    Row("url",                  "url"),
    Row("image_url",            "image_url"),
    Row("description",          "description"),
)
"""Rows of the product object; paths are relative to it on both sides."""

PRODUCT = Table(SpecProduct, _shared(*PRODUCT_ROWS, Row("*", "extra")), into=Product)
"""A product with any further keys; for `gateway.plugin.nested_list`."""

AMOUNT_ROWS = _shared(
    Row("order_id",             "order_id",         TEXT),
    Row("checkout_id",          "checkout_id",      TEXT),
    Row("cart_id",              "cart_id",          TEXT),
    Row("list_id",              "list_id",          TEXT),
    Row("wishlist_id",          "wishlist_id",      TEXT),
    Row("wishlist_name",        "wishlist_name"),
    Row("query",                "query"),
    Row("affiliation",          "affiliation"),
    Row("subtotal",             "subtotal",         MONEY),
    Row("total",                "total",            MONEY),
    Row("revenue",              "revenue",          MONEY),
    Row("shipping",             "shipping",         MONEY),
    Row("tax",                  "tax",              MONEY),
    Row("discount",             "discount",         MONEY),
    Row("currency",             "currency"),
    Row("value",                "value",            MONEY),
)
"""Rows of ids and amounts of any event; paths are relative to the properties on both sides."""

PROPERTY_ROWS = _shared(
    *AMOUNT_ROWS,
    Row("category",             "category"),
    Row("coupon",               "coupon"),
    Row("products",             "products",         nested_list(PRODUCT)),
    Row("*",                    "extra"),
)
"""Rows of an event about any number of products; paths are relative to the properties."""

PRODUCT_PROPERTY_ROWS = _shared(
    *prefixed("", "products[0]", PRODUCT_ROWS),
    *AMOUNT_ROWS,
    Row("*",                    "extra"),
    Row("*",                    "products[0].extra"),
)
"""Rows of an event about one product (`is_single_product`); paths are relative to the
properties."""

TRAIT_ROWS = _shared(
    Row("email",                "email"),
    Row("phone",                "phone",            PHONE),
    Row("name",                 "name"),
    Row("firstName|first_name", "first_name"),
    Row("lastName|last_name",   "last_name"),
    Row("gender",               "gender"),
    Row("birthday",             "birthday"),
    Row("age",                  "age",              NUMBER),
    Row("username",             "username",         TEXT),
    Row("title",                "title"),
    Row("avatar",               "avatar"),
    Row("website",              "website"),
    Row("description",          "description"),
    Row("createdAt|created_at", "created_at"),
    Row("address",              "address"),
    Row("company",              "company"),
    Row("*",                    "extra"),
)
"""Rows of traits; paths are relative to the traits on both sides."""
# fmt: on

PROPERTIES = Table(SpecProperties, PROPERTY_ROWS, into=Properties)
"""Properties as one object; for `gateway.plugin.nested_object`."""
TRAITS = Table(SpecTraits, TRAIT_ROWS, into=Traits)
"""Traits as one object; for `gateway.plugin.nested_object`."""


def is_single_product(event: Event) -> bool:
    """Return whether the Spec writes the product of *event* flat among the properties."""
    return event.name in SINGLE_PRODUCT and len(event.properties.products) == 1


def reads_as_one(name: object, properties: object) -> bool:
    """Return whether properties of event *name* hold one product flat, not in ``products``.

    Args:
        name: the event's, in the Spec's spelling; any JSON value.
        properties: as they came; any JSON value.
    """
    if type(name) is not str or name not in SINGLE_PRODUCT:
        return False
    return not (type(properties) is dict and "products" in properties)


def to_track(event: Event) -> Event | None:
    """Return *event* as a track event, for vendors that have no other type; None if it is none.

    A page becomes Page Viewed, a screen Screen Viewed, a group Group Joined. Their names, page
    fields and traits become properties. An alias, an identify and a product become None.
    """
    if event.type == "track":
        return event
    named = {"name": event.name} if event.name else {}
    properties = event.properties
    if event.type in {"page", "screen"}:
        page = {k: v for k, v in _fields(event.context.page).items() if v is not None}
        return replace(
            event,
            type="track",
            name="Page Viewed" if event.type == "page" else "Screen Viewed",
            properties=replace(properties, extra={**named, **page, **properties.extra}),
            context=replace(event.context, page=Page()),
        )
    if event.type == "group":
        known = {"group_id": event.group_id} if event.group_id else {}
        known |= TRAITS.write(event.traits)
        return replace(
            event,
            type="track",
            name="Group Joined",
            group_id=None,
            traits=Traits(extra=NOTHING),
            properties=replace(properties, extra={**known, **properties.extra}),
        )
    return None


def with_flags(event: Event, *taken: str) -> Event:
    """Return *event* with its consent among its free fields, for vendors without a field for it.

    An identify gets the categories as traits, a change of consent as properties, each true or
    false. A category with the name of a field is prefixed: ``consent_email``. Other events keep
    their consent where it is.

    Args:
        event: not changed.
        taken: further names that have another meaning for the vendor.
    """
    if not event.consent:
        return event
    if event.type == "identify":
        held = event.traits.extra
        told = flags(event.consent, {*SpecTraits.__annotations__, *held, *taken})
        traits = replace(event.traits, extra={**held, **told})
        return replace(event, consent=NOTHING, traits=traits)
    if event.type == "track" and event.name == Names.CONSENT_UPDATED:
        held = event.properties.extra
        told = flags(event.consent, {*SpecProperties.__annotations__, *held, *taken})
        properties = replace(event.properties, extra={**held, **told})
        return replace(event, consent=NOTHING, properties=properties)
    return event


def flags(consent: Mapping[str, bool], taken: Collection[str]) -> dict[str, bool]:
    """Return *consent* by category, with ``consent_`` before each name that is *taken*."""
    return {f"consent_{key}" if key in taken else key: given for key, given in consent.items()}


def _fields(page: Page) -> dict[str, Any]:
    return {name: getattr(page, name) for name in page.__struct_fields__}
