"""Limit repeated log lines: write the first ones, count all."""

import time
from collections import Counter
from collections.abc import Callable, Hashable


class LogLimit:
    """Allows a number of log lines of each kind per period.

    Args:
        most: lines of one kind per period.
        seconds: the period.
        clock: a monotonic clock, in seconds.

    Attributes:
        counts: number of lines of each kind, including those not written.
    """

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts: Counter[Hashable] = Counter()
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._whiles: dict[Hashable, tuple[float, int]] = {}

    def take(self, kind: Hashable = "") -> int:
        """Count a line; return the count of its kind, or 0 if the line must not be written."""
        self.counts[kind] += 1
        now = self._clock()
        ends, left = self._whiles.get(kind, (0.0, 0))
        if now >= ends:
            ends, left = now + self._seconds, self._most
        self._whiles[kind] = ends, left - 1
        return self.counts[kind] if left > 0 else 0
