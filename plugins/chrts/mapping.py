"""chrts' vocabulary beside ours; https://chrts.co/docs/api.

An alias is read by its unambiguous keys. In chrts' own example ``knownUid`` is the customer's id,
the one that identify uses, and ``uid`` the id that was tracked before: ``knownUid`` survives.
``previousId`` and ``anonymousId`` are Segment's words for an id that is given up, so beside them
``uid`` or ``userId`` survives. What goes out is in chrts' own words.
"""

from collections.abc import Mapping

from gateway.plugin import EventMapping, Row, Switch, Table, nested_object, prefixed
from gateway.plugin.spec import PRODUCT_PROPERTY_ROWS, PROPERTY_ROWS, TRAITS, reads_as_one
from plugins.chrts.wire import Alias, Identify, Track, TrackProduct

# fmt: off
CUSTOMER = (
    #   chrts                               event
    Row("uid|userId",                       "user_id"),
    Row("anonymousId",                      "anonymous_id"),
)
IDENTIFY = Table(Identify, [
    *CUSTOMER,
    Row("attributes|traits",                "traits",       nested_object(TRAITS)),
], event="identify", strict=True)

ALIAS = Table(Alias, [
    Row("knownUid",                         "user_id",      required=True,
        note="the customer, whose id survives"),
    Row("uid|userId",                       "previous_id",  required=True),
], event="alias", strict=True)
ALIAS_OF_SEGMENT = Table(Alias, [
    Row("uid|userId",                       "user_id",      required=True),
    Row("previousId|anonymousId",           "previous_id",  required=True,
        note="Segment's: the id that is given up"),
], event="alias", strict=True)
ALIAS_OF_VISITOR = Table(Alias, [
    Row("uid|userId",                       "user_id",      required=True),
    Row("anonymousId",                      "previous_id",  required=True),
], event="alias", strict=True)
"""An alias whose only old id was ``anonymousId``; only written, to chrts itself."""

NAMED = (
    *CUSTOMER,
    Row("name|event",                       "name",         required=True),
)
TRACK = Table(Track, [*NAMED, *prefixed("properties", "properties", PROPERTY_ROWS)])
TRACK_ONE = Table(TrackProduct, [
    *NAMED, *prefixed("properties", "properties", PRODUCT_PROPERTY_ROWS),
])

ALIASES = Switch(
    "knownUid",
    {"a known customer": ALIAS, "an id that is given up": ALIAS_OF_SEGMENT},
    pick=lambda payload: (
        "an id that is given up"
        if payload.get("knownUid") is None
        and (payload.get("previousId") is not None or payload.get("anonymousId") is not None)
        else "a known customer"
    ),
)
EVENTS = Switch(
    "name",
    {"an event about one product": TRACK_ONE},
    otherwise=TRACK,
    pick=lambda payload: (
        "an event about one product"
        if reads_as_one(payload.get("name") or payload.get("event"), payload.get("properties"))
        else "any other"
    ),
)
# fmt: on

ENDPOINTS: Mapping[str, EventMapping] = {
    "POST /customer/identify": IDENTIFY,
    "POST /customer/alias": ALIASES,
    "POST /event/track": EVENTS,
}

IDS = ("uid", "userId", "anonymousId", "knownUid", "previousId")
"""Keys that name a customer; all of them are text."""
GIVEN_UP = ("previousId", "anonymousId")
"""Keys of an alias that name an id that is given up, the one that counts first."""

DOCUMENTED = frozenset({"uid", "userId", "anonymousId", "name", "properties"})
"""Keys of an event that the document names; any other is a loose property."""
ENVELOPE = DOCUMENTED | {
    "type", "event", "context", "integrations", "messageId", "timestamp", "sentAt",
    "originalTimestamp", "receivedAt", "writeKey", "version", "channel", "_metadata", "traits",
    "attributes", "groupId", "previousId", "knownUid",
}  # fmt: skip
"""Keys of a Segment-shaped body, which chrts says it takes, that are no loose properties."""


def segment_shaped(payload: Mapping[str, object]) -> bool:
    """Tell whether *payload*, an event, is Segment's: of its type, or named as Segment names it."""
    if payload.get("type") == "track":
        return True
    return payload.get("event") is not None and payload.get("name") is None
