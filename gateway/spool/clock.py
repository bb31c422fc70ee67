"""The clock of a spool, which does not jump when the system clock is set.

A wrong system clock must not expire pending deliveries or remembered ids. So the spool counts
seconds with a monotonic clock, and keeps the offset of the system clock apart. There are two times:

``now``: the time to record. It starts at the system time when the gateway starts, and never jumps.
``sure``: the earliest time that it can be; expiry uses it. After a start it continues from the last
time in the file, since nobody knows how long the gateway was down. Once the system clock has run
evenly with the monotonic clock for `CONFIRM` seconds, the system clock is trusted.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog

CONFIRM = 300.0
"""Seconds for which the system clock must run evenly before it is trusted."""
SLACK = 2.0
"""Seconds that the system clock may drift between two checks; more is a jump."""
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The monotonic clock that includes the time asleep, if the system has one."""


log = structlog.get_logger()


class Clock(Protocol):
    """The times that a spool needs; all in Unix seconds."""

    def begin(self, last: float | None, ahead: float) -> None:
        """Continue from the times in the file.

        Args:
            last: arrival of its last entry, by `now`; None in an empty file.
            ahead: how far the system clock was ahead of `now`.
        """
        ...

    def now(self) -> float:
        """Return the time to record."""
        ...

    def sure(self) -> float:
        """Return the earliest time that it can be; expiry uses it."""
        ...

    def of_day(self) -> float:
        """Return the time of day, by the last trusted system clock."""
        ...

    def sure_of_day(self) -> float:
        """Return the earliest time of day that it can be."""
        ...

    @property
    def ahead(self) -> float:
        """Return how far the trusted system clock is ahead of `now`."""
        ...

    def look(self) -> float:
        """Check the system clock; return how far it was set since it was last trusted."""
        ...


class SteadyClock:
    """The clock of a running gateway.

    Args:
        day: the system clock, which may jump; Unix seconds.
        seconds: a monotonic clock.
    """

    def __init__(
        self, day: Callable[[], float] | None = None, seconds: Callable[[], float] | None = None
    ) -> None:
        self._day = day or (lambda: time.time())  # noqa: PLW0108 - looked up at each call
        self._seconds = seconds or partial(time.clock_gettime, _SINCE_BOOT)
        self._began = self._seconds()
        self._start = self._day()
        self._behind = 0.0
        self.ahead = 0.0
        self._seen, self._since = 0.0, self._began
        self._confirmed = True

    def begin(self, last: float | None, ahead: float) -> None:
        """Continue from the times in the file (see `Clock.begin`)."""
        told = self._day() - ahead
        self._began = self._since = self._seconds()
        self._start = told if last is None else max(told, last)
        self._behind = 0.0 if last is None else self._start - min(told, last)
        self.ahead = ahead
        self._seen = self._day() - self.now()
        self._confirmed = False

    def now(self) -> float:
        """Return the time to record."""
        return self._start + self._seconds() - self._began

    def sure(self) -> float:
        """Return the earliest time that it can be."""
        return self.now() - self._behind

    def of_day(self) -> float:
        """Return the time of day, by the last trusted system clock."""
        return self._start + self._seconds() - self._began + self.ahead

    def sure_of_day(self) -> float:
        """Return the earliest time of day that it can be."""
        return self.sure() + self.ahead

    def look(self) -> float:
        """Check the system clock; return how far it was set since it was last trusted."""
        distance = self._day() - self.now()
        if abs(distance - self._seen) > SLACK:
            self._seen, self._since = distance, self._seconds()
            self._confirmed = False
            return 0.0
        self._seen = distance
        if self._confirmed:
            self.ahead = distance
        elif self._seconds() - self._since >= CONFIRM:
            return self._trust(distance)
        return 0.0

    def _trust(self, distance: float) -> float:
        """Accept the system clock after it has run evenly for long enough."""
        changed = distance - self.ahead
        if self._behind and changed < 0:
            # The clock was ahead at the start or in the run before: later entries have a late time.
            self._start += changed
        else:
            # Entries since the start keep their counted age, whatever the clock was set to.
            self.ahead = distance
        self._behind, self._confirmed = 0.0, True
        self._seen = self._day() - self.now()
        return changed if abs(changed) > SLACK else 0.0


class GivenClock:
    """A clock that is always trusted.

    Args:
        clock: returns Unix seconds.
    """

    ahead = 0.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def now(self) -> float:
        """Return the time of the clock."""
        return self._clock()

    def sure(self) -> float:
        """Return the time of the clock."""
        return self._clock()

    def of_day(self) -> float:
        """Return the system time."""
        return time.time()

    def sure_of_day(self) -> float:
        """Return the system time."""
        return time.time()

    def begin(self, last: float | None, ahead: float) -> None:
        """Ignore the times in the file."""

    def look(self) -> float:
        """Return 0: the clock is never set."""
        return 0.0


def check_clock(clock: Clock) -> None:
    """Check the system clock, and log by how much it was set; to be called every few seconds."""
    if changed := clock.look():
        log.warning("clock_changed", seconds=round(changed))


def moment(seconds: float) -> datetime:
    """Return Unix seconds as a datetime in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
