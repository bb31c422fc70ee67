"""SQLite files: open, migrate, run transactions, explain errors.

The spool, traces and shadows each keep such a file.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import apsw

Synchronous = Literal["FULL", "NORMAL", "OFF"]
"""What a commit waits for (https://www.sqlite.org/pragma.html#pragma_synchronous)."""

BUSY_TIMEOUT = 2.0
"""Seconds to wait for a lock of another connection."""
JOURNAL_SIZE_LIMIT = 16 * 1024**2
"""Bytes that the write-ahead log keeps after a checkpoint."""

DAMAGED = (apsw.CorruptError, apsw.NotADBError)
"""Errors of SQLite for a corrupt file."""
DISK_FULL = "the disk or its quota is full; free some space"
_ADVICE: dict[tuple[type[apsw.Error], ...], str] = {
    (apsw.FullError,): DISK_FULL,
    (apsw.ReadOnlyError, apsw.PermissionsError): (
        "the file is read-only; remount the disk for writing, or repair the file's permissions"
    ),
    DAMAGED: (
        "the file is corrupt; stop the gateway, keep a copy of the folder, and restore the file "
        "or let the gateway create a new one"
    ),
    (apsw.BusyError, apsw.LockedError): (
        "another process has locked the file; stop that process, or wait"
    ),
    (apsw.CantOpenError,): (
        "the file cannot be opened; check the permissions of the folder, and the disk"
    ),
    (apsw.IOError,): "the disk fails; check the disk and the system log",
}


class SchemaVersionError(Exception):
    """The file has another schema than this gateway.

    Attributes:
        newer: whether a newer gateway wrote it.
    """

    def __init__(self, version: int, known: int) -> None:
        self.newer = version > known
        age = "a newer" if self.newer else "an older"
        super().__init__(f"written by {age} gateway (schema {version}, this one knows {known})")


def open_file(  # noqa: PLR0913 - each is a property of the file or of the connection
    path: Path,
    schema: Sequence[str],
    *,
    synchronous: Synchronous = "FULL",
    wait: float = BUSY_TIMEOUT,
    readonly: bool = False,
    migrate: bool = True,
    vfs: str | None = None,
    prepare: Callable[[apsw.Connection], object] = lambda _connection: None,
) -> apsw.Connection:
    """Connect to a file in WAL mode, and create or migrate it unless ``readonly``.

    Only the file's owner may read a new one.

    Args:
        path: of the file; its folder must exist.
        schema: one script per version of the schema, the oldest first.
        synchronous: what a commit waits for.
        wait: seconds to wait for a lock of another connection.
        readonly: neither create, change nor migrate the file.
        migrate: create the tables of a new file, and bring an older one up to date.
        vfs: name of SQLite's file system.
        prepare: called with the connection before the file is created or read.

    Raises:
        SchemaVersionError: the file is newer, or is older and must not be migrated.
        apsw.Error: the disk fails; `describe` explains it.
    """
    if not readonly:
        with contextlib.suppress(OSError):  # SQLite fails the same way, with a better error
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    try:
        connection.set_busy_timeout(int(wait * 1000))
        prepare(connection)
        if not readonly:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.pragma("synchronous", synchronous)
            connection.pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
            _migrate(connection, schema, migrate=migrate)
    except BaseException:
        connection.close(force=True)
        raise
    return connection


def _migrate(connection: apsw.Connection, schema: Sequence[str], *, migrate: bool) -> None:
    version = connection.pragma("user_version")
    if version == len(schema):
        return
    if version > len(schema) or not migrate:
        raise SchemaVersionError(version, len(schema))
    with transaction(connection):
        for script in schema[connection.pragma("user_version") :]:
            connection.execute(script)
        connection.pragma("user_version", len(schema))


def describe(error: apsw.Error, path: Path) -> str:
    """Return an error message for people: the file, the problem, the remedy."""
    for kinds, advice in _ADVICE.items():
        if isinstance(error, kinds):
            return f"{path}: {advice} ({error})"
    return f"{path}: {type(error).__name__}: {error}"


def fetch(connection: apsw.Connection, query: str, values: Sequence[Any] = ()) -> list[Any]:
    """Return all rows of a query; their types follow from the schema."""
    return connection.execute(query, values).fetchall()


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Run the body in one write transaction: committed and synced at its end, or rolled back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        undo(connection)
        raise


def undo(connection: apsw.Connection) -> None:
    """Roll back if a transaction is open; after some errors SQLite has already ended it."""
    if connection.in_transaction:
        with contextlib.suppress(apsw.Error):
            connection.execute("ROLLBACK")
