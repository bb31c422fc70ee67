"""Stop attempts while a destination is down, and probe it meanwhile.

The circuit opens when events of several users fail and the vendor has accepted nothing for some
seconds. An event that fails again although the vendor accepted others meanwhile is *isolated*: the
problem is the event, not the vendor, so its failures do not count.
"""

import random
from typing import Literal

from gateway.spool import DeliveryRef

THRESHOLD = 5
"""Events of different users that must fail in a row to open the circuit; also the number of failed
connection attempts."""
KEY_THRESHOLD = 3
"""The same if the vendor refuses the key (401, 403)."""
RECENT = 5.0
"""Seconds after the vendor's last answer to an event during which no circuit opens, so that bad
events of many users do not stop all others."""
MAX_PROBE_WAIT = 5.0
"""Most seconds between probes of an open circuit; it limits the cost of a wrongly opened one."""
LIMITED_USERS = 2
"""Users that must get 429 before all events wait as long as the vendor asks."""
NEARLY_ALL = 0.9
"""Share of other events that must succeed for a failure to count as fully isolated."""
DOUBTFUL = 0.5
"""Factor for a smaller share: the vendor may be the cause as well."""
MAX_REMEMBERED = 100_000
"""Failed events for which the later results of others are remembered."""
MAX_DOUBLINGS = 30
"""Most doublings of a wait; more would exceed any limit, and finally overflow."""

BreakerState = Literal["closed", "open", "half_open"]


def backoff(attempts: int, low: float, high: float) -> float:
    """Return a wait in seconds: exponential with full jitter, so that retries spread out.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        attempts: number of failures so far, at least 1.
        low: upper bound of the first wait.
        high: upper bound of all waits.
    """
    return random.uniform(0, min(high, low * 2.0 ** min(attempts - 1, MAX_DOUBLINGS)))  # noqa: S311 - no secret


class CircuitBreaker:
    """Allows attempts, or says how long to wait.

    Args:
        low: first wait after the circuit opened, in seconds.
        high: longest wait, in seconds.
    """

    def __init__(self, *, low: float, high: float) -> None:
        self.state: BreakerState = "closed"
        self.reason: str | None = None
        """The reason of the last failure; None if none failed since the last success."""
        self.cause = ""
        """The cause of that failure, as in `gateway.verdict.RetryLater`; empty without one."""
        self.opened = 0
        """Number of times the circuit opened since it was last closed."""
        self._low = low
        self._high = min(high, MAX_PROBE_WAIT)
        self._until = 0.0
        self._paused_until = 0.0
        self.pause_length = 0.0
        """Seconds of the last pause that the vendor asked for."""
        self._row = 0
        self._users: set[str] = set()
        self._limited: set[str] = set()
        self._taken = self._failed = 0
        self._taken_at = -RECENT
        self._known: dict[DeliveryRef, tuple[int, int]] = {}

    def wait_time(self, now: float) -> float:
        """Return the seconds until the next attempt may start; 0 if it may start now.

        Args:
            now: monotonic seconds.
        """
        if self._until > now or self._paused_until > now:
            return max(self._until, self._paused_until) - now
        return self._high if self.state == "half_open" else 0.0

    def begin_attempt(self) -> None:
        """Record the start of an attempt; while the circuit is open, it is the only one."""
        if self.state == "open":
            self.state = "half_open"

    def paused_until(self, now: float) -> float | None:
        """Return the end of a pause that the vendor asked for; None if there is none."""
        return self._paused_until if self._paused_until > now else None

    def open_until(self, now: float) -> float | None:
        """Return when an open circuit lets the next probe through; None if it does now."""
        return self._until if self.state == "open" and self._until > now else None

    def record_success(self, now: float) -> None:
        """Record a final answer of the vendor, even one that refuses the event.

        The attempt may have started before a pause that the vendor asked for, so a pause stays.
        """
        self._taken += 1
        self._taken_at = now
        if self.state == "closed" and self.reason is None:  # nothing failed since the last one
            return
        self._row = self.opened = 0
        self._users.clear()
        self._limited.clear()
        self._until = 0.0
        self.state = "closed"
        self.reason, self.cause = None, ""

    def record_failure(  # noqa: PLR0913 - all properties of a failure
        self,
        mark: DeliveryRef,
        user: str,
        *,
        cause: str,
        reason: str,
        after: float | None,
        now: float,
        isolated_before: bool,
    ) -> float:
        """Record an attempt that will be retried; return how far the failure is isolated.

        It is 1 if nearly all other events succeeded since the same event failed before, less if
        fewer did, and 0 if none did or the event never failed before.

        Args:
            mark: the delivery.
            user: the user of the event; empty if it has none.
            cause: as in `gateway.verdict.RetryLater`, or ``internal`` for an error of the gateway.
            reason: why it failed.
            after: shortest wait in seconds that the vendor asked for.
            now: monotonic seconds.
            isolated_before: whether an earlier attempt was isolated.
        """
        isolated = 1.0 if cause == "internal" else self._isolated(mark)
        who = user or f"{mark.seq}/{mark.index}"
        if cause == "limit":
            self._limit(who, after, now)
        elif cause == "connect":
            self._row += 1
        elif isolated or isolated_before:
            if self.state == "half_open":
                self._open(now, 0.0, longer=False)
            return isolated
        elif who not in self._users:
            self._users.add(who)
            self._row += 1
        self.reason, self.cause = reason, cause
        if cause == "limit":
            return isolated
        threshold = KEY_THRESHOLD if cause == "credential" else THRESHOLD
        silent = cause == "connect" or now - self._taken_at >= RECENT
        if self.state == "half_open" or (self._row >= threshold and silent):
            self._open(now, after or 0.0)
        return isolated

    def _isolated(self, mark: DeliveryRef) -> float:
        """Return how far the vendor accepted others' events since this one failed before."""
        known = self._known.pop(mark, None)
        self._failed += known is None
        self._known[mark] = self._taken, self._failed
        if len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        if known is None:
            return 0.0
        taken, failed = self._taken - known[0], self._failed - known[1]
        share = taken / max(1, taken + failed)
        return 1.0 if share >= NEARLY_ALL else DOUBTFUL * share

    def forget(self, mark: DeliveryRef) -> None:
        """Forget a settled delivery."""
        if self._known:
            self._known.pop(mark, None)

    def _limit(self, who: str, after: float | None, now: float) -> None:
        """Pause as long as the vendor asks if several users got 429, else only briefly."""
        self._limited.add(who)
        wait = after if after is not None else backoff(len(self._limited), self._low, self._high)
        if len(self._limited) < LIMITED_USERS:
            wait = min(wait, MAX_PROBE_WAIT)
        if now + wait > self._paused_until:
            self._paused_until, self.pause_length = now + wait, wait
        if self.state == "half_open":
            self.state = "open"

    def _open(self, now: float, after: float, *, longer: bool = True) -> None:
        if self.state == "open":
            return
        self.state = "open"
        self.opened += longer or not self.opened
        bound = min(self._high, self._low * 2.0 ** min(self.opened - 1, MAX_DOUBLINGS))
        self._until = now + max(after, random.uniform(bound / 2, bound))  # noqa: S311 - no secret

    def retry_now(self) -> None:
        """Allow the next attempt now."""
        self._until = self._paused_until = 0.0

    def cancel_probe(self) -> None:
        """Record that an allowed attempt was not made."""
        if self.state == "half_open":
            self.state = "open"
