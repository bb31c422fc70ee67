"""The mapping between chrts' fields and the neutral event; https://chrts.co/docs/api.

An alias is read by its unambiguous keys. In chrts' own example ``knownUid`` is the customer's id,
as in identify, and ``uid`` the id that was tracked before: ``knownUid`` survives. ``previousId``
and ``anonymousId`` are Segment's keys for the id that is given up: with them ``uid`` or ``userId``
survives. The output uses chrts' own keys.
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
"""An alias whose only old id is ``anonymousId``; only written, for events from chrts."""

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
"""Keys with a customer's id; all are text."""
GIVEN_UP = ("previousId", "anonymousId")
"""Keys of an alias with the old id, the preferred one first."""

DOCUMENTED = frozenset({"uid", "userId", "anonymousId", "name", "properties"})
"""Documented keys of an event; any other key is a top-level property."""
ENVELOPE = DOCUMENTED | {
    "type", "event", "context", "integrations", "messageId", "timestamp", "sentAt",
    "originalTimestamp", "receivedAt", "writeKey", "version", "channel", "_metadata", "traits",
    "attributes", "groupId", "previousId", "knownUid",
}  # fmt: skip
"""Keys of a Segment-shaped body that are not properties; chrts documents that it accepts such
bodies."""


def segment_shaped(payload: Mapping[str, object]) -> bool:
    """Return whether an event is Segment-shaped: of type ``track``, or named by ``event``."""
    if payload.get("type") == "track":
        return True
    return payload.get("event") is not None and payload.get("name") is None
