"""Replays in the file: their cursors, what they read, and what they gave to a destination."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import apsw
import msgspec

from gateway.errors import GatewayError, SpoolError
from gateway.spool.replays import (
    ReplayCounts,
    ReplayJob,
    ReplaySelection,
    ReplayState,
    ReplayStep,
    RetainedEntry,
)
from gateway.spool.rows import unpack
from gateway.spool.sqlite.commands import TransactionResult
from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.database import MOVED, connect_existing, describe_error
from gateway.spool.sqlite.reader import ahead
from gateway.spool.values import Deliveries
from gateway.sqlite import fetch

PAGE = 64
"""Requests that are read at once."""
KEPT = 200
"""Finished replays that are listed; older ones are deleted."""
_COLUMNS = (
    "id, selection, state, began, first, position, upto, requests, queued, repeated, unreadable"
)
_BEGIN = """
    INSERT INTO replay(selection, state, began, first, position, upto)
    VALUES (?1, 'running', ?2, ?3, ?3, ?4)
"""
_PRUNE = """
    DELETE FROM replay
    WHERE state NOT IN ('running', 'paused') AND id <= (SELECT max(id) FROM replay) - ?
"""
_SET = "UPDATE replay SET state = ? WHERE id = ? AND state IN ('running', 'paused')"
_STEP = """
    UPDATE replay SET position = ?, requests = requests + ?, queued = queued + ?,
        repeated = repeated + ?, unreadable = unreadable + ?
    WHERE id = ? AND position = ? AND state = 'running'
"""
_NOTE = "INSERT OR REPLACE INTO replayed VALUES (?, ?, ?, ?, ?)"
_RETAINED = f"""
    SELECT seq, at, id, meta, body FROM log
    WHERE seq > ? AND seq <= ? AND mask BETWEEN 1 AND {MOVED - 1} AND at >= ? AND at < ?
    ORDER BY seq LIMIT ?
"""  # noqa: S608 - constant
_REPLAYED = """
    SELECT idx FROM replayed JOIN destination ON number = destination WHERE seq = ? AND name = ?
"""
_ENDS = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM log"
_HAS_MOVED = f"SELECT EXISTS (SELECT 1 FROM log WHERE mask >= {MOVED:#x})"  # noqa: S608 - constant
_AT = "SELECT at FROM log WHERE seq >= ? ORDER BY seq LIMIT 1"

_encode = msgspec.msgpack.Encoder().encode
_selection = msgspec.msgpack.Decoder(ReplaySelection).decode


def begin(
    connection: apsw.Connection,
    places: DestinationCursors,
    selection: ReplaySelection,
    now: float,
    ahead: float,
) -> TransactionResult:
    """Store a new replay; two that deliver to the same destination cannot run at once."""
    destination = places[selection.to]
    for job in unfinished(connection):
        if job.selection.to == destination.name and not (
            job.selection.dry_run or selection.dry_run
        ):
            raise GatewayError(
                f"replay {job.id} to {destination.name!r} is not finished; wait for it, or cancel "
                f"it: gateway replays cancel {job.id}"
            )
    first, upto = _range(
        connection, places.position, selection.since - ahead, _until(selection) - ahead
    )
    connection.execute(_BEGIN, (_encode(selection), now + ahead, first, max(first, upto)))
    number = connection.last_insert_rowid()
    connection.execute(_PRUNE, (KEPT,))
    return TransactionResult(one(connection, number))


def _until(selection: ReplaySelection) -> float:
    return math.inf if selection.until is None else selection.until


def _range(connection: apsw.Connection, last: int, since: float, until: float) -> tuple[int, int]:
    """Return seqs that enclose the rows of a time, the first of them exclusive.

    The times of rows rise with their seqs, except those of moved rows: while there are any, all
    rows are read, and each is compared.
    """
    if fetch(connection, _HAS_MOVED)[0][0]:
        return _before(connection, -math.inf), last
    upto = last if until == math.inf else min(last, _before(connection, until))
    return _before(connection, since), upto


def _before(connection: apsw.Connection, at: float) -> int:
    """Return the last seq that was stored before a time, if the times rise with the seqs."""
    ((low, high),) = fetch(connection, _ENDS)
    while low <= high:
        middle = (low + high) // 2
        if fetch(connection, _AT, (middle,))[0][0] < at:
            low = middle + 1
        else:
            high = middle - 1
    return int(low) - 1


def listed(connection: apsw.Connection) -> list[ReplayJob]:
    """Return the replays, the newest first."""
    rows = fetch(connection, f"SELECT {_COLUMNS} FROM replay ORDER BY id DESC")  # noqa: S608 - constant
    return [_job(row) for row in rows]


def unfinished(connection: apsw.Connection) -> list[ReplayJob]:
    """Return the replays that run or are paused."""
    return [job for job in listed(connection) if job.state in {"running", "paused"}]


def one(connection: apsw.Connection, number: int) -> ReplayJob | None:
    """Return the replay with this id."""
    rows = fetch(connection, f"SELECT {_COLUMNS} FROM replay WHERE id = ?", (number,))  # noqa: S608 - constant
    return _job(rows[0]) if rows else None


def _job(
    row: tuple[int, bytes, ReplayState, float, int, int, int, int, int, int, int],
) -> ReplayJob:
    number, selection, state, began, first, position, upto, *counts = row
    return ReplayJob(
        number, _selection(selection), state, began, first, position, upto, ReplayCounts(*counts)
    )


def show(
    connection: apsw.Connection, _places: DestinationCursors, number: int
) -> TransactionResult:
    """Return a replay, after all earlier commands."""
    return TransactionResult(one(connection, number))


def set_state(
    connection: apsw.Connection, _places: DestinationCursors, number: int, state: ReplayState
) -> TransactionResult:
    """Set the state of a replay that is not finished, and return the replay."""
    connection.execute(_SET, (state, number))
    return TransactionResult(one(connection, number))


def move(connection: apsw.Connection, step: ReplayStep) -> bool:
    """Move a replay; return False if it does not run or is elsewhere."""
    counts = msgspec.structs.astuple(step.counts)
    connection.execute(_STEP, (step.upto, *counts, step.job, step.after))
    return connection.changes() > 0


def skip(
    connection: apsw.Connection, _places: DestinationCursors, step: ReplayStep
) -> TransactionResult:
    """Move a replay past requests; the result is whether it moved."""
    return TransactionResult(move(connection, step))


def note_copy(
    connection: apsw.Connection,
    step: ReplayStep,
    destination: int,
    numbers: Deliveries,
    seq: int,
) -> None:
    """Store which deliveries of a retained row a copy has.

    Args:
        connection: in a transaction of the writer.
        step: the move of the replay to the retained row.
        destination: the number of the destination.
        numbers: the deliveries.
        seq: the row of the copy.
    """
    rows = ((step.upto, destination, number, step.job, seq) for number in numbers)
    connection.executemany(_NOTE, rows)


def retained_for(
    connection: apsw.Connection, job: ReplayJob, offset: float, after: int, limit: int
) -> Sequence[RetainedEntry]:
    """Return the next retained rows of a replay; the system clock is *offset* ahead of theirs."""
    wanted = job.selection
    between = (wanted.since - offset, _until(wanted) - offset)
    return retained(connection, wanted.to, (after, job.upto), between, limit)


def retained(
    connection: apsw.Connection,
    to: str,
    seqs: tuple[int, int],
    between: tuple[float, float],
    limit: int,
) -> Sequence[RetainedEntry]:
    """Return retained rows, each with what replays gave of it to a destination.

    Args:
        connection: to the file.
        to: the destination.
        seqs: those of the rows; the first is exclusive.
        between: the times of the rows, by the spool's clock; the second is exclusive.
        limit: most rows.
    """
    return [
        RetainedEntry(
            seq, at, unpack(entry_id, meta, body), frozenset(_numbers(connection, seq, to))
        )
        for seq, at, entry_id, meta, body in fetch(connection, _RETAINED, (*seqs, *between, limit))
    ]


def _numbers(connection: apsw.Connection, seq: int, to: str) -> Iterable[int]:
    return (number for (number,) in fetch(connection, _REPLAYED, (seq, to)))


class RetainedReader:
    """What a spool folder retains, for a process other than the gateway; a context manager.

    Raises:
        SpoolError: the file cannot be used; the message says what to do.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection: apsw.Connection | None = None

    def __enter__(self) -> Self:
        self._connection = connect_existing(self._folder, readonly=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close(force=True)

    def between(self, since: float | None, until: float | None) -> Iterator[RetainedEntry]:
        """Yield the requests that were stored between two times, in Unix seconds.

        Each page is read by itself, so that an erasure need not wait for the end.

        Raises:
            SpoolError: the file cannot be read.
        """
        connection = self._connection
        if connection is None:
            raise SpoolError("use RetainedReader in a with statement")
        try:
            offset = ahead(connection)
            ((_, last),) = fetch(connection, _ENDS)
            between = (
                -math.inf if since is None else since - offset,
                math.inf if until is None else until - offset,
            )
            after, upto = _range(connection, last, *between)
            while page := retained(connection, "", (after, upto), between, PAGE):
                yield from page
                after = page[-1].seq
        except apsw.Error as error:
            raise describe_error(error, self._folder) from error
