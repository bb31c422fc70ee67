"""Rows of products and orders in Tracardi's predefined events.

Source: GitHub Tracardi/tracardi, tracardi/service/setup/events/ecommerce.json (0.9) and
traffic.json. Any properties are allowed: those that are not predefined have the Segment Spec's
names.
"""

from collections.abc import Iterator

from gateway.plugin import INTEGER, MONEY, NUMBER, TEXT, Row, Table, nested_list, prefixed
from gateway.plugin import Product as OurProduct
from gateway.plugin.spec import AMOUNT_ROWS
from plugins.tracardi.wire import Product


def spec_but(*fields: str) -> Iterator[Row]:
    """Yield the Spec's rows of properties, without those of *fields*."""
    return (row for row in AMOUNT_ROWS if row.event not in fields)


# fmt: off
PRODUCT = (
    #   Tracardi                event, in its product
    Row("id",                   "product_id",               TEXT),
    Row("name",                 "name"),
    Row("sku",                  "sku",                      TEXT),
    Row("category",             "category"),
    Row("brand",                "brand"),
    Row("variant.name|variant", "variant"),
    Row("variant.color",        "extra.color"),
    Row("variant.size",         "extra.size"),
    Row("price",                "price",                    MONEY),
    Row("quantity",             "quantity",                 NUMBER),
    Row("position",             "position",                 INTEGER),
    Row("url.page|url",         "url"),
    Row("url.image",            "image_url"),
    Row("coupon",               "coupon"),
    Row("description",          "description"),
)
PRODUCTS = nested_list(Table(Product, [*PRODUCT, Row("*", "extra")], into=OurProduct), bare="id")

REST = (
    Row("category",             "category"),
    Row("coupon",               "coupon"),
    Row("products",             "products",                 PRODUCTS),
    Row("*",                    "extra"),
)
ANYTHING = (
    *spec_but(),
    *REST,
)
ONE_PRODUCT = (
    *prefixed("", "products[0]", PRODUCT),
    *spec_but(),
    Row("*",                    "extra"),
    Row("*",                    "products[0].extra"),
)
SHARED = (
    Row("media",                "extra.share_via",          note="the Spec's name"),
    *ONE_PRODUCT,
)
REVIEWED = (
    Row("review",               "extra.review_body",        note="the Spec's name"),
    Row("rate",                 "extra.rating",             note="the Spec's name"),
    *ONE_PRODUCT,
)
BASKET = (
    Row("id",                   "cart_id",                  TEXT),
    *spec_but("cart_id"),
    *REST,
)
CHECKOUT = (
    Row("id",                   "checkout_id",              TEXT),
    *spec_but("checkout_id"),
    *REST,
)
PAYMENT = (
    Row("method",               "extra.payment_method",     note="the Spec's name"),
    *ANYTHING,
)
ORDER = (
    Row("id",                   "order_id",                 TEXT),
    Row("income.value",         "total",                    MONEY,
        note="the revenue, if no total is known"),
    Row("income.currency",      "currency"),
    *spec_but("order_id", "total", "currency"),
    *REST,
)
SALE = (
    Row("value",                "total",                    MONEY,
        note="the revenue, if no total is known"),
    *spec_but("total", "value"),
    *REST,
)
PROMOTION = (
    Row("id",                   "extra.promotion_id",       note="the Spec's name"),
    *ANYTHING,
)
# fmt: on
"""All relative to ``properties`` on both sides."""
