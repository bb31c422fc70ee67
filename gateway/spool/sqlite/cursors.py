"""What the writer knows in memory: per destination, the entries that are still to be passed."""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from typing import Any

import apsw

from gateway.errors import SpoolError
from gateway.spool.sqlite.database import mask_bit, targets_of
from gateway.spool.values import BacklogLimit
from gateway.sqlite import fetch

_COMPACT = 4096
"""Passed places at the front of a lane that are worth giving back."""


class DestinationCursor:
    """One destination's part of the log: the entries that it has still to pass, in their order.

    What has a ``new_`` twin mirrors the store as committed; the twin is what the transaction at
    hand would make of it. ``coming`` counts the entries that it is about to add. The writer's
    thread changes all this; the loop looks at ``cursor``, ``backlog`` and ``first``, which comes
    from ``_shown``, which is replaced as a whole.
    """

    def __init__(self, name: str, number: int, cursor: int) -> None:
        self.name = name
        self.number = number
        self.bit = mask_bit(number)
        self.bounds: BacklogLimit | None = None
        self.cursor = self.new_cursor = cursor
        self.waiting = self.new_waiting = 0
        """Deliveries that wait."""
        self.dead = self.new_dead = 0
        """Dead letters."""
        self.backlog = 0
        """Entries past the cursor that target this destination."""
        self.pending = self.new_pending = 0
        """Deliveries of these entries that are neither finished nor exceptions."""
        self.coming = 0
        self.bytes = self.new_bytes = 0
        """Bytes of these entries."""
        self.evicted = self.new_evicted = 0
        """The number of the last notice that deliveries were taken from the worker."""
        self.reported = self.new_reported = 0
        """The cursor that the worker reported: everything before it has left its hands."""
        self._seqs = array("q")
        self._open = array("i")
        """For each entry, how many of its deliveries are neither finished nor exceptions."""
        self._sizes = array("I")
        """For each entry, how many bytes it takes."""
        self._head = self._durable = 0
        self._shown = (self._seqs, 0)
        self._left: list[int] = []
        self._passed: list[int] = []

    @property
    def new_backlog(self) -> int:
        """Return how many entries are past the cursor to be."""
        return len(self._seqs) - self._head

    def first(self) -> int | None:
        """Return the seq of the first entry past the cursor that targets this destination."""
        seqs, head = self._shown
        return seqs[head] if head < len(seqs) else None

    def ahead(self, count: int) -> list[int]:
        """Return the seqs of the first ``count`` entries past the cursor to be."""
        return self._seqs[self._head : self._head + count].tolist()

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

    def _find(self, seq: int) -> int | None:
        at = bisect_left(self._seqs, seq, self._head)
        return at if at < len(self._seqs) and self._seqs[at] == seq else None

    def has(self, seq: int) -> bool:
        """Say whether an entry is still to be passed."""
        return self._find(seq) is not None

    def count_of(self, size: int, most: int) -> int:
        """Return about how many entries take *size* bytes, but no more than *most*."""
        return min(most, 1 + (size * self.backlog // self.bytes if self.bytes else most))

    def left(self) -> list[int]:
        """Return the entries that are still to be passed."""
        return self._seqs[self._head :].tolist()

    def add(self, seq: int, deliveries: int, size: int) -> bool:
        """Take note of an entry in the log; say whether it is still to be passed."""
        if seq <= self.new_cursor:
            return False
        self._seqs.append(seq)
        self._open.append(deliveries)
        self._sizes.append(size)
        self.new_bytes += size
        self.new_pending += deliveries
        return True

    def leave(self, seq: int) -> None:
        """Note that a delivery of the entry is open no more: it ended, or is an exception."""
        if (at := self._find(seq)) is not None:
            self._left.append(at)
            self._open[at] -= 1
            self.new_pending -= 1

    def advance(self, cursor: int) -> bool:
        """Move the cursor; say whether it moved."""
        if cursor <= self.new_cursor:
            return False
        begin, end = self._head, bisect_right(self._seqs, cursor, self._head)
        self.new_cursor, self._head = cursor, end
        self._passed += self._seqs[begin:end].tolist()
        self.new_bytes -= sum(self._sizes[begin:end])
        self.new_pending -= sum(self._open[begin:end])
        return True

    def commit(self) -> list[int]:
        """The transaction at hand is durable; return the entries that it passed."""
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
        """The transaction at hand did not happen."""
        self.new_evicted, self.new_reported = self.evicted, self.reported
        self.new_waiting, self.new_dead, self.coming = self.waiting, self.dead, 0
        self.new_pending = self.pending
        self.new_cursor, self.new_bytes = self.cursor, self.bytes
        for at in self._left:
            self._open[at] += 1
        del self._seqs[self._durable :], self._open[self._durable :], self._sizes[self._durable :]
        self._head = self._shown[1]
        self._left.clear()
        self._passed = []


class DestinationCursors:
    """Every known destination's lane, and the ends of the log."""

    def __init__(self) -> None:
        self.by_name: dict[str, DestinationCursor] = {}
        self.position = self.new_position = 0
        self.evictions = self.new_evictions = 0
        """How often something was taken from a worker: each time has a number."""
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

    def __getitem__(self, name: str) -> DestinationCursor:
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
        lanes = {name: DestinationCursor(name, number, cursor) for name, number, cursor in rows}
        for lane in lanes.values():
            known = self.by_name.get(lane.name)
            if known is not None:
                lane.bounds, lane.new_evicted = known.bounds, known.evicted
                lane.new_reported = known.reported
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

    def evict(self, lane: DestinationCursor) -> None:
        """Note that deliveries are taken from a destination's worker."""
        self.new_evictions += 1
        lane.new_evicted = self.new_evictions

    def commit(self) -> None:
        """The transaction at hand is durable."""
        self.evictions = self.new_evictions
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
        self.new_evictions = self.evictions
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


def _fill(connection: apsw.Connection, lanes: dict[str, DestinationCursor]) -> list[int]:
    """Let the lanes know all that is pending; return the entries that no lane has to pass."""
    start = min((lane.cursor for lane in lanes.values()), default=None)
    if start is None:
        return []
    query = "SELECT seq, meta, length(body) FROM log WHERE seq > ? AND mask <> 0 ORDER BY seq"
    meta: Any
    seq: Any
    body: Any
    loose: list[int] = []
    for seq, meta, body in connection.execute(query, (start,)):  # one by one: it can be long
        pending = False
        for target, numbers in targets_of(meta).items():
            if target in lanes:
                pending |= lanes[target].add(seq, len(numbers), len(meta) + body)
        if not pending:
            loose.append(seq)
    name: Any
    for query in _EXCEPTIONS:
        for name, seq in connection.execute(query):
            lanes[name].leave(seq)
    return loose
