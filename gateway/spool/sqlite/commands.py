"""Commands to the writer thread, and the queue that groups them into commits.

One batch is on its way at a time. The next one is whatever the loop has gathered when the
answer to the last one reaches it, so batches grow with the load and nobody waits for a timer.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import apsw
import msgspec

from gateway.errors import SpoolError
from gateway.spool.sqlite.balance import balances
from gateway.spool.sqlite.cursors import DestinationCursor, DestinationCursors
from gateway.spool.sqlite.dead_letters import drop, replay
from gateway.spool.sqlite.session import WriterSession
from gateway.spool.values import (
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

T = TypeVar("T")


class Command(msgspec.Struct):
    """Something that a coroutine waits for."""

    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class AppendEntry(Command, kw_only=True):
    """An entry to append; the result is its seq, 0 where it only repeats what is there."""

    entry: Entry
    accepted: Callable[[LogRecord], None] | None
    kept: Entry | None
    """The entry without repeats, at first itself; None where nothing is left of it."""
    ids: Mapping[int, bytes]
    """What makes an event a repeat, by event (see `dedup_keys`)."""
    window: float
    """Seconds to remember these."""


class RecordProgress(Command, kw_only=True):
    """A worker's progress to record."""

    destination: str
    progress: Progress
    heard: int
    """The number of the last notice `Evicted` that the listeners had heard by then."""


class SaveConsent(Command, kw_only=True):
    """What users said, to be remembered for ``window`` seconds."""

    said: Mapping[bytes, Mapping[str, ConsentRecord]]
    window: float


class TransactionResult(msgspec.Struct):
    """What a rarer act came to."""

    result: Any = None
    notices: Sequence[SpoolNotice] = ()
    then: Callable[[], None] | None = None
    """What to change in memory once the transaction is durable."""


class RunTransaction(Command, kw_only=True):
    """Something rarer to do in a transaction of its own."""

    act: Callable[[apsw.Connection, DestinationCursors], TransactionResult]


class CloseWriter(Command):
    """The end."""


def answer(job: Command) -> None:
    """Settle the job's future; runs on the loop."""
    future = job.future
    if job.error is not None:
        if not future.done():
            future.set_exception(job.error)
        return
    if isinstance(job, AppendEntry) and job.accepted is not None and job.kept is not None:
        guarded(job.accepted, LogRecord(job.result, job.kept))
    if not future.done():
        future.set_result(job.result)


def guarded(callback: Callable[[T], None], value: T) -> None:
    """Call back on the loop; what it raises goes to the loop's exception handler."""
    try:
        callback(value)
    except Exception as e:  # noqa: BLE001 - one callback must not withhold the others' answers
        context = {"message": f"the spool's callback {callback!r} failed", "exception": e}
        asyncio.get_running_loop().call_exception_handler(context)


def fail(jobs: Sequence[Command], error: Exception) -> None:
    """Let the jobs end in an error, those that have none of their own yet."""
    for job in jobs:
        if job.error is None:  # an error of one's own for each, since each waiter raises it
            job.error = _as_spool_error(error)
            job.error.__cause__ = error


def _as_spool_error(error: Exception) -> SpoolError:
    if isinstance(error, SpoolFull):
        return SpoolFull(str(error), error.retry_after)
    if isinstance(error, DiskFull):
        return DiskFull(str(error))
    if isinstance(error, SpoolError):
        return SpoolError(str(error))
    return SpoolError(f"{type(error).__name__}: {error}")


_FORGET = (
    "DELETE FROM waiting WHERE destination = ?",
    "DELETE FROM ended WHERE destination = ?",
    "DELETE FROM taken WHERE destination = ?",
    "DELETE FROM destination WHERE number = ?",
)


def register(
    connection: apsw.Connection, lanes: DestinationCursors, destinations: Mapping[str, BacklogLimit]
) -> TransactionResult:
    """Give new destinations a cursor at the end of the log."""
    added: list[DestinationCursor] = []
    for name in destinations:
        if name not in lanes.by_name:
            query = "SELECT count(*) FROM letter WHERE destination = ?"
            ((dead,),) = fetch(connection, query, (name,))  # of one that was forgotten
            connection.execute(
                "INSERT INTO destination(name, cursor, accepted) VALUES (?, ?, ?)",
                (name, lanes.position, dead),
            )
            lane = DestinationCursor(name, connection.last_insert_rowid(), lanes.position)
            lane.dead = lane.new_dead = dead
            added.append(lane)

    def then() -> None:
        lanes.by_name = lanes.by_name | {lane.name: lane for lane in added}
        for name, lane in lanes.by_name.items():
            lane.bounds = destinations.get(name)

    return TransactionResult(then=then)


def secret(connection: apsw.Connection, _lanes: DestinationCursors) -> TransactionResult:
    """Return the store's own secret."""
    ((found,),) = fetch(connection, "SELECT bytes FROM secret")
    return TransactionResult(found)


def forget(connection: apsw.Connection, lanes: DestinationCursors, name: str) -> TransactionResult:
    """Give up an orphan's cursor and its pending deliveries."""
    lane = lanes[name]
    if lane.bounds is not None:
        raise SpoolError(f"destination {name!r} is registered; take it out of the config first")
    for query in _FORGET:
        connection.execute(query, (lane.number,))
    given_up = lane.backlog + lane.waiting

    def then() -> None:
        lanes.by_name = {n: other for n, other in lanes.by_name.items() if n != name}
        lanes.loose.extend(lane.left())
        lanes.rescan(connection)

    return TransactionResult(given_up, then=then)


def pause(
    connection: apsw.Connection, lanes: DestinationCursors, name: str, *, paused: bool
) -> TransactionResult:
    """Note that an operator paused a destination, or does so no more."""
    number = lanes[name].number
    connection.execute("UPDATE destination SET paused = ? WHERE number = ?", (paused, number))
    return TransactionResult()


def drop_some(
    connection: apsw.Connection, lanes: DestinationCursors, ids: Sequence[int]
) -> TransactionResult:
    """Throw dead letters away."""
    dropped = drop(connection, ids)
    _take_from_dead(lanes, dropped)
    return TransactionResult(dropped.total())


def replay_some(
    connection: apsw.Connection, lanes: DestinationCursors, ids: Sequence[int], now: float
) -> TransactionResult:
    """Move dead letters back and tell their workers."""
    moved = replay(connection, ids, now)
    _take_from_dead(lanes, moved)
    for name, count in moved.items():
        lanes[name].new_waiting += count
    if moved:
        lanes.new_position = connection.last_insert_rowid()
    return TransactionResult(moved.total(), [DeadLettersReplayed(name) for name in moved])


def balance(
    connection: apsw.Connection, lanes: DestinationCursors, session: WriterSession
) -> TransactionResult:
    """Return the balances of all known destinations."""
    session.count_again(connection)
    return TransactionResult(balances(connection, lanes))


def _take_from_dead(lanes: DestinationCursors, gone: Mapping[str, int]) -> None:
    for name, count in gone.items():
        if name in lanes.by_name:
            lanes[name].new_dead -= count


class CommandQueue:
    """Carries jobs to one thread; everything without a note to the contrary runs on the loop."""

    def __init__(self, listeners: Sequence[Callable[[SpoolNotice], None]]) -> None:
        self.queued = 0
        """Bytes of request bodies that wait to be written."""
        self.heard = 0
        """The number of the last notice that the spool took something."""
        self.position = 0
        """The last seq of which the loop knows: the log may be further in the file."""
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
        self._schedule()

    def _schedule(self) -> None:
        if self._gathered and not self._away and not self._due:
            self._due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._due, self._away = False, True
        gathered, self._gathered = self._gathered, []
        self._queue.put(gathered)

    def take(self, patience: float) -> list[Command]:
        """Return the next batch, empty if none comes within ``patience`` seconds (the thread)."""
        with contextlib.suppress(Empty):
            return self._queue.get(timeout=patience)
        return []

    def answer(
        self, jobs: Sequence[Command], notices: Sequence[SpoolNotice], position: int, number: int
    ) -> None:
        """Send answers, notices, the last one's number and the log's end to the loop."""
        with contextlib.suppress(RuntimeError):  # the loop is gone, and so is whoever waited
            self._loop.call_soon_threadsafe(self._arrived, jobs, notices, position, number)

    def _arrived(
        self, jobs: Sequence[Command], notices: Sequence[SpoolNotice], position: int, number: int
    ) -> None:
        for job in jobs:
            if isinstance(job, AppendEntry):
                self.queued -= len(job.entry.request.body)
                if job.error is None and job.kept is not None:
                    self.position = job.result
            answer(job)
        self.position = position
        self.heard = number
        for notice in notices:
            for listener in self._listeners:
                guarded(listener, notice)
        if jobs:
            self._away = False
            self._schedule()
