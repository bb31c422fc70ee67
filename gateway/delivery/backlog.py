"""Make jobs from the log: from new entries, and from the backlog."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import compress

import structlog

from gateway.delivery.circuit_breaker import CircuitBreaker
from gateway.delivery.dead_letters import DeadLetterWriter
from gateway.delivery.job import Job, StepsOf, steady_time
from gateway.delivery.job_builder import JobBuilder, Parse
from gateway.delivery.log_tail import LogTail
from gateway.delivery.progress import ProgressTracker
from gateway.delivery.queue import JobQueue
from gateway.delivery.unread import NOBODY, Unread, UnreadIndex
from gateway.delivery.waiting import DOUBT, WaitingReader
from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool import (
    DeadLettersReplayed,
    DeliveryRef,
    Entry,
    Fenced,
    LogRecord,
    Shard,
    SpoolNotice,
    UnreadEntry,
)

PAGE = 100
"""Entries read at once."""
SCANNED = 1000
"""Entries whose places are read at once."""
MAX_INDEXED = 50_000
"""Unread deliveries of a destination whose places are in memory, in equal parts for its shards.
Above it those of further entries stay in the log. Once half of them are left, the next ones are
read."""
TICK = 1.0
"""Seconds after which an idle destination's cursor follows the log, so that it can be trimmed."""
OVERTAKEN = 1024
"""Deliveries that may overtake a user's backlog. Then that backlog is parked, so that the cursor
can move and the log can be trimmed."""

log = structlog.get_logger()


class BacklogReader:
    """Makes jobs of a destination's pending deliveries, and adds them to its queue.

    A new entry becomes jobs at once if there is room and its users have no older unread events.
    All others stay in the log. The places of the first ones are kept in memory (`UnreadIndex`), and
    they are read back source by source. Those after them are not in memory at all (`LogTail`).

    Args:
        name: name of the destination.
        shard: the log.
        queue: gets the jobs.
        breaker: the circuit breaker of the destination.
        concurrency: number of parallel attempts.
        retry_max: longest wait for a retry after a start, in seconds.
        parse: returns the events of a stored request.
        steps_of: returns the steps of a route by its name.
        configs_differ: see `JobBuilder`.
        whole: returns whether requests in a vendor's format are forwarded unchanged.
        on_fenced: called when another process has taken the shard over.

    Attributes:
        waiting: reads waiting deliveries, in turns with the log.
    """

    def __init__(  # noqa: PLR0913 - all dependencies of a reader
        self,
        name: str,
        shard: Shard,
        queue: JobQueue,
        breaker: CircuitBreaker,
        *,
        concurrency: int,
        retry_max: float,
        parse: Parse,
        steps_of: StepsOf,
        configs_differ: Callable[[], bool] | None,
        whole: Callable[[str], bool],
        on_fenced: Callable[[], None],
    ) -> None:
        self._name = name
        self._shard = shard
        self._queue = queue
        self._in_flight = queue.in_flight
        self._breaker = breaker
        self._concurrency = concurrency
        self._retry_max = retry_max
        self._whole = whole
        self._on_fenced = on_fenced
        self._unread = UnreadIndex()
        self._tail = LogTail()
        self._loaded = False
        self._ready = asyncio.Event()
        self._reached = self._evicted_to = 0
        self._loading: Counter[int] = Counter()
        self._swept = 0.0
        self._wake = asyncio.Event()
        self._maker = JobBuilder(name, parse, steps_of, configs_differ)
        self.waiting = WaitingReader(
            name,
            shard,
            queue,
            self._maker,
            first_unread=self._first_unread,
            wake=self._wake.set,
        )
        self._task: asyncio.Task[None] | None = None
        self._tracker: ProgressTracker

    def start(self, tracker: ProgressTracker, dead_letters: DeadLetterWriter) -> None:
        """Start at the cursor; from now on every new entry must be passed to `offer`."""
        self._tracker = tracker
        self._maker.start(dead_letters)
        self.waiting.start(tracker)
        self._reached = self._shard.position()
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{self._name}/log")

    async def stop(self) -> None:
        """Stop reading."""
        self.abandon()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def abandon(self) -> None:
        """Stop reading soon."""
        if self._task is not None:
            self._task.cancel()

    async def ready(self) -> None:
        """Wait until the pending deliveries are known."""
        await self._ready.wait()

    @property
    def unread(self) -> int:
        """Return the number of deliveries in the log without a job whose places are in memory."""
        return len(self._unread)

    @property
    def _most_indexed(self) -> int:
        return MAX_INDEXED // self._in_flight.sharers

    def _first_unread(self, user: int) -> int | None:
        """Return the lowest seq that a user's unread deliveries may have."""
        first = self._unread.first_of(user)
        return self._tail.after + 1 if first is None and self._tail.may_have(user) else first

    # Called by the worker

    def read_position(self) -> int:
        """Return the seq up to which every delivery for this destination has become a job.

        It is never after the last entry that was offered or read.
        """
        if not self._loaded:
            return 0
        first = self._unread.first()
        if first is not None:
            return first - 1
        return self._tail.after if self._tail else self._reached

    def offer(self, item: LogRecord, events: Sequence[Event]) -> None:
        """Accept a new entry; entries must come in the order of the log."""
        seq, entry = item.seq, item.entry
        if seq <= self._reached:
            return
        self._reached = seq
        if not self._loaded:
            return
        numbers = entry.targets[self._name]
        behind = self._is_behind
        going = self._going(entry, numbers, behind=behind)
        if len(going) < len(numbers):
            left = numbers
            if going:
                taken = set(going)
                left = tuple([number for number in numbers if number not in taken])
            users = tuple([entry.user(number) for number in left])
            self._leave(UnreadEntry(seq, entry.lane, entry.vendor, left, users))
            self.request_more()
            behind = True
        if going:
            self._open(seq, going, ahead=behind)
            self._admit(seq, entry, going, events, ahead=behind)

    def _leave(self, entry: UnreadEntry) -> None:
        """Leave deliveries in the log, and index them if there is room and no tail before them."""
        if self._tail or self._unread.count >= self._most_indexed:
            for user in entry.users:
                self._tail.add(entry.seq, user)
            return
        self._index(entry, entry.numbers, entry.users)

    @property
    def _is_behind(self) -> bool:
        """Return whether deliveries in the log have no job yet; each event asks several times."""
        return self._unread.count > 0 or self._tail.after < self._tail.upto

    def _going(self, entry: Entry, numbers: Sequence[int], *, behind: bool) -> Sequence[int]:
        """Return the deliveries of a new entry that become jobs at once."""
        if self._queue.closed:
            return ()
        sources = len(self._unread.sources) if behind else 0
        if self._in_flight.room(entry.lane, sources) <= 0:
            return ()
        if len(numbers) == 1:
            return numbers if self._may_overtake(entry.user(numbers[0]), behind=behind) else ()
        users = [entry.user(number) for number in numbers]
        if len(set(users)) == 1 and self._whole(entry.vendor):
            return numbers if self._may_overtake(users[0], behind=behind) else ()
        room: dict[int, int] = {NOBODY: len(numbers)}
        going = []
        for number, user in zip(numbers, users, strict=True):
            if user not in room:
                may = self._may_overtake(user, behind=behind)
                room[user] = self._queue.room_for(user) if may else 0
            if room[user] > 0:
                room[user] -= 1
                going.append(number)
        return going

    def _may_overtake(self, user: int, *, behind: bool) -> bool:
        """Return whether a new event of the user may overtake all unread deliveries."""
        if user == NOBODY:
            return True
        if self._queue.room_for(user) <= 0 or user in self._loading:
            return False
        return not (behind and (self._unread.holds(user) or self._tail.may_have(user)))

    def prompt(self) -> bool:
        """Return whether a new entry would become jobs that can be sent at once."""
        return self._loaded and not (self._is_behind or self._queue.closed or self._breaker.opened)

    def request_more(self) -> None:
        """Continue reading if there is anything to read."""
        if (not self._queue.closed and self._is_behind) or self.waiting.due:
            self._wake.set()

    def freed(self, user: int) -> None:
        """Record that a job of the user with this hash ended, and continue reading."""
        if self._unread.count and user != NOBODY:
            self._unread.freed(user)
        self.request_more()

    def on_notice(self, notice: SpoolNotice) -> None:
        """Handle a notice of the spool; see `Evicted`, `DeadLettersReplayed`."""
        if isinstance(notice, DeadLettersReplayed):
            self.waiting.due_at(0.0)
            return
        self._in_flight.on_evicted(notice)
        self._evicted_to = max(self._evicted_to, notice.cursor)
        self._unread.evict(self._evicted_to)  # the reader evicts the rest in steps
        self._tail.advance(self._evicted_to)
        self._reached = max(self._reached, notice.cursor)
        self.waiting.count_in(DOUBT)
        self._tracker.on_evicted(notice.cursor, notice.marks)

    def _again(self) -> None:
        """Wake the reader again, after other tasks of the loop have run."""
        asyncio.get_running_loop().call_soon(self._wake.set)

    # The reader

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                if not self._loaded:
                    await self._load_index()
                await self._bring()
            except Fenced:
                self._on_fenced()
                return
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it must go on
                self._log_failure(error)
                await asyncio.sleep(TICK)
                self.waiting.doubt()

    def _log_failure(self, error: BaseException) -> None:
        """Log why reading failed: it goes on with whatever the store raised.

        Raises:
            asyncio.CancelledError: the reader itself was cancelled, not something in the store.
        """
        task, shard = asyncio.current_task(), self._shard.number
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        if isinstance(error, SpoolError):
            text = str(error)
            log.warning("spool_read_failed", destination=self._name, shard=shard, error=text)
        else:
            log.error("reader_failed", destination=self._name, shard=shard, exc_info=error)

    def _pause(self) -> float:
        return max(0.0, min(TICK, self.waiting.next_at - steady_time()))

    async def _load_index(self) -> None:
        """Read the places of unread deliveries, and the waiting deliveries.

        Raises:
            SpoolError: the spool cannot be read.
        """
        balance = (await self._shard.balances())[self._name]
        await self.waiting.count()
        # The system clock may have been set back since the retries were scheduled.
        await self.waiting.retry_by(steady_time() + self._retry_max)
        after = self._shard.cursor(self._name)
        self._unread, self._tail = UnreadIndex(), LogTail()
        while after < (upto := self._reached):
            page = await self._shard.unread(self._name, after, upto, SCANNED)
            for entry in page.items:
                self._leave(entry)
            after = page.scanned
        self._evicted_to = max(self._evicted_to, self._shard.cursor(self._name))
        self._tail.advance(self._evicted_to)
        self._tracker.begin(balance.delivered, balance.declined, balance.shadowed)
        self._loaded = True
        self._ready.set()

    async def _read_tail(self) -> bool:
        """Index the next entries of the tail if the index is half empty; return whether it was.

        Deliveries that overtook the tail are left out: the spool leaves out those that ended, and
        the others are in flight.

        Raises:
            SpoolError: the spool cannot be read.
        """
        if not self._tail or len(self._unread) > self._most_indexed // 2:
            return False
        await self._tracker.flush()
        with self._tracker.watch_moves() as moved:
            tail = self._tail
            page = await self._shard.unread(self._name, tail.after, tail.upto, SCANNED)
            read = page.scanned
            for entry in page.items:
                if len(self._unread) >= self._most_indexed:
                    read = entry.seq - 1
                    break
                marks = [DeliveryRef(entry.seq, number) for number in entry.numbers]
                left = [not (moved(one) or self._in_flight.is_ahead(one)) for one in marks]
                self._index(entry, compress(entry.numbers, left), compress(entry.users, left))
        self._tail.advance(read)
        return True

    def _index(self, entry: UnreadEntry, numbers: Iterable[int], users: Iterable[int]) -> None:
        """Add deliveries of an entry to the index."""
        whole = self._whole(entry.vendor)
        for number, user in zip(numbers, users, strict=True):
            self._unread.add(Unread(entry.seq, number, user, entry.lane), whole=whole)

    async def _bring(self) -> None:
        """Read a part of each kind of pending deliveries, so that none blocks the others."""
        await self.waiting.bring()
        if steady_time() - self._swept >= TICK:
            self._swept = steady_time()
            self._unread.sweep()
            self.waiting.look_at_held()
        if self._unread.evict(self._evicted_to):
            self._again()
        elif (self._unread or self._tail) and not self._queue.closed:
            more = await self._read_tail()
            more |= await self._bring_unread()
            if self._tracker.overtaken > OVERTAKEN:
                await self._park_lowest()
                self._tracker.overtaken -= PAGE
            if more:
                self._again()
        self._tracker.advance()

    async def _bring_unread(self) -> bool:
        """Read a part of each source's backlog; return whether to continue at once."""
        sources = self._unread.sources
        taken: list[Unread] = []
        interrupted = False
        for source in sources:
            wanted = min(self._wanted(source, taken), self._in_flight.room(source, len(sources)))
            if wanted > 0:
                taken += self._unread.take(source, wanted, self._queue.room_for)
                interrupted |= self._unread.interrupted
        if taken:
            await self._read(taken)
        return bool(taken) or interrupted

    def _wanted(self, source: str, taken: Sequence[Unread]) -> int:
        """Return how many deliveries of a source to read: more than can be sent at once.

        While the circuit is open, one without attempts is enough for the probe; the rest of the
        backlog stays in the log, where it needs no memory.
        """
        if self._breaker.opened:
            return 0 if taken or self._queue.fresh else 1
        return PAGE if self._queue.fresh_of(source) < 2 * self._concurrency else 0

    async def _read(self, taken: Sequence[Unread], *, park: bool = False) -> None:
        """Make jobs of deliveries that were taken from the index.

        Raises:
            SpoolError: the spool cannot be read; the deliveries are in the index again.
        """
        floor = self._unread.first()
        by_seq: dict[int, list[Unread]] = {}
        for one in sorted(taken):
            by_seq.setdefault(one.seq, []).append(one)
        # After a failed read, newer entries may already be open.
        newest = self._tracker.newest
        ahead = {s: s < newest or (floor is not None and s >= floor) for s in by_seq}
        for seq, group in by_seq.items():
            self._open(seq, [one.number for one in group], ahead=ahead[seq])
        self._loading = Counter(one.user for one in taken)
        try:
            items = await self._shard.entries(list(by_seq))
        except BaseException:
            for seq, group in by_seq.items():
                for one in group:
                    self._unread.add(one)
                    self._closed(seq, ahead=ahead[seq])
            raise
        finally:
            self._loading = Counter()
        found = {item.seq: item.entry for item in items}
        for seq, group in by_seq.items():
            entry = found.get(seq)
            if entry is None:  # evicted meanwhile
                for _ in group:
                    self._closed(seq, ahead=ahead[seq])
                continue
            numbers = [one.number for one in group]
            events = self._maker.events(seq, entry)
            self._admit(seq, entry, numbers, events, ahead=ahead[seq], park=park)

    async def _park_lowest(self) -> None:
        """Park the oldest of a user's backlog in the spool, so that the cursor can pass it."""
        taken = self._unread.take_lowest(PAGE)
        if taken:
            await self._read(taken, park=True)

    def _open(self, seq: int, numbers: Sequence[int], *, ahead: bool) -> None:
        if ahead:
            for _ in numbers:
                self._tracker.open_ahead(seq)
        else:
            self._tracker.open(seq, len(numbers))

    def _closed(self, seq: int, *, ahead: bool) -> None:
        if ahead:
            self._tracker.close_ahead(seq)
        else:
            self._tracker.close(seq)

    def _admit(  # noqa: PLR0913 - an entry, and how to handle it
        self,
        seq: int,
        entry: Entry,
        numbers: Sequence[int],
        events: Sequence[Event],
        *,
        ahead: bool,
        park: bool = False,
    ) -> None:
        """Make jobs of opened deliveries."""
        for number in numbers:
            job = self._maker.job(DeliveryRef(seq, number), entry, events, ahead=ahead)
            if job is None:
                self._closed(seq, ahead=ahead)
            elif job.user and (park or self._queue.users.blocked(job.user)):
                self._park(job)
            else:
                self._queue.add(job)

    def _park(self, job: Job) -> None:
        self._queue.users.block(job.user)
        self._tracker.waiting(job.to_waiting(steady_time(), parked=True))
        self._closed(job.mark.seq, ahead=job.ahead)
        self.waiting.continue_user(job.user)
