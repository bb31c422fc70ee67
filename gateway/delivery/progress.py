"""What a worker has taken from the log and not yet recorded."""

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter

import structlog

from gateway.delivery.job import Completion
from gateway.errors import SpoolError
from gateway.spool import DeliveryRef, FailedDelivery, Outdated, Progress, Spool, WaitingDelivery

INTERVAL = 0.05
"""Seconds over which progress is gathered before it is recorded. What is delivered and not yet
recorded when the process dies is delivered again, so this bounds the duplicates of a crash."""
RETRY_INTERVAL = 1.0
"""Seconds before progress that could not be recorded is reported again."""

log = structlog.get_logger()


class _Entry:
    """An entry that the cursor has not passed, and how its deliveries ended so far."""

    __slots__ = ("before", "ended", "left")

    def __init__(self, before: int, left: int) -> None:
        self.before = before
        """Deliveries that were opened before its own."""
        self.left = left
        self.ended: list[Completion] = []


class ProgressTracker:
    """A destination's progress, recorded in batches.

    A delivery that is taken in the order of the log is *opened* and *closed*; the cursor alone
    says that it ended well. One that overtakes others is *ahead*: its end is recorded by itself.

    Args:
        destination: its name.
        spool: where it is recorded.
        reached: returns the seq up to which everything was taken from the log, or was not for
            this destination.
    """

    def __init__(self, destination: str, spool: Spool, reached: Callable[[], int]) -> None:
        self.destination = destination
        self.stalled = False
        """Progress cannot be recorded now; nothing more should be delivered meanwhile."""
        self.version = 0
        """Rises with every exception that is reported or ends."""
        self.overtaken = 0
        """Deliveries that ended ahead of the cursor since it last caught up with them."""
        self.newest = 0
        """The highest seq that was opened in order; nothing before it may be any more."""
        self._spool = spool
        self._reached = reached
        self._open: dict[int, _Entry] = {}
        self._opened = 0
        self._left = 0
        self._closed: deque[tuple[int, _Entry]] = deque()
        """Finished entries that the cursor has not passed; they count when it does."""
        self._ahead: Counter[int] = Counter()
        self._ahead_seqs: list[int] = []
        self._counts: Counter[str] = Counter()
        self._reported: set[DeliveryRef] = set()
        self._recording: set[DeliveryRef] = set()
        self._looked: set[DeliveryRef] | None = None
        self._done_going = 0
        self._later: list[WaitingDelivery] = []
        self._done: list[DeliveryRef] = []
        self._dead: list[FailedDelivery] = []
        self._delivered: list[DeliveryRef] = []
        self._cursor = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def begin(self, delivered: int, declined: int, shadowed: int) -> None:
        """Count on from what the spool knows of the destination's deliveries."""
        self._counts.update(delivered=delivered, declined=declined, shadowed=shadowed)

    def open(self, seq: int, deliveries: int) -> None:
        """Note that *deliveries* of the entry at *seq* are in flight, in the order of the log."""
        self.newest = max(self.newest, seq)
        entry = self._open.get(seq)
        if entry is None:
            again = self._open and seq < next(reversed(self._open))
            self._open[seq] = _Entry(self._opened, deliveries)
            if again:  # it could not be read before
                self._open = dict(sorted(self._open.items()))
        else:
            entry.left += deliveries
        self._opened += deliveries
        self._left += deliveries

    def close(self, seq: int, ended: Completion | None = None) -> None:
        """Note that one of them ended well; without *ended*, that it stands as an exception."""
        entry = self._open[seq]
        entry.left -= 1
        self._left -= 1
        if ended is not None:
            entry.ended.append(ended)
        while self._open:
            first = next(iter(self._open))
            if self._open[first].left:
                break
            again = self._closed and first < self._closed[-1][0]
            self._closed.append((first, self._open.pop(first)))
            if again:
                self._closed = deque(sorted(self._closed, key=itemgetter(0)))
        self._soon()

    def open_ahead(self, seq: int) -> None:
        """Note that a delivery of the entry at *seq* is in flight that overtakes others."""
        self._ahead[seq] += 1
        if self._ahead[seq] == 1:
            heapq.heappush(self._ahead_seqs, seq)

    def close_ahead(self, seq: int) -> None:
        """Note that it stands as an exception, is recorded, or is in flight no more."""
        self._ahead[seq] -= 1
        while self._ahead_seqs and not self._ahead[self._ahead_seqs[0]]:
            del self._ahead[heapq.heappop(self._ahead_seqs)]
        self.overtaken += 1
        self._soon()

    @property
    def unrecorded(self) -> int:
        """Return how many deliveries have ended well of which the spool does not know."""
        return len(self._done) + self._done_going + len(self._delivered)

    @property
    def completed_ahead(self) -> int:
        """Return how many deliveries ended well of which only the cursor would tell, and cannot.

        An older one is in flight, or another one of the same entry.
        """
        count = 0
        if self._open:
            count = self._opened - next(iter(self._open.values())).before - self._left
        if self._ahead_seqs:
            blocked = (entry for seq, entry in self._closed if seq >= self._ahead_seqs[0])
            count += sum(len(entry.ended) for entry in blocked)
        return count

    def waiting(self, later: WaitingDelivery) -> None:
        """Record a delivery that waits."""
        self.version += 1
        self._reported.add(later.mark)
        self._later.append(later)
        self._soon()

    def completed(self, mark: DeliveryRef, ended: Completion | None) -> None:
        """Record by itself that a delivery ended well; without *ended* it does not count."""
        if ended is not None:
            self._counts[ended] += 1
        self.version += 1
        self._reported.add(mark)
        self._done.append(mark)
        self._soon()

    def dead_lettered(self, failed: FailedDelivery) -> None:
        """Record a delivery that is given up."""
        self.version += 1
        self._reported.add(failed.mark)
        self._dead.append(failed)
        self._soon()

    def delivered(self, mark: DeliveryRef) -> None:
        """Note that a delivery ended well of which the spool will know by the cursor alone."""
        self._delivered.append(mark)

    def on_evicted(self, cursor: int, marks: Iterable[DeliveryRef] = ()) -> None:
        """Claim what ended well, now that the spool has given up all at or before *cursor*.

        It counts from now on, although an older delivery is in flight: the spool takes it out of
        what is dead or dropped with the claim. What waited in the spool, *marks*, has moved.
        """
        if self._looked is not None:
            self._looked.update(marks)
        for mark in self._delivered:
            if mark.seq <= cursor:
                self.completed(mark, None)
        self._delivered = [mark for mark in self._delivered if mark.seq > cursor]
        for seq, entry in [*self._closed, *self._open.items()]:
            if seq <= cursor:
                self._count(entry)

    def _count(self, entry: _Entry) -> None:
        self._counts.update(entry.ended)
        entry.ended.clear()

    @contextmanager
    def watch_moves(self) -> Iterator[Callable[[DeliveryRef], bool]]:
        """Yield what tells whether a mark moved on since the spool was looked at.

        What is read from the spool within this context may be out of date for such a mark.
        """
        self._looked = set()
        try:
            yield self._moved
        finally:
            self._looked = None

    def _moved(self, mark: DeliveryRef) -> bool:
        looked = self._looked or ()
        return mark in self._reported or mark in self._recording or mark in looked

    @property
    def unreported(self) -> bool:
        """Tell whether there are exceptions of which the spool does not know yet."""
        return bool(self._reported or self._recording)

    @property
    def open_entries(self) -> int:
        """Return how many entries are not finished."""
        return sum(1 for entry in self._open.values() if entry.left) + len(self._ahead)

    def _watermark(self) -> int:
        firsts = [self._reached()]
        if self._open:
            firsts.append(next(iter(self._open)) - 1)
        if self._ahead_seqs:
            firsts.append(self._ahead_seqs[0] - 1)
        return min(firsts)

    def end(self) -> None:
        """Record no more."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _soon(self) -> None:
        if self._timer is None and self._task is None and not self._ended:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._start)

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
        if self.stalled:
            raise SpoolError(f"progress of {self.destination} cannot be recorded")

    async def _record(self) -> None:
        while await self._is_outdated():
            pass

    async def _is_outdated(self) -> bool:
        """Report once; return whether the spool wants it anew, with what it took meanwhile."""
        cursor = self._watermark()
        while self._closed and self._closed[0][0] <= cursor:
            self._count(self._closed.popleft()[1])
        later, done, dead = self._later, self._done, self._dead
        self._later, self._done, self._dead = [], [], []
        self._done_going = len(done)
        self._reported, self._recording = set(), self._reported
        counts = self._counts
        progress = Progress(
            cursor=cursor,
            later=later,
            done=done,
            dead=dead,
            delivered=counts["delivered"],
            declined=counts["declined"],
            shadowed=counts["shadowed"],
        )
        try:
            await self._spool.settle(self.destination, progress)
        except SpoolError as error:
            self._keep(later, done, dead)
            self._done_going = 0
            self._reported |= self._recording
            if isinstance(error, Outdated):
                return True
            if not self.stalled:
                log.warning("progress_failed", destination=self.destination, error=str(error))
            self.stalled = True
            await asyncio.sleep(RETRY_INTERVAL)
            return False
        self._cursor = max(self._cursor, cursor)
        self._delivered = [mark for mark in self._delivered if mark.seq > self._cursor]
        if self._looked is not None:
            self._looked |= self._recording
        self._recording = set()
        self._done_going = 0
        if self._cursor >= self._reached():
            self.overtaken = 0
        if self.stalled:
            self.stalled = False
            log.info("progress_recovered", destination=self.destination)
        return False

    def _keep(
        self,
        later: Sequence[WaitingDelivery],
        done: Sequence[DeliveryRef],
        dead: Sequence[FailedDelivery],
    ) -> None:
        self._later[:0] = later
        self._done[:0] = done
        self._dead[:0] = dead

    def advance(self) -> None:
        """Record that the log went on without anything for this destination."""
        if self._watermark() > self._cursor:
            self._soon()
