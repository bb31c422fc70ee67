"""The mapping between Quartic's fields and the neutral event.

Source: https://docs.quarticon.com/storeapi/documentation/. ``eventProductView`` is a view of the
product's own page according to https://help.quarticon.com (API integration), although the document
speaks of displayed products.
"""

from collections.abc import Mapping

from gateway.plugin import (
    INTEGER,
    NO_FIELD,
    NUMBER,
    EventMapping,
    Product,
    Row,
    Switch,
    Table,
    constant,
    nested_list,
)
from plugins.quartic.rules import ADDRESS, AGE, FILLED, PRODUCT_ID, SECONDS
from plugins.quartic.wire import Catalogued, Click, Contact, Ordered, Profile, Transaction, View

# fmt: off
PROFILE = Table(Profile, [
    #   Quartic                 event
    Row("userId",               "user_id",                                  FILLED, required=True),
    Row("cookie",               "anonymous_id",                             FILLED, required=True),
    Row("email",                "traits.email",                             ADDRESS),
    Row("agreement",            "consent.email",
        note="whether Quartic may send e-mails in the shop's name; false if absent"),
], event="identify", strict=True)

CONTACT = Table(Contact, [
    Row("cookie",               "anonymous_id"),
    Row("email",                "traits.email",                             ADDRESS, required=True),
    Row("agreements.*",         "consent",
        note="by type; the texts are kept for Quartic"),
    Row("tags.firstname",       "traits.first_name"),
    Row("tags.lastname",        "traits.last_name"),
    Row("tags.name",            "traits.name"),
    Row("tags.phone",           "traits.phone"),
    Row("tags.gender",          "traits.gender"),
    Row("tags.birthday",        "traits.birthday"),
    Row("tags.age",             "traits.age",                               AGE),
    Row("tags.*",               "traits.extra"),
], event="identify")

TRACKED = (
    Row("customer",             NO_FIELD,                                   required=True,
        note="the symbol of the account"),
    Row("userId",               "user_id"),
    Row("userEmail",            "traits.email",                             ADDRESS),
    Row("deviceId",             "context.device.id"),
    Row("timestamp",            "timestamp",                                SECONDS, required=True),
    Row("referrer",             "context.page.referrer"),
    Row("cookie",               "anonymous_id"),
)
PRODUCT = (
    Row("productId",            "properties.products[0].product_id",        PRODUCT_ID,
        required=True),
)
CLICK = Table(Click, [
    Row("eventType",            NO_FIELD,                                   constant("eventClick")),
    *TRACKED,
    *PRODUCT,
    Row("trackingString",       "properties.extra.tracking_string",         FILLED, required=True,
        note="issued by Quartic with the recommendation"),
], event="Product Clicked", strict=True)

VIEW = Table(View, [
    Row("eventType",            NO_FIELD,                             constant("eventProductView")),
    *TRACKED,
    *PRODUCT,
], event="Product Viewed", strict=True)

ORDERED = Table(Ordered, [
    Row("productId",            "product_id",                               PRODUCT_ID,
        required=True),
    Row("price",                "price",                                    required=True),
    Row("quantity",             "quantity",                                 INTEGER, required=True),
], into=Product, strict=True)

TRANSACTION = Table(Transaction, [
    Row("eventType",            NO_FIELD,                             constant("eventTransaction")),
    *TRACKED,
    Row("transactionId",        "properties.order_id",                      FILLED, required=True),
    Row("basket",               "properties.products",                      nested_list(ORDERED),
        required=True),
], event="Order Completed", strict=True)

EVENTS = Switch("eventType", {
    "eventClick": CLICK,
    "eventProductView": VIEW,
    "eventTransaction": TRANSACTION,
})

CATALOGUED = Table(Catalogued, [
    Row("id",                   "properties.products[0].product_id",        PRODUCT_ID,
        required=True),
    Row("title",                "properties.products[0].name"),
    Row("image",                "properties.products[0].image_url"),
    Row("description",          "properties.products[0].description"),
    Row("url",                  "properties.products[0].url"),
    Row("price",                "properties.products[0].price",             NUMBER,
        note="after discount"),
    Row("priceOld",             "properties.products[0].extra.price_old",   NUMBER,
        note="before discount"),
    Row("custom1",              "properties.products[0].extra.custom1"),
    Row("custom2",              "properties.products[0].extra.custom2"),
    Row("custom3",              "properties.products[0].extra.custom3"),
    Row("status",               "properties.products[0].extra.status",
        note="whether it is visible and may be recommended"),
    Row("categories",           "properties.products[0].extra.categories"),
    Row("catalogSymbol",        "properties.products[0].extra.catalog_symbol"),
], event="product", strict=True)
# fmt: on

ENDPOINTS: Mapping[str, EventMapping] = {
    "POST /store/collectprofile": PROFILE,
    "POST /store/contact": CONTACT,
    "POST /store/track/event": EVENTS,
    "POST /store/data/product": CATALOGUED,
}

TAGS = {
    row.wire.partition(".")[2]: row.event.partition(".")[2]
    for row in CONTACT.rows
    if row.wire.startswith("tags.") and not row.wire.endswith("*")
}
"""Trait by name of tag."""
