"""The durable log between accepting and delivering.

``SqliteSpool`` is the embedded one; ``LetterBox`` reaches its dead letters from another process.
"""

from gateway.spool.groups import LetterGroup
from gateway.spool.interface import Spool
from gateway.spool.letters import LetterBox
from gateway.spool.owing import Owing
from gateway.spool.sqlite import SqliteSpool
from gateway.spool.values import (
    EVERY_LETTER,
    Attempt,
    Balance,
    Bounds,
    Cause,
    Dead,
    Depth,
    DiskFull,
    Entry,
    Failed,
    GivenUp,
    Item,
    Later,
    Letters,
    Limits,
    Mark,
    Notice,
    Once,
    Outdated,
    Progress,
    Replayed,
    Said,
    SpoolFull,
    Taken,
    UnreadPage,
    event_of,
    numbered,
)

__all__ = [
    "EVERY_LETTER",
    "Attempt",
    "Balance",
    "Bounds",
    "Cause",
    "Dead",
    "Depth",
    "DiskFull",
    "Entry",
    "Failed",
    "GivenUp",
    "Item",
    "Later",
    "LetterBox",
    "LetterGroup",
    "Letters",
    "Limits",
    "Mark",
    "Notice",
    "Once",
    "Outdated",
    "Owing",
    "Progress",
    "Replayed",
    "Said",
    "Spool",
    "SpoolFull",
    "SqliteSpool",
    "Taken",
    "UnreadPage",
    "event_of",
    "numbered",
]
