"""Make jobs from stored requests."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.delivery.dead_letters import DeadLetterWriter
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
    """

    def __init__(self, destination: str, parse: Parse, steps_of: StepsOf) -> None:
        self._destination = destination
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
        """Return the job of a delivery; if it cannot be made, write a dead letter, return None."""
        try:
            return build_job(
                mark, entry, self._destination, events, self._steps_of, later=later, ahead=ahead
            )
        except Unrenderable as error:
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
