"""Log lines that may come without end: the first ones are written, and all are counted."""

import time
from collections import Counter
from collections.abc import Callable, Hashable


class LogLimit:
    """Lets through so many lines of each kind in a while.

    Args:
        most: lines of one kind.
        seconds: the while.
        clock: seconds; it never jumps.

    Attributes:
        counts: how many there were of each kind, with those that were left out.
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
        """Count a line; return how many of its kind there were by now, 0 where it is left out."""
        self.counts[kind] += 1
        now = self._clock()
        ends, left = self._whiles.get(kind, (0.0, 0))
        if now >= ends:
            ends, left = now + self._seconds, self._most
        self._whiles[kind] = ends, left - 1
        return self.counts[kind] if left > 0 else 0
