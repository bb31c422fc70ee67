"""The time by which a spool goes: it does not jump when the machine's clock is set.

A time of day that is wrong for some seconds, or at a start, must not end what is pending, nor what
is remembered for a while. So the spool counts seconds by a clock that nobody can set, and keeps
apart how far the time of day is from that. Two questions have two answers:

``now``: when something happens, which is written down. It goes on from the time of day at the
start, and is never set meanwhile.
``sure``: what time it is at least, by which things end. After a start it goes on from the last time
in the file, until the time of day has stood still for `CONFIRM` seconds beside the clock that
counts; how long the gateway did not run is not known otherwise.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

CONFIRM = 300.0
"""Seconds for which a time of day has to stand before it is believed."""
SLACK = 2.0
"""Seconds by which the time of day may drift from one look to the next without having jumped."""


class Clock(Protocol):
    """What a spool wants to know of the time; all in Unix seconds."""

    def begin(self, last: float | None, ahead: float) -> None:
        """Go on from what the file says.

        Args:
            last: when its last entry came, by `now`; None where there is none.
            ahead: how far the time of day was ahead of `now`.
        """
        ...

    def now(self) -> float:
        """Return the time for what is written down."""
        ...

    def sure(self) -> float:
        """Return the time by which things end."""
        ...

    def of_day(self) -> float:
        """Return the time of day as it is believed."""
        ...

    def sure_of_day(self) -> float:
        """Return the time of day that it is at least."""
        ...

    @property
    def ahead(self) -> float:
        """Return how far the time of day is ahead of `now`, as far as that is believed."""
        ...

    def look(self) -> float:
        """Look at the time of day; return how far it was set since it was believed last."""
        ...


class SteadyClock:
    """The clock of a gateway.

    Args:
        day: the time of day, which may jump.
        seconds: a clock that only counts.
    """

    def __init__(
        self, day: Callable[[], float] | None = None, seconds: Callable[[], float] | None = None
    ) -> None:
        self._day = day or (lambda: time.time())  # noqa: PLW0108 - whichever it is then
        self._seconds = seconds or _since_boot
        self._began = self._seconds()
        self._start = self._day()
        self._behind = 0.0
        self.ahead = 0.0
        self._seen, self._since = 0.0, self._began
        self._confirmed = True

    def begin(self, last: float | None, ahead: float) -> None:
        """Go on from what the file says (see `Clock.begin`)."""
        told = self._day() - ahead
        self._began = self._since = self._seconds()
        self._start = told if last is None else max(told, last)
        self._behind = 0.0 if last is None else self._start - min(told, last)
        self.ahead = ahead
        self._seen = self._day() - self.now()
        self._confirmed = False

    def now(self) -> float:
        """Return the time for what is written down."""
        return self._start + self._seconds() - self._began

    def sure(self) -> float:
        """Return the time by which things end."""
        return self.now() - self._behind

    def of_day(self) -> float:
        """Return the time of day as it is believed."""
        return self.now() + self.ahead

    def sure_of_day(self) -> float:
        """Return the time of day that it is at least."""
        return self.sure() + self.ahead

    def look(self) -> float:
        """Look at the time of day; return how far it was set since it was believed last."""
        distance = self._day() - self.now()
        if abs(distance - self._seen) > SLACK:
            self._seen, self._since = distance, self._seconds()
            self._confirmed = False
            return 0.0
        self._seen = distance
        if self._confirmed:
            self.ahead = distance
        elif self._seconds() - self._since >= CONFIRM:
            return self._believe(distance)
        return 0.0

    def _believe(self, distance: float) -> float:
        """Go by a time of day that has stood for long enough."""
        changed = distance - self.ahead
        if self._behind and changed < 0:
            # It was ahead at the start, or in the run before: what came since has too late a time.
            self._start += changed
        else:
            # What came since the start is as old as was counted, whatever the clock was set to.
            self.ahead = distance
        self._behind, self._confirmed = 0.0, True
        self._seen = self._day() - self.now()
        return changed if abs(changed) > SLACK else 0.0


class GivenClock:
    """A clock that is believed at once, whatever it says.

    Args:
        clock: gives Unix seconds.
    """

    ahead = 0.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def now(self) -> float:
        """Return what the clock says."""
        return self._clock()

    def sure(self) -> float:
        """Return what the clock says."""
        return self._clock()

    def of_day(self) -> float:
        """Return the machine's time of day."""
        return time.time()

    def sure_of_day(self) -> float:
        """Return the machine's time of day."""
        return time.time()

    def begin(self, last: float | None, ahead: float) -> None:
        """Go on as ever."""

    def look(self) -> float:
        """Look at nothing."""
        return 0.0


def moment(seconds: float) -> datetime:
    """Return Unix seconds as a moment in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _since_boot() -> float:
    """Return seconds that go on while the machine sleeps, where the system counts these."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
