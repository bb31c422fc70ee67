"""The writing connection: opened, given up when the disk fails, and opened again."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw

from gateway.errors import SpoolError
from gateway.spool.clock import Clock
from gateway.spool.lanes import Lanes
from gateway.spool.reading import ahead, last_time
from gateway.spool.store import connect, explain, transaction
from gateway.spool.upkeep import Gauge

WAL_PAGES = 256
"""A checkpoint copies the write-ahead log into the file once it holds this many pages.

It holds up the next batch: for 6 ms with SQLite's own 1000 pages, for 2 ms with these.
"""
ROOM = 65_536
"""Bytes that must be free on a disk that was full before the trouble counts as over."""
_GHOSTS = (
    """
    UPDATE destination SET accepted = accepted -
    (SELECT coalesce(sum(deliveries(meta, name)), 0) FROM log
     WHERE seq > max(?, cursor) AND mask <> 0)
    """,
    "DELETE FROM log WHERE seq > ? AND mask <> 0",
    # Their senders were told to try again, which must not be taken for a repeat.
    "DELETE FROM seen WHERE seq > ?",
)


class Session:
    """The connection, and what is known in memory about the store behind it."""

    def __init__(self, folder: Path, vfs: str | None, max_bytes: int | None, clock: Clock) -> None:
        self.lanes = Lanes()
        self.gauge = Gauge(max_bytes)
        self.trouble: str | None = None
        self.checked = 0
        """The end of the log when other processes' doings were last looked at."""
        self.folder = folder
        self._vfs, self._clock = vfs, clock
        self._connection: apsw.Connection | None = None
        self._loaded = False
        self._was_full = False
        self._wal = 0
        self._version = self._counted = 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """Run the body in a transaction; what it does to the lanes stands or falls with it.

        Raises SpoolError for whatever the disk does; the next transaction opens the file again.
        """
        with self.using() as connection:
            try:
                with transaction(connection):
                    yield connection
            except BaseException:
                self.lanes.rollback()
                raise
            self.lanes.commit()
        self.trouble = None

    @contextlib.contextmanager
    def using(self) -> Iterator[apsw.Connection]:
        """Run the body with the connection, outside a transaction."""
        try:
            yield self._connection or self._connect()
        except apsw.Error as e:
            explained = explain(e, self.folder)
            self.trouble, self._was_full = str(explained), isinstance(e, apsw.FullError)
            if not isinstance(e, apsw.FullError | apsw.BusyError):
                self.disconnect()
            raise explained from e

    def _connect(self) -> apsw.Connection:
        connection = connect(self.folder, vfs=self._vfs)
        try:
            if self._loaded:
                # A commit that was reported as failed may have reached the file all the same.
                with transaction(connection):
                    for ghosts in _GHOSTS:
                        connection.execute(ghosts, (self.lanes.position,))
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self.lanes.load(connection)
            self.gauge.measure(connection)
        except BaseException:
            connection.close(force=True)
            raise
        connection.set_wal_hook(self._written)
        if not self._loaded:
            self.checked = self.lanes.position
            self._clock.begin(last_time(connection), ahead(connection))
        self._connection, self._loaded = connection, True
        self._version = self._counted = 0  # a new connection counts others' doings anew
        return connection

    def _written(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal = pages
        return apsw.SQLITE_OK

    def disconnect(self) -> None:
        """Close the connection, which also checkpoints if the disk lets it."""
        connection, self._connection = self._connection, None
        if connection:
            with contextlib.suppress(apsw.Error):
                connection.close(force=True)

    def checkpoint(self, pages: int = WAL_PAGES) -> None:
        """Copy the write-ahead log into the file once it holds so many pages."""
        if self._wal < pages:
            return
        with self.using() as connection:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal = 0

    def probe(self) -> None:
        """Write something harmless, so that an end of the trouble shows without traffic.

        A disk that was full has to have room for more than that.
        """
        if self._was_full and shutil.disk_usage(self.folder).free < ROOM:
            return
        with contextlib.suppress(SpoolError), self.writing() as connection:
            connection.pragma("user_version", connection.pragma("user_version"))

    def others_wrote(self) -> bool:
        """Say whether another connection has changed the file since the last call."""
        with self.using() as connection:
            version = connection.pragma("data_version")
        changed = bool(version != self._version)
        self._version = version
        return changed

    def count_again(self, connection: apsw.Connection) -> None:
        """Count what other connections may have changed, if they have, within a transaction."""
        version = connection.pragma("data_version")
        if version != self._counted:
            self._counted = version
            self.lanes.recount(connection)
