"""Read the spool in its own thread."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import apsw

from gateway.errors import SpoolError
from gateway.spool.rows import unpack, unpack_attempts, unread_entry
from gateway.spool.sqlite.database import MOVED, connect, describe_error
from gateway.spool.values import (
    DeliveryRef,
    Entry,
    LogRecord,
    PendingRequest,
    QueueDepth,
    UnreadPage,
    WaitingDelivery,
)
from gateway.sqlite import fetch

P = ParamSpec("P")
T = TypeVar("T")

_METAS = """
    SELECT seq, meta FROM log WHERE seq > ? AND seq <= ? AND mask <> 0 ORDER BY seq LIMIT ?
"""
_EXCEPTED = """
    SELECT seq, idx FROM waiting WHERE destination = ?1 AND seq > ?3 AND seq <= ?4
    UNION ALL SELECT seq, idx FROM letter WHERE destination = ?2 AND seq > ?3 AND seq <= ?4
    UNION ALL SELECT seq, idx FROM ended WHERE destination = ?1 AND seq > ?3 AND seq <= ?4
"""
_WAITING = "SELECT seq, idx, parked, due, user, event_name, reason, attempts FROM waiting "
_RETRYING = f"""
    {_WAITING} WHERE destination = ? AND parked = 0 AND due <= ? AND (due, seq, idx) > (?, ?, ?)
    ORDER BY due, seq, idx LIMIT ?
"""
_PARKED = f"""
    {_WAITING} WHERE destination = ? AND user = ? AND parked = 1 ORDER BY seq, idx LIMIT ?
"""
_OLDEST = """
    SELECT min(at), min(at) FILTER (WHERE seq = ?1) FROM log WHERE seq = ?1
    OR seq = (SELECT min(seq) FROM waiting WHERE destination = ?2)
"""
_BLOCKED = """
    SELECT user, count(*) FROM waiting WHERE destination = ? AND user <> '' GROUP BY user
"""


class SpoolReader:
    """Runs functions with a read-only connection, one at a time."""

    def __init__(self, folder: Path, vfs: str | None) -> None:
        self._folder, self._vfs = folder, vfs
        self._connection: apsw.Connection | None = None
        self.trouble: str | None = None
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(
            1, thread_name_prefix="spool-read"
        )

    async def run(
        self, act: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what ``act(connection, ...)`` returns; raises SpoolError for a failing disk."""
        if self._pool is None:
            raise SpoolError(f"{self._folder}: the spool is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: self._act(act, *args, **kwargs))

    def _act(
        self, act: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            if self._connection is None:
                self._connection = connect(self._folder, vfs=self._vfs, readonly=True)
            # All queries of the function see one snapshot; BEGIN alone locks nothing.
            self._connection.execute("BEGIN")
            try:
                found = act(self._connection, *args, **kwargs)
            finally:
                self._connection.execute("COMMIT")
        except apsw.Error as e:
            self._disconnect()
            explained = describe_error(e, self._folder)
            self.trouble = str(explained)
            raise explained from e
        self.trouble = None
        return found

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            with contextlib.suppress(apsw.Error):
                connection.close(force=True)

    async def close(self) -> None:
        """Finish the running function, then close the connection."""
        pool, self._pool = self._pool, None
        if pool:
            await asyncio.get_running_loop().run_in_executor(pool, self._disconnect)
            pool.shutdown()


class _Known(NamedTuple):
    number: int
    cursor: int


def _known(connection: apsw.Connection, name: str) -> _Known:
    query = "SELECT number, cursor FROM destination WHERE name = ?"
    for row in fetch(connection, query, (name,)):
        return _Known(*row)
    raise SpoolError(f"unknown destination {name!r}; register it first")


def unread(connection: apsw.Connection, name: str, after: int, upto: int, limit: int) -> UnreadPage:
    """Return a page of a destination's pending deliveries (see ``Shard.unread``)."""
    known = _known(connection, name)
    after = max(after, known.cursor)
    rows = fetch(connection, _METAS, (after, upto, limit))
    scanned = rows[-1][0] if len(rows) == limit else upto
    excepted: dict[int, set[int]] = {}
    for seq, index in fetch(connection, _EXCEPTED, (known.number, name, after, scanned)):
        excepted.setdefault(seq, set()).add(index)
    entries = (unread_entry(seq, meta, name, excepted.get(seq, ())) for seq, meta in rows)
    return UnreadPage([entry for entry in entries if entry is not None], scanned)


def entries(connection: apsw.Connection, seqs: Sequence[int]) -> list[LogRecord]:
    """Return the entries with these seqs."""
    query = "SELECT seq, id, meta, body FROM log WHERE seq = ?"
    return [
        LogRecord(seq, unpack(entry_id, meta, body))
        for wanted in sorted(set(seqs))
        for seq, entry_id, meta, body in fetch(connection, query, (wanted,))
    ]


def times(connection: apsw.Connection, seqs: Sequence[int]) -> dict[int, float]:
    """Return when the entries with these seqs were accepted."""
    query = "SELECT seq, at FROM log WHERE seq = ?"
    return {seq: at for wanted in seqs for seq, at in fetch(connection, query, (wanted,))}


def retrying(
    connection: apsw.Connection,
    name: str,
    due_before: float,
    limit: int,
    after: WaitingDelivery | None,
) -> list[WaitingDelivery]:
    """Return retrying deliveries by due time."""
    start = (after.due, after.mark.seq, after.mark.index) if after else (float("-inf"), 0, 0)
    values = (_known(connection, name).number, due_before, *start, limit)
    return [later_of(row) for row in fetch(connection, _RETRYING, values)]


def parked(connection: apsw.Connection, name: str, user: str, limit: int) -> list[WaitingDelivery]:
    """Return a user's parked deliveries in log order."""
    values = (_known(connection, name).number, user, limit)
    return [later_of(row) for row in fetch(connection, _PARKED, values)]


def blocked(connection: apsw.Connection, name: str) -> dict[str, int]:
    """Return the number of waiting deliveries per user."""
    return dict(fetch(connection, _BLOCKED, (_known(connection, name).number,)))


def size(connection: apsw.Connection) -> int:
    """Return the bytes of the file's used pages."""
    pages = connection.pragma("page_count") - connection.pragma("freelist_count")
    return int(pages * connection.pragma("page_size"))


def last_time(connection: apsw.Connection) -> float | None:
    """Return the arrival of the last entry in Unix seconds; None in an empty log."""
    for (at,) in fetch(connection, "SELECT at FROM log ORDER BY seq DESC LIMIT 1"):
        return float(at)
    return None


def ahead(connection: apsw.Connection) -> float:
    """Return how many seconds the system clock is ahead of the times in the file."""
    ((seconds,),) = fetch(connection, "SELECT coalesce(max(ahead), 0.0) FROM clock")
    return float(seconds)


def paused(connection: apsw.Connection) -> frozenset[str]:
    """Return the destinations that an operator paused."""
    rows = fetch(connection, "SELECT name FROM destination WHERE paused")
    return frozenset(name for (name,) in rows)


def later_of(row: tuple[int, int, int, float, str, str, str, bytes]) -> WaitingDelivery:
    """Return the waiting delivery of a row."""
    seq, index, is_parked, due, user, event_name, reason, attempts = row
    return WaitingDelivery(
        mark=DeliveryRef(seq, index),
        due=due,
        attempts=unpack_attempts(attempts),
        reason=reason,
        user=user,
        event_name=event_name,
        parked=bool(is_parked),
    )


def depths(
    connection: apsw.Connection, known: Sequence[tuple[str, int, int, int | None]]
) -> dict[str, QueueDepth]:
    """Return queue depths, given name, cursor, backlog and first pending seq of each."""
    waiting = {
        (number, is_parked): count
        for number, is_parked, count in fetch(
            connection, "SELECT destination, parked, count(*) FROM waiting GROUP BY 1, 2"
        )
    }
    dead = dict(fetch(connection, "SELECT destination, count(*) FROM letter GROUP BY 1"))
    found = {}
    for name, cursor, backlog, first in known:
        number = _known(connection, name).number
        ((oldest, unread),) = fetch(connection, _OLDEST, (first, number))
        found[name] = QueueDepth(
            cursor=cursor,
            backlog=backlog,
            retrying=waiting.get((number, 0), 0),
            parked=waiting.get((number, 1), 0),
            dead_letters=dead.get(name, 0),
            oldest=oldest,
            oldest_unread=unread,
        )
    return found


_ENDS = "SELECT coalesce(min(seq), 0), coalesce(max(seq), -1) FROM log"
_AT = f"""
    SELECT seq, id FROM log WHERE seq >= ? AND mask BETWEEN 1 AND {MOVED - 1} ORDER BY seq LIMIT 1
"""  # noqa: S608 - the number is a constant
_MOVED = f"SELECT seq FROM log WHERE mask >= {MOVED:#x} AND id = ? ORDER BY seq"  # noqa: S608 - likewise
_ENTRY = "SELECT id, meta, body FROM log WHERE seq = ?"
_REPLAYS = """
    SELECT DISTINCT seq FROM waiting JOIN log USING (seq)
    WHERE waiting.seq >= ? AND log.mask <= 0 AND log.id = ?
"""
_WAITING_OF_REQUEST = """
    SELECT seq, idx, parked, due, user, event_name, reason, attempts FROM waiting
    WHERE destination = ? AND seq = ?
"""
_OVER = """
    SELECT idx FROM letter WHERE destination = ?1 AND seq = ?3
    UNION SELECT idx FROM ended WHERE destination = ?2 AND seq = ?3
"""
_CURSOR = "SELECT number, cursor FROM destination WHERE name = ?"


def read_pending(connection: apsw.Connection, request_id: str) -> PendingRequest | None:
    """Return the pending deliveries of a request, including replays.

    None if the request is not in the log.
    """
    place, there = _place(connection, request_id)
    replays = [seq for (seq,) in fetch(connection, _MOVED, (request_id,))]
    replays += [seq for (seq,) in fetch(connection, _REPLAYS, (place, request_id))]
    found = [
        (seq, unpack(*fetch(connection, _ENTRY, (seq,))[0]))
        for seq in ([place] if there else []) + replays
    ]
    if not found:
        return None
    waits = {key: later for seq, entry in found for key, later in _waits(connection, seq, entry)}
    return PendingRequest(found[0][1], waits, there)


def _place(connection: apsw.Connection, request_id: str) -> tuple[int, bool]:
    """Return the seq of a request, or where it would be, and whether it exists.

    It is a binary search: request ids rise with the seq, and the log has no index of them. Replays,
    whose mask is 0 or negative, and moved entries have the ids of earlier requests and are skipped.
    """
    ((low, high),) = fetch(connection, _ENDS)
    while low <= high:
        middle = (low + high) // 2
        found = fetch(connection, _AT, (middle,))
        if not found or found[0][0] > high:
            high = middle - 1
            continue
        ((seq, there),) = found
        if there == request_id:
            return seq, True
        low, high = (seq + 1, high) if there < request_id else (low, middle - 1)
    return low, False


def _waits(
    connection: apsw.Connection, seq: int, entry: Entry
) -> Iterator[tuple[tuple[str, int], WaitingDelivery | None]]:
    for name, numbers in entry.targets.items():
        for number, cursor in fetch(connection, _CURSOR, (name,)):
            waiting = [
                later_of(row) for row in fetch(connection, _WAITING_OF_REQUEST, (number, seq))
            ]
            over = {index for (index,) in fetch(connection, _OVER, (name, number, seq))}
            if seq > cursor:
                yield from (((name, index), None) for index in numbers if index not in over)
            yield from (((name, later.mark.index), later) for later in waiting)
