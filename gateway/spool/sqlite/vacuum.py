"""Giving space back, in steps small enough that no append waits for long."""

from itertools import islice

import apsw

from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.reader import size
from gateway.sqlite import fetch

STEP = 256
"""Rows per step, which take 0.3 ms."""
PAGES = 64
"""Pages per step, which take 1 ms: SQLite moves one from the file's end for each."""

RESERVE = 4 * 1024 * 1024
"""Bytes that stay free below ``max_bytes``, or a sixteenth of these."""

_NEXT = "SELECT max(seq) FROM (SELECT seq FROM log WHERE seq > ? ORDER BY seq LIMIT ?)"
_UNPINNED = " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.seq = log.seq)"
_TRIM = f"DELETE FROM log WHERE seq > ? AND seq <= ?{_UNPINNED}"  # noqa: S608 - both parts are constants
_FREE = f"DELETE FROM log WHERE seq = ?{_UNPINNED}"  # noqa: S608 - both parts are constants


def trim(connection: apsw.Connection, lanes: DestinationCursors, count: int) -> None:
    """Delete up to ``count`` log rows that every destination has passed, and as many in between.

    It runs within the caller's transaction. Rows that a waiting delivery refers to stay until
    that ends; another process may have put such a row there unnoticed (a replay). A row that
    nobody needs any more goes although a destination is still further back: one that takes
    nothing for days keeps what is its own, and no more.
    """
    passed = lanes.passed()
    if passed > lanes.trimmed:
        ((last,),) = fetch(connection, _NEXT, (lanes.trimmed, count))
        lanes.new_trimmed = min(passed, last or passed)
        connection.execute(_TRIM, (lanes.trimmed, lanes.new_trimmed))
    ended, loose = list(islice(lanes.ended, count)), list(islice(lanes.loose, count))
    free = [*ended, *(seq for seq in loose if seq > lanes.new_trimmed)]
    free = [seq for seq in free if seq < lanes.new_position and not lanes.wanted(seq)]
    connection.executemany(_FREE, ((seq,) for seq in free))
    lanes.new_ended = [seq for seq in ended if seq < lanes.new_position]
    lanes.new_loose = len(loose)
    lanes.new_last = [seq for seq in loose if seq >= lanes.new_position]


def trimmable(lanes: DestinationCursors) -> int:
    """Return how many places of the log could be trimmed now."""
    return lanes.passed() - lanes.trimmed + len(lanes.ended) + len(lanes.loose)


class SpaceGauge:
    """How many bytes of the file are in use, measured now and then and never underestimated."""

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes
        self.reserve = 0 if max_bytes is None else min(RESERVE, max_bytes // 16)
        """Bytes below ``max_bytes`` at which the store counts as full: whatever request is let in
        has room as long as it does not, and what is written of deliveries has some in any case."""
        self.bytes = 0

    def measure(self, connection: apsw.Connection) -> None:
        """Read how many of the file's pages are in use."""
        self.bytes = size(connection)

    @property
    def free(self) -> int:
        """Return how many bytes there are left."""
        return 0 if self.max_bytes is None else max(0, self.max_bytes - self.reserve - self.bytes)

    @property
    def full(self) -> bool:
        """Say whether the bound is reached, as far as is known."""
        return self.max_bytes is not None and not self.free

    @property
    def tight(self) -> bool:
        """Say whether so much is in use that somebody may hold more than their share."""
        return self.max_bytes is not None and self.bytes > self.max_bytes // 2

    def has_room(self, connection: apsw.Connection, size: int) -> bool:
        """Say whether a row of ``size`` bytes keeps the file within bounds, and count it.

        A page holds at least half its size in rows, hence the factor of two.
        """
        if self.max_bytes is None:
            return True
        needed = 2 * size + 64
        most = self.max_bytes - max(needed, self.reserve)
        if self.bytes > most:
            self.measure(connection)
        if self.bytes > most:
            return False
        self.bytes += needed
        return True


def shrink(connection: apsw.Connection, *, all_of_it: bool = False) -> bool:
    """Give some free pages at the file's end back to the disk; say whether more could follow.

    A part of them stays, since the next appends would only ask for it again, unless the disk is
    full and needs ``all_of_it``.
    """
    free, pages = connection.pragma("freelist_count"), connection.pragma("page_count")
    if free <= (0 if all_of_it else max(4 * PAGES, pages // 8)):
        return False
    fetch(connection, f"PRAGMA incremental_vacuum({PAGES})")
    return True
