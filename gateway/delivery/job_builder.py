"""Make jobs from stored requests."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.delivery.dead_letters import DeadLetterWriter, nothing_of
from gateway.delivery.job import Job, StepsOf, build_job
from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.spool import DeliveryRef, Entry, WaitingDelivery

PARSED_ENTRIES = 4
"""Number of large requests whose parsed events are cached, since jobs are made a few at a time."""
MANY_EVENTS = 16
"""Requests with more events than this are cached."""

Parse = Callable[[Entry], Sequence[Event]]
"""Returns the events of a stored request; none if it can no longer be parsed."""


class JobBuilder:
    """Makes jobs from stored requests for one destination.

    Args:
        destination: its name.
        parse: returns the events of a stored request.
        steps_of: returns the steps of a route by its name.
        configs_differ: tells whether other processes that share the log have other configurations;
            None if there are none.
    """

    def __init__(
        self,
        destination: str,
        parse: Parse,
        steps_of: StepsOf,
        configs_differ: Callable[[], bool] | None,
    ) -> None:
        self._destination = destination
        self._configs_differ = configs_differ
        self._parse = parse
        self._steps_of = steps_of
        self._parsed: OrderedDict[int, Sequence[Event]] = OrderedDict()
        self._dead_letters: DeadLetterWriter

    def start(self, dead_letters: DeadLetterWriter) -> None:
        """Set the writer of dead letters, for deliveries that cannot be made."""
        self._dead_letters = dead_letters

    def job(
        self,
        mark: DeliveryRef,
        entry: Entry,
        events: Sequence[Event],
        *,
        later: WaitingDelivery | None = None,
        ahead: bool = False,
    ) -> Job | None:
        """Return the job of a delivery; if it cannot be made, write a dead letter, return None.

        Where several processes share the log, whoever accepted the event may have a newer
        configuration. Then the job waits: once in any case, and for as long as they differ.
        """
        destination, steps_of = self._destination, self._steps_of
        try:
            return build_job(mark, entry, destination, events, steps_of, later=later, ahead=ahead)
        except Unrenderable as error:
            if self._configs_differ is not None and (later is None or self._configs_differ()):
                return _unbuildable(mark, entry, events, str(error), later)
            self._dead_letters.write_unparsable(mark, entry, str(error))
            return None

    def events(self, seq: int, entry: Entry) -> Sequence[Event]:
        """Return the events of the request at *seq*; none if it can no longer be parsed."""
        known = self._parsed.get(seq)
        if known is not None:
            return known
        events = self._parse(entry)
        if len(events) > MANY_EVENTS:
            self._parsed[seq] = events
            if len(self._parsed) > PARSED_ENTRIES:
                self._parsed.popitem(last=False)
        return events


def _unbuildable(
    mark: DeliveryRef,
    entry: Entry,
    events: Sequence[Event],
    reason: str,
    later: WaitingDelivery | None,
) -> Job:
    """Return a job that only waits, in the order of its user if that is known."""
    event = events[mark.event] if mark.event < len(events) else nothing_of(mark, entry)
    job = Job(mark, entry, event, waiting=later is not None)
    if later is not None:
        job.parked, job.user = later.parked, later.user
    job.unbuildable = reason
    return job
