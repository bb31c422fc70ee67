"""The mapping between Growlytics' fields and the neutral event.

Sources: https://docs.growlytics.in/rest-apis/tracking-users-1 and
https://docs.growlytics.in/rest-apis/tracking-events-1. Attribute names are case-sensitive and each
creates a column, so every row has exactly one spelling. Any other spelling stays a custom attribute
under its exact name.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.plugin import (
    ISO8601,
    NUMBER,
    Codec,
    Event,
    EventMapping,
    Row,
    Switch,
    Table,
    prefixed,
    unchanged,
)
from gateway.plugin.spec import (
    PHONE,
    PRODUCT_PROPERTY_ROWS,
    PROPERTY_ROWS,
    is_single_product,
    reads_as_one,
)
from plugins.growlytics.wire import Customer, Track, TrackProduct


def _day(value: Any) -> str:
    if not isinstance(value, datetime):
        return str(value)
    text = ISO8601.encode(value)
    return text[:10] if text.endswith("T00:00:00.000Z") else text  # type: ignore[no-any-return]  # ISO8601 writes text


DAY = Codec("date as ISO 8601, the day alone at midnight", _day, unchanged, (str,))

# fmt: off
CUSTOMER = Table(Customer, [
    #   Growlytics                  event
    Row("id",                       "user_id",              required=True),
    Row("attributes.name",          "traits.name"),
    Row("attributes.email",         "traits.email"),
    Row("attributes.mobile",        "traits.phone",         PHONE),
    Row("attributes.firstName",     "traits.first_name"),
    Row("attributes.lastName",      "traits.last_name"),
    Row("attributes.gender",        "traits.gender"),
    Row("attributes.birthday",      "traits.birthday",      DAY),
    Row("attributes.age",           "traits.age",           NUMBER),
    Row("attributes.username",      "traits.username"),
    Row("attributes.title",         "traits.title"),
    Row("attributes.avatar",        "traits.avatar"),
    Row("attributes.website",       "traits.website"),
    Row("attributes.description",   "traits.description"),
    Row("attributes.createdAt",     "traits.created_at",    DAY),
    Row("attributes.address",       "traits.address",
        note="an object goes out flat: address.city"),
    Row("attributes.company",       "traits.company",
        note="an object goes out flat: company.name"),
    Row("attributes.*",             "traits.extra"),
], event="identify")

NAMED = (
    Row("customerId",               "user_id",              required=True),
    Row("name",                     "name",                 required=True),
)
TRACK = Table(Track, [*NAMED, *prefixed("attributes", "properties", PROPERTY_ROWS)])
TRACK_ONE = Table(
    TrackProduct, [*NAMED, *prefixed("attributes", "properties", PRODUCT_PROPERTY_ROWS)]
)

EVENTS = Switch(
    "name",
    {"an event about one product": TRACK_ONE},
    otherwise=TRACK,
    pick=lambda payload: (
        "an event about one product"
        if reads_as_one(payload.get("name"), payload.get("attributes"))
        else "any other"
    ),
)
# fmt: on

ENDPOINTS: dict[str, EventMapping] = {
    "POST /rest-api/customer": CUSTOMER,
    "POST /rest-api/event": EVENTS,
}


WRITTEN: Mapping[str, str] = {
    row.wire.partition(".")[2]: "number" if int in row.codec.gives else "string"
    for row in (*CUSTOMER.rows, *TRACK.rows, *TRACK_ONE.rows)
    if row.codec.name
}
"""Types of the attributes that are converted, as they are written: by name."""


def table_for(event: Event) -> Table:
    """Return the table that writes *event*, an identify or track event."""
    if event.type == "identify":
        return CUSTOMER
    return TRACK_ONE if is_single_product(event) else TRACK
