"""The database file: tables, migrations, error messages.

The file is in WAL mode with ``synchronous=FULL``, so a commit is on the disk when it returns
(https://www.sqlite.org/pragma.html#pragma_synchronous), and in incremental auto-vacuum mode, so
space is freed in small steps (https://www.sqlite.org/pragma.html#pragma_auto_vacuum). What is
deleted within a page is overwritten; a page that becomes free keeps its content until an erasure
(https://www.sqlite.org/pragma.html#pragma_secure_delete).
"""

import fcntl
import os
from pathlib import Path
from typing import Any

import apsw

from gateway.errors import SpoolError
from gateway.spool.dead_letters import reason_pattern
from gateway.spool.rows import targets_of
from gateway.sqlite import DISK_FULL, SchemaVersionError, Synchronous, describe, open_file

Row = tuple[int, float, str, bytes, bytes]
"""mask, at, id, meta, body: a row of the log without its seq."""

MOST_ROWS = 64
"""Rows of one statement."""
_INSERT = "INSERT INTO log(mask, at, id, meta, body) VALUES "
_INSERTS = [_INSERT + ", ".join(["(?, ?, ?, ?, ?)"] * count) for count in range(MOST_ROWS + 1)]
"""Statements by their number of rows; apsw keeps the prepared ones."""


def insert(connection: apsw.Connection, rows: list[Row]) -> int:
    """Append rows to the log with consecutive seqs; return the first seq.

    A statement inserts several rows, because each statement must wait for the GIL. In a write
    transaction no other connection can take a seq in between.
    """
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        connection.execute(_INSERTS[len(some)], [value for row in some for value in row])
    return connection.last_insert_rowid() - len(rows) + 1


FILE = "spool.db"
LOCK = "lock"
SYNCHRONOUS: Synchronous = "FULL"
"""A lower setting loses acknowledged entries in a power failure; a test proves it."""

MIGRATIONS = [
    """
    CREATE TABLE destination(
        number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, cursor INTEGER NOT NULL);
    CREATE TABLE log(
        seq INTEGER PRIMARY KEY, mask INTEGER NOT NULL, at REAL NOT NULL,
        id TEXT NOT NULL, meta BLOB NOT NULL, body BLOB NOT NULL);
    CREATE TABLE waiting(
        destination INTEGER NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL,
        parked INTEGER NOT NULL, due REAL NOT NULL, user TEXT NOT NULL,
        event_name TEXT NOT NULL, reason TEXT NOT NULL, attempts BLOB NOT NULL,
        PRIMARY KEY(destination, seq, idx)) WITHOUT ROWID;
    CREATE INDEX waiting_due ON waiting(destination, parked, due, seq, idx);
    CREATE INDEX waiting_user ON waiting(destination, user, parked, seq, idx);
    CREATE INDEX waiting_seq ON waiting(seq);
    CREATE TABLE letter(
        id INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL,
        seq INTEGER NOT NULL, idx INTEGER NOT NULL, cause TEXT NOT NULL, reason TEXT NOT NULL,
        at REAL NOT NULL, attempts BLOB NOT NULL, rendered BLOB NOT NULL,
        event_name TEXT NOT NULL, user TEXT NOT NULL, UNIQUE(destination, seq, idx));
    CREATE INDEX letter_seq ON letter(seq);
    CREATE TABLE kept(
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, meta BLOB NOT NULL, body BLOB NOT NULL);
    """,
    """
    CREATE TABLE seen(
        id BLOB PRIMARY KEY, until REAL NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX seen_until ON seen(until);
    """,
    """
    CREATE TABLE consent(
        user BLOB PRIMARY KEY, until REAL NOT NULL, said BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX consent_until ON consent(until);
    """,
    """
    ALTER TABLE destination ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE INDEX kept_id ON kept(id);
    """,
    """
    CREATE TABLE clock(one INTEGER PRIMARY KEY CHECK(one = 1), ahead REAL NOT NULL);
    """,
    """
    CREATE TABLE ended(
        destination INTEGER NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL,
        PRIMARY KEY(destination, seq, idx)) WITHOUT ROWID;
    CREATE TABLE taken(
        id INTEGER PRIMARY KEY, destination INTEGER NOT NULL, waited INTEGER NOT NULL,
        seq INTEGER NOT NULL, idx INTEGER NOT NULL, dropped INTEGER NOT NULL,
        UNIQUE(destination, waited, seq, idx));
    ALTER TABLE destination ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE destination ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE destination ADD COLUMN declined INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE destination ADD COLUMN shadowed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE destination ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
    UPDATE destination SET accepted =
        (SELECT coalesce(sum(deliveries(meta, name)), 0) FROM log WHERE seq > cursor AND mask <> 0)
        + (SELECT count(*) FROM waiting LEFT JOIN log USING (seq)
           WHERE destination = number AND (seq <= cursor OR mask = 0))
        + (SELECT count(*) FROM letter LEFT JOIN log USING (seq)
           WHERE letter.destination = name AND (seq <= cursor OR coalesce(mask, 0) = 0));
    """,
    """
    CREATE TABLE letter_bytes(destination TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE waiting_bytes(number INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
    INSERT INTO letter_bytes SELECT destination, sum(bytes) FROM (
        SELECT destination, sum(200 + length(rendered)) + coalesce(
            (SELECT length(meta) + length(body) FROM kept WHERE kept.seq = letter.seq), 0) AS bytes
        FROM letter GROUP BY destination, seq) GROUP BY destination;
    INSERT INTO waiting_bytes SELECT destination, sum(bytes) FROM (
        SELECT destination, 200 * count(*) + coalesce(
            (SELECT length(meta) + length(body) FROM log WHERE log.seq = waiting.seq), 0) AS bytes
        FROM waiting GROUP BY destination, seq) GROUP BY destination;
    CREATE TRIGGER letter_comes AFTER INSERT ON letter BEGIN
        INSERT INTO letter_bytes VALUES (new.destination, 200 + length(new.rendered) + iif(
            (SELECT count(*) FROM (SELECT 1 FROM letter
             WHERE destination = new.destination AND seq = new.seq LIMIT 2)) > 1, 0, coalesce(
            (SELECT length(meta) + length(body) FROM kept WHERE seq = new.seq), 0)))
        ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER letter_changes AFTER UPDATE OF rendered ON letter BEGIN
        UPDATE letter_bytes SET bytes = bytes + length(new.rendered) - length(old.rendered)
        WHERE destination = new.destination;
    END;
    CREATE TRIGGER letter_goes AFTER DELETE ON letter BEGIN
        UPDATE letter_bytes SET bytes = bytes - 200 - length(old.rendered) - iif(
            EXISTS (SELECT 1 FROM letter WHERE destination = old.destination AND seq = old.seq),
            0, coalesce((SELECT length(meta) + length(body) FROM kept WHERE seq = old.seq), 0))
        WHERE destination = old.destination;
    END;
    CREATE TRIGGER wait_begins AFTER INSERT ON waiting BEGIN
        INSERT INTO waiting_bytes VALUES (new.destination, 200 + iif(
            (SELECT count(*) FROM (SELECT 1 FROM waiting
             WHERE destination = new.destination AND seq = new.seq LIMIT 2)) > 1, 0, coalesce(
            (SELECT length(meta) + length(body) FROM log WHERE seq = new.seq), 0)))
        ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER wait_ends AFTER DELETE ON waiting BEGIN
        UPDATE waiting_bytes SET bytes = bytes - 200 - iif(
            EXISTS (SELECT 1 FROM waiting WHERE destination = old.destination AND seq = old.seq),
            0, coalesce((SELECT length(meta) + length(body) FROM log WHERE seq = old.seq), 0))
        WHERE number = old.destination;
    END;
    """,
    """
    CREATE TABLE secret(one INTEGER PRIMARY KEY CHECK(one = 1), bytes BLOB NOT NULL);
    INSERT INTO secret VALUES (1, randomblob(16));
    """,
    """
    CREATE INDEX moved_id ON log(id) WHERE mask >= 0x4000000000000000;
    """,
    """
    CREATE TABLE replay(
        id INTEGER PRIMARY KEY AUTOINCREMENT, selection BLOB NOT NULL, state TEXT NOT NULL,
        began REAL NOT NULL, first INTEGER NOT NULL, position INTEGER NOT NULL,
        upto INTEGER NOT NULL,
        requests INTEGER NOT NULL DEFAULT 0, queued INTEGER NOT NULL DEFAULT 0,
        repeated INTEGER NOT NULL DEFAULT 0, unreadable INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE replayed(
        seq INTEGER NOT NULL, destination INTEGER NOT NULL, idx INTEGER NOT NULL,
        job INTEGER NOT NULL, copy INTEGER NOT NULL,
        PRIMARY KEY(seq, destination, idx)) WITHOUT ROWID;
    """,
]
"""One script per schema version.

``log.mask`` has a bit per destination (see `mask_bit`); it is 0 in the row of a replay. ``kept``
stores a request once for all its dead letters. ``seen.seq`` is the entry that brought the id; its
row may be deleted. Since the third version rows may name routes; an earlier gateway would skip
their steps. ``ended`` has the finished deliveries after the cursor that are neither waiting nor
dead letters. ``taken`` has the deliveries that the spool evicted while a worker may have them in
flight. In an earlier file ``accepted`` starts with what the file contains. Triggers count the
bytes of dead letters and waiting deliveries per destination, whichever process writes: the request
once, and about 200 bytes for each. ``secret`` is the key of the user hashes
(`gateway.spool.user_hash`); it never changes. ``moved_id`` finds the entries that were moved from
another spool (`MOVED`). ``replayed`` has the deliveries of retained rows that replays gave to a
destination, each with the row of the copy; they go with the retained row."""

MOVED = 1 << 62
"""A bit of ``log.mask``: the entry is from another spool, so its id does not rise with its seq.

Such a row is not retained: it has only what was pending, so nobody knows who else had its events,
or whether something of it was erased."""

TRANSIENT = -(1 << 63)
"""The sign bit of ``log.mask``: the row is not retained, and replays leave it out.

It is a copy that a replay made, or a request of which something was erased."""


def mask_bit(number: int) -> int:
    """Return the bit of destination ``number`` in ``log.mask``; above 62 they share bits.

    A row then may stay until all that share its bits have passed it.
    """
    return 1 << ((number - 1) % 62)


def connect(
    folder: Path,
    *,
    vfs: str | None = None,
    wait: float = 2.0,
    readonly: bool = False,
    migrate: bool = True,
) -> apsw.Connection:
    """Connect to the file in the folder, and create it unless ``readonly``.

    ``wait`` is the longest wait for another connection's lock, in seconds. Raises SpoolError for a
    newer schema, and for an older one unless ``migrate``; apsw.Error for disk failures.
    """
    path = folder / FILE
    try:
        connection = open_file(
            path, MIGRATIONS, synchronous=SYNCHRONOUS, wait=wait, readonly=readonly,
            migrate=migrate, vfs=vfs, prepare=_prepare,
        )  # fmt: skip
    except SchemaVersionError as error:
        what = (
            "use that version, or another spool folder"
            if error.newer
            else "start the gateway once to migrate the file"
        )
        raise SpoolError(f"{path}: {error}; {what}") from error
    if not readonly:
        connection.wal_autocheckpoint(0)
    return connection


def connect_existing(folder: Path, *, readonly: bool = False) -> apsw.Connection:
    """Connect to the file of a gateway from another process.

    Raises:
        SpoolError: there is none, or it cannot be used; the message says what to do.
    """
    if not (folder / FILE).exists():
        raise SpoolError(
            f"{folder / FILE}: there is no spool yet; start the gateway once, or correct path in "
            f"[spool]"
        )
    try:
        return connect(folder, wait=10, readonly=readonly, migrate=False)
    except apsw.Error as error:
        raise describe_error(error, folder) from error


def _prepare(connection: apsw.Connection) -> None:
    connection.create_scalar_function(
        "reason_pattern", lambda *of: reason_pattern(str(of[0])), 1, deterministic=True
    )
    connection.create_scalar_function("deliveries", _deliveries, 2, deterministic=True)
    if not connection.readonly("main"):
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA secure_delete=FAST")


def _deliveries(*of: Any) -> int:
    """Return the number of deliveries for a destination in a row's meta (SQL function)."""
    meta, name = of
    return len(targets_of(meta).get(name, ()))


def lock(folder: Path) -> int:
    """Lock the folder, creating it if needed; return the file descriptor that holds the lock.

    Raises SpoolError if another process holds the lock, or the folder cannot be created.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as e:
        raise SpoolError(
            f"{folder}: cannot be used as spool folder ({e.strerror}); "
            f"make it writable for this user, or choose another folder"
        ) from e
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(held)
        raise SpoolError(
            f"{folder}: another gateway process uses this spool folder; "
            f"stop that process, or choose another folder"
        ) from e
    return held


def no_room(folder: Path, error: apsw.Error | None = None) -> str:
    """Return the error message for a full disk."""
    why = f" ({error})" if error else "; until then no new events are accepted"
    return f"{folder / FILE}: {DISK_FULL}{why}"


def describe_error(error: apsw.Error, folder: Path) -> SpoolError:
    """Return the error with a message for people: the file, the problem, the remedy."""
    return SpoolError(describe(error, folder / FILE))
