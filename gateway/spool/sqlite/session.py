"""The writing connection: opened, given up when the disk fails, and opened again."""

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
"""A checkpoint copies the write-ahead log into the file once it holds this many pages.

It holds up the next batch: for 6 ms with SQLite's own 1000 pages, for 2 ms with these.
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
    # What takes their place in the log would be passed, had they been taken from a worker.
    "UPDATE destination SET cursor = :end WHERE cursor > :end",
    # Their senders were told to try again, which must not be taken for a repeat.
    "DELETE FROM seen WHERE seq > :end",
)
"""Undo entries that a commit left in the file although it was reported as failed."""


class WriterSession:
    """The connection, and what is known in memory about the store behind it."""

    def __init__(self, folder: Path, vfs: str | None, max_bytes: int | None, clock: Clock) -> None:
        self.lanes = DestinationCursors()
        self.gauge = SpaceGauge(max_bytes)
        self.trouble: str | None = None
        self.untold: list[Evicted] = []
        """Notices that their workers may not have got, since the disk failed."""
        self.checked = 0
        """The end of the log when other processes' doings were last looked at."""
        self.folder = folder
        self._vfs, self._clock = vfs, clock
        self._connection: apsw.Connection | None = None
        self._loaded = False
        self.short: str | None = None
        """Why nothing new is taken while there is too little room on the disk."""
        self.spare: Callable[[], None] = _nothing
        """Gives up what matters less than events and is on the same disk."""
        self._reserve = Reserve(folder)
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
        """Connect; where the disk is too full for that, with what can be spared."""
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
        """Take no more, and give up what can be spared, so that what is there can be delivered."""
        self.short = self.short or no_room(self.folder)
        self.spare()
        self._reserve.give_back()
        self._reuse_log()

    def _reuse_log(self) -> None:
        """Let what comes next overwrite the write-ahead log, which takes no more room then.

        Copying the log into the file may take some, so it is done while there is some.
        """
        if self.short is not None and self._connection is not None:
            with contextlib.suppress(apsw.Error):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)

    @property
    def no_room(self) -> DiskFull:
        """Return what to tell whoever wants to add something."""
        return DiskFull(self.short or "")

    def has_room(self) -> bool:
        """Say whether new entries may be taken, by the room on the disk."""
        if self.short is not None and self._reserve.set_aside():
            self.short = None
        return self.short is None

    def _connect(self) -> apsw.Connection:
        connection = connect(self.folder, vfs=self._vfs)
        try:
            if self._loaded:
                # A commit that was reported as failed may have reached the file all the same.
                with transaction(connection):
                    for undo in _GHOSTS:
                        connection.execute(undo, {"end": self.lanes.position})
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            else:
                with contextlib.suppress(apsw.FullError):
                    connection.execute("DELETE FROM taken")  # nothing is in flight at a start
            self.lanes.load(connection)
            if self._loaded:
                self._tell_again(connection)
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

    def _tell_again(self, connection: apsw.Connection) -> None:
        for lane in self.lanes.by_name.values():
            if (notice := taken_again(connection, lane)) is not None:
                self.untold.append(notice)
                self.lanes.evict(lane)
        self.lanes.commit()

    def _written(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal = pages
        return apsw.SQLITE_OK

    def disconnect(self) -> None:
        """Close the connection, which also checkpoints if the disk lets it."""
        connection, self._connection = self._connection, None
        if connection:
            with contextlib.suppress(apsw.Error):
                connection.close(force=True)

    def end(self) -> None:
        """Leave nothing behind but the file."""
        self._reserve.give_back()

    def checkpoint(self, pages: int = WAL_PAGES) -> None:
        """Copy the write-ahead log into the file once it holds so many pages."""
        if self._wal < (pages if self.short is None else 1):
            return
        with self.using() as connection:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal = 0

    def probe(self) -> None:
        """Write something harmless, so that an end of the trouble shows without traffic."""
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


def _nothing() -> None:
    """Give up nothing."""
