"""How often which field is lost at one destination, counted on some of its events."""

import time
from collections import Counter
from collections.abc import Callable

import structlog

from gateway.event import Event
from gateway.json_text import is_too_deep
from gateway.losses.fates import fates, named
from gateway.plugin import Output

PER_SECOND = 10
"""Events a second that are looked at: 0.03 to 0.25 ms each, however many are delivered."""

log = structlog.get_logger()


class LossMeter:
    """Counts what delivered events lost at one destination.

    It looks at no more than some events a second, so that it costs a reading of the clock for
    each of the others. Free keys count as one field, so that there are no more counts than the
    event has fields, times two.

    Args:
        output: the destination's.
        per_second: how many events are looked at.
    """

    def __init__(self, output: Output, per_second: float = PER_SECOND) -> None:
        self.looked = 0
        """Events that were looked at."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """Field, and ``lost`` or ``coerced``, to the events among them of which that is true."""
        self._output = output
        self._every = 1 / per_second
        self._next = 0.0

    def offer(self, event: Callable[[], Event]) -> None:
        """Look at a delivered event, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        try:
            found = fates(self._output, event())
        except Exception as error:
            if not is_too_deep(error):
                log.exception("plugin_failed", vendor=self._output.name, step="losses")
            return
        self.looked += 1
        self.counts.update({(named(f.path), f.how) for f in found if f.how != "kept"})
