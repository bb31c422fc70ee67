"""Counters of the data path: plain numbers, since every event pays for them.

They survive reloads. Every label is a name from the configuration or a fixed word, so senders
cannot increase the number of labels.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from gateway.event import Event
from gateway.routing.router import RouteOutcome

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, for responses and attempts."""
SLOW = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
"""Upper bounds in seconds, for deliveries, which may wait for a destination to recover."""


class Histogram:
    """The number of observations up to each bound.

    Attributes:
        sum: the sum of all observations.
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
        """Yield each bound as Prometheus writes it, with the number of observations up to it."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield ("+Inf" if bound == float("inf") else str(bound)), total


class DestinationCounters:
    """The counters of one destination.

    Attributes:
        outcomes: deliveries by outcome.
        statuses: attempts by the response's status; None without a response.
        attempt_seconds: seconds until the whole response was received.
        delivery_seconds: seconds from a request's arrival to its event's delivery, without replays.
        last_failure: the reason of the last failed attempt.
        last_failed_status: the status of its response; None without a response.
    """

    __slots__ = (
        "attempt_seconds", "delivery_seconds", "last_failed_status", "last_failure", "outcomes",
        "statuses",
    )  # fmt: skip

    def __init__(self) -> None:
        self.outcomes = defaultdict[str, int](int)
        self.statuses = defaultdict[int | None, int](int)
        self.attempt_seconds = Histogram(FAST)
        self.delivery_seconds = Histogram(SLOW)
        self.last_failure = ""
        self.last_failed_status: int | None = None

    def attempts(self) -> Counter[str]:
        """Return the attempts by class of status, such as ``2xx``; ``none`` without a response."""
        found = Counter[str]()
        for status, count in dict(self.statuses).items():
            found["none" if status is None else f"{status // 100}xx"] += count
        return found


class Counters:
    """All counters.

    Attributes:
        requests: by source and outcome: ``accepted``, ``relayed``, ``error`` or a fault; without a
            source also ``unreadable``.
        refused: rejected requests, by source and cause (`gateway.errors.RefusalCause`).
        answers: seconds until the response was ready, by source.
        events: accepted events, by source and type.
        deduplicated: dropped duplicates, by source.
        suppressed: events about people on the suppression list, by source.
        routed: events by route and outcome: ``routed`` or ``filtered``.
        unrouted: events that no route took, by source.
        closed: client connections that were closed or rejected, by reason.
        admin_refused: rejected calls of the admin API, by reason.
        destinations: deliveries and attempts, by destination; created on first use.
    """

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, str]]()
        self.refused = Counter[tuple[str, str]]()
        self.answers = defaultdict[str, Histogram](lambda: Histogram(FAST))
        self.events = Counter[tuple[str, str]]()
        self.deduplicated = Counter[str]()
        self.suppressed = Counter[str]()
        self.routed = Counter[tuple[str, str]]()
        self.unrouted = Counter[str]()
        self.closed = Counter[str]()
        self.admin_refused = Counter[str]()
        self.destinations = defaultdict[str, DestinationCounters](DestinationCounters)

    def accepted(
        self,
        source: str,
        events: Sequence[Event],
        fresh: Sequence[Event],
        turns: Sequence[Sequence[RouteOutcome]],
    ) -> None:
        """Count the *events* of one request.

        Args:
            source: the source that got the request.
            events: the events in it.
            fresh: the events that are not duplicates; only these count.
            turns: the outcomes of the routes for each of *events*.
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
