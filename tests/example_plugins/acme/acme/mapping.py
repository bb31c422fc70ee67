"""Acme's fields and the event's; https://acme.example/docs/events."""

from collections.abc import Mapping

from gateway.plugin import EPOCH_SECONDS, TEXT, EventMapping, Row, Table, vocabulary

from .wire import Thing

WORDS = vocabulary({"looked": "Product Viewed", "bought": "Order Completed"}, "Acme's words")

# fmt: off
THING = Table(Thing, [
    #   Acme                event
    Row("what",             "name",                               WORDS, required=True),
    Row("who",              "user_id",                            TEXT,  required=True),
    Row("visitor|cookie",   "anonymous_id",
        note="cookie is the older name"),
    Row("at",               "timestamp",                          EPOCH_SECONDS),
    Row("page",             "context.page.url"),
    Row("product",          "properties.products[0].product_id",  TEXT),
    Row("more.*",           "properties.extra"),
])
# fmt: on

ENDPOINTS: Mapping[str, EventMapping] = {"POST /v1/events": THING}
