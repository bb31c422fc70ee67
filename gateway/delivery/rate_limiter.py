"""Limit the rate of attempts of a destination."""


class RateLimiter:
    """A token bucket.

    Args:
        rate: attempts per second; None for no limit.
        burst: attempts that are allowed at once after a quiet time.
    """

    def __init__(self, rate: float | None = None, burst: float = 1) -> None:
        self._whole_rate, self._whole_burst = rate, burst
        self._rate = rate
        self._burst = max(1.0, burst)
        self._tokens = self._burst
        self._filled = 0.0

    def set_share(self, part: float) -> None:
        """Allow only a part of rate and burst, and at least one attempt at once."""
        self._rate = self._whole_rate and self._whole_rate * part
        self._burst = max(1.0, self._whole_burst * part)

    def wait_time(self, now: float) -> float:
        """Return the seconds until the next attempt may start; 0 allows and counts one.

        Args:
            now: monotonic seconds.
        """
        if self._rate is None:
            return 0.0
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0
