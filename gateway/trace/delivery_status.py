"""Determine the status of deliveries from their attempts and from the spool.

The spool gives up deliveries by itself, and operators replay or delete dead letters. So a present
dead letter decides the status, whatever the last attempt was.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.spool import DeadLetterFilter, PendingRequest
from gateway.spool.dead_letters import DeadLetterSummary, format_time
from gateway.spool.values import copy_number, event_index
from gateway.trace.records import AttemptRecord, EventRecord, Trace

DUE = "its next attempt is due now"
PARKED = "it waits behind an earlier event of the same user"
FINISHED = "it is finished; its outcome was not traced"
FINISHED_NOT_SAMPLED = "it was delivered or declined at the first attempt; not sampled"
PENDING_OR_EVICTED = "it is pending in the spool, unless the spool gave it up"
NOT_SAMPLED = "it was delivered or is pending; not sampled, so only failures are traced"
REPLAYED = "its dead letter was replayed, and is pending"
DELETED = "its dead letter was deleted, or replayed without a trace"


class DeliveryState(msgspec.Struct, frozen=True):
    """A delivery that is still in the spool's log."""

    event: str
    """The id of its event."""
    destination: str
    route: str
    """The route whose steps are applied; empty without steps."""
    copy: int
    """How many deliveries of the event the destination gets before this one, from other routes."""
    pending: bool
    """It is not finished."""
    next_attempt_at: float | None = None
    """Unix seconds of the next attempt; null if it is not due yet, or parked. A replay is due at
    once."""
    parked: bool = False
    """It waits behind an earlier event of its user."""


class SpoolRecords(NamedTuple):
    """The spool's records of one request."""

    dead_letters: Sequence[DeadLetterSummary]
    delivery_states: Sequence[DeliveryState]


class DeliveryStatus(NamedTuple):
    """The delivery of one event to one destination."""

    destination: str
    route: str
    """The route whose steps are applied; empty without steps, or if it is unknown."""
    attempts: Sequence[AttemptRecord]
    """In order; empty if there was none so far."""
    dead_letter: DeadLetterSummary | None
    """Its dead letter, if there is one."""
    state: DeliveryState | None = None
    """The state in the spool's log; None if it has none, or the spool was not read."""

    @property
    def gone(self) -> bool:
        """Return whether it was given up, and its dead letter no longer exists."""
        return (
            self.dead_letter is None
            and bool(self.attempts)
            and self.attempts[-1].outcome == "dead_letter"
        )

    @property
    def pending(self) -> bool:
        """Return whether it is known to be unfinished."""
        return self.state is not None and self.state.pending

    def words(self, *, traced: bool, now: float, asked: bool = True) -> str:
        """Return the status in words, without attempts and dead letter; empty if these say it all.

        The text begins in lower case and has no full stop.

        Args:
            traced: the request was sampled for tracing.
            now: Unix seconds.
            asked: the spool was read.
        """
        if self.dead_letter is not None or (self.attempts and not asked):
            return ""
        if not asked:
            return PENDING_OR_EVICTED if traced else NOT_SAMPLED
        if self.gone:
            return REPLAYED if self.pending else DELETED
        if self.attempts and self.attempts[-1].outcome != "retry":
            return ""
        if not self.pending:
            return FINISHED if traced or self.attempts else FINISHED_NOT_SAMPLED
        return self._waiting(now)

    def _waiting(self, now: float) -> str:
        assert self.state is not None  # noqa: S101 - it is pending
        if self.state.parked:
            return PARKED
        if self.state.next_attempt_at is None:
            return "it is pending in the spool"
        if self.state.next_attempt_at <= now:  # what it waits for now has no time
            return DUE
        return f"its next attempt is due at {format_time(self.state.next_attempt_at)} UTC"


def delivery_states(pending: PendingRequest | None) -> Iterator[DeliveryState]:
    """Yield the states of a request's deliveries in the spool's log."""
    if pending is None:
        return
    entry, waits = pending.entry, pending.waits
    targets = {(to, number) for to, numbers in entry.targets.items() for number in numbers}
    for to, number in sorted(targets | waits.keys()):
        later = waits.get((to, number))
        parked = later is not None and later.parked
        yield DeliveryState(
            event=f"{entry.id}-{event_index(number)}",
            destination=to,
            route=entry.route(to, number),
            copy=copy_number(number),
            pending=(to, number) in waits,
            next_attempt_at=None if later is None or parked else later.due or None,
            parked=parked,
        )


MOST = 100
"""Dead letters that are shown of one event."""
LONGEST = 10
"""Maximum number of digits of an event's index."""


def asks(trace: Trace, events: Iterable[EventRecord]) -> Iterator[DeadLetterFilter]:
    """Yield the filters for the dead letters of *events*."""
    for event in events:
        index = event.event.rpartition("-")[2]
        yield DeadLetterFilter(request=trace.request, event=int(index))


def filters_for_id(identity: str) -> Iterator[DeadLetterFilter]:
    """Yield filters for the dead letters of *identity*: the id of a request or of an event."""
    yield DeadLetterFilter(request=identity)
    request, _, index = identity.rpartition("-")
    if request and index.isdecimal() and len(index) < LONGEST:
        yield DeadLetterFilter(request=request, event=int(index))


def delivery_statuses(
    trace: Trace, event: EventRecord, held: SpoolRecords | None
) -> Iterator[DeliveryStatus]:
    """Yield the status of each delivery of *event*.

    First come deliveries with attempts, then those that the spool gave up or still has, then those
    that are only known from the routes' decisions.

    Args:
        trace: the trace of its request.
        event: an event of the request.
        held: the spool's records of the request; None if the spool was not read.
    """
    letters, standings = held or SpoolRecords((), ())
    tries: dict[tuple[str, int], list[AttemptRecord]] = {}
    for tried in trace.attempts:
        if tried.event == event.event:
            tries.setdefault((tried.destination, tried.copy), []).append(tried)
    mine = {(one.destination, one.copy): one for one in letters if one.event == event.event}
    stands = {(one.destination, one.copy): one for one in standings if one.event == event.event}
    for key in dict.fromkeys((*tries, *mine, *stands, *_routed(event))):
        made, letter, stand = tries.get(key, ()), mine.get(key), stands.get(key)
        known = (*made[-1:], *filter(None, (letter, stand)))
        yield DeliveryStatus(key[0], known[0].route if known else "", made, letter, stand)


def _routed(event: EventRecord) -> Iterator[tuple[str, int]]:
    """Yield each destination of *event*, with the number of its earlier deliveries there."""
    copies = Counter[str]()
    for decided in event.decisions:
        for to in decided.routed_to:
            yield to, copies[to]
            copies[to] += 1
