"""Violations of tracking plans: counted each time, logged now and then."""

import time
from collections import Counter
from collections.abc import Callable

import structlog

QUIET = 60.0
"""Seconds in which one kind of violation is logged once."""
KINDS = 2000
"""Kinds that are told apart; further ones count as `OTHER`. Senders can invent new ones."""
LONGEST = 500
"""Characters of a kind that is told apart; fields are named by senders."""
OTHER = "other violations"

log = structlog.get_logger()

Key = tuple[str, str, str]
"""The source, the schema's name in the configuration, and what is wrong with which field."""


class Tally:
    """What was wrong, by source, schema and kind. It outlives reloads.

    Attributes:
        counts: how often.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[Key] = Counter()
        self._clock = clock
        self._logged: dict[Key, float] = {}

    def note(self, source: str, schema: str, kind: str, *, request: str, done: str) -> None:
        """Count a violation, and log it if none of its kind was logged lately.

        Args:
            source: the source's name.
            schema: the schema's name.
            kind: what is wrong, without any value in it.
            request: the id of the request.
            done: what became of it: ``allowed``, ``dropped`` or ``refused``.
        """
        key = (source, schema, kind)
        if key not in self.counts and (len(self.counts) >= KINDS or len(kind) > LONGEST):
            key = (source, schema, OTHER)
        self.counts[key] += 1
        now = self._clock()
        quiet = now - self._logged.get(key, -QUIET) < QUIET
        write = log.debug if quiet else log.warning
        if not quiet:
            self._logged[key] = now
        write(
            "not_as_planned", source=source, schema=schema, violation=kind[:LONGEST], done=done,
            request=request, times=self.counts[key],
        )  # fmt: skip
