"""Keep the outcomes of the latest minute of traffic."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

WINDOW = 60.0
"""Seconds of traffic that count."""
SHORTEST = 5.0
"""Rates are computed over at least so many seconds."""


class RecentOutcomes(NamedTuple):
    """What happened in the latest minute in which anything happened."""

    counts: Mapping[str, int] = {}
    """By outcome; outcomes that did not occur are missing."""
    age: float = 0.0
    """Seconds since the last change."""
    seconds: float = WINDOW
    """Length of the time in which these outcomes occurred."""

    ages: Mapping[str, float] = {}
    """Seconds since each outcome occurred last."""

    @property
    def total(self) -> int:
        """Return the number of all outcomes."""
        return sum(self.counts.values())

    def rate(self, *outcomes: str) -> float:
        """Return how many per second have one of *outcomes*; 0 if the traffic is over."""
        if self.age >= WINDOW:
            return 0.0
        return sum(self.counts.get(one, 0) for one in outcomes) / max(SHORTEST, self.seconds)


class RecentTraffic:
    """Computes recent outcomes from counters that only grow.

    The minute ends with the last change, so that what happened last is not forgotten because
    nothing happens any more.

    Args:
        at: monotonic seconds.
        totals: the counters at that time.
    """

    def __init__(self, at: float, totals: Mapping[str, int]) -> None:
        self._samples = deque([(at, dict(totals))])
        self._last: dict[str, float] = {}

    def add(self, at: float, totals: Mapping[str, int]) -> None:
        """Record the counters at a later time."""
        samples = self._samples
        if samples[-1][1] == totals:
            return
        before = samples[-1][1]
        self._last |= {name: at for name, total in totals.items() if total != before.get(name, 0)}
        samples.append((at, dict(totals)))
        while samples[1][0] <= at - WINDOW:
            samples.popleft()

    def outcomes(self, now: float) -> RecentOutcomes:
        """Return the outcomes of the latest minute of traffic."""
        (first_at, before), (last_at, totals) = self._samples[0], self._samples[-1]
        counts = Counter(totals)
        counts.subtract(before)
        ages = {name: now - at for name, at in self._last.items()}
        return RecentOutcomes(+counts, now - last_at, min(WINDOW, last_at - first_at), ages)
