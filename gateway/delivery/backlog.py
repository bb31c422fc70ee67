"""What has no job yet: new entries, the backlog, retries that are due, parked events."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import structlog

from gateway.delivery.burial import Burials
from gateway.delivery.circuit_breaker import CircuitBreaker
from gateway.delivery.clock import steady
from gateway.delivery.job import Job, StepsOf, job_of
from gateway.delivery.progress import ProgressTracker
from gateway.delivery.queue import WINDOW_JOBS, JobQueue
from gateway.delivery.unread import NOBODY, Unread, UnreadIndex
from gateway.errors import Rejected, SpoolError, Unrenderable
from gateway.event import Event
from gateway.spool import Entry, Item, Later, Mark, Notice, Replayed, Spool

PAGE = 100
"""Entries, or waiting deliveries, brought at once."""
SCANNED = 10_000
"""Entries of the log whose places are read at once."""
LISTED = 1000
"""Waiting deliveries asked for at once where only their marks matter."""
TICK = 1.0
"""Seconds after which an idle destination's cursor follows the log, so that it can be trimmed."""
DOUBT = 0.1
"""Seconds before the spool is asked again where it does not say what was expected."""
TRIES = 5
"""How often a count is repeated at once because something ended meanwhile."""
OVERTAKEN = 1024
"""Deliveries that may overtake one user's backlog before that is parked, so that the cursor goes
on and the log can be trimmed."""
PARSED_ENTRIES = 4
"""Requests of many events whose events are kept, since they are taken a few at a time."""
MANY_EVENTS = 16
NEVER = float("inf")

log = structlog.get_logger()

Parse = Callable[[Entry], Sequence[Event]]


class BacklogReader:
    """Makes jobs of what a destination is owed, and puts them into its queue.

    An entry that was just accepted becomes jobs at once, while there is room and none of its
    users has anything older that is unread. Everything else stays in the log; of that only the
    places are kept here (`UnreadIndex`), and it is read back source by source.

    A user who is blocked has a job in flight, or a retry that is still to come due, or is about to
    be followed: what is parked behind anything else would stay in the spool for ever.

    Args:
        name: the destination's.
        spool: the log.
        queue: takes the jobs.
        breaker: says whether the destination is in trouble.
        concurrency: how many attempts are made at once.
        retry_max: seconds that nothing waits for longer after a start.
        parse: a stored request to its events.
        steps_of: a route's name to its steps.
        whole: whether requests in a vendor's format go on as they came.
    """

    def __init__(  # noqa: PLR0913 - what a reader needs of the world, each once
        self,
        name: str,
        spool: Spool,
        queue: JobQueue,
        breaker: CircuitBreaker,
        *,
        concurrency: int,
        retry_max: float,
        parse: Parse,
        steps_of: StepsOf,
        whole: Callable[[str], bool],
    ) -> None:
        self._name = name
        self._spool = spool
        self._queue = queue
        self._in_flight = queue.in_flight
        self._breaker = breaker
        self._concurrency = concurrency
        self._retry_max = retry_max
        self._parse = parse
        self._steps_of = steps_of
        self._whole = whole
        self._unread = UnreadIndex()
        self._loaded = False
        self._ready = asyncio.Event()
        self._early: list[tuple[Unread, bool]] = []
        self._began = self._reached = self._evicted_to = 0
        self._loading: Counter[int] = Counter()
        self._parsed: OrderedDict[int, Sequence[Event]] = OrderedDict()
        self._due = 0.0
        self._recount = NEVER
        self._swept = 0.0
        self._recovering = False
        self._follow: set[str] = set()
        self._held: dict[str, None] = {}
        """Users whose parked deliveries stand behind what seems to be theirs in the log."""
        self._inherited: dict[Mark, float] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tracker: ProgressTracker
        self._burials: Burials

    def start(self, tracker: ProgressTracker, burials: Burials) -> None:
        """Begin where the cursor stands; from now on every new entry has to be offered."""
        self._tracker = tracker
        self._burials = burials
        self._began = self._reached = self._spool.position()
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{self._name}/log")

    async def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def ready(self) -> None:
        """Wait until it is known what is owed."""
        await self._ready.wait()

    @property
    def unread(self) -> int:
        """Return how many deliveries stand in the log and have no job yet."""
        return len(self._unread) + len(self._early)

    # Called by the worker

    def read_position(self) -> int:
        """Return the seq up to which everything was taken, or was not for this destination.

        Nothing beyond what this reader was offered or has read can count as taken.
        """
        if not self._loaded:
            return 0
        first = self._unread.first()
        return self._reached if first is None else first - 1

    def offer(self, item: Item, events: Sequence[Event]) -> None:
        """Take an entry that was just accepted, in the order of the log."""
        seq, entry = item.seq, item.entry
        if seq <= self._reached:
            return
        self._reached = seq
        numbers = entry.targets[self._name]
        whole = self._whole(entry.vendor)
        if not self._loaded:
            self._early += [(one, whole) for one in self._places(seq, entry, numbers)]
            return
        going = self._going(entry, numbers, whole=whole)
        if len(going) < len(numbers):
            taken = set(going)
            for one in self._places(seq, entry, [n for n in numbers if n not in taken]):
                self._unread.add(one, whole=whole)
            self._wake.set()
        if going:
            self._open(seq, going, ahead=bool(self._unread))
            self._admit(seq, entry, going, events, ahead=bool(self._unread))

    def _going(self, entry: Entry, numbers: Sequence[int], *, whole: bool) -> Sequence[int]:
        """Return which deliveries of an entry that was just accepted become jobs at once."""
        if not self._takes_live(entry.source):
            return ()
        users = [entry.user(number) for number in numbers]
        if whole and len(set(users)) == 1:
            return numbers if self._may_overtake(users[0]) else ()
        room: dict[int, int] = {NOBODY: len(numbers)}
        going = []
        for number, user in zip(numbers, users, strict=True):
            if user not in room:
                room[user] = self._queue.room_for(user) if self._may_overtake(user) else 0
            if room[user] > 0:
                room[user] -= 1
                going.append(number)
        return going

    def _may_overtake(self, user: int) -> bool:
        """Tell whether a new event of the user may go before all that is unread."""
        if user == NOBODY:
            return True
        if self._queue.room_for(user) <= 0 or user in self._loading:
            return False
        return not self._unread.holds(user)

    def _takes_live(self, source: str) -> bool:
        if self._queue.closed:
            return False
        return self._in_flight.room(source, len(self._unread.sources)) > 0

    def prompt(self) -> bool:
        """Tell whether a new entry would become jobs that can go at once."""
        return self._loaded and not (self._unread or self._queue.closed or self._breaker.opened)

    def request_more(self) -> None:
        """Read on, if there is anything to read."""
        if (self._unread and not self._queue.closed) or self._due <= steady():
            self._wake.set()

    def freed(self, user: int) -> None:
        """Note that the user with this hash has a job less."""
        if self._unread and user != NOBODY:
            self._unread.freed(user)

    def due_at(self, due: float) -> None:
        """Note that something waits in the spool until *due*."""
        if due < self._due:
            self._due = due
            self._wake.set()

    async def retry_by(self, latest: float, *, isolated: bool = True) -> None:
        """Let nothing that waits in the spool for its next attempt wait longer than *latest*.

        Without *isolated*, what failed while the vendor took others keeps its own time.

        Raises:
            SpoolError: the spool cannot tell what waits.
        """
        for later in await self._list_retrying():
            if isolated or not (later.attempts and later.attempts[-1].isolated):
                self._inherited[later.mark] = min(latest, self._due_of(later))
        self.due_at(latest)

    @property
    def hurries(self) -> bool:
        """Tell whether something waits that may go by now, before its own time."""
        now = steady()
        return any(due <= now for due in self._inherited.values())

    def recover(self) -> None:
        """Try soon what an outage made wait, now that it is over."""
        self._recovering = True
        self._wake.set()

    def load_parked(self, user: str) -> None:
        """Bring the user's parked deliveries."""
        self._follow.add(user)
        self._wake.set()

    def on_notice(self, notice: Notice) -> None:
        """Note what the spool did by itself; see `gateway.spool.Taken` and `Replayed`."""
        if isinstance(notice, Replayed):
            self._due = 0.0
            self._wake.set()
            return
        self._in_flight.on_evicted(notice)
        self._evicted_to = max(self._evicted_to, notice.cursor)
        self._unread.evict(self._evicted_to)  # the reader goes on with what is left of it
        self._early = [(one, whole) for one, whole in self._early if one.seq > notice.cursor]
        self._reached = max(self._reached, notice.cursor)
        self._count_in(DOUBT)
        self._tracker.on_evicted(notice.cursor, notice.marks)

    def _again(self) -> None:
        """Let the reader have another round, once others have had their turn."""
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
            except SpoolError as error:
                log.warning("spool_unreadable", destination=self._name, error=str(error))
                await asyncio.sleep(TICK)
                self._due = self._recount = 0.0
            except Exception:
                log.exception("reader_failed", destination=self._name)
                await asyncio.sleep(TICK)
                self._due = self._recount = 0.0

    def _pause(self) -> float:
        due = NEVER if self._queue.closed else self._due
        return max(0.0, min(TICK, min(due, self._recount) - steady()))

    async def _load_index(self) -> None:
        """Find out what is unread, and who waits behind what.

        Raises:
            SpoolError: the spool cannot tell.
        """
        balance = (await self._spool.balances())[self._name]
        index = UnreadIndex()
        upto, after = self._began, self._spool.cursor(self._name)
        while after < upto:
            page = await self._spool.unread(self._name, after, upto, SCANNED)
            for found in page.items:
                whole = self._whole(found.vendor)
                for number, user in zip(found.numbers, found.users, strict=True):
                    index.add(Unread(found.seq, number, user, found.source), whole=whole)
            after = page.scanned
        await self._count()
        # The clock may have been set back since what waits was told until when.
        await self.retry_by(steady() + self._retry_max)
        for one, whole in self._early:
            index.add(one, whole=whole)
        self._unread, self._early = index, []
        self._evicted_to = max(self._evicted_to, self._spool.cursor(self._name))
        self._tracker.begin(balance.delivered, balance.declined, balance.shadowed)
        self._loaded = True
        self._ready.set()

    async def _bring(self) -> None:
        """Bring a little of everything, so that nothing of it keeps the rest waiting."""
        if self._recount <= steady():
            await self._count()
        if self._recovering:
            self._recovering = False
            await self.retry_by(steady(), isolated=False)
        if self._due <= steady() and not self._queue.closed:
            await self._bring_due()
        follow, self._follow = self._follow, set()
        for user in follow:
            await self._bring_parked(user)
        if steady() - self._swept >= TICK:
            self._swept = steady()
            self._unread.sweep()
            self._look_at_held()
        if self._unread.evict(self._evicted_to):
            self._again()
        elif self._unread and not self._queue.closed:
            more = await self._bring_unread()
            if self._tracker.overtaken > OVERTAKEN:
                await self._park_lowest()
                self._tracker.overtaken -= PAGE
            if more:
                self._again()
        self._tracker.advance()

    async def _bring_unread(self) -> bool:
        """Bring some of each source's backlog; return whether there may be more at once."""
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
        """Return how many deliveries of a source are wanted: more than could go at once.

        While the circuit is open, one that was never tried is enough to probe with; the rest of
        the backlog stays in the log, where it costs nothing.
        """
        if self._breaker.opened:
            return 0 if taken or self._queue.fresh else 1
        return PAGE if self._queue.fresh_of(source) < 2 * self._concurrency else 0

    async def _read(self, taken: Sequence[Unread], *, park: bool = False) -> None:
        """Make jobs of what was taken out of the index.

        Raises:
            SpoolError: it cannot be read; it is in the index again.
        """
        floor = self._unread.first()
        by_seq: dict[int, list[Unread]] = {}
        for one in sorted(taken):
            by_seq.setdefault(one.seq, []).append(one)
        # While a read failed, new entries may have been opened before these are again.
        newest = self._tracker.newest
        ahead = {s: s < newest or (floor is not None and s >= floor) for s in by_seq}
        for seq, group in by_seq.items():
            self._open(seq, [one.number for one in group], ahead=ahead[seq])
        self._loading = Counter(one.user for one in taken)
        try:
            items = await self._spool.entries(list(by_seq))
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
            if entry is None:  # the spool gave it up meanwhile
                for _ in group:
                    self._closed(seq, ahead=ahead[seq])
                continue
            numbers = [one.number for one in group]
            events = self._events(seq, entry)
            self._admit(seq, entry, numbers, events, ahead=ahead[seq], park=park)

    async def _park_lowest(self) -> None:
        """Let the oldest of a user's backlog wait in the spool, so that the cursor can pass it."""
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

    def _admit(  # noqa: PLR0913 - one entry, and how it is taken
        self,
        seq: int,
        entry: Entry,
        numbers: Sequence[int],
        events: Sequence[Event],
        *,
        ahead: bool,
        park: bool = False,
    ) -> None:
        """Make jobs of deliveries that were opened."""
        for number in numbers:
            job = self._job(Mark(seq, number), entry, events, ahead=ahead)
            if job is None:
                self._closed(seq, ahead=ahead)
            elif job.user and (park or self._queue.users.blocked(job.user)):
                self._park(job)
            else:
                self._queue.add(job)

    def _park(self, job: Job) -> None:
        self._queue.users.block(job.user)
        self._tracker.waiting(job.later(steady(), parked=True))
        self._closed(job.mark.seq, ahead=job.ahead)
        self.continue_user(job.user)

    def continue_user(self, user: str) -> None:
        """Bring what waits in the spool behind the user's last delivery in flight."""
        if not user or not self._queue.users.blocked(user):
            return
        if not (self._queue.users.is_active(user) or self._in_flight.retries_for(user)):
            self.load_parked(user)

    async def _bring_due(self) -> None:
        if self._in_flight.waiting >= WINDOW_JOBS:  # however many events a sender makes fail
            self._due = steady() + DOUBT
            return
        self._due = NEVER
        await self._tracker.flush()
        now = steady()
        room = PAGE + self._in_flight.waiting
        with self._tracker.watch_moves() as moved:
            found = await self._spool.exceptions(self._name, NEVER, room + 1)
            fresh = [x for x in found if not (self._in_flight.has(x.mark) or moved(x.mark))]
            due = [later for later in fresh if self._due_of(later) <= now][:PAGE]
            await self._load(due, moved)
        taken = {later.mark for later in due}
        further = [self._due_of(later) for later in fresh if later.mark not in taken]
        for mark in taken:
            self._inherited.pop(mark, None)
        if len(found) > room:
            further.append(self._due_of(found[-1]))
        if further:
            self._due = min(self._due, max(min(further), now + 0.01))

    def _due_of(self, later: Later) -> float:
        return min(later.due, self._inherited.get(later.mark, NEVER))

    async def _bring_parked(self, user: str) -> None:
        await self._tracker.flush()
        with self._tracker.watch_moves() as moved:
            parked = await self._spool.parked(self._name, user, PAGE)
            if self._queue.users.is_active(user) or self._in_flight.retries_for(user):
                return
            # After a crash, earlier events that were in flight may stand in the log again.
            first = self._unread.first_of(self._spool.user_hash(user))
            ready = [x for x in parked if first is None or x.mark.seq < first]
            await self._load(ready, moved)
        if not parked:
            self._due = 0.0
            self._count_in(DOUBT)
        elif not ready:
            self._held[user] = None

    def _look_at_held(self) -> None:
        """Look again for users whom nobody else may wake.

        What stood before their parked deliveries may have been another's with the same hash, or
        may be a dead letter that names no user.
        """
        for user in list(islice(self._held, PAGE)):
            del self._held[user]
            self.continue_user(user)

    def _count_in(self, seconds: float) -> None:
        self._recount = min(self._recount, steady() + seconds)
        self._wake.set()

    async def _count(self) -> None:
        """Ask the spool who is blocked, at a moment when it knows all that we know."""
        for _ in range(TRIES):
            await self._tracker.flush()
            self._recount = NEVER
            version = self._tracker.version
            if self._tracker.unreported:
                continue
            waiting = await self._list_retrying()
            blocked = await self._spool.blocked(self._name)
            if version == self._tracker.version:
                self._follow |= self._in_flight.resync(blocked, waiting)
                return
        self._count_in(TICK)

    async def _list_retrying(self) -> list[Later]:
        found: list[Later] = []
        last: Later | None = None
        while True:
            page = await self._spool.exceptions(self._name, NEVER, LISTED, last)
            found += page
            if len(page) < LISTED:
                return found
            last = page[-1]

    async def _load(self, waiting: Iterable[Later], moved: Callable[[Mark], bool]) -> None:
        laters = list(waiting)
        entries = await self._spool.entries(sorted({later.mark.seq for later in laters}))
        by_seq = {item.seq: item.entry for item in entries}
        for later in laters:
            entry = by_seq.get(later.mark.seq)
            if entry is None or self._in_flight.has(later.mark) or moved(later.mark):
                continue
            self._in_flight.restore(later)
            job = self._job(later.mark, entry, self._events(later.mark.seq, entry), later=later)
            if job is None:
                self._in_flight.settle(later.mark)
                self.continue_user(later.user)
            else:
                self._queue.add(job)

    def _job(
        self,
        mark: Mark,
        entry: Entry,
        events: Sequence[Event],
        *,
        later: Later | None = None,
        ahead: bool = False,
    ) -> Job | None:
        """Return a delivery as a job; None, and a dead letter, where it cannot be made any more."""
        try:
            return job_of(mark, entry, self._name, events, self._steps_of, later=later, ahead=ahead)
        except Unrenderable as error:
            self._burials.lost(mark, entry, str(error))
            return None

    def _events(self, seq: int, entry: Entry) -> Sequence[Event]:
        known = self._parsed.get(seq)
        if known is not None:
            return known
        try:
            events = self._parse(entry)
        except Rejected as error:
            log.warning("no_longer_parses", request=entry.id, source=entry.source, error=str(error))
            return ()
        except Exception:
            log.exception("plugin_failed", vendor=entry.vendor, step="parse", request=entry.id)
            return ()
        if len(events) > MANY_EVENTS:
            self._parsed[seq] = events
            if len(self._parsed) > PARSED_ENTRIES:
                self._parsed.popitem(last=False)
        return events

    def _places(self, seq: int, entry: Entry, numbers: Sequence[int]) -> list[Unread]:
        return [Unread(seq, n, entry.user(n), entry.source) for n in numbers]
