"""Sample rates, latencies and backlogs, and keep the samples of the last hour in memory."""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import structlog

from gateway.admin.activity import ActivityLog
from gateway.app import Gateway
from gateway.errors import SpoolError
from gateway.observability.counters import Counters
from gateway.trace.records import FAILED

EVERY = 5.0
"""Seconds between two samples."""
KEPT = 720
"""Samples that are kept: one hour."""
LATELY = 4
"""Samples whose mean is the current rate."""

SLOW = 0.95

log = structlog.get_logger()


class SourceSample(msgspec.Struct, frozen=True):
    """The activity of a source between two samples."""

    at: float
    """Unix seconds of the later sample."""
    accepted: float
    """Events per second."""
    unrouted: float
    """Events per second that no route took."""


class RouteSample(msgspec.Struct, frozen=True):
    """The activity of a route between two samples."""

    at: float
    """Unix seconds of the later sample."""
    routed: float
    """Events per second that it sent to a destination."""
    filtered: float
    """Events per second that its steps filtered."""


class DestinationSample(msgspec.Struct, frozen=True):
    """The activity of a destination between two samples."""

    at: float
    """Unix seconds of the later sample."""
    delivered: float
    """Events per second."""
    failed: float
    """Failed attempts per second."""
    latency_mean: float | None
    """Mean duration of an attempt in seconds; null without attempts."""
    latency_p95: float | None
    """Approximate 95th percentile of the duration in seconds; null without attempts."""
    backlog: int
    """Pending requests and waiting deliveries at the later sample."""


class ActivitySampler:
    """Takes samples while the gateway runs.

    Args:
        gateway: the gateway.
        activity: gets what happened in each minute.
    """

    def __init__(self, gateway: Gateway, activity: ActivityLog) -> None:
        self._gateway = gateway
        self._activity = activity
        self._recording = asyncio.Lock()
        self._at = time.monotonic()
        self._before = CounterTotals({}, {}, {}, {}, {}, {})
        self.sources: dict[str, deque[SourceSample]] = _rings()
        self.routes: dict[str, deque[RouteSample]] = _rings()
        self.destinations: dict[str, deque[DestinationSample]] = _rings()

    async def run(self) -> None:
        """Take samples until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY)
                await self.record()
                try:
                    await self.sample()
                except SpoolError as error:
                    log.debug("sampling_failed", error=str(error))
        finally:
            await self.record()

    async def record(self) -> None:
        """Record what happened since the last time in the minutes of the last day."""
        async with self._recording:
            gateway = self._gateway
            await self._activity.record(gateway.observer.counts, gateway.spool.given_up())

    async def sample(self) -> None:
        """Take a sample.

        Raises:
            SpoolError: the backlogs cannot be read.
        """
        gateway = self._gateway
        depths = await gateway.spool.depths()
        clock, at = time.monotonic(), time.time()
        since, self._at = max(clock - self._at, 1e-3), clock
        now = tallied(gateway.observer.counts)
        before, self._before = self._before, now
        for name in gateway.config.sources:
            taken = now.taken.get(name, 0) - before.taken.get(name, 0)
            unrouted = now.unrouted.get(name, 0) - before.unrouted.get(name, 0)
            self.sources[name].append(SourceSample(at, taken / since, unrouted / since))
        for route in gateway.config.routes:
            routed, filtered = (
                (now.routed.get((route.name, end), 0) - before.routed.get((route.name, end), 0))
                / since
                for end in ("routed", "filtered")
            )
            self.routes[route.name].append(RouteSample(at, routed, filtered))
        for name in gateway.teams:
            depth = depths.get(name)
            sample = DestinationSample(
                at=at,
                delivered=(now.delivered.get(name, 0) - before.delivered.get(name, 0)) / since,
                failed=(now.failed.get(name, 0) - before.failed.get(name, 0)) / since,
                **latencies(now.tries.get(name, NO_TRIES), before.tries.get(name, NO_TRIES)),
                backlog=depth.backlog + depth.retrying + depth.parked if depth else 0,
            )
            self.destinations[name].append(sample)

    def accepted(self, source: str) -> tuple[float, float]:
        """Return a source's current events per second, and those that no route takes."""
        return lately((one.accepted, one.unrouted) for one in self.sources[source])

    def routed(self, route: str) -> tuple[float, float]:
        """Return the events per second that a route currently sends to destinations, or filters."""
        return lately((one.routed, one.filtered) for one in self.routes[route])

    def delivered(self, destination: str) -> tuple[float, float]:
        """Return a destination's current deliveries per second, and its failures."""
        return lately((one.delivered, one.failed) for one in self.destinations[destination])


def lately(figures: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the means of the latest samples of two values."""
    latest = list(figures)[-LATELY:]
    count = len(latest) or 1
    return sum(one for one, _ in latest) / count, sum(other for _, other in latest) / count


def _rings() -> Any:
    return defaultdict(lambda: deque(maxlen=KEPT))


class LatencyTotals(NamedTuple):
    """The durations of all attempts for one destination since the start."""

    seconds: float
    upto: tuple[tuple[float, float], ...]
    """Upper bounds in seconds, with the number of attempts that took no longer."""


NO_TRIES = LatencyTotals(0.0, ())


class CounterTotals(NamedTuple):
    """The counters since the start, by source, route or destination."""

    taken: dict[str, int]
    unrouted: dict[str, int]
    routed: dict[tuple[str, str], int]
    delivered: dict[str, int]
    failed: dict[str, int]
    tries: dict[str, LatencyTotals]


def tallied(counts: Counters) -> CounterTotals:
    """Return the current values of *counts* in the form that sampling needs."""
    taken, delivered, failed = Counter[str](), Counter[str](), Counter[str]()
    for (source, _), count in counts.events.items():
        taken[source] += count
    for destination, one in counts.destinations.items():
        for outcome, count in one.outcomes.items():
            if outcome == "delivered":
                delivered[destination] += count
            elif outcome in FAILED:
                failed[destination] += count
    seconds = {name: one.attempt_seconds for name, one in counts.destinations.items()}
    tries = {
        name: LatencyTotals(
            held.sum, tuple((float(bound), count) for bound, count in held.buckets())
        )
        for name, held in seconds.items()
    }
    unrouted, routed = dict(counts.unrouted), dict(counts.routed)
    return CounterTotals(taken, unrouted, routed, delivered, failed, tries)


def latencies(now: LatencyTotals, before: LatencyTotals) -> dict[str, float | None]:
    """Return the mean and the 95th percentile of the durations between two totals."""
    earlier = dict(before.upto)
    fresh = [(bound, count - earlier.get(bound, 0)) for bound, count in now.upto]
    tried = fresh[-1][1] if fresh else 0
    if not tried:
        return {"latency_mean": None, "latency_p95": None}
    mean = (now.seconds - before.seconds) / tried
    slow = next(bound for bound, count in fresh if count >= SLOW * tried)
    finite = max(bound for bound, _ in fresh if bound != float("inf"))
    return {"latency_mean": mean, "latency_p95": min(slow, finite)}
