"""Dead letters: whole, as a summary, in groups, and how to select them."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from gateway.spool.values import Attempt, Cause, DeliveryRef, Entry


class DeadLetter(msgspec.Struct, frozen=True):
    """A dead letter, whole: it needs no log row any more."""

    id: int
    destination: str
    mark: DeliveryRef
    """Where the delivery stood; the log row may be gone."""
    entry: Entry
    cause: Cause
    reason: str
    at: float
    """Unix seconds."""
    attempts: tuple[Attempt, ...]
    rendered: bytes
    event_name: str
    user: str

    @property
    def index(self) -> int:
        """Return the number of the event within its request."""
        return self.mark.event


class DeadLetterFilter(msgspec.Struct, frozen=True):
    """Which dead letters; every field that is set must hold."""

    destination: str | None = None
    reason: str | None = None
    """A part of the reason, in any case."""
    since: float | None = None
    """Unix seconds, inclusive."""
    until: float | None = None
    """Unix seconds, exclusive."""
    event_name: str | None = None
    user: str | None = None
    cause: Cause | None = None
    alike: str | None = None
    """What `gateway.spool.DeadLetterGroup` calls so."""
    request: str | None = None
    """The id of the request that they came in."""
    event: int | None = None
    """The index of the event within its request."""


ALL_DEAD_LETTERS = DeadLetterFilter()


MAX_PATTERN_CHARS = 200
"""Characters of a reason by which dead letters are grouped."""
_NUMBERS = re.compile(r"\d+")


class DeadLetterGroup(msgspec.Struct, frozen=True):
    """Dead letters of one destination that were given up for the same reason, numbers aside."""

    destination: str
    cause: Cause
    alike: str
    """What their reasons have in common: the first 200 characters, with ``#`` for numbers."""
    reason: str
    """One of them, as it is."""
    count: int
    first: float
    """Unix seconds at which the oldest of them was given up."""
    last: float
    newest: int
    """The highest id."""


def reason_pattern(reason: str) -> str:
    """Return what a reason has in common with those that differ from it in numbers only."""
    return _NUMBERS.sub("#", reason)[:MAX_PATTERN_CHARS]


Hide = Callable[[str], str]
MAX_SENDER_CHARS = 1000
"""Characters of what a sender may make as long as it likes."""


def format_time(at: float) -> str:
    """Return Unix seconds as a person reads them, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


class DeadLetterSummary(msgspec.Struct, frozen=True):
    """A dead letter, in short."""

    id: int
    destination: str
    source: str
    request: str
    """The gateway's id of the request that it came in."""
    event: str
    """The id of its event."""
    event_name: str
    user: str
    route: str
    """The route whose steps it takes; empty where it takes none."""
    cause: Cause
    reason: str
    at: float
    """Unix seconds at which it was given up."""
    received_at: float
    attempts: int
    way: int
    """How many deliveries of the event the destination gets before this one, by other routes."""


def summarize(dead: DeadLetter, hide: Hide) -> DeadLetterSummary:
    """Return *dead* in short.

    Args:
        dead: the dead letter.
        hide: takes credentials out of a text; a sender may write one as a name.
    """
    return DeadLetterSummary(
        id=dead.id,
        destination=dead.destination,
        source=dead.entry.source,
        request=dead.entry.id,
        event=f"{dead.entry.id}-{dead.index}",
        event_name=hide(dead.event_name)[:MAX_SENDER_CHARS],
        user=hide(dead.user)[:MAX_SENDER_CHARS],
        route=dead.entry.route(dead.destination, dead.mark.index),
        cause=dead.cause,
        reason=hide(dead.reason),
        at=dead.at,
        received_at=dead.entry.request.received_at.timestamp(),
        attempts=len(dead.attempts),
        way=dead.mark.copy,
    )
