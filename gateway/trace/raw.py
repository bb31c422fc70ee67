"""What the data path hands over: references to what it has anyway, so that it costs very little.

Records are made of them off the loop (`gateway.trace.making`).
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.delivery.job import Job
from gateway.errors import Rejected
from gateway.event import Event
from gateway.exchange import Request
from gateway.plugin import Output
from gateway.routing.plan import Turn
from gateway.routing.steps import Steps
from gateway.spool import Attempt, Entry, Mark
from gateway.trace.interface import Outcome

if TYPE_CHECKING:
    from gateway.doors import Source

NOBODY: Mapping[int, Mapping[str, bool]] = {}


class Arrival:
    """A request on its way in; whoever learns something of it notes it here.

    Attributes:
        request: as received, with every header, without its body.
        source: that it is for; any of several where the credential could not tell.
        key: the credential that came along.
        stored: as the spool keeps it; None where it did not come so far.
        events: those in it.
        kept: those that do not repeat what came before; None where none does.
        consented: what was remembered of the events' users, by the event's index.
        turns: what the routes did with each event.
        refused: why it became no events.
        relayed: it was no event, and was passed through or answered.
        status: of the answer.
        seconds: until the answer was ready.
    """

    __slots__ = (
        "consented", "events", "kept", "key", "refused", "relayed", "request", "seconds",
        "source", "status", "stored", "turns",
    )  # fmt: skip

    def __init__(self, request: Request, source: "Source") -> None:
        self.request = request
        self.source = source
        self.key: str | None = None
        self.stored: Request | None = None
        self.events: Sequence[Event] = ()
        self.kept: Sequence[Event] | None = None
        self.consented = NOBODY
        self.turns: Sequence[Sequence[Turn]] = ()
        self.refused: Rejected | None = None
        self.relayed = False
        self.status = 0
        self.seconds = 0.0


class Trial(NamedTuple):
    """A try of a delivery, or its end without one."""

    at: float
    """Unix seconds."""
    entry: Entry
    event: Event
    mark: Mark
    steps: Steps | None
    sent: Request | None
    forwarded: bool
    number: int
    """How many tries there were, this one included; 0 where nothing was sent."""
    destination: str
    output: Output | None
    """None where the destination is not configured any more."""
    outcome: Outcome
    reason: str
    attempt: Attempt | None


def trial(
    job: Job, to: tuple[str, Output], outcome: Outcome, reason: str, attempt: Attempt | None
) -> Trial:
    """Return what is to be recorded of *job*, which changes with its next try."""
    return Trial(
        time.time() if attempt is None else attempt.at,
        job.entry,
        job.event,
        job.mark,
        job.steps,
        None if attempt is None else job.sent,
        job.forwarded,
        0 if attempt is None else max(1, len(job.attempts)),
        *to,
        outcome,
        reason,
        attempt,
    )
