"""A dead letter in short, as lists and stories have it."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from gateway.spool import Cause, Dead

Hide = Callable[[str], str]
LONGEST = 1000
"""Characters of what a sender may make as long as it likes."""


def written(at: float) -> str:
    """Return Unix seconds as a person reads them, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


class Letter(msgspec.Struct, frozen=True):
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


def letter_of(dead: Dead, hide: Hide) -> Letter:
    """Return *dead* in short.

    Args:
        dead: the dead letter.
        hide: takes credentials out of a text; a sender may write one as a name.
    """
    return Letter(
        id=dead.id,
        destination=dead.destination,
        source=dead.entry.source,
        request=dead.entry.id,
        event=f"{dead.entry.id}-{dead.index}",
        event_name=hide(dead.event_name)[:LONGEST],
        user=hide(dead.user)[:LONGEST],
        route=dead.entry.route(dead.destination, dead.mark.index),
        cause=dead.cause,
        reason=hide(dead.reason),
        at=dead.at,
        received_at=dead.entry.request.received_at.timestamp(),
        attempts=len(dead.attempts),
        way=dead.mark.way,
    )
