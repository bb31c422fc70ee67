"""Whether a destination is in trouble, and when it may be tried meanwhile.

A circuit opens on what speaks of the vendor, not of an event: failures of several users' events,
while it has taken nothing for some seconds. An event that fails again although the vendor took
others' meanwhile is *isolated*: it says nothing of the vendor, however often it fails.
"""

import random
from typing import Literal

from gateway.spool import DeliveryRef

THRESHOLD = 5
"""Different users' events that fail one after the other before the circuit opens; as many attempts
to connect."""
KEY_THRESHOLD = 3
"""The same where what the vendor refuses is the key (401, 403)."""
RECENT = 5.0
"""Seconds since the vendor last took an event within which no circuit opens, however many events
fail: whoever sends bad ones by many users does not stop all others."""
MAX_PROBE_WAIT = 5.0
"""Seconds between probes of an open circuit at most: so long one may have been opened in vain."""
LIMITED_USERS = 2
"""Different users' events that are answered 429 before all others wait as long as is asked."""
NEARLY_ALL = 0.9
"""The share of others' events that must be taken for a failure to count in full."""
DOUBTFUL = 0.5
"""What it counts where fewer are taken, times their share: the vendor may be to blame as well."""
MAX_REMEMBERED = 100_000
"""Events of which is known what the vendor did since they failed."""
MAX_DOUBLINGS = 30
"""How often a wait is doubled at most: past that it is over any bound, and later over any float."""

BreakerState = Literal["closed", "open", "probing"]


def backoff(attempts: int, low: float, high: float) -> float:
    """Return a wait in seconds: exponential with full jitter, so that nobody retries in step.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        attempts: how often it failed so far, at least 1.
        low: the first wait's upper bound.
        high: the upper bound of all.
    """
    return random.uniform(0, min(high, low * 2.0 ** min(attempts - 1, MAX_DOUBLINGS)))  # noqa: S311 - no secret


class CircuitBreaker:
    """Lets attempts through, or says how long to wait.

    Args:
        low: seconds of the first wait after the circuit opened.
        high: the longest wait.
    """

    def __init__(self, *, low: float, high: float) -> None:
        self.state: BreakerState = "closed"
        self.reason: str | None = None
        """What the last attempt in vain said; None where none failed since one went well."""
        self.opened = 0
        """How often the circuit opened since it was last closed."""
        self._low = low
        self._high = min(high, MAX_PROBE_WAIT)
        self._until = 0.0
        self._paused_until = 0.0
        self._row = 0
        self._users: set[str] = set()
        self._limited: set[str] = set()
        self._taken = self._failed = 0
        self._taken_at = -RECENT
        self._known: dict[DeliveryRef, tuple[int, int]] = {}

    def wait_time(self, now: float) -> float:
        """Return the seconds until the next attempt may start; 0 where it may now.

        Args:
            now: a clock that never jumps, in seconds.
        """
        until = self.resumes_at(now)
        if until is not None:
            return until - now
        return self._high if self.state == "probing" else 0.0

    def begin_attempt(self) -> None:
        """Note that an attempt is let through; while the circuit is open, it is the only one."""
        if self.state == "open":
            self.state = "probing"

    def resumes_at(self, now: float) -> float | None:
        """Return when the next attempt may start, by the clock of *now*; None where it may now."""
        until = max(self._until, self._paused_until)
        return until if until > now else None

    def paused_until(self, now: float) -> float | None:
        """Return until when the vendor asked for no attempts; None where it did not."""
        return self._paused_until if self._paused_until > now else None

    def record_success(self, now: float) -> None:
        """Note that the vendor answered as it should, whatever it said of the event.

        That may be an attempt from before a pause that the vendor asked for: the pause stands.
        """
        self._taken += 1
        self._taken_at = now
        self._row = self.opened = 0
        self._users.clear()
        self._limited.clear()
        self._until = 0.0
        self.state = "closed"
        self.reason = None

    def record_failure(  # noqa: PLR0913 - what there is to know of a failure, each once
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
        """Note an attempt that should be made again later; return how far it was isolated.

        That is 1 where nearly all other events were taken since the same event failed before, less
        where fewer were, and 0 where none was, or where it never failed before.

        Args:
            mark: the delivery.
            user: whose event it is; empty for nobody's.
            cause: as in `gateway.verdict.RetryLater`, or ``internal``: the gateway's own mistake.
            reason: what went wrong.
            after: the least wait in seconds that the vendor asked for.
            now: a clock that never jumps, in seconds.
            isolated_before: an earlier attempt was.
        """
        isolated = 1.0 if cause == "internal" else self._isolated(mark)
        who = user or f"{mark.seq}/{mark.index}"
        if cause == "limit":
            self._limit(who, after, now)
        elif cause == "connect":
            self._row += 1
        elif isolated or isolated_before:
            if self.state == "probing":
                self._open(now, 0.0, longer=False)
            return isolated
        elif who not in self._users:
            self._users.add(who)
            self._row += 1
        self.reason = reason
        if cause == "limit":
            return isolated
        threshold = KEY_THRESHOLD if cause == "credential" else THRESHOLD
        silent = cause == "connect" or now - self._taken_at >= RECENT
        if self.state == "probing" or (self._row >= threshold and silent):
            self._open(now, after or 0.0)
        return isolated

    def _isolated(self, mark: DeliveryRef) -> float:
        """Return how far the vendor took others' events since this one failed before."""
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
        """Note that a delivery is settled."""
        self._known.pop(mark, None)

    def _limit(self, who: str, after: float | None, now: float) -> None:
        """Wait as long as the vendor asks, where it asks more than one user's events."""
        self._limited.add(who)
        wait = after if after is not None else backoff(len(self._limited), self._low, self._high)
        if len(self._limited) < LIMITED_USERS:
            wait = min(wait, MAX_PROBE_WAIT)
        self._paused_until = max(self._paused_until, now + wait)
        if self.state == "probing":
            self.state = "open"

    def _open(self, now: float, after: float, *, longer: bool = True) -> None:
        if self.state == "open":
            return
        self.state = "open"
        self.opened += longer or not self.opened
        bound = min(self._high, self._low * 2.0 ** min(self.opened - 1, MAX_DOUBLINGS))
        self._until = now + max(after, random.uniform(bound / 2, bound))  # noqa: S311 - no secret

    def retry_now(self) -> None:
        """Let the next attempt through whatever was to be waited for."""
        self._until = self._paused_until = 0.0

    def cancel_probe(self) -> None:
        """Note that an attempt was let through and not made."""
        if self.state == "probing":
            self.state = "open"
