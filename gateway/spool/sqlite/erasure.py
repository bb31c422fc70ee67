"""Erase somebody's events from the file, so that no page keeps them.

`search` runs in the reader's thread, the other functions in the writer's. While `erase` runs, no
worker delivers to the destinations concerned.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import apsw

from gateway.spool.dedup import dedup_key
from gateway.spool.interface import EventSearch
from gateway.spool.rows import anonymized, targets_of, unpack
from gateway.spool.sqlite.commands import TransactionResult, take_from_dead
from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.database import TRANSIENT
from gateway.spool.sqlite.dead_letters import drop
from gateway.spool.sqlite.progress import drop_delivery, open_deliveries
from gateway.spool.values import DeliveryRef, ErasedEvents, FoundEvents, event_index
from gateway.sqlite import fetch

PAGE = 64
"""Requests that are searched at once."""
FREED = 1024
"""Free pages that are returned to the disk at once; they take some 20 ms."""
EMPTY = b""

_PAGES = {
    table: f"SELECT seq, id, meta, body FROM {table} WHERE seq > ? ORDER BY seq LIMIT {PAGE}"  # noqa: S608 - the tables are constants
    for table in ("log", "kept")
}
_ROW = "SELECT id, meta, length(body) FROM log WHERE seq = ?"
_BLANK = "UPDATE log SET meta = ?, body = ? WHERE seq = ?"
_NOT_RETAINED = f"UPDATE log SET mask = mask | {TRANSIENT} WHERE seq = ? AND mask <> 0"  # noqa: S608 - constant
_HAS_WAITING = "SELECT 1 FROM waiting WHERE seq = ? LIMIT 1"
_LETTERS = "SELECT id, idx, destination FROM letter WHERE seq = ?"
_UNRENDER = "UPDATE letter SET rendered = ? WHERE seq = ?"

Found = dict[int, Mapping[int, str]]


def search(
    connection: apsw.Connection, table: str, wanted: EventSearch, after: int
) -> tuple[Found, set[str], int | None]:
    """Search the requests of the log, or those that dead letters keep, after seq *after*.

    Returns:
        The wanted events by seq, the destinations of these, and where to continue; None at the end.
    """
    rows = fetch(connection, _PAGES[table], (after,))
    found: Found = {}
    destinations: set[str] = set()
    for seq, entry_id, meta, body in rows:
        if events := wanted(entry := unpack(entry_id, meta, body)):
            found[seq] = events
            if table == "log":
                destinations.update(entry.targets)
            else:
                destinations.update(name for _, _, name in fetch(connection, _LETTERS, (seq,)))
    return found, destinations, rows[-1][0] if len(rows) == PAGE else None


def erase(
    connection: apsw.Connection,
    places: DestinationCursors,
    found: FoundEvents,
    users: Collection[bytes],
) -> TransactionResult:
    """Erase the events that a search *found*, and the consent of *users*.

    Their deliveries and dead letters count as dropped. A request is emptied once nothing pending
    is left of it; its row goes when the log is trimmed.
    """
    connection.execute("PRAGMA secure_delete=ON")
    try:
        taken = _erased(connection, places, found, users)
    finally:
        connection.execute("PRAGMA secure_delete=FAST")
    return TransactionResult(taken)


def _erased(
    connection: apsw.Connection,
    places: DestinationCursors,
    found: FoundEvents,
    users: Collection[bytes],
) -> ErasedEvents:
    keys = set(_dedup_keys(connection, found))
    letters, pending = Counter[str](), Counter[str]()
    left: dict[int, bool] = {}
    """Whether something of a request stays, by seq."""
    for seq, events in found.letters.items():
        left[seq] = _bury(connection, places, seq, events, letters)
    for seq, events in found.log.items():
        left[seq] = _end(connection, places, seq, events, pending) or left.get(seq, False)
    return ErasedEvents(
        deliveries=dict(+pending),
        dead_letters=dict(letters),
        requests=sum(not stays for stays in left.values()),
        shared_requests=sum(left.values()),
        message_ids=sum(_deleted(connection, "seen", "id", key) for key in keys),
        consents=sum(_deleted(connection, "consent", "user", user) for user in users),
    )


def _dedup_keys(connection: apsw.Connection, found: FoundEvents) -> Iterator[bytes]:
    for table, requests in (("log", found.log), ("kept", found.letters)):
        for seq, events in requests.items():
            query = f"SELECT id, meta FROM {table} WHERE seq = ?"  # noqa: S608 - the tables are constants
            for entry_id, meta in fetch(connection, query, (seq,)):
                source = unpack(entry_id, meta, EMPTY).source
                yield from (dedup_key(source, message) for message in events.values() if message)


def _deleted(connection: apsw.Connection, table: str, column: str, key: bytes) -> int:
    connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))  # noqa: S608 - the names are constants
    return connection.changes()


def _end(
    connection: apsw.Connection,
    places: DestinationCursors,
    seq: int,
    events: Collection[int],
    dropped: Counter[str],
) -> bool:
    """End the pending deliveries of some events of a request, and empty it unless others wait.

    Returns:
        Whether it stays for them.
    """
    rows = fetch(connection, _ROW, (seq,))
    if not rows:  # trimmed since the search
        return False
    _, meta, size = rows[0]
    known = {name: numbers for name, numbers in targets_of(meta).items() if name in places.by_name}
    for name, numbers in known.items():
        for number in numbers:
            if event_index(number) in events:
                mark = DeliveryRef(seq, number)
                dropped[name] += drop_delivery(connection, places[name], mark, places.ended)
    if fetch(connection, _HAS_WAITING, (seq,)) or any(
        places[name].has(connection, seq) and open_deliveries(connection, places[name], seq)[1]
        for name in known
    ):
        connection.execute(_NOT_RETAINED, (seq,))
        places.transient.add(seq)
        return True
    bare = anonymized(meta)
    connection.execute(_BLANK, (bare, EMPTY, seq))
    connection.execute(_NOT_RETAINED, (seq,))
    for name in known:
        if places[name].has(connection, seq):
            places[name].shrink(seq, len(meta) + size - len(bare))
    return False


def _bury(
    connection: apsw.Connection,
    places: DestinationCursors,
    seq: int,
    events: Collection[int],
    dropped: Counter[str],
) -> bool:
    """Delete the dead letters of some events of a request; return whether others are left."""
    rows = fetch(connection, _LETTERS, (seq,))
    mine = [number for number, index, _ in rows if event_index(index) in events]
    gone = drop(connection, mine)
    take_from_dead(places, gone)
    dropped.update(gone)
    if len(mine) == len(rows):
        return False
    connection.execute(_UNRENDER, (EMPTY, seq))  # the last request sent may have all events
    return True


def free_pages(connection: apsw.Connection, _places: DestinationCursors) -> TransactionResult:
    """Return some free pages to the disk; the result is whether there are more."""
    fetch(connection, f"PRAGMA incremental_vacuum({FREED})")
    return TransactionResult(connection.pragma("freelist_count") > 0)
