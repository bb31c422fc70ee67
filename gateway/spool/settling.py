"""What a worker's progress does to the store, within a transaction that the caller opened."""

from collections.abc import Iterable, Iterator
from typing import Any

import apsw
import msgspec

from gateway.spool.lanes import Lane
from gateway.spool.rows import pack_attempts, targets_of, unpack_attempts
from gateway.spool.store import fetch
from gateway.spool.values import Failed, Later, Mark, Progress, Taken

NOWHERE = Mark(0, 0)
"""The mark of a ``Failed`` that stands for many (see ``take``)."""
NAMED = 20
"""Dead letters that a notice names."""
NOTHING = Progress(dead=[])
"""What ``take`` returns where there is nothing to take."""

_WAIT = """
    INSERT INTO waiting
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
    WHERE EXISTS (SELECT 1 FROM log WHERE seq = ?2)
      AND NOT EXISTS (SELECT 1 FROM letter WHERE destination = ?10 AND seq = ?2 AND idx = ?3)
"""
_UNWAIT = "DELETE FROM waiting WHERE destination = ? AND seq = ? AND idx = ?"
_WITHDRAW = """
    DELETE FROM letter WHERE destination = ? AND seq = ? AND idx = ?
    AND cause IN ('expired', 'overflow')
"""
_KEEP = "INSERT OR IGNORE INTO kept SELECT seq, id, meta, body FROM log WHERE seq = ?"
_UNKEEP = "DELETE FROM kept WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM letter WHERE seq = ?1)"
_BURY = """
    INSERT INTO letter(destination, seq, idx, cause, reason, at, attempts, rendered,
                       event_name, user)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE EXISTS (SELECT 1 FROM kept WHERE seq = ?2)
    ON CONFLICT(destination, seq, idx) DO UPDATE SET
        cause = excluded.cause, reason = excluded.reason, at = excluded.at,
        attempts = excluded.attempts, rendered = excluded.rendered,
        event_name = excluded.event_name, user = excluded.user
"""
_OLDEST = """
    SELECT log.at, seq, idx, reason, attempts, user, event_name
    FROM waiting JOIN log USING (seq) WHERE destination = ? ORDER BY seq, idx LIMIT ?
"""
_EXCEPTED = """
    SELECT idx FROM waiting WHERE destination = ?1 AND seq = ?3
    UNION SELECT idx FROM letter WHERE destination = ?2 AND seq = ?3
"""
_LETTER = "SELECT id FROM letter WHERE destination = ? AND seq = ? AND idx = ?"
_CURSOR = "UPDATE destination SET cursor = ? WHERE number = ?"


def apply(
    connection: apsw.Connection, lane: Lane, progress: Progress, ended: set[int], *, terse: bool
) -> None:
    """Record the progress; the lane's ``new_`` side follows.

    Adds to ``ended`` the seqs where a delivery waits no more. What the spool has taken from the
    worker in the meantime stays taken, unless it ended well. ``terse`` keeps dead letters
    without what was rendered: the store is full.
    """
    for later in progress.later:
        _wait(connection, lane, later)
    for mark in progress.done:
        _unwait(connection, lane, mark, ended)
        connection.execute(_WITHDRAW, (lane.name, mark.seq, mark.index))
        if connection.changes():
            unkeep(connection, [mark.seq])
    for failed in progress.dead:
        _unwait(connection, lane, failed.mark, ended)
        _bury(connection, lane.name, failed, b"" if terse else failed.rendered)
    if progress.cursor > lane.new_cursor:
        connection.execute(_CURSOR, (progress.cursor, lane.number))
        lane.new_cursor = progress.cursor


def unkeep(connection: apsw.Connection, seqs: Iterable[int]) -> None:
    """Throw away the kept requests that no dead letter needs any more."""
    connection.executemany(_UNKEEP, ((seq,) for seq in seqs))


def _wait(connection: apsw.Connection, lane: Lane, later: Later) -> None:
    seq, index = later.mark.seq, later.mark.index
    connection.execute(_UNWAIT, (lane.number, seq, index))
    lane.new_waiting -= connection.changes()
    connection.execute(
        _WAIT,
        (
            lane.number,
            seq,
            index,
            later.parked,
            later.due,
            later.user,
            later.event_name,
            later.reason,
            pack_attempts(later.attempts),
            lane.name,
        ),
    )
    lane.new_waiting += connection.changes()


def _unwait(connection: apsw.Connection, lane: Lane, mark: Mark, ended: set[int]) -> None:
    connection.execute(_UNWAIT, (lane.number, mark.seq, mark.index))
    if connection.changes():
        lane.new_waiting -= 1
        ended.add(mark.seq)


def _bury(connection: apsw.Connection, destination: str, failed: Failed, rendered: bytes) -> None:
    seq = failed.mark.seq
    connection.execute(_KEEP, (seq,))
    connection.execute(
        _BURY,
        (
            destination,
            seq,
            failed.mark.index,
            failed.cause,
            failed.reason,
            failed.at,
            pack_attempts(failed.attempts),
            rendered,
            failed.event_name,
            failed.user,
        ),
    )


def take(
    connection: apsw.Connection, lane: Lane, why: Failed, count: int, before: float
) -> tuple[Progress, tuple[Mark, ...]]:
    """Return the progress that makes dead letters of a destination's oldest pending deliveries.

    It covers up to ``count`` entries and waiting deliveries that were appended before
    ``before`` (Unix seconds), all with the cause, the reason and the time of ``why``. Beside it
    stand the marks of those that waited.
    """
    found: list[tuple[int, bool, list[Failed]]] = []
    for at, mark, rest in _oldest_waiting(connection, lane, count):
        if at >= before:
            break
        reason = f"{why.reason}; {rest['reason']}" if rest["reason"] else why.reason
        failed = msgspec.structs.replace(why, **{**rest, "mark": mark, "reason": reason})
        found.append((mark.seq, False, [failed]))
    for seq in lane.ahead(count):
        at, indexes = _open(connection, lane, seq)
        if at >= before:
            break
        marks = [Mark(seq, index) for index in indexes]
        found.append((seq, True, [msgspec.structs.replace(why, mark=mark) for mark in marks]))
    found = sorted(found, key=lambda one: one[0])[:count]
    cursor = max((seq for seq, logged, _ in found if logged), default=0)
    dead = [failed for _, _, group in found for failed in group]
    waited = tuple(group[0].mark for _, logged, group in found if not logged)
    return Progress(cursor=cursor, dead=dead), waited


def taken(
    connection: apsw.Connection,
    lane: Lane,
    progress: Progress,
    waited: tuple[Mark, ...],
    dropped: int,
) -> Taken:
    """Return the notice of what ``take`` returned, once that is applied."""
    letters = tuple(
        number
        for failed in progress.dead[:NAMED]
        for (number,) in fetch(connection, _LETTER, (lane.name, failed.mark.seq, failed.mark.index))
    )
    return Taken(lane.name, lane.new_cursor, waited, dropped, letters, len(progress.dead))


def _oldest_waiting(
    connection: apsw.Connection, lane: Lane, count: int
) -> Iterator[tuple[float, Mark, dict[str, Any]]]:
    rows = fetch(connection, _OLDEST, (lane.number, count))
    for at, seq, index, reason, attempts, user, event_name in rows:
        yield (
            at,
            Mark(seq, index),
            {
                "reason": reason,
                "attempts": unpack_attempts(attempts),
                "user": user,
                "event_name": event_name,
            },
        )


def _open(connection: apsw.Connection, lane: Lane, seq: int) -> tuple[float, list[int]]:
    """Return when an entry was appended and which of its deliveries are no exceptions."""
    at, meta = fetch(connection, "SELECT at, meta FROM log WHERE seq = ?", (seq,))[0]
    excepted = {index for (index,) in fetch(connection, _EXCEPTED, (lane.number, lane.name, seq))}
    return at, [index for index in targets_of(meta)[lane.name] if index not in excepted]
