"""Record what operators do, in ``audit.db`` in the spool's folder."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from gateway.admin.caller import Caller
from gateway.errors import SpoolError
from gateway.sqlite import SchemaVersionError, describe, open_file, transaction

FILE: Final = "audit.db"
MAX_ENTRIES: Final = 100_000
"""Actions that are kept; the oldest are deleted first. They take about 20 MB."""
MAX_TEXT: Final = 500
"""Characters of a text that are kept."""
SCHEMA: Final = (
    """
    CREATE TABLE action(
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, name TEXT NOT NULL,
        role TEXT NOT NULL, via TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,
        detail TEXT NOT NULL, error TEXT NOT NULL);
    """,
)
"""One script per version of the schema."""
_COLUMNS: Final = "at, name, role, via, action, target, detail, error"


class AuditEntry(msgspec.Struct, frozen=True):
    """What somebody did."""

    id: int
    at: float
    """Unix seconds."""
    name: str
    """Who: the name of the token, or of the person as the proxy said it. Empty where everybody on
    the machine has access."""
    role: str
    via: str
    """How that is known: `token`, `proxy`, `address` (no token is required) or `command`."""
    action: str
    """What, such as `pause_destination`."""
    target: str
    """To what, such as a destination; empty if the action says it."""
    detail: str
    """How much or which; it has no ids of users."""
    error: str
    """Why it failed; empty if it was done."""


def entry_of(
    caller: Caller, action: str, *, target: str = "", detail: str = "", error: str = ""
) -> AuditEntry:
    """Return an entry about an action of *caller*, which has no id and no time yet."""
    return AuditEntry(0, 0, caller.name, caller.role, caller.via, action, target, detail, error)


class AuditLog:
    """The actions on disk; other processes may use the file while the gateway runs.

    Args:
        folder: the spool's folder.
        retention: returns the seconds for which actions are kept.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        folder: Path,
        retention: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = folder / FILE
        self._retention = retention
        self._clock = clock

    def add(self, entry: AuditEntry) -> None:
        """Record an action with a new id and the present time; delete old and surplus ones.

        Raises:
            SpoolError: the file cannot be written.
        """
        _, _, *texts = msgspec.structs.astuple(entry)
        now = self._clock()
        with contextlib.suppress(OSError):  # SQLite fails the same way, with a better error
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open() as connection, transaction(connection):
            insert = f"INSERT INTO action({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
            connection.execute(insert, (now, *(text[:MAX_TEXT] for text in texts)))
            surplus = connection.last_insert_rowid() - MAX_ENTRIES
            delete = "DELETE FROM action WHERE id <= ? OR at < ?"
            connection.execute(delete, (surplus, now - self._retention()))

    def entries(self, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return actions, the newest first; those with ids below *before* if it is given.

        Raises:
            SpoolError: the file cannot be read.
        """
        if not self.path.exists():
            return []
        query = f"""
            SELECT id, {_COLUMNS} FROM action WHERE (?1 IS NULL OR id < ?1) AND at >= ?2
            ORDER BY id DESC LIMIT ?3
        """  # noqa: S608 - constants
        since = self._clock() - self._retention()
        with self._open() as connection:
            rows: list[Any] = connection.execute(query, (before, since, limit)).fetchall()
        return [AuditEntry(*row) for row in rows]

    @contextlib.contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        try:
            connection = open_file(self.path, SCHEMA)
            try:
                yield connection
            finally:
                connection.close()
        except SchemaVersionError as error:
            raise SpoolError(f"{self.path}: {error}; start that version") from error
        except apsw.Error as error:
            raise SpoolError(describe(error, self.path)) from error
