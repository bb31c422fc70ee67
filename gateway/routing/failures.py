"""Conditions and filters that could not be judged: counted each time, logged now and then."""

import time
from collections import Counter
from collections.abc import Callable

import structlog

from gateway.log_limit import LogLimit

QUIET = 60.0
"""Seconds in which one route is logged once."""

log = structlog.get_logger()


class Failures:
    """What failed, by route. It outlives the router, so that a reload does not begin anew.

    Attributes:
        counts: how often, by the route's name.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._lines = LogLimit(1, QUIET, clock)

    def note(self, route: str, error: str) -> None:
        """Count a failure of *route*, and log it if none was logged lately."""
        self.counts[route] += 1
        if self._lines.take(route):
            log.warning("not_judged", route=route, error=error, times=self.counts[route])
