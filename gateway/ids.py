"""Ids of requests: unique over processes and restarts, and in order of arrival."""

import re
import secrets
import time

FIRST = 1_600_000_000
"""Unix seconds before which there was no id."""

_ID = re.compile(r"([0-9a-f]{16})[0-9a-f]{8}(?:-\d+)?")


def came_at(identity: str) -> float | None:
    """Return the Unix seconds at which the request of an id came; None where it is no such id.

    The id may be that of an event of it.
    """
    found = _ID.fullmatch(identity)
    at = int(found[1], 16) / 1e9 if found else 0.0
    return at if FIRST <= at <= time.time() else None


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
