"""The status of deliveries: attempts, and what the spool says.

The spool gives deliveries up by itself, and an operator replays or drops what was given up. So a
dead letter that is there is a delivery's present state, whatever was tried before.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.spool import DeadLetterFilter, PendingRequest
from gateway.spool.dead_letters import DeadLetterSummary, format_time
from gateway.spool.values import copy_number, event_index
from gateway.trace.records import AttemptRecord, EventRecord, Trace

BEHIND = "it waits behind an earlier event of the same user"
LEFT = "it has left the spool; how it ended was not traced"
WELL = (
    "it has left the spool without trouble: it arrived, or was declined; its request was not "
    "chosen to be traced"
)
UNLESS = "it waits in the spool, unless that gave it up"
EITHER = (
    "it has arrived, or waits in the spool; the request was not chosen, so that only what goes "
    "wrong is traced"
)
REPLAYED = "its dead letter was replayed, and waits for its turn"
DROPPED = (
    "its dead letter is there no more, and nothing of it waits: it was dropped, or its replay was "
    "not traced"
)


class DeliveryState(msgspec.Struct, frozen=True):
    """A delivery of a request that the spool's log still has."""

    event: str
    """The id of its event."""
    destination: str
    route: str
    """The route whose steps it takes; empty where it takes none."""
    copy: int
    """How many deliveries of the event the destination gets before this one, by other routes."""
    pending: bool
    """It is not finished."""
    next_attempt_at: float | None = None
    """Unix seconds of its next attempt; null where its turn has not come, or it is parked. A
    replay's turn comes at once."""
    parked: bool = False
    """It waits behind an earlier event of its user."""


class SpoolRecords(NamedTuple):
    """What the spool has of one request."""

    dead_letters: Sequence[DeadLetterSummary]
    delivery_states: Sequence[DeliveryState]


class DeliveryStatus(NamedTuple):
    """One event on its way to one destination."""

    destination: str
    route: str
    """The route whose steps it takes; empty where it takes none, or is not known to."""
    attempts: Sequence[AttemptRecord]
    """In the order in which they happened; none where nothing happened so far."""
    dead_letter: DeadLetterSummary | None
    """Its dead letter, while there is one."""
    state: DeliveryState | None = None
    """As the spool's log has it; None where that has it no more, or was not asked."""

    @property
    def gone(self) -> bool:
        """Tell whether it was given up, and its dead letter is not there any more."""
        return (
            self.dead_letter is None
            and bool(self.attempts)
            and self.attempts[-1].outcome == "dead_letter"
        )

    @property
    def pending(self) -> bool:
        """Tell whether it is not finished, as far as is known."""
        return self.state is not None and self.state.pending

    def words(self, *, traced: bool, asked: bool = True) -> str:
        """Return what there is to say of it besides its attempts and its dead letter, if anything.

        It begins in lower case and has no stop.

        Args:
            traced: its request was chosen to be traced.
            asked: the spool could be asked.
        """
        if self.dead_letter is not None or (self.attempts and not asked):
            return ""
        if not asked:
            return UNLESS if traced else EITHER
        if self.gone:
            return REPLAYED if self.pending else DROPPED
        if self.attempts and self.attempts[-1].outcome != "retry":
            return ""
        if not self.pending:
            return LEFT if traced or self.attempts else WELL
        return self._waiting()

    def _waiting(self) -> str:
        assert self.state is not None  # noqa: S101 - it is pending
        if self.state.parked:
            return BEHIND
        if self.state.next_attempt_at is None:
            return "it waits in the spool for its turn"
        return f"its next try is due at {format_time(self.state.next_attempt_at)} UTC"


def delivery_states(owing: PendingRequest | None) -> Iterator[DeliveryState]:
    """Yield how the deliveries of a request stand that the spool's log has."""
    if owing is None:
        return
    entry, waits = owing.entry, owing.waits
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
"""Dead letters of one event that are told."""
LONGEST = 10
"""Digits of an event's number, at most."""


def asks(trace: Trace, events: Iterable[EventRecord]) -> Iterator[DeadLetterFilter]:
    """Yield which dead letters to ask for where those of *events* of a request are wanted."""
    for event in events:
        index = event.event.rpartition("-")[2]
        yield DeadLetterFilter(request=trace.request, event=int(index))


def filters_for_id(identity: str) -> Iterator[DeadLetterFilter]:
    """Yield which dead letters *identity* may mean: a request's id, or an event's."""
    yield DeadLetterFilter(request=identity)
    request, _, index = identity.rpartition("-")
    if request and index.isdecimal() and len(index) < LONGEST:
        yield DeadLetterFilter(request=request, event=int(index))


def delivery_statuses(
    trace: Trace, event: EventRecord, held: SpoolRecords | None
) -> Iterator[DeliveryStatus]:
    """Yield how each delivery of *event* stands.

    First those that were tried, then those that the spool gave up untried or still has, then those
    that are only known from what the routes said.

    Args:
        trace: of its request.
        event: one of it.
        held: what the spool has of the request; None where it could not be asked.
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
        told = (*made[-1:], *filter(None, (letter, stand)))
        yield DeliveryStatus(key[0], told[0].route if told else "", made, letter, stand)


def _routed(event: EventRecord) -> Iterator[tuple[str, int]]:
    """Yield where *event* goes, with how many deliveries of it the destination gets before."""
    copies = Counter[str]()
    for decided in event.decisions:
        for to in decided.routed_to:
            yield to, copies[to]
            copies[to] += 1
