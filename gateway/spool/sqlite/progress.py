"""Record a worker's progress, and evict deliveries, within the caller's transaction."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import apsw
import msgspec

from gateway.spool.evictions import full_reason
from gateway.spool.rows import pack_attempts, targets_of, unpack_attempts
from gateway.spool.sqlite.cursors import DestinationCursor
from gateway.spool.values import DeliveryRef, Evicted, FailedDelivery, Progress, WaitingDelivery
from gateway.sqlite import fetch

NOWHERE = DeliveryRef(0, 0)
"""The mark of a ``FailedDelivery`` that is a template for many (see ``evict``)."""
IN_FLIGHT = 65_536
"""Number of recent evictions to remember: the worker may have those deliveries in flight."""
NAMED = 20
"""Most dead letters that a notice names."""
NOTHING = Progress(dead=[])
"""The result of ``evict`` if there is nothing to evict."""

_WAIT = """
    INSERT INTO waiting
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
    WHERE EXISTS (SELECT 1 FROM log WHERE seq = ?2)
      AND NOT EXISTS (SELECT 1 FROM letter WHERE destination = ?10 AND seq = ?2 AND idx = ?3)
      AND NOT EXISTS (SELECT 1 FROM ended WHERE destination = ?1 AND seq = ?2 AND idx = ?3)
"""
_UNWAIT = "DELETE FROM waiting WHERE destination = ? AND seq = ? AND idx = ?"
_WITHDRAW = """
    DELETE FROM letter WHERE destination = ? AND seq = ? AND idx = ?
"""
_TAKE = """
    INSERT OR REPLACE INTO taken(destination, waited, seq, idx, dropped) VALUES (?, ?, ?, ?, ?)
"""
_TAKEN = "SELECT waited, seq, idx FROM taken WHERE destination = ?"
_CLAIM = """
    DELETE FROM taken WHERE destination = ? AND waited IN (0, 1) AND seq = ? AND idx = ?
    RETURNING dropped
"""
_KEEP_TAKEN = """
    UPDATE taken SET waited = 1 WHERE destination = ? AND waited = 0 AND seq = ? AND idx = ?
"""
"""Keeps the record after the worker's cursor passes it, since it may still be in flight."""
_LEFT = "DELETE FROM taken WHERE destination = ? AND waited = 0 AND seq <= ?"
_LONG_AGO = "DELETE FROM taken WHERE id <= (SELECT max(id) FROM taken) - ?"
_KEEP = "INSERT OR IGNORE INTO kept SELECT seq, id, meta, body FROM log WHERE seq = ?"
_UNKEEP = "DELETE FROM kept WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM letter WHERE seq = ?1)"
_INSERT_DEAD_LETTER = """
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
    UNION SELECT idx FROM ended WHERE destination = ?1 AND seq = ?3
"""
_END = """
    INSERT OR IGNORE INTO ended
    SELECT ?1, ?3, ?4
    WHERE NOT EXISTS (SELECT 1 FROM letter WHERE destination = ?2 AND seq = ?3 AND idx = ?4)
"""
_HAS_ENDED = "SELECT 1 FROM ended WHERE destination = ? AND seq = ? AND idx = ?"
_LETTER = "SELECT id FROM letter WHERE destination = ? AND seq = ? AND idx = ?"
_RECORD = """
    UPDATE destination SET cursor = max(cursor, ?), delivered = max(delivered, ?),
        declined = max(declined, ?), shadowed = max(shadowed, ?) WHERE number = ?
"""
_DROPPED = "UPDATE destination SET dropped = dropped + ? WHERE number = ?"
_MOVED_AWAY = "UPDATE destination SET accepted = accepted - ? WHERE number = ?"
_ONE_MORE = "UPDATE destination SET accepted = accepted + 1 WHERE number = ?"
_FORGET = """
    DELETE FROM ended WHERE (destination, seq, idx) IN
    (SELECT destination, seq, idx FROM ended WHERE destination = ? AND seq <= ? LIMIT ?)
"""


def apply_progress(
    connection: apsw.Connection,
    place: DestinationCursor,
    progress: Progress,
    ended: set[int],
    *,
    terse: bool,
) -> None:
    """Record the progress in the store and in the place's ``new_`` fields.

    Adds to ``ended`` the seqs where a delivery no longer waits. Deliveries that the spool evicted
    meanwhile stay evicted, unless they ended. A delivery that is not waiting, not after the cursor
    and not evicted has already ended: its report is a repeat and is ignored. ``terse`` stores dead
    letters without the rendered request, because the store is full.
    """
    for later in progress.later:
        _wait(connection, place, later)
    for failed in progress.dead:
        _end_badly(connection, place, failed, ended, terse=terse)
    if progress.moved:
        moved = [_end_pending(connection, place, mark, ended) for mark in progress.moved]
        connection.execute(_MOVED_AWAY, (sum(moved), place.number))
    _advance(connection, place, progress)
    for mark in progress.done:
        _end(connection, place, mark, ended)


def _advance(connection: apsw.Connection, place: DestinationCursor, progress: Progress) -> None:
    counts = (progress.delivered, progress.declined, progress.shadowed)
    if place.advance(connection, progress.cursor) or any(counts):
        values = (progress.cursor, *(count or 0 for count in counts), place.number)
        connection.execute(_RECORD, values)


def _end(
    connection: apsw.Connection, place: DestinationCursor, mark: DeliveryRef, ended: set[int]
) -> None:
    """Record that a delivery ended; a repeat changes nothing."""
    if _unwait(connection, place, mark, ended):
        if place.has(connection, mark.seq):
            _remember(connection, place, mark)
    elif (dropped := _claim(connection, place, mark)) is not None:
        if not _withdraw(connection, place, mark):
            _count_claim(connection, place, dropped=dropped)
        elif place.has(connection, mark.seq):
            _remember(connection, place, mark)
    elif place.has(connection, mark.seq) and _remember(connection, place, mark):
        place.leave(mark.seq)


def _remember(connection: apsw.Connection, place: DestinationCursor, mark: DeliveryRef) -> bool:
    """Store that a delivery ended, until the cursor passes it; return whether that is new."""
    connection.execute(_END, (place.number, place.name, mark.seq, mark.index))
    return connection.changes() > 0


def note_evicted(
    connection: apsw.Connection,
    place: DestinationCursor,
    marks: Iterable[DeliveryRef],
    waited: Collection[DeliveryRef],
    *,
    dropped: bool,
) -> None:
    """Store the evicted deliveries, since the worker may have them in flight."""
    rows = ((place.number, mark in waited, mark.seq, mark.index, dropped) for mark in marks)
    connection.executemany(_TAKE, rows)


def _claim(connection: apsw.Connection, place: DestinationCursor, mark: DeliveryRef) -> bool | None:
    """Undo an eviction; return whether the delivery was dropped, None if it was not evicted."""
    for (dropped,) in fetch(connection, _CLAIM, (place.number, mark.seq, mark.index)):
        return bool(dropped)
    return None


def _withdraw(connection: apsw.Connection, place: DestinationCursor, mark: DeliveryRef) -> bool:
    connection.execute(_WITHDRAW, (place.name, mark.seq, mark.index))
    if not connection.changes():
        return False
    unkeep(connection, [mark.seq])
    place.new_dead -= 1
    return True


def _count_claim(connection: apsw.Connection, place: DestinationCursor, *, dropped: bool) -> None:
    """Correct the balance for an evicted delivery that ended and has no dead letter.

    If it was dropped, it no longer counts as dropped. Otherwise its dead letter was dropped or
    replayed meanwhile, and so counted already: the delivery counts as accepted once more.
    """
    if dropped:
        connection.execute(_DROPPED, (-1, place.number))
    else:
        connection.execute(_ONE_MORE, (place.number,))


def count_dropped(connection: apsw.Connection, place: DestinationCursor, count: int) -> None:
    """Count dropped deliveries."""
    connection.execute(_DROPPED, (count, place.number))


def drop_delivery(
    connection: apsw.Connection, place: DestinationCursor, mark: DeliveryRef, ended: set[int]
) -> bool:
    """Record that a delivery is dropped; return whether it was pending."""
    if not _end_pending(connection, place, mark, ended):
        return False
    count_dropped(connection, place, 1)
    return True


def _end_pending(
    connection: apsw.Connection, place: DestinationCursor, mark: DeliveryRef, ended: set[int]
) -> bool:
    """Record that a delivery ended that nobody has in flight; return whether it was pending."""
    if _unwait(connection, place, mark, ended):
        if place.has(connection, mark.seq):
            _remember(connection, place, mark)
        return True
    if place.has(connection, mark.seq) and _remember(connection, place, mark):
        place.leave(mark.seq)
        return True
    return False


def forget_ended(connection: apsw.Connection, place: DestinationCursor, count: int) -> bool:
    """Delete up to ``count`` records that the cursor has passed; return whether more may exist."""
    connection.execute(_FORGET, (place.number, place.new_cursor, count))
    return connection.changes() >= count


def forget_evicted(connection: apsw.Connection, places: Iterable[DestinationCursor]) -> None:
    """Delete the records of evicted deliveries that cannot be in flight any more."""
    for place in places:
        connection.execute(_LEFT, (place.number, place.new_reported))
    connection.execute(_LONG_AGO, (IN_FLIGHT,))


def unkeep(connection: apsw.Connection, seqs: Iterable[int]) -> None:
    """Delete the kept requests that no dead letter needs any more."""
    connection.executemany(_UNKEEP, ((seq,) for seq in seqs))


def _wait(connection: apsw.Connection, place: DestinationCursor, later: WaitingDelivery) -> None:
    seq, index = later.mark.seq, later.mark.index
    connection.execute(_UNWAIT, (place.number, seq, index))
    waited = connection.changes()
    if not waited and not place.has(connection, seq):
        connection.execute(_KEEP_TAKEN, (place.number, seq, index))
        return
    connection.execute(
        _WAIT,
        (
            place.number,
            seq,
            index,
            later.parked,
            later.due,
            later.user,
            later.event_name,
            later.reason,
            pack_attempts(later.attempts),
            place.name,
        ),
    )
    waits = connection.changes()
    place.new_waiting += waits - waited
    if waits > waited:
        place.leave(seq)


def _unwait(
    connection: apsw.Connection, place: DestinationCursor, mark: DeliveryRef, ended: set[int]
) -> bool:
    connection.execute(_UNWAIT, (place.number, mark.seq, mark.index))
    if not connection.changes():
        return False
    place.new_waiting -= 1
    ended.add(mark.seq)
    return True


def _end_badly(
    connection: apsw.Connection,
    place: DestinationCursor,
    failed: FailedDelivery,
    ended: set[int],
    *,
    terse: bool,
) -> None:
    mark = failed.mark
    waited, ahead = _unwait(connection, place, mark, ended), place.has(connection, mark.seq)
    key = (place.number, mark.seq, mark.index)
    if not waited and fetch(connection, _HAS_ENDED, key):
        return
    known = fetch(connection, _LETTER, (place.name, mark.seq, mark.index))
    dropped = None if waited or known else _claim(connection, place, mark)
    if not (waited or known or ahead or dropped is not None):
        return
    write_dead_letter(connection, place.name, failed, b"" if terse else failed.rendered)
    if known or not connection.changes():
        return
    place.new_dead += 1
    if dropped is not None:
        _count_claim(connection, place, dropped=dropped)
    elif not waited:
        place.leave(mark.seq)


def refuse(
    connection: apsw.Connection, place: DestinationCursor, refused: Iterable[FailedDelivery]
) -> None:
    """Store the deliveries that a destination refuses as dead letters."""
    for failed in refused:
        write_dead_letter(connection, place.name, failed, b"")
        place.new_dead += 1


def write_dead_letter(
    connection: apsw.Connection, destination: str, failed: FailedDelivery, rendered: bytes
) -> None:
    """Store a dead letter, and its request from the log, which must have it or have had it."""
    seq = failed.mark.seq
    connection.execute(_KEEP, (seq,))
    connection.execute(
        _INSERT_DEAD_LETTER,
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


def evict(
    connection: apsw.Connection,
    place: DestinationCursor,
    why: FailedDelivery,
    count: int,
    before: float,
) -> tuple[Progress, tuple[DeliveryRef, ...]]:
    """Return the progress that turns the oldest pending deliveries into dead letters.

    It covers up to ``count`` entries and waiting deliveries that were appended before ``before``
    (Unix seconds). All get the cause, reason and time of ``why``. The second value is the marks of
    those that waited.
    """
    found: list[tuple[int, bool, list[FailedDelivery]]] = []
    for at, mark, rest in _oldest_waiting(connection, place, count):
        if at >= before:
            break
        reason = full_reason(why.reason, rest["reason"])
        failed = msgspec.structs.replace(why, **{**rest, "mark": mark, "reason": reason})
        found.append((mark.seq, False, [failed]))
    for seq in place.ahead(connection, count):
        at, indexes = open_deliveries(connection, place, seq)
        if at >= before:
            break
        marks = [DeliveryRef(seq, index) for index in indexes]
        found.append((seq, True, [msgspec.structs.replace(why, mark=mark) for mark in marks]))
    found = sorted(found, key=lambda one: one[0])[:count]
    cursor = max((seq for seq, logged, _ in found if logged), default=0)
    dead = [failed for _, _, group in found for failed in group]
    waited = tuple(group[0].mark for _, logged, group in found if not logged)
    return Progress(cursor=cursor, dead=dead), waited


def eviction_notice(
    connection: apsw.Connection,
    place: DestinationCursor,
    progress: Progress,
    waited: tuple[DeliveryRef, ...],
    dropped: int,
) -> Evicted:
    """Return the notice for a result of ``evict`` after it was applied."""
    letters = tuple(
        number
        for failed in progress.dead[:NAMED]
        for (number,) in fetch(
            connection, _LETTER, (place.name, failed.mark.seq, failed.mark.index)
        )
    )
    return Evicted(place.name, place.new_cursor, waited, dropped, letters, len(progress.dead))


def taken_again(connection: apsw.Connection, place: DestinationCursor) -> Evicted | None:
    """Return a notice of all evictions whose deliveries may be in flight; None if there are none.

    The worker may not know them: a commit that was reported as failed may have reached the file
    nevertheless.
    """
    rows = fetch(connection, _TAKEN, (place.number,))
    if not rows:
        return None
    cursor = max((seq for waited, seq, _ in rows if not waited), default=0)
    return Evicted(
        place.name, cursor, tuple(DeliveryRef(seq, idx) for waited, seq, idx in rows if waited)
    )


def _oldest_waiting(
    connection: apsw.Connection, place: DestinationCursor, count: int
) -> Iterator[tuple[float, DeliveryRef, dict[str, Any]]]:
    rows = fetch(connection, _OLDEST, (place.number, count))
    for at, seq, index, reason, attempts, user, event_name in rows:
        yield (
            at,
            DeliveryRef(seq, index),
            {
                "reason": reason,
                "attempts": unpack_attempts(attempts),
                "user": user,
                "event_name": event_name,
            },
        )


def open_deliveries(
    connection: apsw.Connection, place: DestinationCursor, seq: int
) -> tuple[float, list[int]]:
    """Return the time an entry was appended, and its deliveries that are not exceptions."""
    at, meta = fetch(connection, "SELECT at, meta FROM log WHERE seq = ?", (seq,))[0]
    excepted = {index for (index,) in fetch(connection, _EXCEPTED, (place.number, place.name, seq))}
    return at, [index for index in targets_of(meta)[place.name] if index not in excepted]
