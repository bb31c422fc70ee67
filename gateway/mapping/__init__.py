"""Translation tables: one row per field, read in both directions.

A `Row` connects a dotted path in the vendor's payload with a dotted path in `Event`. Both paths are
checked against their types at import, so a misspelt path stops the start instead of losing data.

There are four concepts: a `Row` renames, a `Codec` converts, a `Table` has the rows of one payload,
and a `Switch` selects a table by the vendor's name of the event. Conditions are Python functions in
the plugin. See docs/mapping.md for examples.
"""

from gateway.mapping.codecs import (
    AS_IS,
    EPOCH_MILLIS,
    EPOCH_SECONDS,
    INTEGER,
    ISO8601,
    ISO8601_EXACT,
    ISO8601_OR_UNIX,
    NUMBER,
    TEXT,
    Codec,
    constant,
    unchanged,
    vocabulary,
)
from gateway.mapping.compiled_rows import json_name
from gateway.mapping.losses import NEVER_LOST, Loss, filled_fields
from gateway.mapping.money import MONEY
from gateway.mapping.payload import restore_leftovers
from gateway.mapping.row import NO_FIELD, Row, nested_list, nested_object, prefixed
from gateway.mapping.table import EventMapping, Stamp, Switch, Table
from gateway.mapping.wire_paths import wire_path

__all__ = [
    "AS_IS",
    "EPOCH_MILLIS",
    "EPOCH_SECONDS",
    "INTEGER",
    "ISO8601",
    "ISO8601_EXACT",
    "ISO8601_OR_UNIX",
    "MONEY",
    "NEVER_LOST",
    "NO_FIELD",
    "NUMBER",
    "TEXT",
    "Codec",
    "EventMapping",
    "Loss",
    "Row",
    "Stamp",
    "Switch",
    "Table",
    "constant",
    "filled_fields",
    "json_name",
    "nested_list",
    "nested_object",
    "prefixed",
    "restore_leftovers",
    "unchanged",
    "vocabulary",
    "wire_path",
]
