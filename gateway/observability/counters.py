"""Counts that the data path keeps: plain numbers, because it pays for each of them.

They outlive reloads. Every label is a name of the configuration or a word of ours, so that their
number is bounded whatever senders do.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from gateway.event import Event
from gateway.routing.router import RouteOutcome

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, for answers and attempts."""
SLOW = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
"""Upper bounds in seconds, for what may wait for a destination to come back."""


class Histogram:
    """How many observations there were up to each bound.

    Attributes:
        sum: of all of them.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count *value*."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Yield each bound, as Prometheus writes it, with how many were at or below it."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield ("+Inf" if bound == float("inf") else str(bound)), total


class Histograms(dict[str, Histogram]):
    """Histograms by a label, made when the label is first met."""

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, label: str) -> Histogram:
        made = self[label] = Histogram(self._bounds)
        return made


class Counters:
    """What is counted.

    Attributes:
        requests: by source and outcome: ``accepted``, ``relayed``, ``error`` or a fault; for no
            source ``unreadable``, too.
        refused: requests that were refused, by source and cause (`gateway.errors.RefusalCause`).
        answers: seconds until an answer was ready, by source.
        events: accepted ones, by source and type.
        deduplicated: duplicates that were dropped, by source.
        routed: events by route and by what that did with them: ``routed`` or ``filtered``.
        unrouted: events that no route took, by source.
        closed: clients' connections that were closed or turned away, by why.
        turned_away: calls of the admin API that were refused, by why.
        deliveries: by destination and outcome.
        attempts: by destination and class of status, such as ``2xx``; ``none`` for no answer.
        attempt_seconds: by destination, until the whole answer was there.
        delivery_seconds: by destination, from a request's arrival to its event's.
    """

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, str]]()
        self.refused = Counter[tuple[str, str]]()
        self.answers = Histograms(FAST)
        self.events = Counter[tuple[str, str]]()
        self.deduplicated = Counter[str]()
        self.routed = Counter[tuple[str, str]]()
        self.unrouted = Counter[str]()
        self.closed = Counter[str]()
        self.admin_refused = Counter[str]()
        self.deliveries = Counter[tuple[str, str]]()
        self.attempts = Counter[tuple[str, str]]()
        self.attempt_seconds = Histograms(FAST)
        self.delivery_seconds = Histograms(SLOW)

    def accepted(
        self,
        source: str,
        events: Sequence[Event],
        fresh: Sequence[Event],
        turns: Sequence[Sequence[RouteOutcome]],
    ) -> None:
        """Count the *events* of one request.

        Args:
            source: through which they came.
            events: those in it.
            fresh: those of them that repeat nothing; only these count.
            turns: what the routes did with each of *events*.
        """
        known = None
        if len(fresh) < len(events):
            self.deduplicated[source] += len(events) - len(fresh)
            known = {event.id for event in fresh}
        for event, mine in zip(events, turns, strict=True):
            if known is not None and event.id not in known:
                continue
            self.events[source, event.type] += 1
            if not mine:
                self.unrouted[source] += 1
            for turn in mine:
                self.routed[turn] += 1
