"""chrts' vocabulary beside ours; https://chrts.co/docs/api.

The alias is mapped by position, not by meaning: chrts documents ``previousId`` as a synonym of
``knownUid`` and ``userId`` of ``uid``, while its example puts the known customer where Segment
puts the old id. Turning it around silently would break one kind of client.
"""

from collections.abc import Mapping

from gateway.mapping import Mapped, Row, Switch, Table, one, within
from gateway.spec import PRODUCT_PROPERTY_ROWS, PROPERTY_ROWS, TRAITS, reads_as_one
from plugins.chrts.wire import Alias, Identify, Track, TrackProduct

# fmt: off
CUSTOMER = (
    #   chrts                               event
    Row("uid|userId",                       "user_id"),
    Row("anonymousId",                      "anonymous_id"),
)
IDENTIFY = Table(Identify, [
    *CUSTOMER,
    Row("attributes|traits",                "traits",       one(TRAITS)),
], says="identify", strict=True)

ALIAS = Table(Alias, [
    Row("uid|userId",                       "user_id",      required=True),
    Row("knownUid|previousId|anonymousId",  "previous_id",  required=True,
        note="by position; see above"),
], says="alias", strict=True)

NAMED = (
    *CUSTOMER,
    Row("name|event",                       "name",         required=True),
)
TRACK = Table(Track, [*NAMED, *within("properties", "properties", PROPERTY_ROWS)])
TRACK_ONE = Table(TrackProduct, [
    *NAMED, *within("properties", "properties", PRODUCT_PROPERTY_ROWS),
])

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

ENDPOINTS: Mapping[str, Mapped] = {
    "POST /customer/identify": IDENTIFY,
    "POST /customer/alias": ALIAS,
    "POST /event/track": EVENTS,
}

IDS = ("uid", "userId", "anonymousId", "knownUid", "previousId")
"""Keys that name a customer; all of them are text."""

ENVELOPE = frozenset({
    "type", "event", "name", "uid", "userId", "anonymousId", "properties", "context",
    "integrations", "messageId", "timestamp", "sentAt", "originalTimestamp", "receivedAt",
    "writeKey", "version", "channel", "_metadata", "traits", "attributes", "groupId",
    "previousId", "knownUid",
})  # fmt: skip
"""Keys that are no loose properties: the documented ones, and the envelope of a Segment-shaped
body, which chrts says it takes."""
