"""The traces' file: one writer, several readers.

Unlike events, traces may be lost: the file has ``synchronous=OFF``, and an unreadable file is
replaced by a new one.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec

from gateway.errors import TraceError
from gateway.person import Person, normalized
from gateway.sqlite import DAMAGED, SchemaVersionError, describe, fetch, open_file, transaction
from gateway.trace.records import (
    ALL_LINES,
    AttemptRecord,
    EventRecord,
    Kind,
    RequestRecord,
    Trace,
    TraceFilter,
    TraceLine,
    shortened,
)

BESIDE = ("-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside its own."""
STEP = 500
"""Records that are examined, and possibly deleted, at a time."""

_CREATE = """
CREATE TABLE record(
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, at REAL NOT NULL,
    failed INTEGER NOT NULL, shown INTEGER NOT NULL, request TEXT NOT NULL, event TEXT NOT NULL,
    source TEXT NOT NULL, destination TEXT NOT NULL, name TEXT NOT NULL, message_id TEXT NOT NULL,
    user_id TEXT NOT NULL, anonymous_id TEXT NOT NULL, packed BLOB NOT NULL);
CREATE UNIQUE INDEX record_request ON record(request) WHERE kind = 'request';
CREATE UNIQUE INDEX record_event ON record(event) WHERE kind = 'event';
CREATE INDEX record_tried ON record(request) WHERE kind = 'delivery';
CREATE INDEX record_failed ON record(number) WHERE failed;
CREATE INDEX record_message ON record(message_id) WHERE kind = 'event' AND message_id != '';
CREATE INDEX record_user ON record(user_id) WHERE kind = 'event' AND user_id != '';
CREATE INDEX record_anonymous ON record(anonymous_id) WHERE kind = 'event' AND anonymous_id != '';
"""
SCHEMA = (_CREATE, "DELETE FROM record")
"""One script per version of the schema. The second renames fields; records of the first version are
deleted, because traces may be lost."""
UNREADABLE = (*DAMAGED, SchemaVersionError)
"""Errors after which the file is replaced by a new one."""
_INSERT = (
    "INSERT OR IGNORE INTO record(kind, at, failed, shown, request, event, source, destination, "
    "name, message_id, user_id, anonymous_id, packed) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ERASE = """
DELETE FROM record WHERE request IN (
    SELECT request FROM record AS one WHERE names(user_id, anonymous_id, packed, EXISTS (
        SELECT 1 FROM record WHERE kind = 'event'
        AND event > one.request || '-' AND event < one.request || '.')))
"""
_FIRST = """
SELECT max(number), max(number) FILTER (WHERE at < ?1)
FROM (SELECT number, at FROM record ORDER BY number LIMIT ?2)
"""

Record = RequestRecord | EventRecord | AttemptRecord
HEADER = b"SQLite format 3\0"
"""The beginning of the file (https://www.sqlite.org/fileformat.html#magic_header_string)."""
Identity = tuple[int, int, bool]
"""Device, inode, and whether the header is intact. A connection works on its cached pages and does
not notice that its file was replaced or damaged."""
_encode = msgspec.msgpack.Encoder().encode
_KINDS: dict[type[Record], Kind] = {
    RequestRecord: "request",
    EventRecord: "event",
    AttemptRecord: "delivery",
}
_DECODERS: dict[Kind, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(cls) for cls, kind in _KINDS.items()
}


def line_of(record: Record, number: int = 0) -> TraceLine | None:
    """Return *record* in short; None for a request with events, whose lines stand for it."""
    if isinstance(record, RequestRecord):
        if record.events and not record.fault:
            return None
        return TraceLine(
            number, "request", record.at, record.request, record.source,
            "refused" if record.fault else "accepted", name=record.message.url.partition("?")[0],
            reason=record.reason, status=record.status, seconds=record.seconds,
        )  # fmt: skip
    if isinstance(record, EventRecord):
        return TraceLine(
            number, "event", record.at, record.request, record.source,
            "duplicate" if record.duplicate else "accepted", record.event, "", record.name,
            record.user_id, record.anonymous_id,
        )  # fmt: skip
    return TraceLine(
        number, "delivery", record.at, record.request, record.source, record.outcome,
        record.event, record.destination, record.name, record.user_id, record.anonymous_id,
        record.reason, record.status, record.seconds,
    )  # fmt: skip


def _row(record: Record) -> tuple[Any, ...]:
    line = line_of(record)
    packed = _encode(record)
    if line is None:
        return ("request", record.at, 0, 0, record.request, *([""] * 7), packed)
    message = record.message_id if isinstance(record, EventRecord) else ""
    return (
        line.kind, line.at, line.failed, 1, line.request, line.event, line.source,
        line.destination, line.name, message, line.user_id, line.anonymous_id, packed,
    )  # fmt: skip


def unpack(kind: Kind, packed: bytes) -> Record:
    """Decode the record of a row."""
    record: Record = _DECODERS[kind].decode(packed)
    return record


class TraceWriter:
    """The traces' file for its only writer.

    Args:
        path: the path of the file.
        keep: seconds after which records are deleted.
        max_size: the maximum size in bytes.
        clock: returns Unix seconds.

    Raises:
        TraceError: the file cannot be written.
    """

    def __init__(
        self, path: Path, keep: float, max_size: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._keep = keep
        self._max_size = max_size
        self._clock = clock
        with explained(path):
            self._open()

    def _open(self) -> None:
        self._identity: Identity | None = None
        try:
            self._connection = self._connect()
        except UNREADABLE:
            self._remove("", *BESIDE)
            self._connection = self._connect()
        self._identity = identity_of(self.path)

    def _connect(self) -> apsw.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_file(self.path, SCHEMA, synchronous="OFF")

    def _remove(self, *endings: str) -> None:
        for ending in endings:
            self._beside(ending).unlink(missing_ok=True)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def add(self, records: Iterable[Record]) -> dict[int, int]:
        """Store *records*; delete the oldest ones if there are too many.

        The file is created again if it was deleted or damaged.

        Returns:
            The numbers of the stored records, by their index in *records*; known records get none.

        Raises:
            TraceError: they could not be stored.
        """
        rows = [_row(record) for record in records]
        with explained(self.path):
            if identity_of(self.path) != self._identity or not self._beside("-wal").exists():
                self.close()
                self._remove(*BESIDE)  # left by a reader of the old file
                self._open()
            try:
                return self._add(rows)
            except UNREADABLE:
                self.close()
                self._remove("", *BESIDE)
                self._open()
                return self._add(rows)

    def _add(self, rows: Sequence[tuple[Any, ...]]) -> dict[int, int]:
        numbers: dict[int, int] = {}
        with transaction(self._connection):
            for place, row in enumerate(rows):
                self._connection.execute(_INSERT, row)
                if self._connection.changes():
                    numbers[place] = self._connection.last_insert_rowid()
        self._purge(self._clock() - self._keep, max(STEP, 2 * len(numbers)))
        return numbers

    def erase(self, person: Person) -> int:
        """Delete all records of requests that name *person*; return how many, and rewrite the file.

        No byte of them is left then, nor of records that were deleted earlier.

        Raises:
            TraceError: the file cannot be written, or another process reads it for so long.
        """
        with explained(self.path):
            connection = self._connection
            connection.create_scalar_function("names", partial(_names, person), 4)
            with transaction(connection):
                connection.execute(_ERASE)
                erased = connection.changes()
            connection.execute("VACUUM")
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        return erased

    def _purge(self, oldest: float, most: int) -> None:
        """Delete up to *most* records that are too old or too many; later calls delete more."""
        ((last, last_old),) = fetch(self._connection, _FIRST, (oldest, most))
        if self.size > self._max_size:
            last_old = last
        if last_old is not None:
            self._connection.execute("DELETE FROM record WHERE number <= ?", (last_old,))

    @property
    def size(self) -> int:
        """Return the bytes in use."""
        pages = self._connection.pragma("page_count") - self._connection.pragma("freelist_count")
        return int(pages * self._connection.pragma("page_size"))

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(apsw.Error):
            self._connection.close(force=True)


def _names(person: Person, *row: Any) -> bool:
    """Return whether a record names *person* (SQL function).

    Short ids count as texts only in requests without events, where no id is known.
    """
    user_id, anonymous_id, packed, has_events = row
    known = {normalized(user_id), normalized(anonymous_id)}
    if any(shortened(one) in known for one in person.ids):
        return True
    return person.is_in(packed) if has_events else person.may_be_in(packed)


def identity_of(path: Path) -> Identity | None:
    """Return the identity of the file at *path*; None if there is none."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            return found.st_dev, found.st_ino, file.read(len(HEADER)) == HEADER
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Convert errors of SQLite and the disk into `TraceError`."""
    try:
        yield
    except apsw.Error as error:
        raise TraceError(describe(error, path)) from error
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise TraceError(f"{path}: {what}; make it writable for this user") from error


_REQUESTS = """
SELECT DISTINCT request FROM (
    SELECT number, request FROM record WHERE kind = 'event' AND message_id != '' AND message_id = ?1
    UNION ALL
    SELECT number, request FROM record WHERE kind = 'event' AND user_id != '' AND user_id = ?1
    UNION ALL
    SELECT number, request FROM record
    WHERE kind = 'event' AND anonymous_id != '' AND anonymous_id = ?1
    ORDER BY number DESC LIMIT ?2 * 100)
LIMIT ?2
"""
_OF = """
SELECT number, kind, packed FROM record WHERE kind = 'request' AND request = ?1
UNION ALL
SELECT number, kind, packed FROM record
WHERE kind = 'event' AND event > ?1 || '-' AND event < ?1 || '.'
UNION ALL
SELECT number, kind, packed FROM record WHERE kind = 'delivery' AND request = ?1
ORDER BY number
"""


class NoTraceFile(TraceError):
    """There is no traces' file, or it is still being created."""


class TraceReader:
    """The traces' file for reading; it may be written at the same time.

    Args:
        path: the path of the file.

    Raises:
        NoTraceFile: there is none yet.
        TraceError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        missing = f"{path}: no traces yet; send an event, or set enabled = true in [trace]"
        if not path.exists():
            raise NoTraceFile(missing)
        self._path = path
        with explained(path):
            self._connection = open_file(path, SCHEMA, readonly=True)
            self._identity = identity_of(path)
            version = self._connection.pragma("user_version")
        if version != len(SCHEMA):
            self._connection.close()
        if not version:
            raise NoTraceFile(missing)
        if version != len(SCHEMA):
            raise TraceError(
                f"{path}: written by another version of the gateway (schema {version}); use that "
                f"version"
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def replaced(self) -> bool:
        """Return whether the file was replaced by another one."""
        return identity_of(self._path) not in {self._identity, None}

    def last(self) -> int:
        """Return the number of the newest record; 0 if there is none."""
        with explained(self._path):
            ((number,),) = fetch(self._connection, "SELECT max(number) FROM record")
        return number or 0

    def lines(
        self,
        which: TraceFilter = ALL_LINES,
        *,
        before: int | None = None,
        after: int = 0,
        limit: int = 50,
        newest: bool = True,
    ) -> list[TraceLine]:
        """Return lines with numbers between *after* and *before*, both excluded."""
        terms, values = _where(which)
        upper = before if before is not None else 1 << 62
        order = "DESC" if newest else "ASC"
        query = (
            "SELECT number, kind, packed FROM record "  # noqa: S608 - the terms are constants
            f"WHERE shown AND number > ? AND number < ? {terms} ORDER BY number {order} LIMIT ?"
        )
        with explained(self._path):
            rows = fetch(self._connection, query, (after, upper, *values, limit))
        found = (line_of(unpack(kind, packed), number) for number, kind, packed in rows)
        return [line for line in found if line is not None]

    def show(self, identity: str, limit: int = 20) -> list[Trace]:
        """Return the traces for an id, the newest first.

        The id may be that of a request or an event, a message id, a user id or an anonymous id.
        """
        with explained(self._path):
            for request in found_ids(identity):
                one = self._trace(request)
                if one is not None:
                    return [one]
            rows = fetch(self._connection, _REQUESTS, (identity, limit))
            found = (self._trace(request) for (request,) in rows)
            return [one for one in found if one is not None]

    def of_requests(self, requests: Sequence[str]) -> list[Trace]:
        """Return the traces of requests, in their order; those without records are left out."""
        with explained(self._path):
            found = (self._trace(request) for request in requests)
            return [one for one in found if one is not None]

    def _trace(self, request: str) -> Trace | None:
        rows = fetch(self._connection, _OF, (request,))
        records = [unpack(kind, packed) for _, kind, packed in rows]
        if not records:
            return None
        return Trace(
            request,
            next((one for one in records if isinstance(one, RequestRecord)), None),
            tuple(one for one in records if isinstance(one, EventRecord)),
            tuple(one for one in records if isinstance(one, AttemptRecord)),
        )


def _where(which: TraceFilter) -> tuple[str, list[Any]]:
    terms, values = [], list[Any]()
    for column in ("source", "destination", "name"):
        value = getattr(which, column)
        if value is not None:
            terms.append(f"AND {column} = ?")
            values.append(value)
    if which.user is not None:
        terms.append("AND ? IN (user_id, anonymous_id)")
        values.append(which.user)
    if which.failed:
        terms.append("AND failed")
    if which.since is not None:
        terms.append("AND at >= ?")
        values.append(which.since)
    if which.until is not None:
        terms.append("AND at < ?")
        values.append(which.until)
    return " ".join(terms), values


@contextlib.contextmanager
def open_traces(path: Path) -> Iterator[TraceReader]:
    """Open the traces' file as a context manager.

    Raises:
        NoTraceFile: there is none yet.
        TraceError: it cannot be read.
    """
    reader = TraceReader(path)
    try:
        yield reader
    finally:
        reader.close()


class StoredTraces:
    """The stored traces of a running gateway, read in threads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def find(
        self, which: TraceFilter = ALL_LINES, before: int | None = None, limit: int = 50
    ) -> list[TraceLine]:
        """Return the newest lines, the newest first.

        Raises:
            TraceError: they cannot be read.
        """
        return await asyncio.to_thread(self._find, which, before, limit)

    def _find(self, which: TraceFilter, before: int | None, limit: int) -> list[TraceLine]:
        with contextlib.suppress(NoTraceFile), open_traces(self._path) as reader:
            return reader.lines(which, before=before, limit=limit)
        return []

    async def show(self, identity: str, limit: int = 20) -> list[Trace]:
        """Return the traces for an id, the newest first.

        Raises:
            TraceError: they cannot be read.
        """
        return await asyncio.to_thread(partial(self._show, identity, limit))

    async def of_requests(self, requests: Sequence[str]) -> list[Trace]:
        """Return the traces of requests, in their order; those without records are left out.

        Raises:
            TraceError: they cannot be read.
        """
        return await asyncio.to_thread(self._of_requests, requests)

    def _of_requests(self, requests: Sequence[str]) -> list[Trace]:
        with contextlib.suppress(NoTraceFile), open_traces(self._path) as reader:
            return reader.of_requests(requests)
        return []

    def _show(self, identity: str, limit: int) -> list[Trace]:
        with contextlib.suppress(NoTraceFile), open_traces(self._path) as reader:
            return reader.show(identity, limit)
        return []


def found_ids(identity: str) -> Sequence[str]:
    """Return the possible request ids in *identity*: all of it, and the part before a dash."""
    request, dash, _ = identity.partition("-")
    return (identity, request) if dash else (identity,)
