"""What the writer knows in memory: per destination, the entries that are still to be passed."""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from gateway.errors import SpoolError
from gateway.spool.rows import whither
from gateway.spool.store import bit, fetch
from gateway.spool.values import Bounds

_COMPACT = 4096
"""Passed places at the front of a stretch that are worth giving back."""
_IN_FLIGHT = 65_536
"""Evicted entries that are remembered, where the worker does not say what it has left."""


class Stretch:
    """The entries of one source that a destination has still to pass, in the order of the log.

    The writer's thread changes it, the loop looks at it: what the loop uses (``pending``,
    ``first``) comes from ``_shown``, which is replaced as a whole.
    """

    def __init__(self, position: int = 0) -> None:
        self.position = self.new_position = position
        """The source's own position, of consequence where it is ahead of the cursor."""
        self.seqs = array("q")
        self.open = array("i")
        """For each entry, how many of its deliveries are neither finished nor exceptions."""
        self.sizes = array("I")
        """For each entry, how many bytes it takes."""
        self.new_head = 0
        self._shown = (self.seqs, 0)
        self._durable = 0

    def first(self) -> int | None:
        """Return the seq of the first entry to be passed."""
        seqs, head = self._shown
        return seqs[head] if head < len(seqs) else None

    def pending(self, after: int, upto: int, limit: int) -> list[int]:
        """Return the seqs of the first ``limit`` entries past ``after`` and up to ``upto``."""
        seqs, head = self._shown
        start = bisect_right(seqs, after, min(head, len(seqs)))
        return [seq for seq in seqs[start : start + limit] if seq <= upto]

    def ahead(self, count: int) -> list[int]:
        """Return the seqs of the first ``count`` entries past the position to be."""
        return self.seqs[self.new_head : self.new_head + count].tolist()

    def find(self, seq: int) -> int | None:
        """Return where an entry that is still to be passed stands here."""
        at = bisect_left(self.seqs, seq, self.new_head)
        return at if at < len(self.seqs) and self.seqs[at] == seq else None

    def has(self, seq: int) -> bool:
        """Say whether an entry is still to be passed."""
        return self.find(seq) is not None

    def left(self) -> list[int]:
        """Return the entries that are still to be passed."""
        return self.seqs[self.new_head :].tolist()

    def add(self, seq: int, deliveries: int, size: int) -> None:
        """Take note of an entry in the log."""
        self.seqs.append(seq)
        self.open.append(deliveries)
        self.sizes.append(size)

    def pass_to(self, seq: int) -> tuple[list[int], int, int]:
        """Pass what stands at or before ``seq``; return it, its open deliveries and its bytes."""
        begin, head = self.new_head, bisect_right(self.seqs, seq, self.new_head)
        self.new_head = head
        passed = self.seqs[begin:head].tolist()
        return passed, sum(self.open[begin:head]), sum(self.sizes[begin:head])

    def commit(self) -> None:
        """The transaction at hand is durable."""
        self.position = self.new_position
        if self.new_head > _COMPACT and self.new_head * 2 > len(self.seqs):
            self.seqs, self.open = self.seqs[self.new_head :], self.open[self.new_head :]
            self.sizes = self.sizes[self.new_head :]
            self.new_head = 0
        self._durable = len(self.seqs)
        self._shown = (self.seqs, self.new_head)

    def rollback(self) -> None:
        """The transaction at hand did not happen."""
        self.new_position = self.position
        self.new_head = self._shown[1]
        del self.seqs[self._durable :]
        del self.open[self._durable :], self.sizes[self._durable :]


class Lane:
    """One destination's part of the log.

    What has a ``new_`` twin mirrors the store as committed; the twin is what the transaction at
    hand would make of it. ``coming`` counts the entries that it is about to add.
    """

    def __init__(self, name: str, number: int, cursor: int) -> None:
        self.name = name
        self.number = number
        self.bit = bit(number)
        self.bounds: Bounds | None = None
        self.cursor = self.new_cursor = cursor
        self.waiting = self.new_waiting = 0
        """Deliveries that wait."""
        self.dead = self.new_dead = 0
        """Dead letters."""
        self.backlog = self.new_backlog = 0
        """Entries past the positions that target this destination."""
        self.pending = self.new_pending = 0
        """Deliveries of these entries that are neither finished nor exceptions."""
        self.coming = 0
        self.bytes = self.new_bytes = 0
        """Bytes of these entries."""
        self.evicted: dict[int, None] = {}
        """Entries of which the spool took deliveries that the worker may have in flight."""
        self._reported = 0
        self.new_reported = 0
        """The cursor that the worker reports: everything before it has left its hands."""
        self.stretches: dict[str, Stretch] = {}
        self._touched: set[str] = set()
        self._left: list[tuple[str, int]] = []
        self._passed: list[int] = []

    def first(self) -> int | None:
        """Return the seq of the first entry past its position that targets this destination."""
        firsts = (stretch.first() for stretch in list(self.stretches.values()))
        return min((seq for seq in firsts if seq is not None), default=None)

    def places(self, after: int, upto: int, limit: int, source: str | None = None) -> list[int]:
        """Return the seqs of the first pending entries past ``after`` and up to ``upto``."""
        if source is not None:
            stretch = self.stretches.get(source)
            return stretch.pending(after, upto, limit) if stretch else []
        found: list[int] = []
        for stretch in list(self.stretches.values()):
            found += stretch.pending(after, upto, limit)
        return sorted(found)[:limit]

    def sources(self) -> dict[str, int]:
        """Return each source that has pending entries, and its position."""
        return {
            source: max(self.cursor, stretch.position)
            for source, stretch in list(self.stretches.items())
            if stretch.first() is not None
        }

    def ahead(self, count: int) -> list[int]:
        """Return the seqs of the first ``count`` entries past the positions to be."""
        found: list[int] = []
        for stretch in self.stretches.values():
            found += stretch.ahead(count)
        return sorted(found)[:count]

    def excess(self) -> int:
        """Return how far what is pending, with all that is coming, exceeds ``max_backlog``."""
        if self.bounds is None or self.bounds.max_backlog is None:
            return 0
        return self.new_backlog + self.coming + self.new_waiting - self.bounds.max_backlog

    def refuses(self) -> bool:
        """Say whether one more entry is to be refused."""
        bounds = self.bounds
        if bounds is None or bounds.max_backlog is None or bounds.overflow != "refuse":
            return False
        return self.excess() >= 0

    def has(self, seq: int) -> bool:
        """Say whether an entry is still to be passed."""
        return any(stretch.has(seq) for stretch in self.stretches.values())

    def count_of(self, size: int, most: int) -> int:
        """Return about how many entries take *size* bytes, but no more than *most*."""
        return min(most, 1 + (size * self.backlog // self.bytes if self.bytes else most))

    def left(self) -> list[int]:
        """Return the entries that are still to be passed."""
        return [seq for stretch in self.stretches.values() for seq in stretch.left()]

    def add(self, seq: int, source: str, deliveries: int, size: int) -> bool:
        """Take note of an entry in the log; say whether it is still to be passed."""
        stretch = self._stretch(source)
        if seq <= max(self.new_cursor, stretch.new_position):
            return False
        stretch.add(seq, deliveries, size)
        self.new_backlog += 1
        self.new_bytes += size
        self.new_pending += deliveries
        return True

    def _stretch(self, source: str) -> Stretch:
        self._touched.add(source)
        stretch = self.stretches.get(source)
        if stretch is None:
            stretch = self.stretches[source] = Stretch()
        return stretch

    def source_of(self, seq: int) -> str | None:
        """Return the source of an entry that is still to be passed; None for any other."""
        for source, stretch in self.stretches.items():
            if stretch.find(seq) is not None:
                return source
        return None

    def leave(self, seq: int) -> None:
        """Note that a delivery of the entry is open no more: it ended, or is an exception."""
        for source, stretch in self.stretches.items():
            if (at := stretch.find(seq)) is not None:
                self._touched.add(source)
                self._left.append((source, at))
                stretch.open[at] -= 1
                self.new_pending -= 1

    def advance(self, cursor: int) -> bool:
        """Move the position of all sources; say whether it moved."""
        if cursor <= self.new_cursor:
            return False
        self.new_cursor = cursor
        for source in self.stretches:
            self._pass(source, cursor)
        return True

    def advance_source(self, source: str, position: int) -> bool:
        """Move the position of one source; say whether it moved."""
        stretch = self.stretches.get(source)
        if position <= max(self.new_cursor, stretch.new_position if stretch else 0):
            return False
        self._stretch(source).new_position = position
        self._pass(source, position)
        return True

    def _pass(self, source: str, position: int) -> None:
        entries, deliveries, size = self.stretches[source].pass_to(position)
        if entries:
            self._touched.add(source)
            self._passed += entries
            self.new_bytes -= size
            self.new_backlog -= len(entries)
            self.new_pending -= deliveries

    def positions(self) -> Iterator[tuple[str, int]]:
        """Yield the sources that have positions of their own ahead of the cursor, with these."""
        for source, stretch in self.stretches.items():
            if stretch.new_position > self.new_cursor:
                yield source, stretch.new_position

    def evict(self, seqs: Iterable[int]) -> None:
        """Note that deliveries of these entries are taken from the worker."""
        self.evicted.update(dict.fromkeys(seqs))
        while len(self.evicted) > _IN_FLIGHT:
            del self.evicted[next(iter(self.evicted))]

    def commit(self) -> list[int]:
        """The transaction at hand is durable; return the entries that it passed."""
        if self.new_reported:
            self._forget_evicted()
        self.waiting, self.dead, self.coming = self.new_waiting, self.new_dead, 0
        self.backlog, self.pending = self.new_backlog, self.new_pending
        self.cursor, self.bytes = self.new_cursor, self.new_bytes
        for source in self._touched:
            self.stretches[source].commit()
        self._touched.clear()
        self._left.clear()
        passed, self._passed = self._passed, []
        return passed

    def _forget_evicted(self) -> None:
        """Forget what had left the worker's hands one report ago: it has been claimed by now."""
        while self.evicted and (seq := next(iter(self.evicted))) <= self._reported:
            del self.evicted[seq]
        self._reported, self.new_reported = self.new_reported, 0

    def rollback(self) -> None:
        """The transaction at hand did not happen."""
        self.new_reported = 0
        self.new_waiting, self.new_dead, self.coming = self.waiting, self.dead, 0
        self.new_backlog, self.new_pending = self.backlog, self.pending
        self.new_cursor, self.new_bytes = self.cursor, self.bytes
        self._passed = []
        for source, at in self._left:
            self.stretches[source].open[at] += 1
        for source in self._touched:
            self.stretches[source].rollback()
        self._touched.clear()
        self._left.clear()


class Lanes:
    """Every known destination's lane, and the ends of the log."""

    def __init__(self) -> None:
        self.by_name: dict[str, Lane] = {}
        self.position = self.new_position = 0
        self.trimmed = self.new_trimmed = 0
        """Rows up to here are gone, or stay because a delivery of theirs waits."""
        self.ended: set[int] = set()
        """Seqs where a delivery waits no more, so that the row may be free."""
        self.loose: deque[int] = deque()
        """Seqs that a destination passed before another one that is still further back."""
        self._forget_looks()

    def _forget_looks(self) -> None:
        self.new_ended: list[int] = []
        self.new_loose = 0
        """What of both the transaction at hand has looked at."""
        self.new_last: list[int] = []
        """The last row, where it is among these: it stays until it is the last no more."""

    def __getitem__(self, name: str) -> Lane:
        try:
            return self.by_name[name]
        except KeyError:
            raise SpoolError(
                f"destination {name!r} is unknown to the spool; register it first"
            ) from None

    def load(self, connection: apsw.Connection) -> None:
        """Read everything from the store, keeping the bounds that were registered.

        The loop may look at the lanes meanwhile, so the new ones take their place when complete.
        """
        rows = fetch(connection, "SELECT name, number, cursor FROM destination")
        lanes = {name: Lane(name, number, cursor) for name, number, cursor in rows}
        for lane in lanes.values():
            known = self.by_name.get(lane.name)
            if known is not None:
                lane.bounds, lane.evicted = known.bounds, known.evicted
        self.loose = deque(_fill(connection, lanes))
        for lane in lanes.values():
            lane.commit()
        self.by_name = lanes
        self.recount(connection)
        self.rescan(connection)
        self.commit()

    def recount(self, connection: apsw.Connection) -> None:
        """Read the end of the log, and how many deliveries wait or are dead letters."""
        ((end,),) = fetch(connection, "SELECT coalesce(max(seq), 0) FROM log")
        self.position = self.new_position = end
        waiting: dict[int, int] = dict(
            fetch(connection, "SELECT destination, count(*) FROM waiting GROUP BY destination")
        )
        dead: dict[str, int] = dict(
            fetch(connection, "SELECT destination, count(*) FROM letter GROUP BY destination")
        )
        for lane in self.by_name.values():
            lane.waiting = lane.new_waiting = waiting.get(lane.number, 0)
            lane.dead = lane.new_dead = dead.get(lane.name, 0)

    def rescan(self, connection: apsw.Connection) -> None:
        """Let trimming look at the whole log again."""
        query = "SELECT coalesce(min(seq) - 1, 0) FROM log"
        ((start,),) = fetch(connection, query)
        self.trimmed = self.new_trimmed = start

    def passed(self) -> int:
        """Return the last seq that no destination has still to pass and that may be trimmed.

        The last row of the log always stays, so that SQLite never gives a seq twice.
        """
        firsts = [first for lane in self.by_name.values() if (first := lane.first()) is not None]
        return min([*firsts, self.position]) - 1

    def wanted(self, seq: int) -> bool:
        """Say whether a destination is still to pass an entry."""
        return any(lane.has(seq) for lane in self.by_name.values())

    def commit(self) -> None:
        """The transaction at hand is durable."""
        self.trimmed, self.position = self.new_trimmed, self.new_position
        passed = [lane.commit() for lane in self.by_name.values()]
        behind = self.passed()
        for seqs in passed:
            self.loose.extend(seq for seq in seqs if seq > behind)
        for _ in range(self.new_loose):
            self.loose.popleft()
        self.loose.extend(self.new_last)
        self.ended.difference_update(self.new_ended)
        self._forget_looks()

    def rollback(self) -> None:
        """The transaction at hand did not happen."""
        self.new_trimmed, self.new_position = self.trimmed, self.position
        self._forget_looks()
        for lane in self.by_name.values():
            lane.rollback()


_EXCEPTIONS = (
    "SELECT name, seq FROM waiting JOIN destination ON number = destination WHERE seq > cursor",
    """
    SELECT name, seq FROM letter JOIN destination ON name = letter.destination WHERE seq > cursor
    """,
    "SELECT name, seq FROM ended JOIN destination ON number = destination WHERE seq > cursor",
)


def _fill(connection: apsw.Connection, lanes: dict[str, Lane]) -> list[int]:
    """Let the lanes know all that is pending; return the entries that no lane has to pass."""
    query = "SELECT name, source, seq FROM position JOIN destination ON number = destination"
    for row in fetch(connection, query):
        lanes[row[0]].advance_source(*row[1:])
    start = min((lane.cursor for lane in lanes.values()), default=None)
    if start is None:
        return []
    query = "SELECT seq, meta, length(body) FROM log WHERE seq > ? AND mask <> 0 ORDER BY seq"
    meta: Any
    seq: Any
    body: Any
    loose: list[int] = []
    for seq, meta, body in connection.execute(query, (start,)):  # one by one: it can be long
        targets, source = whither(meta)
        pending = False
        for target, numbers in targets.items():
            if target in lanes:
                pending |= lanes[target].add(seq, source, len(numbers), len(meta) + body)
        if not pending:
            loose.append(seq)
    name: Any
    for query in _EXCEPTIONS:
        for name, seq in connection.execute(query):
            lanes[name].leave(seq)
    return loose
