"""Which of many are recorded: as many a second as may be, and what goes wrong besides."""

import time
from collections.abc import Callable

MARKS = frozenset("13579bdf")
"""The last digit of a request id that is traced (`gateway.ids`)."""


def chosen(request_id: str) -> bool:
    """Tell whether the request of that id was chosen to be traced when it came."""
    return request_id[-1:] in MARKS


class Sampler:
    """Takes the first ones of every second.

    Args:
        rate: how many a second.
        clock: seconds; it never jumps.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left = rate
        self._until = 0.0

    @property
    def ready(self) -> bool:
        """Tell whether `take` would take one more, now."""
        return self._left > 0 or (self._rate > 0 and self._clock() >= self._until)

    def take(self) -> bool:
        """Tell whether one more is taken, now."""
        if self._left > 0:
            self._left -= 1
            if self._left == self._rate - 1:
                self._until = self._clock() + 1
            return True
        now = self._clock()
        if not self._rate or now < self._until:
            return False
        self._left = self._rate - 1
        self._until = now + 1
        return True
