"""Count what becomes of replayed dead letters."""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

MOST = 100_000
"""Replayed deliveries that are followed; the oldest are left out above it."""
MOST_REPLAYS = 100
"""Replays whose outcomes are remembered."""


class ReplayedDelivery(NamedTuple):
    """A delivery that was a dead letter."""

    destination: str
    event: str
    """The id of the event."""


class ReplayOutcomes:
    """Follows replayed deliveries to their ends, in memory."""

    def __init__(self) -> None:
        self._followed: OrderedDict[ReplayedDelivery, int] = OrderedDict()
        self._ends: OrderedDict[int, Counter[str]] = OrderedDict()
        self._last = 0

    def follows(self) -> bool:
        """Return whether any delivery is followed."""
        return bool(self._followed)

    def begin(self) -> int:
        """Return the number of a new replay."""
        self._last += 1
        self._ends[self._last] = Counter()
        if len(self._ends) > MOST_REPLAYS:
            self._ends.popitem(last=False)
        return self._last

    def follow(self, replay: int, deliveries: Iterable[ReplayedDelivery]) -> None:
        """Count the ends of *deliveries* for a replay, before they are moved."""
        for one in deliveries:
            self._followed[one] = replay
        while len(self._followed) > MOST:
            self._followed.popitem(last=False)

    def ended(self, destination: str, event: str, outcome: str) -> None:
        """Count the end of a delivery, if it is followed."""
        replay = self._followed.pop(ReplayedDelivery(destination, event), None)
        if replay is not None and replay in self._ends:
            self._ends[replay][outcome] += 1

    def outcomes(self, replay: int) -> Counter[str] | None:
        """Return the ends of a replay by outcome; None if it is unknown or forgotten."""
        return self._ends.get(replay)
