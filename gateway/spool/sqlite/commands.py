"""Commands to the writer thread, and the queue that groups them into commits.

The writer handles one batch at a time. The next batch is all commands that the loop has collected
when the result of the last one arrives, so batches grow with the load and no command waits for a
timer.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import apsw
import msgspec

from gateway.errors import GatewayError, SpoolError
from gateway.event import Event
from gateway.spool.callbacks import call_each
from gateway.spool.interface import Offer
from gateway.spool.replays import ReplayStep
from gateway.spool.sqlite.balance import balances
from gateway.spool.sqlite.cursors import DestinationCursor, DestinationCursors
from gateway.spool.sqlite.dead_letters import drop, replay
from gateway.spool.sqlite.session import WriterSession
from gateway.spool.values import (
    Appended,
    BacklogLimit,
    ConsentRecord,
    DeadLettersReplayed,
    DiskFull,
    Entry,
    LogRecord,
    Progress,
    SpoolFull,
    SpoolNotice,
)
from gateway.sqlite import fetch


class Command(msgspec.Struct):
    """A command whose result a coroutine awaits."""

    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class AppendEntry(Command, kw_only=True):
    """Append an entry; the result is its seq, or 0 if nothing of it is stored."""

    entry: Entry
    events: Sequence[Event] | None
    """Its parsed events, for the followers."""
    kept: Entry | None
    """The entry without duplicates; None if nothing is left."""
    repeats: frozenset[int] = frozenset()
    """The indexes of the duplicates."""
    ids: Mapping[int, bytes] = {}
    """The dedup key of each event, by index (see `dedup_keys`)."""
    window: float = 0.0
    """Seconds to remember the keys."""
    accepted_at: float | None = None
    """When another spool accepted it, in Unix seconds, if it was moved from there."""
    step: ReplayStep | None = None
    """The entry is a copy that this move of a replay makes; without the move it is not stored."""


class RecordProgress(Command, kw_only=True):
    """Record a worker's progress."""

    destination: str
    progress: Progress
    heard: int
    """Number of the last notice `Evicted` that the listeners had got by then."""


class SaveConsent(Command, kw_only=True):
    """Store users' consent for ``window`` seconds."""

    records: Mapping[bytes, Mapping[str, ConsentRecord]]
    window: float


class TransactionResult(msgspec.Struct):
    """The result of a `RunTransaction`."""

    result: Any = None
    notices: Sequence[SpoolNotice] = ()
    then: Callable[[], None] | None = None
    """Changes the state in memory once the transaction is durable."""


class RunTransaction(Command, kw_only=True):
    """Run a rare operation in its own transaction."""

    act: Callable[[apsw.Connection, DestinationCursors], TransactionResult]


class EmptyLog(Command):
    """Copy the write-ahead log into the file, and empty it; the result is whether it is empty."""


class CloseWriter(Command):
    """Close the store and end the thread."""


def fail(jobs: Sequence[Command], error: Exception) -> None:
    """Set an error on the jobs that have none yet."""
    for job in jobs:
        if job.error is None:  # a separate exception for each, since each waiter raises it
            job.error = _fresh(error)
            job.error.__cause__ = error


def _fresh(error: Exception) -> GatewayError:
    if isinstance(error, SpoolFull):
        return SpoolFull(str(error), error.retry_after)
    if isinstance(error, DiskFull):
        return DiskFull(str(error))
    if isinstance(error, SpoolError):
        return SpoolError(str(error))
    if isinstance(error, GatewayError):
        return GatewayError(str(error))  # what the caller asks is refused; the spool works
    return SpoolError(f"{type(error).__name__}: {error}")


_FORGET = (
    "DELETE FROM waiting WHERE destination = ?",
    "DELETE FROM ended WHERE destination = ?",
    "DELETE FROM taken WHERE destination = ?",
    "DELETE FROM replayed WHERE destination = ?",
    "DELETE FROM destination WHERE number = ?",
)

_LEFT = "SELECT seq FROM log WHERE seq > ? AND mask & ? <> 0"
"""The rows of a forgotten destination that are not trimmed with the start of the log."""


def register(
    connection: apsw.Connection,
    places: DestinationCursors,
    destinations: Mapping[str, BacklogLimit],
) -> TransactionResult:
    """Add new destinations with a cursor at the end of the log."""
    added: list[DestinationCursor] = []
    for name in destinations:
        if name not in places.by_name:
            query = "SELECT count(*) FROM letter WHERE destination = ?"
            ((dead,),) = fetch(connection, query, (name,))  # from before it was forgotten
            connection.execute(
                "INSERT INTO destination(name, cursor, accepted) VALUES (?, ?, ?)",
                (name, places.position, dead),
            )
            place = DestinationCursor(name, connection.last_insert_rowid(), places.position)
            place.dead = place.new_dead = dead
            added.append(place)

    def then() -> None:
        places.by_name = places.by_name | {place.name: place for place in added}
        for name, place in places.by_name.items():
            place.bounds = destinations.get(name)

    return TransactionResult(then=then)


def secret(connection: apsw.Connection, _places: DestinationCursors) -> TransactionResult:
    """Return the secret of the store."""
    ((found,),) = fetch(connection, "SELECT bytes FROM secret")
    return TransactionResult(found)


def forget(connection: apsw.Connection, places: DestinationCursors, name: str) -> TransactionResult:
    """Delete an orphan's cursor and its pending deliveries."""
    place = places[name]
    if place.bounds is not None:
        raise SpoolError(f"destination {name!r} is registered; remove it from the config first")
    for query in _FORGET:
        connection.execute(query, (place.number,))
    given_up = place.backlog + place.waiting

    def then() -> None:
        places.by_name = {n: other for n, other in places.by_name.items() if n != name}
        behind = (max(place.cursor, places.passed()), place.bit)
        places.loose.extend(seq for (seq,) in fetch(connection, _LEFT, behind))
        places.rescan(connection)

    return TransactionResult(given_up, then=then)


def pause(
    connection: apsw.Connection, places: DestinationCursors, name: str, *, paused: bool
) -> TransactionResult:
    """Store whether an operator paused a destination."""
    number = places[name].number
    connection.execute("UPDATE destination SET paused = ? WHERE number = ?", (paused, number))
    return TransactionResult()


def drop_some(
    connection: apsw.Connection, places: DestinationCursors, ids: Sequence[int]
) -> TransactionResult:
    """Delete dead letters."""
    dropped = drop(connection, ids)
    take_from_dead(places, dropped)
    return TransactionResult(dropped.total())


def replay_some(
    connection: apsw.Connection, places: DestinationCursors, ids: Sequence[int], now: float
) -> TransactionResult:
    """Replay dead letters and notify their workers."""
    moved = replay(connection, ids, now)
    take_from_dead(places, moved)
    for name, count in moved.items():
        places[name].new_waiting += count
    if moved:
        places.new_position = connection.last_insert_rowid()
    return TransactionResult(moved.total(), [DeadLettersReplayed(name) for name in moved])


def balance(
    connection: apsw.Connection, places: DestinationCursors, session: WriterSession
) -> TransactionResult:
    """Return the balances of all known destinations."""
    session.count_again(connection)
    return TransactionResult(balances(connection, places))


def take_from_dead(places: DestinationCursors, gone: Mapping[str, int]) -> None:
    """Count the dead letters that are *gone*, by destination."""
    for name, count in gone.items():
        if name in places.by_name:
            places[name].new_dead -= count


class CommandQueue:
    """Carries jobs to the writer thread. All methods run on the loop, unless they say otherwise."""

    def __init__(
        self, followers: Sequence[Offer], listeners: Sequence[Callable[[SpoolNotice], None]]
    ) -> None:
        self.queued = 0
        """Bytes of request bodies that wait to be written."""
        self.heard = 0
        """Number of the last eviction notice."""
        self.position = 0
        """The last seq that the loop knows; the file may have more entries."""
        self._followers = followers
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Command] = []
        self._away = False
        self._due = False
        self._queue: SimpleQueue[list[Command]] = SimpleQueue()

    def put(self, job: Command) -> None:
        """Queue a job for the next batch."""
        if isinstance(job, AppendEntry):
            self.queued += len(job.entry.request.body)
        self._gathered.append(job)
        if not self._away:
            self._schedule()

    def _schedule(self) -> None:
        if self._gathered and not self._due:
            self._due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._due, self._away = False, True
        gathered, self._gathered = self._gathered, []
        self._queue.put(gathered)

    def take(self, patience: float) -> list[Command]:
        """Return the next batch, empty after ``patience`` seconds; runs on the writer thread."""
        with contextlib.suppress(Empty):
            return self._queue.get(timeout=patience)
        return []

    def answer(
        self, jobs: Sequence[Command], notices: Sequence[SpoolNotice], position: int, number: int
    ) -> None:
        """Send results, notices, the log's end and the last eviction number to the loop.

        Runs on the writer thread.
        """
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            self._loop.call_soon_threadsafe(self._arrived, jobs, notices, position, number)

    def _arrived(
        self, jobs: Sequence[Command], notices: Sequence[SpoolNotice], position: int, number: int
    ) -> None:
        for job in jobs:
            result = job.result
            if isinstance(job, AppendEntry):
                self.queued -= len(job.entry.request.body)
                if job.error is None and job.kept is not None:
                    self.position = result
                    record = LogRecord(result, job.kept)
                    call_each(self._followers, record, job.events)
                result = Appended(result, job.repeats)
            if job.future.done():  # the waiter was cancelled
                continue
            if job.error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(job.error)
        self.position = position
        self.heard = number
        for notice in notices:
            call_each(self._listeners, notice)
        if jobs:
            self._away = False
            self._schedule()
