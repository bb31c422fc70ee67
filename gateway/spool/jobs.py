"""What coroutines ask of the writer, and how they get their answer."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import apsw
import msgspec

from gateway.errors import SpoolError
from gateway.spool.lanes import Lanes
from gateway.spool.values import DiskFull, Entry, Item, Notice, Progress, Said, SpoolFull

T = TypeVar("T")


class Job(msgspec.Struct):
    """Something that a coroutine waits for."""

    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Appending(Job, kw_only=True):
    """An entry to append; the result is its seq, 0 where it only repeats what is there."""

    entry: Entry
    accepted: Callable[[Item], None] | None
    kept: Entry | None
    """The entry without repeats, at first itself; None where nothing is left of it."""
    ids: Mapping[int, bytes]
    """What makes an event a repeat, by event (see ``seen.keys``)."""
    window: float
    """Seconds to remember these."""


class Settling(Job, kw_only=True):
    """A worker's progress to record."""

    destination: str
    progress: Progress
    heard: int
    """The number of the last notice `Taken` that the listeners had heard by then."""


class Remembering(Job, kw_only=True):
    """What users said, to be remembered for ``window`` seconds."""

    said: Mapping[bytes, Mapping[str, Said]]
    window: float


class Outcome(msgspec.Struct):
    """What a rarer act came to."""

    result: Any = None
    notices: Sequence[Notice] = ()
    then: Callable[[], None] | None = None
    """What to change in memory once the transaction is durable."""


class Calling(Job, kw_only=True):
    """Something rarer to do in a transaction of its own."""

    act: Callable[[apsw.Connection, Lanes], Outcome]


class Closing(Job):
    """The end."""


def answer(job: Job) -> None:
    """Settle the job's future; runs on the loop."""
    future = job.future
    if job.error is not None:
        if not future.done():
            future.set_exception(job.error)
        return
    if isinstance(job, Appending) and job.accepted is not None and job.kept is not None:
        guarded(job.accepted, Item(job.result, job.kept))
    if not future.done():
        future.set_result(job.result)


def guarded(callback: Callable[[T], None], value: T) -> None:
    """Call back on the loop; what it raises goes to the loop's exception handler."""
    try:
        callback(value)
    except Exception as e:  # noqa: BLE001 - one callback must not withhold the others' answers
        context = {"message": f"the spool's callback {callback!r} failed", "exception": e}
        asyncio.get_running_loop().call_exception_handler(context)


def fail(jobs: Sequence[Job], error: Exception) -> None:
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
