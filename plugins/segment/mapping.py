"""The mapping between Segment's fields and the neutral event, which has Segment's names.

Sources: https://segment.com/docs/connections/spec/ (the calls) and
https://segment.com/docs/connections/spec/ecommerce/v2/ (the properties).
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.plugin import (
    ISO8601_EXACT,
    NO_FIELD,
    TEXT,
    Codec,
    EventMapping,
    Names,
    Row,
    Switch,
    Table,
    constant,
    prefixed,
    unchanged,
    vocabulary,
)
from gateway.plugin.spec import PRODUCT_PROPERTY_ROWS, PROPERTY_ROWS, TRAIT_ROWS, reads_as_one
from plugins.segment.pixel import PIXELS
from plugins.segment.wire import (
    Alias,
    Batch,
    Group,
    Identify,
    Track,
    TrackOne,
    Visit,
    VisitInFull,
)

CALLS: Final = ("track", "identify", "page", "screen", "group", "alias")
SHORT: Final = {"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group",
                "a": "alias"}  # fmt: skip
"""Analytics.js sends the first letter (GitHub segmentio/analytics-next,
packages/browser/src/plugins/segmentio)."""


def _flags(found: Mapping[str, Any]) -> dict[str, bool]:
    if not all(type(flag) is bool for flag in found.values()):
        raise ValueError("not every category is true or false")
    return dict(found)


CONSENT: Final = "Segment Consent Preference Updated"
CONSENT_NAME: Final = vocabulary(
    {CONSENT: Names.CONSENT_UPDATED}, "the name of a change of consent"
)
FLAGS: Final = Codec("true or false by category", _flags, unchanged, (dict,))

# fmt: off
COMMON = (
    #   Segment                         event
    Row("writeKey",                     NO_FIELD,                   note="the credential"),
    Row("messageId",                    "message_id",               TEXT),
    Row("timestamp",                    "timestamp",                ISO8601_EXACT,
        note="the sender's clock is corrected by sentAt"),
    Row("sentAt",                       "sent_at",                  ISO8601_EXACT,
        note="not written: see above"),
    Row("userId",                       "user_id",                  TEXT),
    Row("anonymousId",                  "anonymous_id",             TEXT),
    Row("context.sessionId",            "session_id",               TEXT,
        note="RudderStack's; Segment has no place for it"),
    Row("context.page.url",             "context.page.url"),
    Row("context.page.path",            "context.page.path"),
    Row("context.page.title",           "context.page.title"),
    Row("context.page.referrer",        "context.page.referrer"),
    Row("context.page.search",          "context.page.search"),
    Row("context.device.id",            "context.device.id",        TEXT),
    Row("context.device.type",          "context.device.type"),
    Row("context.device.manufacturer",  "context.device.manufacturer"),
    Row("context.device.model",         "context.device.model"),
    Row("context.device.name",          "context.device.name"),
    Row("context.campaign.name",        "context.campaign.name"),
    Row("context.campaign.source",      "context.campaign.source"),
    Row("context.campaign.medium",      "context.campaign.medium"),
    Row("context.campaign.term",        "context.campaign.term"),
    Row("context.campaign.content",     "context.campaign.content"),
    Row("context.app.name",             "context.app.name"),
    Row("context.app.version",          "context.app.version"),
    Row("context.app.build",            "context.app.build"),
    Row("context.app.namespace",        "context.app.namespace"),
    Row("context.ip",                   "context.ip"),
    Row("context.userAgent",            "context.user_agent"),
    Row("context.locale",               "context.locale"),
    Row("context.timezone",             "context.timezone"),
    Row("context.channel|channel",      "context.channel",
        note="the second is RudderStack's"),
    Row("context.consent.categoryPreferences", "consent",           FLAGS),
    Row("context.*",                    "context.extra"),
)
"""Rows of every call."""

GROUP_OF = (
    Row("context.groupId",              "group_id",                 TEXT),
)
PERSON = (
    *GROUP_OF,
    *prefixed("context.traits", "traits", TRAIT_ROWS),
)
"""The user on calls that are not about the user."""

VISIT = (
    Row("name|properties.name",         "name"),
    Row("properties.category|category", "properties.category"),
    Row("properties.*",                 "properties.extra"),
)
# fmt: on


def _call(kind: str, wire: type, *rows: Row) -> Table:
    return Table(wire, [Row("type", NO_FIELD, constant(kind)), *COMMON, *rows], event=kind)


# fmt: off
IDENTIFY = _call("identify", Identify, *GROUP_OF, *prefixed("traits", "traits", TRAIT_ROWS))
PAGE = _call("page", Visit, *PERSON, *VISIT)
SCREEN = _call("screen", Visit, *PERSON, *VISIT)
GROUP = _call("group", Group,
    Row("groupId",                      "group_id",                 TEXT),
    *prefixed("traits", "traits", TRAIT_ROWS),
)
ALIAS = _call("alias", Alias, *PERSON,
    Row("previousId",                   "previous_id",              TEXT),
)
EVENT = Row("event",                    "name",                     CONSENT_NAME)
NAME = Row("name",                      "name")
# fmt: on
PROPERTIES = tuple(prefixed("properties", "properties", PROPERTY_ROWS))
FULL_PAGE = _call("page", VisitInFull, *PERSON, NAME, *PROPERTIES)
FULL_SCREEN = _call("screen", VisitInFull, *PERSON, NAME, *PROPERTIES)
"""With all properties of other vendors' pages and screens; only written."""
TRACK = _call("track", Track, *PERSON, EVENT, *PROPERTIES)
TRACK_ONE = _call(
    "track", TrackOne, *PERSON, EVENT, *prefixed("properties", "properties", PRODUCT_PROPERTY_ROWS)
)

ONE: Final = "track, about one product"


def _track(payload: dict[str, Any]) -> str:
    return ONE if reads_as_one(payload.get("event"), payload.get("properties")) else "track"


def _kind(payload: dict[str, Any]) -> str:
    kind = str(payload["type"])
    return _track(payload) if kind == "track" else kind


TRACKS = Switch("event", {"track": TRACK, ONE: TRACK_ONE}, pick=_track)
ANY = Switch(
    "type",
    {
        "track": TRACK,
        ONE: TRACK_ONE,
        "identify": IDENTIFY,
        "page": PAGE,
        "screen": SCREEN,
        "group": GROUP,
        "alias": ALIAS,
    },
    pick=_kind,
)
# fmt: off
BATCH = Table(Batch, [
    Row("writeKey",                     NO_FIELD,                   note="the credential"),
], items=("batch", ANY))
# fmt: on

TABLES: Final[Mapping[str, EventMapping]] = {
    "track": TRACKS,
    "identify": IDENTIFY,
    "page": PAGE,
    "screen": SCREEN,
    "group": GROUP,
    "alias": ALIAS,
    "batch": BATCH,
}
KINDS: Final[Mapping[str, str]] = {
    **{f"POST /v1/{kind}": kind for kind in TABLES},
    **{f"POST /v1/{letter}": kind for letter, kind in SHORT.items()},
    "POST /v1/b": "batch",
    "POST /v1/import": "batch",
    "POST /beacon/v1/batch": "batch",
    **{f"GET {path}": kind for path, kind in PIXELS.items()},
}
"""The kind of call of each endpoint. ``/v1/import`` and the beacon are RudderStack's (GitHub
rudderlabs/rudder-server, gateway/handle_lifecycle.go)."""
ENDPOINTS: Final[Mapping[str, EventMapping]] = {
    endpoint: TABLES[kind] for endpoint, kind in KINDS.items()
}
