"""Decide which requests are traced although nothing fails, and which lines are written."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

DEBT = 10
"""Seconds of a source's share that a request may use up in advance."""
MEMORY = 0.8
"""Weight of an earlier second beside the next one, in the mean cost of an event."""


SCHEDULER = Path("/proc/self/schedstat")
"""What Linux knows of the main thread: nanoseconds on a core and waiting for one, and turns."""


def waited_for_core() -> float:
    """Return how long the main thread has waited for a core, in seconds; 0 if it is unknown."""
    try:
        return int(SCHEDULER.read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class RateSampler:
    """Takes the first items of each second.

    Args:
        rate: items per second.
        clock: returns seconds; monotonic.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left = rate
        self._until = 0.0

    @property
    def ready(self) -> bool:
        """Return whether `take` would return True now."""
        return self._left > 0 or (self._rate > 0 and self._clock() >= self._until)

    def take(self) -> bool:
        """Return whether one more item is taken now."""
        if self._left > 0:
            self._left -= 1
            if self._left == self._rate - 1:
                self._until = self._clock() + 1
            return True
        now = self._clock()
        if not self._rate or now < self._until:
            return False
        self._left, self._until = self._rate - 1, now + 1
        return True


class SuccessSampler:
    """Chooses the requests that are traced, by their events, within a rate and a share of the CPU.

    While no more events come in a second than *rate*, all requests are chosen. If more come, each
    source has a share: sources with few events keep all of them, and the others divide the rest.
    Then the chosen ones also cost no more CPU time than *share*, of the time in which the gateway
    does not wait for a core. Shares follow the demand of the second before.

    Args:
        rate: events per second.
        share: seconds of CPU time per second that traces may take above that rate.
        used: returns the CPU time that traces took since the start, in seconds.
        clock: returns seconds; monotonic.
        waited: returns how long the gateway has waited for a core, in seconds.

    Attributes:
        rate: the present limit of all sources together, in events per second.
    """

    def __init__(
        self,
        rate: int,
        share: float,
        used: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        waited: Callable[[], float] = waited_for_core,
    ) -> None:
        self.rate: float = rate
        self._most, self._cpu_share = rate, share
        self._used, self._clock, self._waited = used, clock, waited
        self._free, self._looked, self._lost = 1.0, clock(), waited()
        self._until = 0.0
        self._each: float = rate
        self._came: dict[str, int] = {}
        self._chosen: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._seen = 0.0
        self._spent = self._events = 0.0
        self._new = 0

    def take(self, source: str) -> bool:
        """Return whether the next request of *source* is traced.

        Until `charge` it counts as many events as the source's last one, since many come at once.
        """
        if not self._most:
            return False
        now = self._clock()
        if now >= self._until:
            self._begin(now)
        self._came[source] = self._came.get(source, 0) + 1
        chosen = self._chosen.get(source, 0.0)
        if chosen >= self._each:
            return False
        size = self._sizes.get(source, 1)
        self._chosen[source] = chosen + size
        self._new += size
        return True

    def charge(self, source: str, events: int, *, chosen: bool) -> None:
        """Count the events of a request of *source*.

        If the source's share has no room for them, its next seconds have less, for at most `DEBT`
        seconds.
        """
        self._came[source] = self._came.get(source, 0) + events - 1
        if chosen:
            more = events - self._sizes.get(source, 1)
            self._chosen[source] = self._chosen.get(source, 0.0) + more
            self._new += more
        self._sizes[source] = max(1, events)

    def _begin(self, now: float) -> None:
        """Begin a second, with shares by the demand of the last one."""
        seconds = 1 + int(now - self._until)
        wanted = [came / seconds for came in self._came.values()]
        self._look(now)
        affordable = self._affordable()
        self.rate = min(self._most, affordable) if sum(wanted) > self._most else self._most
        self._each = equal_share(wanted, self.rate)
        due, most = seconds * self._each, DEBT * self._each
        self._chosen = {
            source: min(count - due, most) for source, count in self._chosen.items() if count > due
        }
        self._came.clear()
        self._until = now + 1

    def _look(self, now: float) -> None:
        """Note the share of the last second in which the gateway did not wait for a core."""
        lost, passed = self._waited(), now - self._looked
        self._free = max(0.0, 1 - (lost - self._lost) / passed) if passed > 0 else 1.0
        self._looked, self._lost = now, lost

    def _affordable(self) -> float:
        """Return how many events per second may be traced by their recent cost, but at least 1."""
        used = self._used()
        self._spent = self._spent * MEMORY + used - self._seen
        self._events = self._events * MEMORY + self._new
        self._seen, self._new = used, 0
        if self._spent <= 0:
            return self._most
        return max(1.0, self._cpu_share * self._free * self._events / self._spent)


def equal_share(wanted: Collection[float], total: float) -> float:
    """Return the most that each may have, so that all together have *total*; *total* if all fit."""
    left, others = total, len(wanted)
    for want in sorted(wanted):
        if want * others > left:
            return left / others
        left -= want
        others -= 1
    return total
