"""The writer's connection: it is closed when the disk fails, and opened again."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from gateway.errors import SpoolError
from gateway.spool.clock import Clock
from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.database import connect, describe_error, no_room
from gateway.spool.sqlite.disk_reserve import Reserve
from gateway.spool.sqlite.progress import taken_again
from gateway.spool.sqlite.reader import ahead, last_time
from gateway.spool.sqlite.vacuum import SpaceGauge
from gateway.spool.values import DiskFull, Evicted
from gateway.sqlite import transaction

WAL_PAGES = 256
"""Pages in the write-ahead log at which a checkpoint copies them into the file.

A checkpoint delays the next batch: by 6 ms with SQLite's default of 1000 pages, by 2 ms with 256.
"""
_GHOSTS = (
    "CREATE TEMP TABLE ghost AS SELECT seq, meta FROM log WHERE seq > :end AND mask <> 0",
    """
    UPDATE destination SET accepted = accepted
    - (SELECT coalesce(sum(deliveries(meta, name)), 0) FROM ghost WHERE seq > cursor)
    - (SELECT count(*) FROM letter JOIN ghost USING (seq) WHERE destination = name)
    """,
    """
    UPDATE destination SET accepted = accepted - gone, dropped = dropped - gone FROM
    (SELECT destination, count(*) AS gone FROM taken JOIN ghost USING (seq) WHERE dropped
     GROUP BY destination) WHERE number = destination
    """,
    "DELETE FROM letter WHERE seq IN (SELECT seq FROM ghost)",
    "DELETE FROM kept WHERE seq IN (SELECT seq FROM ghost)",
    "DELETE FROM taken WHERE seq IN (SELECT seq FROM ghost)",
    "DELETE FROM log WHERE seq IN (SELECT seq FROM ghost)",
    "DROP TABLE ghost",
    # Otherwise a cursor moved by an eviction would pass the entries that reuse these seqs.
    "UPDATE destination SET cursor = :end WHERE cursor > :end",
    """
    UPDATE replay SET position = lost - 1, requests = requests - gone, queued = queued - events
    FROM (SELECT job, min(seq) AS lost, count(DISTINCT seq) AS gone, count(*) AS events
          FROM replayed WHERE copy > :end GROUP BY job) WHERE id = job
    """,
    "DELETE FROM replayed WHERE copy > :end",
    # Their senders will send them again; those must not count as duplicates.
    "DELETE FROM seen WHERE seq > :end",
)
"""Deletes entries that reached the file although their commit was reported as failed."""


class WriterSession:
    """The connection, and the state of the store in memory."""

    def __init__(self, folder: Path, vfs: str | None, max_bytes: int | None, clock: Clock) -> None:
        self.places = DestinationCursors()
        self.gauge = SpaceGauge(max_bytes)
        self.trouble: str | None = None
        self.untold: list[Evicted] = []
        """Notices to repeat: their workers may not have got them when the disk failed."""
        self.checked = 0
        """The end of the log at the last check for changes by other processes."""
        self.folder = folder
        self._vfs, self._clock = vfs, clock
        self._connection: apsw.Connection | None = None
        self._loaded = False
        self.short: str | None = None
        """Why no new entries are accepted while the disk is full; None if it is not."""
        self.spare: Callable[[], None] = _nothing
        """Frees less important space on the same disk."""
        self._reserve = Reserve(folder)
        self._wal = 0
        self._version = self._counted = 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """Run the body in a transaction; the places change with it, or not at all.

        Raises SpoolError for any disk failure; the next transaction opens the file again.
        """
        with self.using() as connection:
            try:
                with transaction(connection):
                    yield connection
            except BaseException:
                self.places.rollback()
                raise
            self.places.commit()
        self.trouble = None

    @contextlib.contextmanager
    def using(self) -> Iterator[apsw.Connection]:
        """Run the body with the connection, without a transaction."""
        try:
            yield self._connection or self._begin()
        except apsw.Error as e:
            full = isinstance(e, apsw.FullError) or self._reserve.short
            explained = (
                DiskFull(no_room(self.folder, e)) if full else describe_error(e, self.folder)
            )
            self.trouble = str(explained)
            if full:
                self._make_do()
            if not isinstance(e, apsw.FullError | apsw.BusyError):
                self.disconnect()
            raise explained from e

    def _begin(self) -> apsw.Connection:
        """Connect; if the disk is too full, free space first."""
        try:
            connection = self._connect()
        except apsw.Error as e:
            if not (isinstance(e, apsw.FullError) or self._reserve.short):
                raise
            self._make_do()
            connection = self._connect()
        if self.short is None and not self._reserve.set_aside():
            self._make_do()
        self._reuse_log()
        return connection

    def _make_do(self) -> None:
        """Accept no new entries and free space, so that stored entries can be delivered."""
        self.short = self.short or no_room(self.folder)
        self.spare()
        self._reserve.give_back()
        self._reuse_log()

    def _reuse_log(self) -> None:
        """Restart the write-ahead log, so that further writes need no more space.

        The checkpoint itself may need space, so it is done while there is some.
        """
        if self.short is not None and self._connection is not None:
            with contextlib.suppress(apsw.Error):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)

    @property
    def no_room(self) -> DiskFull:
        """Return the error for appends while the disk is full."""
        return DiskFull(self.short or "")

    def has_room(self) -> bool:
        """Return whether the disk has room for new entries."""
        if self.short is not None and self._reserve.set_aside():
            self.short = None
        return self.short is None

    def _connect(self) -> apsw.Connection:
        connection = connect(self.folder, vfs=self._vfs)
        try:
            if self._loaded:
                # A commit that was reported as failed may have reached the file nevertheless.
                with transaction(connection):
                    for undo in _GHOSTS:
                        connection.execute(undo, {"end": self.places.position})
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            else:
                with contextlib.suppress(apsw.FullError):
                    connection.execute("DELETE FROM taken")  # nothing is in flight at a start
            self.places.load(connection)
            if self._loaded:
                self._tell_again(connection)
            self.gauge.measure(connection)
        except BaseException:
            connection.close(force=True)
            raise
        connection.set_wal_hook(self._written)
        if not self._loaded:
            self.checked = self.places.position
            self._clock.begin(last_time(connection), ahead(connection))
        self._connection, self._loaded = connection, True
        self._version = self._counted = 0  # data_version differs per connection
        return connection

    def _tell_again(self, connection: apsw.Connection) -> None:
        for place in self.places.by_name.values():
            if (notice := taken_again(connection, place)) is not None:
                self.untold.append(notice)
                self.places.evict(place)
        self.places.commit()

    def _written(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal = pages
        return apsw.SQLITE_OK

    def disconnect(self) -> None:
        """Close the connection; SQLite makes a checkpoint if the disk works."""
        connection, self._connection = self._connection, None
        if connection:
            with contextlib.suppress(apsw.Error):
                connection.close(force=True)

    def end(self) -> None:
        """Remove the disk reserve; only the database stays."""
        self._reserve.give_back()

    def checkpoint(self, pages: int = WAL_PAGES) -> None:
        """Copy the write-ahead log into the file if it has at least *pages* pages."""
        if self._wal < (pages if self.short is None else 1):
            return
        with self.using() as connection:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal = 0

    def empty_log(self) -> bool:
        """Copy the write-ahead log into the file and empty it; return False if a reader holds it.

        Raises:
            SpoolError: the disk fails.
        """
        with self.using() as connection:
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                return False
            self._wal = 0
        return True

    def probe(self) -> None:
        """Write the same version again, to detect without traffic that the disk works again."""
        with contextlib.suppress(SpoolError), self.writing() as connection:
            connection.pragma("user_version", connection.pragma("user_version"))

    def others_wrote(self) -> bool:
        """Return whether another connection has changed the file since the last call."""
        with self.using() as connection:
            version = connection.pragma("data_version")
        changed = bool(version != self._version)
        self._version = version
        return changed

    def count_again(self, connection: apsw.Connection) -> None:
        """Recount within a transaction if other connections have changed the file."""
        version = connection.pragma("data_version")
        if version != self._counted:
            self._counted = version
            self.places.recount(connection)


def _nothing() -> None:
    """Free nothing."""
