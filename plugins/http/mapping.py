"""The tables that turn what a configuration describes into events.

Both sides have the same names. The tables convert: ids from numbers, amounts from text, times from
ISO 8601 and Unix time.
"""

from typing import Any

from gateway.plugin import (
    ISO8601_OR_UNIX,
    NO_FIELD,
    TEXT,
    Codec,
    EventMapping,
    Row,
    Switch,
    Table,
    constant,
    prefixed,
    unchanged,
)
from gateway.plugin.spec import PROPERTY_ROWS, TRAIT_ROWS
from plugins.http.wire import EventFields

TYPES = ("track", "identify", "page", "screen", "group", "alias", "product")
CONTEXT = (
    "page.url", "page.path", "page.title", "page.referrer", "page.search", "device.type",
    "device.manufacturer", "device.model", "device.name", "campaign.name", "campaign.source",
    "campaign.medium", "campaign.term", "campaign.content", "app.name", "app.version", "app.build",
    "app.namespace", "ip", "user_agent", "locale", "timezone", "channel", "extra",
)  # fmt: skip


def _flags(found: Any) -> dict[str, bool]:
    if not all(type(flag) is bool for flag in found.values()):
        raise ValueError("must be true or false by category")
    return dict(found)


FLAGS = Codec("true or false by category", _flags, unchanged, (dict,))
IDS = (
    "message_id", "user_id", "anonymous_id", "previous_id", "group_id", "session_id",
)  # fmt: skip
ROWS = (
    Row("name", "name"),
    *(Row(name, name, TEXT) for name in IDS),
    Row("timestamp", "timestamp", ISO8601_OR_UNIX),
    Row("sent_at", "sent_at", ISO8601_OR_UNIX),
    Row("context.device.id", "context.device.id", TEXT),
    *(Row(f"context.{path}", f"context.{path}") for path in CONTEXT),
    Row("consent", "consent", FLAGS),
    *prefixed("traits", "traits", TRAIT_ROWS),
    *prefixed("properties", "properties", PROPERTY_ROWS),
)
EVENTS: EventMapping = Switch(
    "type",
    {
        kind: Table(EventFields, [Row("type", NO_FIELD, constant(kind)), *ROWS], event=kind)
        for kind in TYPES
    },
)
"""Reads an event by its type."""
