"""What the writer knows in memory: per destination, the entries that are still to be passed."""

from array import array
from bisect import bisect_right
from typing import Any

import apsw

from gateway.errors import SpoolError
from gateway.spool.rows import targets_of
from gateway.spool.store import bit, fetch
from gateway.spool.values import Bounds

_COMPACT = 4096
"""Passed places at the front of a lane that are worth giving back."""


class Lane:
    """One destination's part of the log.

    ``cursor`` and ``waiting`` (how many deliveries wait) mirror the store as committed; the
    ``new_`` ones are what the transaction at hand would make of them, and ``coming`` counts the
    entries that it is about to add.
    """

    def __init__(self, name: str, number: int, cursor: int) -> None:
        self.name = name
        self.number = number
        self.bit = bit(number)
        self.bounds: Bounds | None = None
        self.cursor = self.new_cursor = cursor
        self.waiting = self.new_waiting = 0
        self.coming = 0
        self._seqs = array("q")
        self._head = 0
        self._durable = 0

    @property
    def backlog(self) -> int:
        """Return how many entries past the cursor target this destination."""
        return len(self._seqs) - self._head

    def first(self) -> int | None:
        """Return the seq of the first entry past the cursor that targets this destination."""
        return self._seqs[self._head] if self._head < len(self._seqs) else None

    def ahead(self, count: int) -> list[int]:
        """Return the seqs of the first ``count`` entries past the cursor to be."""
        start = bisect_right(self._seqs, self.new_cursor, self._head)
        return self._seqs[start : start + count].tolist()

    def excess(self) -> int:
        """Return how far what is pending, with all that is coming, exceeds ``max_backlog``."""
        if self.bounds is None or self.bounds.max_backlog is None:
            return 0
        passed = bisect_right(self._seqs, self.new_cursor, self._head) - self._head
        pending = self.backlog - passed + self.coming + self.new_waiting
        return pending - self.bounds.max_backlog

    def refuses(self) -> bool:
        """Say whether one more entry is to be refused."""
        bounds = self.bounds
        if bounds is None or bounds.max_backlog is None or bounds.overflow != "refuse":
            return False
        return self.excess() >= 0

    def add(self, seq: int) -> None:
        """Take note of an entry in the log."""
        self._seqs.append(seq)

    def commit(self) -> None:
        """The transaction at hand is durable."""
        self.waiting = self.new_waiting
        self.coming = 0
        self._durable = len(self._seqs)
        if self.new_cursor == self.cursor:
            return
        self.cursor = self.new_cursor
        self._head = bisect_right(self._seqs, self.cursor, self._head)
        if self._head > _COMPACT and self._head * 2 > len(self._seqs):
            del self._seqs[: self._head]
            self._head = 0
            self._durable = len(self._seqs)

    def rollback(self) -> None:
        """The transaction at hand did not happen."""
        self.new_cursor, self.new_waiting, self.coming = self.cursor, self.waiting, 0
        del self._seqs[self._durable :]


class Lanes:
    """Every known destination's lane, and the ends of the log."""

    def __init__(self) -> None:
        self.by_name: dict[str, Lane] = {}
        self.position = self.new_position = 0
        self.trimmed = self.new_trimmed = 0
        """Rows up to here are gone, or stay because a delivery of theirs waits."""
        self.ended: set[int] = set()
        """Seqs where a delivery waits no more, so that the row may be free."""

    def __getitem__(self, name: str) -> Lane:
        try:
            return self.by_name[name]
        except KeyError:
            raise SpoolError(
                f"destination {name!r} is unknown to the spool; register it first"
            ) from None

    def load(self, connection: apsw.Connection) -> None:
        """Read everything from the store, keeping the bounds that were registered."""
        bounds = {lane.name: lane.bounds for lane in self.by_name.values()}
        rows = fetch(connection, "SELECT name, number, cursor FROM destination")
        self.by_name = {name: Lane(name, number, cursor) for name, number, cursor in rows}
        for lane in self.by_name.values():
            lane.bounds = bounds.get(lane.name)
        self.recount(connection)
        self.rescan(connection)
        start = min((lane.cursor for lane in self.by_name.values()), default=self.position)
        query = "SELECT seq, meta FROM log WHERE seq > ? AND mask <> 0 ORDER BY seq"
        meta: Any
        seq: Any
        for seq, meta in connection.execute(query, (start,)):  # one by one: a backlog can be long
            for name in targets_of(meta):
                known = self.by_name.get(name)
                if known and seq > known.cursor:
                    known.add(seq)
        self.commit()

    def recount(self, connection: apsw.Connection) -> None:
        """Read the end of the log and how many deliveries wait."""
        ((end,),) = fetch(connection, "SELECT coalesce(max(seq), 0) FROM log")
        self.position = self.new_position = end
        counts: dict[int, int] = dict(
            fetch(connection, "SELECT destination, count(*) FROM waiting GROUP BY destination")
        )
        for lane in self.by_name.values():
            lane.waiting = lane.new_waiting = counts.get(lane.number, 0)

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

    def commit(self) -> None:
        """The transaction at hand is durable."""
        self.trimmed, self.position = self.new_trimmed, self.new_position
        for lane in self.by_name.values():
            lane.commit()

    def rollback(self) -> None:
        """The transaction at hand did not happen."""
        self.new_trimmed, self.new_position = self.trimmed, self.position
        for lane in self.by_name.values():
            lane.rollback()
