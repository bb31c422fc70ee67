"""What moves from one spool to another besides entries: dead letters, message ids, consent."""

from collections.abc import Mapping, Sequence
from itertools import count

import apsw

from gateway.errors import SpoolError
from gateway.spool.consent import merge_consent, pack_consent, unpack_consent
from gateway.spool.dead_letters import DeadLetter
from gateway.spool.rows import pack
from gateway.spool.sqlite.commands import TransactionResult, take_from_dead
from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.database import insert
from gateway.spool.sqlite.dead_letters import remove
from gateway.spool.sqlite.progress import write_dead_letter
from gateway.spool.values import MOVE_WINDOW, DeliveryRef, FailedDelivery, StoredConsent
from gateway.sqlite import fetch

PAGE = 2000
"""Message ids of a page."""
CONSENT_PAGE = 500
"""Users of a page."""

_IDS = "SELECT id, until FROM seen WHERE id > ? AND +until > ? ORDER BY id LIMIT ?"
_CONSENTS = """
    SELECT user, until, said FROM consent WHERE user > ? AND +until > ? ORDER BY user LIMIT ?
"""
_IS_KNOWN = "SELECT 1 FROM seen WHERE id = ? AND until > ?"
_REMEMBER = """
    INSERT INTO seen(id, until, seq) VALUES (?, ?, ?)
    ON CONFLICT(id) DO UPDATE SET until = max(until, excluded.until)
"""
_CONSENT = "SELECT until, said FROM consent WHERE user = ?"
_SAVE_CONSENT = "INSERT OR REPLACE INTO consent(user, until, said) VALUES (?, ?, ?)"
_ACCEPTED = "UPDATE destination SET accepted = accepted + ? WHERE number = ?"


def message_ids(connection: apsw.Connection, after: bytes, now: float) -> dict[bytes, float]:
    """Return a page of dedup keys, with the Unix seconds at which each expires."""
    return dict(fetch(connection, _IDS, (after, now, PAGE)))


def consents(connection: apsw.Connection, after: bytes, now: float) -> list[StoredConsent]:
    """Return a page of stored consent, by user."""
    rows = fetch(connection, _CONSENTS, (after, now, CONSENT_PAGE))
    return [StoredConsent(user, until, unpack_consent(said)) for user, until, said in rows]


def restore_message_ids(
    connection: apsw.Connection, _places: DestinationCursors, ids: Mapping[bytes, float]
) -> TransactionResult:
    """Remember dedup keys of another spool."""
    connection.executemany(_REMEMBER, ((key, until, 0) for key, until in ids.items()))
    return TransactionResult()


def restore_consents(
    connection: apsw.Connection, _places: DestinationCursors, restored: Sequence[StoredConsent]
) -> TransactionResult:
    """Store consent of another spool; the newest record of each category wins."""
    for one in restored:
        until, records = one.until, dict(one.records)
        for known_until, said in fetch(connection, _CONSENT, (one.user,)):
            until = max(until, known_until)
            records = merge_consent(records, unpack_consent(said))
        connection.execute(_SAVE_CONSENT, (one.user, until, pack_consent(records)))
    return TransactionResult()


def restore_dead_letters(
    connection: apsw.Connection,
    places: DestinationCursors,
    letters: Mapping[bytes, DeadLetter],
    now: float,
    sure: float,
) -> TransactionResult:
    """Store dead letters of another spool that are not known by their keys.

    Each request gets a row of the log, so that it has a seq here; it is trimmed soon.
    """
    unknown = {one.destination for one in letters.values()} - places.by_name.keys()
    if unknown:
        raise SpoolError(f"unknown destinations: {', '.join(sorted(unknown))}")
    rows: dict[tuple[int, int], int] = {}
    stored: set[tuple[str, int, int]] = set()
    for key, letter in letters.items():
        if fetch(connection, _IS_KNOWN, (key, sure)):
            continue
        for copy in count():
            place = (letter.mark.seq, copy)
            if place not in rows:
                entry = letter.entry
                row = (0, now, entry.id, pack(entry), entry.request.body)
                rows[place] = insert(connection, [row])
            delivery = (letter.destination, rows[place], letter.mark.index)
            if delivery not in stored:
                break
        stored.add(delivery)
        _restore(connection, places, letter, rows[place])
        connection.execute(_REMEMBER, (key, now + MOVE_WINDOW, rows[place]))
    places.new_position = max([places.new_position, *rows.values()])
    return TransactionResult(then=lambda: places.ended.update(rows.values()))


def _restore(
    connection: apsw.Connection, places: DestinationCursors, letter: DeadLetter, seq: int
) -> None:
    failed = FailedDelivery(
        DeliveryRef(seq, letter.mark.index),
        letter.cause,
        letter.reason,
        letter.at,
        letter.attempts,
        letter.rendered,
        letter.event_name,
        letter.user,
    )
    write_dead_letter(connection, letter.destination, failed, letter.rendered)
    place = places[letter.destination]
    place.new_dead += 1
    connection.execute(_ACCEPTED, (1, place.number))


def delete_moved_letters(
    connection: apsw.Connection, places: DestinationCursors, ids: Sequence[int]
) -> TransactionResult:
    """Delete dead letters, which are not accepted here any more."""
    moved = remove(connection, ids)
    for name, number in moved.items():
        if name in places.by_name:
            connection.execute(_ACCEPTED, (-number, places[name].number))
    take_from_dead(places, moved)
    return TransactionResult()
