"""Free space in small steps, so that appends wait only briefly."""

import math
from itertools import islice, takewhile

import apsw

from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.database import MOVED
from gateway.sqlite import fetch

STEP = 256
"""Rows per step; they take 0.3 ms."""
PAGES = 64
"""Pages per step; they take 1 ms, since SQLite moves a page from the file's end for each."""

RESERVE = 4 * 1024 * 1024
"""Bytes that stay free below ``max_bytes``, or a sixteenth of it if that is less."""

_NEXT = "SELECT max(seq) FROM (SELECT seq FROM log WHERE seq > ? ORDER BY seq LIMIT ?)"
_UNPINNED = " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.seq = log.seq)"
_TRIM = f"DELETE FROM log WHERE seq > ? AND seq <= ?{_UNPINNED}"  # noqa: S608 - both parts are constants
_FREE = f"""
    DELETE FROM log WHERE seq = ? AND mask & ? = 0
    AND (seq <= ? OR mask <= 0 OR mask >= {MOVED}){_UNPINNED}
"""  # noqa: S608 - all parts are constants
_OLDEST = "SELECT seq, at FROM log WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?"
_FORGET_REPLAYED = "DELETE FROM replayed WHERE seq <= ?"


def trim(
    connection: apsw.Connection,
    places: DestinationCursors,
    count: int,
    before: float = -math.inf,
) -> int:
    """Delete up to ``count`` log rows that every destination has passed, and as many in between.

    It runs within the caller's transaction. Rows of waiting deliveries stay until those end;
    another process may add such a row by a replay. A row that no destination needs is deleted even
    if a destination's cursor is before it, so a destination that is down keeps only its own rows.

    Where rows are retained, only those are deleted that were appended before ``before`` (Unix
    seconds); return how many of these were found, at most ``count``.
    """
    released = _release(connection, places, count, before) if places.retains else []
    passed = places.deletable()
    if passed > places.trimmed:
        ((last,),) = fetch(connection, _NEXT, (places.trimmed, count))
        places.new_trimmed = min(passed, last or passed)
        connection.execute(_TRIM, (places.trimmed, places.new_trimmed))
        connection.execute(_FORGET_REPLAYED, (places.new_trimmed,))
    ended, loose = list(islice(places.ended, count)), list(islice(places.loose, count))
    free = [*ended, *(seq for seq in (*loose, *released) if seq > places.new_trimmed)]
    free = [seq for seq in free if seq < places.new_position]
    limit = places.new_released if places.retains else places.new_position
    connection.executemany(_FREE, ((seq, places.needing(seq), limit) for seq in free))
    places.new_ended = [seq for seq in ended if seq < places.new_position]
    places.new_loose = len(loose)
    places.new_last = [seq for seq in loose if seq >= places.new_position]
    return len(released)


def _release(
    connection: apsw.Connection, places: DestinationCursors, count: int, before: float
) -> list[int]:
    """Return the next rows that need not be retained any more, the oldest first.

    The last row of the log stays, so it is not among them.
    """
    values = (places.new_released, places.new_position, count)
    rows = takewhile(lambda row: row[1] < before, fetch(connection, _OLDEST, values))
    released = [seq for seq, _ in rows]
    if released:
        places.new_released = released[-1]
    return released


def trimmable(places: DestinationCursors) -> int:
    """Return how many log rows could be deleted now, at most."""
    return max(0, places.deletable() - places.trimmed) + len(places.ended) + len(places.loose)


class SpaceGauge:
    """The used bytes of the file: measured now and then, never underestimated."""

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes
        self.reserve = 0 if max_bytes is None else min(RESERVE, max_bytes // 16)
        """Bytes below ``max_bytes`` at which the store counts as full. They leave room for any
        accepted request and for the outcomes of deliveries."""
        self.bytes = 0
        self.pages = self.free_pages = 0
        """Pages of the file, and those of them that are free, by the last measurement."""
        self._page_size = 0

    def measure(self, connection: apsw.Connection) -> None:
        """Read the numbers of pages."""
        self._page_size = self._page_size or connection.pragma("page_size")
        self.pages = connection.pragma("page_count")
        self.free_pages = connection.pragma("freelist_count")
        self.bytes = (self.pages - self.free_pages) * self._page_size

    @property
    def free(self) -> int:
        """Return the bytes left below the limit."""
        return 0 if self.max_bytes is None else max(0, self.max_bytes - self.reserve - self.bytes)

    @property
    def full(self) -> bool:
        """Return whether the limit is reached, by the last measurement."""
        return self.max_bytes is not None and not self.free

    @property
    def tight(self) -> bool:
        """Return whether so much is used that a destination may exceed its share."""
        return self.excess > 0

    @property
    def excess(self) -> int:
        """Return how many bytes above half of the limit are used."""
        return 0 if self.max_bytes is None else max(0, self.bytes - self.max_bytes // 2)

    def has_room(self, connection: apsw.Connection, size: int) -> bool:
        """Return whether a row of ``size`` bytes fits below the limit, and count it if so.

        Pages are at least half full of rows, hence the factor of two.
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


def shrink(connection: apsw.Connection, gauge: SpaceGauge, *, all_of_it: bool = False) -> bool:
    """Return some free pages at the file's end to the disk; return whether there are more.

    Some free pages stay for the next appends, unless the disk is full and needs ``all_of_it``.
    The *gauge* has just measured the file.
    """
    if gauge.free_pages <= (0 if all_of_it else max(4 * PAGES, gauge.pages // 8)):
        return False
    fetch(connection, f"PRAGMA incremental_vacuum({PAGES})")
    return True
