"""Ids of requests: unique over processes and restarts, and in order of arrival."""

import secrets
import time


class RequestIds:
    """A source of ids such as ``18a3f0c2b7d4e100a1b2c3d4``.

    Sixteen hexadecimal digits of Unix nanoseconds, made to rise even where the clock does not,
    then eight that are this process's own. The last of these is odd where the request is traced,
    so that whoever has the id knows, after a restart too (`gateway.trace.sampling`).
    """

    def __init__(self) -> None:
        own = secrets.randbits(32)
        self._own = (f"{own & ~1:08x}", f"{own | 1:08x}")
        self._last = 0

    def next(self, *, traced: bool = False) -> str:
        """Return a new id."""
        now = time.time_ns()
        self._last = now if now > self._last else self._last + 1
        return f"{self._last:016x}{self._own[traced]}"
