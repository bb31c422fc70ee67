"""Track a worker's progress, and record it in the spool in batches."""

import asyncio
import heapq
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter

import msgspec
import structlog

from gateway.delivery.job import Completion
from gateway.errors import SpoolError
from gateway.spool import (
    DeliveryRef,
    FailedDelivery,
    Fenced,
    Outdated,
    Progress,
    Shard,
    WaitingDelivery,
)

INTERVAL = 0.05
"""Seconds for which progress is collected before it is recorded. After a crash, deliveries that
were not recorded are repeated, so this limits the duplicates."""
RETRY_INTERVAL = 1.0
"""Seconds until the next try after progress could not be recorded."""

log = structlog.get_logger()


class _Entry(msgspec.Struct):
    """An entry that the cursor has not passed, and the outcomes of its deliveries so far."""

    before: int
    """Number of deliveries opened before its own."""
    left: int
    """Number of deliveries without an outcome."""
    ended: list[Completion] = []


class ProgressTracker:
    """Records a destination's progress in batches.

    A delivery in the order of the log is *opened* and *closed*; only the cursor records its
    success. A delivery that overtakes others is *ahead*: its outcome is recorded separately.

    Args:
        destination: its name.
        shard: stores the progress.
        reached: returns the seq up to which every delivery for the destination has become a job.
        on_recorded: called after each record.
        on_fenced: called when another process has taken the shard over.
    """

    def __init__(
        self,
        destination: str,
        shard: Shard,
        reached: Callable[[], int],
        *,
        on_recorded: Callable[[], None],
        on_fenced: Callable[[], None],
    ) -> None:
        self.destination = destination
        self.stalled = False
        """Whether progress cannot be recorded now; then nothing more should be delivered."""
        self.version = 0
        """Increases with every exception that is reported or ends."""
        self.overtaken = 0
        """Number of deliveries that ended ahead of the cursor since it last caught up."""
        self.newest = 0
        """The highest seq opened in order; lower ones must be opened ahead."""
        self._shard = shard
        self._reached = reached
        self._on_recorded = on_recorded
        self._on_fenced = on_fenced
        self._open: dict[int, _Entry] = {}
        self._order: deque[int] = deque()
        """The seqs of these, ascending. To find the first key of a dict takes a step per key that
        was removed before it."""
        self._opened = 0
        self._left = 0
        self._closed: deque[tuple[int, _Entry]] = deque()
        """Finished entries that the cursor has not passed; they are counted when it does."""
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
        """Set the counts that the spool has at the start."""
        self._counts.update(delivered=delivered, declined=declined, shadowed=shadowed)

    def open(self, seq: int, deliveries: int) -> None:
        """Open *deliveries* of the entry at *seq*, in the order of the log."""
        if seq > self.newest:
            self.newest = seq
            self._order.append(seq)
            self._open[seq] = _Entry(self._opened, deliveries)
        elif (entry := self._open.get(seq)) is None:  # an earlier read of it failed
            insort(self._order, seq)
            self._open[seq] = _Entry(self._opened, deliveries)
        else:
            entry.left += deliveries
        self._opened += deliveries
        self._left += deliveries

    def close(self, seq: int, ended: Completion | None = None) -> None:
        """Close one delivery with its outcome; without *ended* it is an exception."""
        entry = self._open[seq]
        left = entry.left = entry.left - 1
        self._left -= 1
        if ended is not None:
            entry.ended.append(ended)
        if not left and seq == self._order[0]:
            self._pass_closed()
        if self._timer is None:
            self._soon()

    def _pass_closed(self) -> None:
        """Move the first entries, as far as they are finished, from the open to the closed."""
        order, entries, closed = self._order, self._open, self._closed
        while order and not entries[order[0]].left:
            first = order.popleft()
            again = closed and first < closed[-1][0]
            closed.append((first, entries.pop(first)))
            if again:
                closed = self._closed = deque(sorted(closed, key=itemgetter(0)))

    def open_ahead(self, seq: int) -> None:
        """Open a delivery of the entry at *seq* that overtakes others."""
        self._ahead[seq] += 1
        if self._ahead[seq] == 1:
            heapq.heappush(self._ahead_seqs, seq)

    def close_ahead(self, seq: int) -> None:
        """Close a delivery that was opened ahead: it is recorded, an exception, or removed."""
        self._ahead[seq] -= 1
        while self._ahead_seqs and not self._ahead[self._ahead_seqs[0]]:
            del self._ahead[heapq.heappop(self._ahead_seqs)]
        self.overtaken += 1
        self._soon()

    @property
    def unrecorded(self) -> int:
        """Return the number of successful deliveries that the spool does not know."""
        return len(self._done) + self._done_going + len(self._delivered)

    @property
    def completed_ahead(self) -> int:
        """Return the number of successful deliveries that the cursor cannot pass yet.

        An older delivery, or another one of the same entry, is in flight.
        """
        if not self._order and not self._ahead_seqs:
            return 0
        count = 0
        if self._order:
            count = self._opened - self._open[self._order[0]].before - self._left
        if self._ahead_seqs:
            blocked = (entry for seq, entry in self._closed if seq >= self._ahead_seqs[0])
            count += sum(len(entry.ended) for entry in blocked)
        return count

    def waiting(self, later: WaitingDelivery) -> None:
        """Record a waiting delivery."""
        self.version += 1
        self._reported.add(later.mark)
        self._later.append(later)
        self._soon()

    def completed(self, mark: DeliveryRef, ended: Completion | None) -> None:
        """Record the success of a delivery separately; without *ended* it is not counted."""
        if ended is not None:
            self._counts[ended] += 1
        self.version += 1
        self._reported.add(mark)
        self._done.append(mark)
        self._soon()

    def dead_lettered(self, failed: FailedDelivery) -> None:
        """Record a failed delivery."""
        self.version += 1
        self._reported.add(failed.mark)
        self._dead.append(failed)
        self._soon()

    def delivered(self, mark: DeliveryRef) -> None:
        """Add a successful delivery that the cursor will record."""
        self._delivered.append(mark)

    def on_evicted(self, cursor: int, marks: Iterable[DeliveryRef] = ()) -> None:
        """Report successful deliveries at or before *cursor*, since the spool evicted them.

        They count from now on, even if an older delivery is in flight; the report removes them from
        the spool's dead or dropped deliveries. *marks* are evicted waiting deliveries.
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
        for ended in entry.ended:
            self._counts[ended] += 1
        entry.ended.clear()

    @contextmanager
    def watch_moves(self) -> Iterator[Callable[[DeliveryRef], bool]]:
        """Yield a function that returns whether a delivery changed since the context was entered.

        Data that was read from the spool in this context may be outdated for such a delivery.
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
        """Return whether there are exceptions that the spool does not know yet."""
        return bool(self._reported or self._recording)

    @property
    def open_entries(self) -> int:
        """Return the number of unfinished entries."""
        return sum(1 for entry in self._open.values() if entry.left) + len(self._ahead)

    def _watermark(self) -> int:
        firsts = [self._reached()]
        if self._order:
            firsts.append(self._order[0] - 1)
        if self._ahead_seqs:
            firsts.append(self._ahead_seqs[0] - 1)
        return min(firsts)

    def end(self) -> None:
        """Stop recording."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _soon(self) -> None:
        if self._timer is None and self._task is None and not self._ended:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._start)

    def _start(self, *, soon: bool = False) -> None:
        self._timer = None
        if self._task is None and not self._ended:
            self._task = asyncio.get_running_loop().create_task(self._record(soon=soon))
            self._task.add_done_callback(self._recorded)

    def _recorded(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is None and self._dirty():
            self._soon()

    def _dirty(self) -> bool:
        return bool(self._later or self._done or self._dead or self._watermark() > self._cursor)

    async def flush(self) -> None:
        """Record all progress so far, at once.

        Raises:
            SpoolError: it cannot be recorded now; it is kept and reported again.
        """
        if self._task is not None:
            self._shard.hurry()
            await asyncio.wait([self._task])
        if self._dirty():
            if self._timer is not None:
                self._timer.cancel()
            self._start(soon=True)
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.stalled:
            raise SpoolError(f"progress of {self.destination} cannot be recorded")

    async def _record(self, *, soon: bool) -> None:
        while await self._is_outdated(soon=soon):
            pass

    async def _is_outdated(self, *, soon: bool) -> bool:
        """Report once; return whether the report was outdated and must be repeated."""
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
            await self._shard.settle(self.destination, progress, soon=soon)
        except Fenced:
            self._on_fenced()
            return False
        except Exception as error:  # noqa: BLE001 - whatever the store raises, nothing may be lost
            self._keep(later, done, dead)
            self._done_going = 0
            self._reported |= self._recording
            if isinstance(error, Outdated):
                return True
            self._stall(error)
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
        self._on_recorded()
        return False

    def _stall(self, error: Exception) -> None:
        """Log why progress cannot be recorded, once until it is recorded again."""
        if not self.stalled:
            known = isinstance(error, SpoolError)
            log.warning(
                "progress_failed",
                destination=self.destination,
                shard=self._shard.number,
                error=str(error) if known else repr(error),
                exc_info=None if known else error,
            )
        self.stalled = True

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
        """Move the cursor past entries that are not for this destination."""
        if self._watermark() > self._cursor:
            self._soon()
