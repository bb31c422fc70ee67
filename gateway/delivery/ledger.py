"""What a worker has taken from the log and not yet recorded."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from gateway.errors import SpoolError
from gateway.spool import Failed, Later, Mark, Progress, Spool

GATHERING = 0.05
"""Seconds over which progress is gathered before it is recorded. What is delivered and not yet
recorded when the process dies is delivered again, so this bounds the duplicates of a crash."""
AGAIN = 1.0
"""Seconds before progress that could not be recorded is reported again."""

log = structlog.get_logger()


class _Entry:
    """An entry in hand: how many deliveries came before it, and how many of its own are left."""

    __slots__ = ("before", "left")

    def __init__(self, before: int, left: int) -> None:
        self.before = before
        self.left = left


class Ledger:
    """A destination's progress, recorded in batches.

    Args:
        destination: its name.
        spool: where it is recorded.
        reached: returns the seq up to which everything was taken from the log, or was not for
            this destination.
    """

    def __init__(self, destination: str, spool: Spool, reached: Callable[[], int]) -> None:
        self.destination = destination
        self.stuck = False
        """Progress cannot be recorded now; nothing more should be delivered meanwhile."""
        self.version = 0
        """Rises with every exception that is reported or ends."""
        self._spool = spool
        self._reached = reached
        self._open: dict[int, _Entry] = {}
        self._opened = 0
        self._left = 0
        self._reported: set[Mark] = set()
        self._recording: set[Mark] = set()
        self._looked: set[Mark] | None = None
        self._done_going = 0
        self._later: list[Later] = []
        self._done: list[Mark] = []
        self._dead: list[Failed] = []
        self._arrived: list[Mark] = []
        self._cursor = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self, seq: int, deliveries: int) -> None:
        """Note that *deliveries* of the entry at *seq* are in hand."""
        self._open[seq] = _Entry(self._opened, deliveries)
        self._opened += deliveries
        self._left += deliveries

    def close(self, seq: int) -> None:
        """Note that one of them is finished, or stands as an exception."""
        entry = self._open[seq]
        entry.left -= 1
        self._left -= 1
        if not entry.left:
            del self._open[seq]
        self._soon()

    @property
    def unrecorded(self) -> int:
        """Return how many deliveries have ended well of which the spool does not know."""
        return len(self._done) + self._done_going + len(self._arrived)

    @property
    def ahead(self) -> int:
        """Return how many finished deliveries the cursor cannot pass.

        An older one is in hand, or another one of the same entry.
        """
        if not self._open:
            return 0
        return self._opened - next(iter(self._open.values())).before - self._left

    def later(self, later: Later) -> None:
        """Record a delivery that waits."""
        self.version += 1
        self._reported.add(later.mark)
        self._later.append(later)
        self._soon()

    def done(self, mark: Mark) -> None:
        """Record that a waiting delivery ended well."""
        self.version += 1
        self._reported.add(mark)
        self._done.append(mark)
        self._soon()

    def dead(self, failed: Failed) -> None:
        """Record a delivery that is given up."""
        self.version += 1
        self._reported.add(failed.mark)
        self._dead.append(failed)
        self._soon()

    def arrived(self, mark: Mark) -> None:
        """Note that a delivery ended well of which the spool will know by the cursor alone."""
        self._arrived.append(mark)

    def taken_away(self, cursor: int) -> None:
        """Claim what ended well, now that the spool has given up all at or before *cursor*."""
        for mark in self._arrived:
            if mark.seq <= cursor:
                self.done(mark)

    @contextmanager
    def look(self) -> Iterator[Callable[[Mark], bool]]:
        """Yield what tells whether a mark moved on since the spool was looked at.

        What is read from the spool within this context may be out of date for such a mark.
        """
        self._looked = set()
        try:
            yield self._moved
        finally:
            self._looked = None

    def _moved(self, mark: Mark) -> bool:
        looked = self._looked or ()
        return mark in self._reported or mark in self._recording or mark in looked

    @property
    def in_hand(self) -> int:
        """Return how many entries are not finished."""
        return len(self._open)

    def _watermark(self) -> int:
        return next(iter(self._open)) - 1 if self._open else self._reached()

    def _soon(self) -> None:
        if self._timer is None and self._task is None:
            self._timer = asyncio.get_running_loop().call_later(GATHERING, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._record())
            self._task.add_done_callback(self._recorded)

    def _recorded(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is None and self._dirty():
            self._soon()

    def _dirty(self) -> bool:
        return bool(self._later or self._done or self._dead or self._watermark() > self._cursor)

    async def flush(self) -> None:
        """Record everything up to now.

        Raises:
            SpoolError: it cannot be recorded now; it is kept, and reported again.
        """
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._dirty():
            if self._timer is not None:
                self._timer.cancel()
            self._start()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.stuck:
            raise SpoolError(f"progress of {self.destination} cannot be recorded")

    async def _record(self) -> None:
        cursor = self._watermark()
        later, done, dead = self._later, self._done, self._dead
        self._later, self._done, self._dead = [], [], []
        self._done_going = len(done)
        self._reported, self._recording = set(), self._reported
        progress = Progress(cursor=cursor, later=later, done=done, dead=dead)
        try:
            await self._spool.settle(self.destination, progress)
        except SpoolError as error:
            self._keep(later, done, dead)
            self._done_going = 0
            self._reported |= self._recording
            if not self.stuck:
                log.warning("progress_not_recorded", destination=self.destination, error=str(error))
            self.stuck = True
            await asyncio.sleep(AGAIN)
            return
        self._cursor = max(self._cursor, cursor)
        self._arrived = [mark for mark in self._arrived if mark.seq > self._cursor]
        if self._looked is not None:
            self._looked |= self._recording
        self._recording = set()
        self._done_going = 0
        if self.stuck:
            self.stuck = False
            log.info("progress_recorded_again", destination=self.destination)

    def _keep(self, later: Sequence[Later], done: Sequence[Mark], dead: Sequence[Failed]) -> None:
        self._later[:0] = later
        self._done[:0] = done
        self._dead[:0] = dead

    def advance(self) -> None:
        """Record that the log went on without anything for this destination."""
        if self._watermark() > self._cursor:
            self._soon()
