"""The writer's state in memory: per destination, its cursor and the next entries after it.

Each destination has counts of all its pending entries, but only the first of them in memory. When
the cursor reaches the end of these, the next page is read from the log. So a backlog of any length
costs the same memory.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from gateway.errors import SpoolError
from gateway.spool.rows import targets_of
from gateway.spool.sqlite.database import MOVED, mask_bit
from gateway.spool.values import BacklogLimit
from gateway.sqlite import fetch

MAX_ENTRIES = 16_384
"""Most entries after the cursor that are added to memory; further ones are only counted."""
PAGE = 1024
"""Entries read from the log at once."""
_COMPACT = 4096
"""Passed entries at the front of the arrays at which they are compacted."""

_NEXT = """
    SELECT seq, deliveries(meta, ?1), length(meta) + length(body) FROM log
    WHERE seq > ?2 AND mask & ?3 <> 0 AND deliveries(meta, ?1) > 0 ORDER BY seq LIMIT ?4
"""
_IS_TARGET = "SELECT 1 FROM log WHERE seq = ?2 AND mask <> 0 AND deliveries(meta, ?1) > 0"
_EXCEPTIONS_OF = """
    SELECT seq FROM waiting WHERE destination = ?1 AND seq > ?3 AND seq <= ?4
    UNION ALL SELECT seq FROM letter WHERE destination = ?2 AND seq > ?3 AND seq <= ?4
    UNION ALL SELECT seq FROM ended WHERE destination = ?1 AND seq > ?3 AND seq <= ?4
"""


class DestinationCursor:
    """One destination's part of the log: its entries after the cursor, in log order.

    A field with a ``new_`` twin has the committed value; the twin has the value after the current
    transaction. ``coming`` counts the entries that the transaction will add. Only the writer thread
    changes these fields. The loop reads ``cursor``, ``backlog`` and ``first``, which uses
    ``_shown``; that tuple is always replaced as a whole.

    ``backlog``, ``pending`` and ``bytes`` count all entries after the cursor. The arrays hold the
    first of these entries: all, or at least one. They end before the first entry that is only
    counted.
    """

    def __init__(self, name: str, number: int, cursor: int) -> None:
        self.name = name
        self.number = number
        self.bit = mask_bit(number)
        self.bounds: BacklogLimit | None = None
        self.cursor = self.new_cursor = cursor
        self.waiting = self.new_waiting = 0
        """Number of waiting deliveries."""
        self.dead = self.new_dead = 0
        """Number of dead letters."""
        self.backlog = self.new_backlog = 0
        """Number of entries after the cursor that target this destination."""
        self.pending = self.new_pending = 0
        """Number of deliveries of these entries that are neither finished nor exceptions."""
        self.coming = 0
        self.bytes = self.new_bytes = 0
        """Bytes of these entries."""
        self.evicted = self.new_evicted = 0
        """Number of the last eviction notice for this destination."""
        self.reported = self.new_reported = 0
        """The cursor of the worker's last report: nothing at or before it is in flight."""
        self._seqs = array("q")
        self._open = array("i")
        """For each entry, the number of deliveries that are neither finished nor exceptions."""
        self._sizes = array("I")
        """For each entry, its bytes."""
        self._head = self._durable = 0
        self._shown = (self._seqs, 0)
        self._left: list[int] = []
        self._passed: list[int] = []

    @property
    def in_memory(self) -> int:
        """Return the number of entries after the new cursor that are in memory."""
        return len(self._seqs) - self._head

    def first(self) -> int | None:
        """Return the seq of the first entry after the cursor that targets this destination."""
        seqs, head = self._shown
        return seqs[head] if head < len(seqs) else None

    def ahead(self, connection: apsw.Connection, count: int) -> list[int]:
        """Return the seqs of the first ``count`` entries after the new cursor."""
        while self.in_memory < count and self._read_page(connection):
            pass
        return self._seqs[self._head : self._head + count].tolist()

    def excess(self) -> int:
        """Return how far pending and coming entries together exceed ``max_backlog``."""
        if self.bounds is None or self.bounds.max_backlog is None:
            return 0
        return self.new_backlog + self.coming + self.new_waiting - self.bounds.max_backlog

    def refuses(self) -> bool:
        """Return whether one more entry must be refused."""
        bounds = self.bounds
        if bounds is None or bounds.max_backlog is None or bounds.overflow != "refuse":
            return False
        return self.excess() >= 0

    def _find(self, seq: int) -> int | None:
        at = bisect_left(self._seqs, seq, self._head)
        return at if at < len(self._seqs) and self._seqs[at] == seq else None

    def has(self, connection: apsw.Connection, seq: int) -> bool:
        """Return whether an entry is after the new cursor and targets this destination."""
        if self._find(seq) is not None:
            return True
        if self.in_memory == self.new_backlog or seq < self._seqs[-1]:
            return False
        return bool(fetch(connection, _IS_TARGET, (self.name, seq)))

    def count_of(self, size: int, most: int) -> int:
        """Estimate how many entries take *size* bytes; at most *most*."""
        return min(most, 1 + (size * self.backlog // self.bytes if self.bytes else most))

    def add(self, seq: int, deliveries: int, size: int) -> bool:
        """Add an entry at the end of the log; return whether it is after the new cursor."""
        if seq <= self.new_cursor:
            return False
        if self.in_memory == self.new_backlog < MAX_ENTRIES:
            self._append(seq, deliveries, size)
        self.new_backlog += 1
        self.new_bytes += size
        self.new_pending += deliveries
        return True

    def _append(self, seq: int, deliveries: int, size: int) -> None:
        self._seqs.append(seq)
        self._open.append(deliveries)
        self._sizes.append(size)

    def _read_page(self, connection: apsw.Connection) -> bool:
        """Read the next entries from the log; return whether there were any."""
        if self.in_memory == self.new_backlog:
            return False
        after = self._seqs[-1]
        rows = fetch(connection, _NEXT, (self.name, after, self.bit, PAGE))
        if rows:
            values = (self.number, self.name, after, rows[-1][0])
            exceptions = Counter(seq for (seq,) in fetch(connection, _EXCEPTIONS_OF, values))
            for seq, deliveries, size in rows:
                self._append(seq, deliveries - exceptions[seq], size)
        if len(rows) < PAGE:  # a row that vanished must show in the balance
            self.new_backlog = self.in_memory
            self.new_pending = sum(self._open[self._head :])
            self.new_bytes = sum(self._sizes[self._head :])
        return bool(rows)

    def leave(self, seq: int) -> None:
        """Record that a delivery of an entry after the cursor finished or became an exception."""
        self.new_pending -= 1
        if (at := self._find(seq)) is not None:
            self._left.append(at)
            self._open[at] -= 1

    def shrink(self, seq: int, size: int) -> None:
        """Record that an entry after the cursor is *size* bytes smaller now."""
        if self._find(seq) is None:  # else its old size is subtracted once it is passed
            self.new_bytes -= size

    def advance(self, connection: apsw.Connection, cursor: int) -> bool:
        """Move the cursor; return whether it moved."""
        if cursor <= self.new_cursor:
            return False
        begin, end = self._head, bisect_right(self._seqs, cursor, self._head)
        while end == len(self._seqs) and self._read_page(connection):
            end = bisect_right(self._seqs, cursor, end)
        self.new_cursor, self._head = cursor, end
        self._passed += self._seqs[begin:end].tolist()
        self.new_backlog -= end - begin
        self.new_bytes -= sum(self._sizes[begin:end])
        self.new_pending -= sum(self._open[begin:end])
        return True

    def commit(self) -> list[int]:
        """Accept the changes of the transaction; return the entries that the cursor passed."""
        self.evicted, self.reported = self.new_evicted, self.new_reported
        self.waiting, self.dead, self.coming = self.new_waiting, self.new_dead, 0
        self.backlog, self.pending = self.new_backlog, self.new_pending
        self.cursor, self.bytes = self.new_cursor, self.new_bytes
        if self._head > _COMPACT and self._head * 2 > len(self._seqs):
            self._seqs, self._open = self._seqs[self._head :], self._open[self._head :]
            self._sizes = self._sizes[self._head :]
            self._head = 0
        self._durable = len(self._seqs)
        self._shown = (self._seqs, self._head)
        self._left.clear()
        passed, self._passed = self._passed, []
        return passed

    def rollback(self) -> None:
        """Undo the changes of the transaction."""
        self.new_evicted, self.new_reported = self.evicted, self.reported
        self.new_waiting, self.new_dead, self.coming = self.waiting, self.dead, 0
        self.new_backlog, self.new_pending = self.backlog, self.pending
        self.new_cursor, self.new_bytes = self.cursor, self.bytes
        for at in self._left:
            self._open[at] += 1
        del self._seqs[self._durable :], self._open[self._durable :], self._sizes[self._durable :]
        self._head = self._shown[1]
        self._left.clear()
        self._passed = []


class DestinationCursors:
    """The cursors of all known destinations, and both ends of the log."""

    def __init__(self) -> None:
        self.by_name: dict[str, DestinationCursor] = {}
        self.position = self.new_position = 0
        self.evictions = self.new_evictions = 0
        """Number of the last eviction."""
        self.trimmed = self.new_trimmed = 0
        """Rows up to here are deleted, or stay for a waiting delivery."""
        self.ended: set[int] = set()
        """Seqs where a delivery no longer waits, so that the row may be deletable."""
        self.loose: deque[int] = deque()
        """Seqs that a destination passed while another destination is further back."""
        self.retains = False
        """Whether rows stay after all destinations have passed them."""
        self.released = self.new_released = 0
        """Rows up to here need not be retained any more."""
        self.transient: set[int] = set()
        """Pending rows that are not retained."""
        self._forget_looks()

    def _forget_looks(self) -> None:
        self.new_ended: list[int] = []
        self.new_loose = 0
        """The part of both that the transaction has handled."""
        self.new_last: list[int] = []
        """The last row of the log if it is among them: it must stay while it is the last."""

    def __getitem__(self, name: str) -> DestinationCursor:
        try:
            return self.by_name[name]
        except KeyError:
            raise SpoolError(f"unknown destination {name!r}; register it first") from None

    def load(self, connection: apsw.Connection) -> None:
        """Read everything from the store; the registered limits stay.

        The loop may read the places meanwhile, so they are replaced once the new ones are complete.
        """
        rows = fetch(connection, "SELECT name, number, cursor FROM destination")
        places = {name: DestinationCursor(name, number, cursor) for name, number, cursor in rows}
        for place in places.values():
            known = self.by_name.get(place.name)
            if known is not None:
                place.bounds, place.new_evicted = known.bounds, known.evicted
                place.new_reported = known.reported
        self.loose = deque(_fill(connection, places, self.transient))
        for place in places.values():
            place.commit()
        self.by_name = places
        self.recount(connection)
        self.rescan(connection)
        self.commit()

    def recount(self, connection: apsw.Connection) -> None:
        """Read the end of the log, and count waiting deliveries and dead letters."""
        ((end,),) = fetch(connection, "SELECT coalesce(max(seq), 0) FROM log")
        self.position = self.new_position = end
        waiting: dict[int, int] = dict(
            fetch(connection, "SELECT destination, count(*) FROM waiting GROUP BY destination")
        )
        dead: dict[str, int] = dict(
            fetch(connection, "SELECT destination, count(*) FROM letter GROUP BY destination")
        )
        for place in self.by_name.values():
            place.waiting = place.new_waiting = waiting.get(place.number, 0)
            place.dead = place.new_dead = dead.get(place.name, 0)

    def rescan(self, connection: apsw.Connection) -> None:
        """Start trimming again at the first row of the log."""
        query = "SELECT coalesce(min(seq) - 1, 0) FROM log"
        ((start,),) = fetch(connection, query)
        self.trimmed = self.new_trimmed = start
        self.released = self.new_released = max(start, self.released)

    def passed(self) -> int:
        """Return the last seq that every destination has passed and that may be deleted.

        The last row of the log always stays, so that SQLite never assigns a seq twice.
        """
        firsts = [first for place in self.by_name.values() if (first := place.first()) is not None]
        return min([*firsts, self.position]) - 1

    def deletable(self) -> int:
        """Return the last seq up to which all rows may be deleted."""
        passed = self.passed()
        return min(passed, self.new_released) if self.retains else passed

    def needing(self, seq: int) -> int:
        """Return the bits of the destinations that still need the entry if they are its targets."""
        bits = 0
        for place in self.by_name.values():
            if place.new_cursor < seq:
                bits |= place.bit
        return bits

    def evict(self, place: DestinationCursor) -> None:
        """Record an eviction of deliveries of a destination."""
        self.new_evictions += 1
        place.new_evicted = self.new_evictions

    def commit(self) -> None:
        """Accept the changes of the transaction."""
        self.evictions = self.new_evictions
        self.trimmed, self.position = self.new_trimmed, self.new_position
        passed = [place.commit() for place in self.by_name.values()]
        behind = self.passed()
        self.released = self.new_released
        for seqs in passed:
            if self.retains:
                self.loose.extend(self._freed(seqs, behind))
            else:
                self.loose.extend(seq for seq in seqs if seq > behind)
        for _ in range(self.new_loose):
            self.loose.popleft()
        self.loose.extend(self.new_last)
        self.ended.difference_update(self.new_ended)
        self._forget_looks()

    def _freed(self, seqs: Iterable[int], behind: int) -> Iterator[int]:
        """Yield those of *seqs*, which a destination has passed, that need not be retained."""
        for seq in seqs:
            if seq in self.transient:
                if not self.needing(seq):
                    self.transient.discard(seq)
                yield seq
            elif behind < seq <= self.released:
                yield seq

    def rollback(self) -> None:
        """Undo the changes of the transaction."""
        self.new_released = self.released
        self.new_trimmed, self.new_position = self.trimmed, self.position
        self.new_evictions = self.evictions
        self._forget_looks()
        for place in self.by_name.values():
            place.rollback()


_EXCEPTIONS = [
    f"""
    SELECT name, seq FROM {table} JOIN destination ON {key} = {table}.destination
    JOIN log USING (seq) WHERE seq > cursor AND mask <> 0 AND deliveries(meta, name) > 0
    """  # noqa: S608 - all parts are constants
    for table, key in (("waiting", "number"), ("letter", "name"), ("ended", "number"))
]
"""Exceptions after the cursors, without replays and entries that a destination refused."""


def _fill(
    connection: apsw.Connection, places: dict[str, DestinationCursor], transient: set[int]
) -> list[int]:
    """Add all pending entries to the places; return the entries that no place needs.

    Those that are not retained are added to *transient*.
    """
    start = min((place.cursor for place in places.values()), default=None)
    if start is None:
        return []
    query = "SELECT seq, mask, meta, length(body) FROM log WHERE seq > ? AND mask <> 0 ORDER BY seq"
    meta: Any
    seq: Any
    mask: Any
    body: Any
    loose: list[int] = []
    for seq, mask, meta, body in connection.execute(
        query, (start,)
    ):  # row by row: there can be many
        pending = False
        for target, numbers in targets_of(meta).items():
            if target in places:
                pending |= places[target].add(seq, len(numbers), len(meta) + body)
        if not pending:
            loose.append(seq)
        elif mask < 0 or mask >= MOVED:
            transient.add(seq)
    name: Any
    for query in _EXCEPTIONS:
        for name, seq in connection.execute(query):
            places[name].leave(seq)
    return loose
