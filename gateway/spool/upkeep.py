"""Giving space back, in steps small enough that no append waits for long."""

import apsw

from gateway.spool.lanes import Lanes
from gateway.spool.reading import size
from gateway.spool.store import fetch

STEP = 256
"""Rows per step, which take 0.3 ms."""
PAGES = 64
"""Pages per step, which take 1 ms: SQLite moves one from the file's end for each."""

_NEXT = "SELECT max(seq) FROM (SELECT seq FROM log WHERE seq > ? ORDER BY seq LIMIT ?)"
_UNPINNED = " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.seq = log.seq)"
_TRIM = f"DELETE FROM log WHERE seq > ? AND seq <= ?{_UNPINNED}"  # noqa: S608 - both parts are constants
_FREE = f"DELETE FROM log WHERE seq = ?{_UNPINNED}"  # noqa: S608 - both parts are constants


def trim(connection: apsw.Connection, lanes: Lanes, count: int) -> None:
    """Delete up to ``count`` log rows that every destination has passed.

    It runs within the caller's transaction. Rows that a waiting delivery refers to stay until
    that ends; another process may have put such a row there unnoticed (a replay).
    """
    passed = lanes.passed()
    if passed > lanes.trimmed:
        ((last,),) = fetch(connection, _NEXT, (lanes.trimmed, count))
        lanes.new_trimmed = min(passed, last or passed)
        connection.execute(_TRIM, (lanes.trimmed, lanes.new_trimmed))
    freed = [seq for seq in lanes.ended if seq <= lanes.trimmed]
    connection.executemany(_FREE, ((seq,) for seq in freed))


def trimmable(lanes: Lanes) -> int:
    """Return how many places of the log could be trimmed now."""
    return lanes.passed() - lanes.trimmed + len(lanes.ended)


class Gauge:
    """How many bytes of the file are in use, measured now and then and never underestimated."""

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0

    def measure(self, connection: apsw.Connection) -> None:
        """Read how many of the file's pages are in use."""
        self.bytes = size(connection)

    @property
    def full(self) -> bool:
        """Say whether the bound was reached when last measured."""
        return self.max_bytes is not None and self.bytes >= self.max_bytes

    def has_room(self, connection: apsw.Connection, size: int) -> bool:
        """Say whether a row of ``size`` bytes keeps the file within bounds, and count it.

        A page holds at least half its size in rows, hence the factor of two.
        """
        if self.max_bytes is None:
            return True
        needed = 2 * size + 64
        if self.bytes + needed > self.max_bytes:
            self.measure(connection)
        if self.bytes + needed > self.max_bytes:
            return False
        self.bytes += needed
        return True


def shrink(connection: apsw.Connection) -> bool:
    """Give some free pages at the file's end back to the disk; say whether more could follow.

    A part of them stays, since the next appends would only ask for it again.
    """
    free, pages = connection.pragma("freelist_count"), connection.pragma("page_count")
    if free <= max(4 * PAGES, pages // 8):
        return False
    fetch(connection, f"PRAGMA incremental_vacuum({PAGES})")
    return True
