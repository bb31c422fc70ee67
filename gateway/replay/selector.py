"""Choose the events of a retained request that a replay or an export takes."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from gateway.conditions.condition import Condition
from gateway.conditions.variables import VariableSet
from gateway.event import Event
from gateway.ingest.suppression import Suppression
from gateway.routing.router import DeliveryPlan
from gateway.spool.replays import ReplayJob, RetainedEntry
from gateway.spool.values import Entry, Routes, event_index


class EventFilter:
    """Source, neutral name and condition; all that are given must match.

    Args:
        source: the source's name; None for any.
        name: the event's neutral name; None for any.
        when: a condition, as in a route; None for any event.

    Raises:
        ValueError: the condition is invalid; the message says where and why.
    """

    def __init__(self, source: str | None, name: str | None, when: str | None) -> None:
        self._source = source
        self._name = name
        slots = VariableSet()
        self._condition = None if when is None else Condition(when, slots)
        names = frozenset[str]() if self._condition is None else self._condition.names
        self._stage = slots.stage(names)

    def takes_source(self, source: str) -> bool:
        """Return whether it may take events of *source*."""
        return self._source is None or self._source == source

    def takes(self, source: str, event: Event) -> bool:
        """Return whether it takes *event*; a condition that fails does not hold."""
        if not self.takes_source(source) or (self._name is not None and self._name != event.name):
            return False
        if self._condition is None:
            return True
        return self._condition.whole.ask(self._stage.scene(source, event)) is True


def given_events(
    entry: Entry, events: Sequence[Event], wanted: EventFilter, suppression: Suppression | None
) -> list[int]:
    """Return the indexes of the wanted events that a destination was given when they arrived.

    Others were filtered, repeated or suppressed then.

    Args:
        entry: a retained entry.
        events: its events.
        wanted: takes the wanted ones.
        suppression: whose events are left out; None for nobody's.
    """
    given = {event_index(number) for numbers in entry.targets.values() for number in numbers}
    left_out = frozenset[int]() if suppression is None else suppression.among(events)
    return [
        index
        for index, event in enumerate(events)
        if index in given and index not in left_out and wanted.takes(entry.source, event)
    ]


class Selected(NamedTuple):
    """What a replay makes of one retained request."""

    copy: Entry | None
    """The entry to append; None if it delivers nothing of the request."""
    repeated: int
    """Events that are left out because the destination had them already."""


def select(  # noqa: PLR0913 - all that decides
    job: ReplayJob,
    found: RetainedEntry,
    events: Sequence[Event],
    *,
    wanted: EventFilter,
    plan: DeliveryPlan | None,
    suppression: Suppression | None,
) -> Selected:
    """Return what a replay makes of a retained request.

    Args:
        job: the replay.
        found: the request.
        events: its events.
        wanted: takes the events to replay.
        plan: what the routes say now; None if they are not asked.
        suppression: whose events are left out; None for nobody's.
    """
    entry, to = found.entry, job.selection.to
    given = frozenset(given_events(entry, events, wanted, suppression))
    had = set[int]()
    if not job.selection.again:
        had = {event_index(number) for number in (*found.replayed, *entry.targets.get(to, ()))}
    meant = range(len(events)) if plan is None else plan.targets.get(to, ())
    fits = [number for number in meant if event_index(number) in given]
    numbers = tuple([number for number in fits if event_index(number) not in had])
    repeated = len({event_index(number) for number in fits} & had)
    if not numbers:
        return Selected(None, repeated)
    routes: Routes = {}
    if plan is not None and (theirs := plan.routes.get(to)):
        left = frozenset(numbers)
        routes = {to: {name: tuple(n for n in each if n in left) for name, each in theirs.items()}}
    return Selected(replace(entry, targets={to: numbers}, routes=routes, replay=job.id), repeated)
