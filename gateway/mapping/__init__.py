"""Translation tables: one row per field, read in both directions.

A `Row` ties a dotted path in the vendor's payload to a dotted path in `Event`. Both ends are
checked against their types when the module is imported, so a misspelt path stops the gateway
from starting instead of losing data quietly.

Four ideas, and no more: a `Row` renames, a `Codec` converts, a `Table` holds the rows of one
payload, a `Switch` picks a table by what the vendor calls the event. Anything conditional is a
Python function in the plugin, not a fifth idea. docs/mapping.md shows each at work.
"""

from gateway.mapping.codecs import (
    AS_IS,
    EPOCH_MILLIS,
    EPOCH_SECONDS,
    INTEGER,
    ISO8601,
    ISO8601_OR_UNIX,
    NUMBER,
    TEXT,
    Codec,
    literal,
    names,
)
from gateway.mapping.leftovers import restore
from gateway.mapping.losses import SILENT, Loss, filled
from gateway.mapping.money import MONEY
from gateway.mapping.nested import many, one
from gateway.mapping.row import CONSUMED, Row, within
from gateway.mapping.spelling import spelt
from gateway.mapping.step import json_name
from gateway.mapping.switch import Switch
from gateway.mapping.table import Mapped, Stamp, Table

__all__ = [
    "AS_IS",
    "CONSUMED",
    "EPOCH_MILLIS",
    "EPOCH_SECONDS",
    "INTEGER",
    "ISO8601",
    "ISO8601_OR_UNIX",
    "MONEY",
    "NUMBER",
    "SILENT",
    "TEXT",
    "Codec",
    "Loss",
    "Mapped",
    "Row",
    "Stamp",
    "Switch",
    "Table",
    "filled",
    "json_name",
    "literal",
    "many",
    "names",
    "one",
    "restore",
    "spelt",
    "within",
]
