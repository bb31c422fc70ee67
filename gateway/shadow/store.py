"""Store the counts of shadows in ``shadow.db`` in the spool's folder."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apsw

from gateway.errors import SpoolError
from gateway.shadow.tally import Count, Key
from gateway.sqlite import SchemaVersionError, describe, open_file

FILE = "shadow.db"
_CREATE = """
    CREATE TABLE seen(
        destination TEXT NOT NULL, vendor TEXT NOT NULL, event TEXT NOT NULL, what TEXT NOT NULL,
        field TEXT NOT NULL, how TEXT NOT NULL, why TEXT NOT NULL,
        number INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL, example TEXT NOT NULL,
        PRIMARY KEY(destination, vendor, event, what, field, how, why)) WITHOUT ROWID;
    CREATE TABLE shadow(name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
SCHEMA = (_CREATE,)
"""One script per version of the schema."""
_ADD = """
    INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        number = number + excluded.number, first = min(first, excluded.first),
        last = max(last, excluded.last), example = iif(example = '', excluded.example, example)
"""
_READ = """
    SELECT destination, vendor, event, what, field, how, why, number, first, last, example FROM seen
    WHERE ?1 IS NULL OR destination = ?1 ORDER BY destination, vendor, event, what, field, how, why
"""


class ShadowStore:
    """The counts of shadows on disk; other processes may use it while the gateway runs.

    After a crash the counts of the last second may be missing.

    Args:
        folder: the spool's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def add(self, counts: Mapping[Key, Count]) -> None:
        """Add *counts* to the stored ones.

        Raises:
            SpoolError: the file cannot be written.
        """
        with self._open() as connection, connection:
            connection.executemany(_ADD, ((*key, *count) for key, count in counts.items()))

    def read(self, destination: str | None = None) -> dict[Key, Count]:
        """Return the counts of all shadows or of one; empty without a file.

        Raises:
            SpoolError: the file cannot be read.
        """
        if not self.path.exists():
            return {}
        with self._open() as connection:
            rows: list[Any] = connection.execute(_READ, (destination,)).fetchall()
        return {Key(*row[:7]): Count(*row[7:]) for row in rows}

    def clear(self, destination: str | None = None) -> int:
        """Delete the counts of all shadows or of one; return the number of deleted rows.

        Raises:
            SpoolError: the file cannot be written.
        """
        if not self.path.exists():
            return 0
        with self._open() as connection:
            query = "DELETE FROM seen WHERE ?1 IS NULL OR destination = ?1"
            connection.execute(query, (destination,))
            return connection.changes()

    def names(self) -> set[str]:
        """Return the destinations that are shadows, or were when they were last configured.

        Raises:
            SpoolError: the file cannot be read.
        """
        if not self.path.exists():
            return set()
        with self._open() as connection:
            rows = connection.execute("SELECT name FROM shadow").fetchall()
        return {str(name) for (name,) in rows}

    def name(self, shadows: set[str], others: set[str]) -> None:
        """Register which destinations are shadows, and which are not.

        Raises:
            SpoolError: the file cannot be written.
        """
        if not shadows and not self.path.exists():
            return
        with self._open() as connection, connection:
            connection.executemany("DELETE FROM shadow WHERE name = ?", ((n,) for n in others))
            adding = "INSERT OR IGNORE INTO shadow VALUES (?)"
            connection.executemany(adding, ((n,) for n in shadows))

    @contextlib.contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        try:
            connection = open_file(self.path, SCHEMA, synchronous="NORMAL")
            try:
                yield connection
            finally:
                connection.close()
        except SchemaVersionError as error:
            raise SpoolError(f"{self.path}: {error}; start that version") from error
        except apsw.Error as error:
            raise SpoolError(describe(error, self.path)) from error
