"""When a destination may be tried: rate limit, requested pauses, circuit breaker."""

import random
from typing import Literal

THRESHOLD = 5
"""Failures in a row that open the circuit."""
DOUBLINGS = 30
"""How often a wait is doubled at most: past that it is over any bound, and later over any float."""
OPENING = frozenset({"connect", "timeout", "reset", "protocol", "server"})
"""Causes that say the destination is in trouble, whatever the event."""

State = Literal["closed", "open", "probing"]


def backoff(tries: int, low: float, high: float) -> float:
    """Return a wait in seconds: exponential with full jitter, so that nobody retries in step.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        tries: how often it failed so far, at least 1.
        low: the first wait's upper bound.
        high: the upper bound of all.
    """
    return random.uniform(0, min(high, low * 2.0 ** min(tries - 1, DOUBLINGS)))  # noqa: S311 - no secret


class Gate:
    """Lets attempts through, or says how long to wait.

    Args:
        low: seconds of the first wait after the circuit opened.
        high: the longest wait.
        rate: attempts per second; None for no limit.
        burst: attempts that may go at once after a quiet time.
    """

    def __init__(
        self, *, low: float, high: float, rate: float | None = None, burst: float = 1
    ) -> None:
        self.state: State = "closed"
        self.reason = ""
        self._low = low
        self._high = high
        self._rate = rate
        self._burst = max(1.0, burst)
        self._tokens = self._burst
        self._filled = 0.0
        self._row = 0
        self.opened = 0
        """How often the circuit opened since it was last closed."""
        self._until = 0.0
        self._asked = 0.0
        """Until when the vendor asked for no attempt at all."""

    def wait(self, now: float) -> float:
        """Return the seconds until the next attempt may start; 0 lets one through.

        Args:
            now: a clock that never jumps, in seconds.
        """
        until = max(self._until, self._asked)
        if until > now:
            return until - now
        if self.state == "probing":
            return self._high
        if self._rate is not None:
            short = self._token(now, self._rate)
            if short:
                return short
        if self.state == "open":
            self.state = "probing"
        return 0.0

    def _token(self, now: float, rate: float) -> float:
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * rate)
        self._filled = now
        if self._tokens < 1:
            return (1 - self._tokens) / rate
        self._tokens -= 1
        return 0.0

    def passed(self) -> None:
        """Note that the destination answered as it should, whatever it said of the event.

        That may be an attempt from before a pause that the vendor asked for: the pause stands.
        """
        self._row = self.opened = 0
        self._until = 0.0
        self.state = "closed"
        self.reason = ""

    def failed(self, cause: str, reason: str, after: float | None, now: float) -> None:
        """Note an attempt that should be made again later."""
        self._row += 1
        self.reason = reason
        if cause == "limit":
            pause = after if after is not None else backoff(self._row, self._low, self._high)
            self._asked = max(self._asked, now + pause)
            if self.state == "probing":
                self.state = "open"
        elif cause == "credential" or self.state == "probing" or self._row >= THRESHOLD:
            self._open(now, after or 0.0, at_most=cause == "credential")

    def _open(self, now: float, after: float, *, at_most: bool) -> None:
        if self.state == "open":
            return
        self.state = "open"
        self.opened += 1
        doubled = self._low * 2.0 ** min(self.opened - 1, DOUBLINGS)
        bound = self._high if at_most else min(self._high, doubled)
        self._until = now + max(after, random.uniform(bound / 2, bound))  # noqa: S311 - no secret

    def hurry(self) -> None:
        """Let the next attempt through whatever was to be waited for; the rate stays."""
        self._until = self._asked = 0.0

    def abandoned(self) -> None:
        """Note that an attempt was let through and not made."""
        if self.state == "probing":
            self.state = "open"
