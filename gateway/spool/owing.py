"""What is still owed of one request: which deliveries are not over, and what they wait for."""

from collections.abc import Iterator, Mapping

import apsw
import msgspec

from gateway.spool.reading import later_of
from gateway.spool.rows import unpack
from gateway.spool.store import fetch
from gateway.spool.values import Entry, Later

_ENDS = "SELECT coalesce(min(seq), 0), coalesce(max(seq), -1) FROM log"
_AT = "SELECT seq, id FROM log WHERE seq >= ? AND mask <> 0 ORDER BY seq LIMIT 1"
_ENTRY = "SELECT id, meta, body FROM log WHERE seq = ?"
_REPLAYS = """
    SELECT DISTINCT seq FROM waiting JOIN log USING (seq)
    WHERE waiting.seq >= ? AND log.mask = 0 AND log.id = ?
"""
_WAITING = """
    SELECT seq, idx, parked, due, user, event_name, reason, attempts FROM waiting
    WHERE destination = ? AND seq = ?
"""
_OVER = """
    SELECT idx FROM letter WHERE destination = ?1 AND seq = ?3
    UNION SELECT idx FROM ended WHERE destination = ?2 AND seq = ?3
"""
_CURSOR = "SELECT number, cursor FROM destination WHERE name = ?"

Waits = Mapping[tuple[str, int], Later | None]


class Owing(msgspec.Struct, frozen=True):
    """A request in the log, and those of its deliveries that are not over."""

    entry: Entry
    """What is left of it, where only replays are in the log, with their targets."""
    waits: Waits
    """By destination and number. None is for one whose turn has not come; another waits for its
    next try, or behind an earlier event of its user."""
    whole: bool = True
    """The entry is the request as it was appended, with all of its targets."""


def owing(connection: apsw.Connection, request_id: str) -> Owing | None:
    """Return what is owed of the request with this id, its replays included.

    None where it is not in the log.
    """
    place, there = _place(connection, request_id)
    replays = [seq for (seq,) in fetch(connection, _REPLAYS, (place, request_id))]
    found = [
        (seq, unpack(*fetch(connection, _ENTRY, (seq,))[0]))
        for seq in ([place] if there else []) + replays
    ]
    if not found:
        return None
    waits = {key: later for seq, entry in found for key, later in _waits(connection, seq, entry)}
    return Owing(found[0][1], waits, there)


def _place(connection: apsw.Connection, request_id: str) -> tuple[int, bool]:
    """Return where a request stands, or would stand, and whether it is there.

    Ids rise with the log, which has no index of them. Replays, which have the ids of earlier
    requests, are passed over: their mask is 0.
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
) -> Iterator[tuple[tuple[str, int], Later | None]]:
    for name, numbers in entry.targets.items():
        for number, cursor in fetch(connection, _CURSOR, (name,)):
            waiting = [later_of(row) for row in fetch(connection, _WAITING, (number, seq))]
            over = {index for (index,) in fetch(connection, _OVER, (name, number, seq))}
            if seq > cursor:
                yield from (((name, index), None) for index in numbers if index not in over)
            yield from (((name, later.mark.index), later) for later in waiting)
