"""Dead letters: the record, its summary, groups, and a filter."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from gateway.spool.values import Attempt, Cause, DeliveryRef, Entry


class DeadLetter(msgspec.Struct, frozen=True):
    """A complete dead letter; it does not need its log row."""

    id: int
    destination: str
    mark: DeliveryRef
    """Place of the delivery in the log; the row may be deleted."""
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
        """Return the index of the event within its request."""
        return self.mark.event


class DeadLetterFilter(msgspec.Struct, frozen=True):
    """Selects dead letters; every field that is set must match."""

    destination: str | None = None
    reason: str | None = None
    """A part of the reason; upper and lower case are equal."""
    since: float | None = None
    """Unix seconds, inclusive."""
    until: float | None = None
    """Unix seconds, exclusive."""
    event_name: str | None = None
    user: str | None = None
    cause: Cause | None = None
    reason_pattern: str | None = None
    """As in `DeadLetterGroup`."""
    request: str | None = None
    """The id of the request."""
    event: int | None = None
    """The index of the event within its request."""


ALL_DEAD_LETTERS = DeadLetterFilter()


MAX_PATTERN_CHARS = 200
"""Characters of a reason that count for grouping."""
_NUMBERS = re.compile(r"\d+")
_REPLAYED = re.compile(r"replayed, was [a-z]+: ")


class DeadLetterGroup(msgspec.Struct, frozen=True):
    """Dead letters of one destination with the same cause and the same reason pattern."""

    destination: str
    cause: Cause
    reason_pattern: str
    """The reason pattern: the first 200 characters, with ``#`` for each number."""
    reason: str
    """The full reason of one of them."""
    count: int
    first: float
    """Unix seconds of the oldest dead letter."""
    last: float
    """Unix seconds of the newest dead letter."""
    newest: int
    """The highest id."""


def reason_pattern(reason: str) -> str:
    """Return the start of a reason with ``#`` for each number."""
    return _NUMBERS.sub("#", reason)[:MAX_PATTERN_CHARS]


AT_ONCE = 0.0
"""Due time of a replayed delivery: in the past by any clock."""


def replay_reason(cause: str, reason: str) -> str:
    """Return the reason of a replayed delivery, given those of its dead letter.

    It names one replay only, however often the delivery was replayed.
    """
    return f"replayed, was {cause}: {_REPLAYED.sub('', reason)}"


Hide = Callable[[str], str]
MAX_SENDER_CHARS = 1000
"""Characters that a summary keeps of a text from the sender."""


def format_time(at: float) -> str:
    """Return Unix seconds as ``YYYY-MM-DD HH:MM:SS`` in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


class DeadLetterSummary(msgspec.Struct, frozen=True):
    """The summary of a dead letter."""

    id: int
    destination: str
    source: str
    request: str
    """The gateway's id of the request."""
    event: str
    """The id of the event."""
    event_name: str
    user: str
    route: str
    """The route whose steps apply; empty if there are none."""
    cause: Cause
    reason: str
    at: float
    """Unix seconds at which it became a dead letter."""
    received_at: float
    attempts: int
    copy: int
    """Number of earlier deliveries of the event to the destination, by other routes."""


def summarize(dead: DeadLetter, hide: Hide) -> DeadLetterSummary:
    """Return the summary of *dead*.

    Args:
        dead: the dead letter.
        hide: redacts secrets in a text, since a sender may put one into a name.
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
        copy=dead.mark.copy,
    )
