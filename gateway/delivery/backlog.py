"""What a worker reads back from the spool: backlog, retries that are due, parked events."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.delivery.clock import steady
from gateway.delivery.job import Job, StepsOf, job_of
from gateway.errors import Rejected, SpoolError, Unrenderable
from gateway.event import Event
from gateway.spool import Entry, Later, Mark, Notice, Replayed

if TYPE_CHECKING:
    from gateway.delivery.worker import Worker

PAGE = 100
"""Entries, or waiting deliveries, brought at once."""
LISTED = 1000
"""Waiting deliveries asked for at once where only their marks matter."""
TICK = 1.0
"""Seconds after which an idle destination's cursor follows the log, so that it can be trimmed."""
DOUBT = 0.1
"""Seconds before the spool is asked again where it does not say what was expected."""
TRIES = 5
"""How often a count is repeated at once because something ended meanwhile."""
NEVER = float("inf")

log = structlog.get_logger()


class Backlog:
    """The worker's reader.

    Entries come live, as they are accepted, while the worker keeps up; when it holds as much as
    it may, they are left in the spool and read back later, in the same order.

    A user who is blocked has a job in hand, or a retry that is still to come due, or is about to
    be followed: what is parked behind anything else would stay in the spool for ever.
    """

    def __init__(
        self, worker: "Worker", parse: Callable[[Entry], Sequence[Event]], steps_of: StepsOf
    ) -> None:
        self.behind = False
        self._worker = worker
        self._hand = worker.hand
        self._spool = worker.spool
        self._name = worker.name
        self._parse = parse
        self._steps_of = steps_of
        self._taken = 0
        self._due = 0.0
        self._recount = NEVER
        self._follow: set[str] = set()
        self._inherited: dict[Mark, float] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin where the cursor stands.

        Raises:
            SpoolError: the spool cannot tell what is owed.
        """
        self._taken = self._spool.cursor(self._name)
        self.behind = True  # while the count is taken, nothing beyond the cursor counts as reached
        await self._count()
        # The clock may have been set back since what waits was told until when.
        await self.bring_by(steady() + self._worker.config.retry_max)
        self.behind = self._taken < self._spool.position()
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{self._name}/log")

    async def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def _takes_more(self) -> bool:
        """Tell whether entries of the log are wanted.

        While the circuit is open, those in hand and the retries suffice for probing; the rest
        stays in the log, where it costs nothing.
        """
        if self._worker.full:
            return False
        return not self._worker.gate.opened or not (len(self._hand) or self._hand.retries)

    @property
    def _wants_more(self) -> bool:
        """Tell whether the log is to be read on: more jobs are wanted than could go at once.

        Reading further ahead would only park what must wait for its user's earlier events.
        """
        return self._takes_more and self._worker.ready < 2 * self._worker.config.concurrency

    # Called by the worker

    def reached(self) -> int:
        """Return the seq up to which everything was taken, or was not for this destination."""
        return self._taken if self.behind else max(self._taken, self._spool.position())

    def takes_live(self, seq: int) -> bool:
        """Tell whether the entry at *seq*, just accepted, is to be delivered from memory."""
        if self.behind or seq <= self._taken:
            return False
        if not self._takes_more:
            self.behind = True
            return False
        self._taken = seq
        self._hand.passed(seq)
        return True

    def hungry(self) -> None:
        """Read on, if there is anything to read."""
        if (self.behind and self._wants_more) or self._due <= steady():
            self._wake.set()

    def due_at(self, due: float) -> None:
        """Note that something waits in the spool until *due*."""
        if due < self._due:
            self._due = due
            self._wake.set()

    async def bring_by(self, latest: float) -> None:
        """Let nothing that waits in the spool for its next try wait longer than *latest*.

        Raises:
            SpoolError: the spool cannot tell what waits.
        """
        waiting = await self._list_retrying()
        self._inherited = {later.mark: latest for later in waiting if later.due > latest}
        self.due_at(latest)

    def follow(self, user: str) -> None:
        """Bring the user's parked deliveries."""
        self._follow.add(user)
        self._wake.set()

    def noticed(self, notice: Notice) -> None:
        """Note what the spool did by itself; see `gateway.spool.Taken` and `Replayed`."""
        if isinstance(notice, Replayed):
            self._due = 0.0
            self._wake.set()
            return
        self._hand.taken_away(notice)
        self._taken = max(self._taken, notice.cursor)
        self._count_in(DOUBT)
        self._worker.ledger.taken_away(notice.cursor)

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
                await self._bring()
            except SpoolError as error:
                log.warning("spool_unreadable", destination=self._name, error=str(error))
                await asyncio.sleep(TICK)
                self._due = self._recount = 0.0

    def _pause(self) -> float:
        due = NEVER if self._worker.full else self._due
        return max(0.0, min(TICK, min(due, self._recount) - steady()))

    async def _bring(self) -> None:
        """Bring a little of everything, so that nothing of it keeps the rest waiting."""
        if self._recount <= steady():
            await self._count()
        if self._due <= steady() and not self._worker.full:
            await self._bring_due()
        follow, self._follow = self._follow, set()
        for user in follow:
            await self._bring_parked(user)
        if self.behind and self._wants_more:
            await self._bring_page()
            self.hungry()
        self._worker.ledger.advance()

    async def _bring_page(self) -> None:
        reading = await self._spool.read(self._name, self._taken, PAGE)
        for item in reading.items:
            if item.seq > self._taken:
                self._worker.admit(item, self._events(item.entry))
        self._taken = max(self._taken, reading.scanned)
        self._hand.passed(self._taken)
        self.behind = self._taken < self._spool.position()

    async def _bring_due(self) -> None:
        self._due = NEVER
        ledger = self._worker.ledger
        await ledger.flush()
        now = steady()
        room = PAGE + self._hand.waiting
        with ledger.look() as moved:
            found = await self._spool.exceptions(self._name, NEVER, room + 1)
            fresh = [x for x in found if not (self._hand.has(x.mark) or moved(x.mark))]
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
        ledger = self._worker.ledger
        await ledger.flush()
        with ledger.look() as moved:
            parked = await self._spool.parked(self._name, user, PAGE)
            if self._worker.users.busy(user) or self._hand.retries_for(user):
                return
            await self._load(parked, moved)
        if not parked:
            self._due = 0.0
            self._count_in(DOUBT)

    def _count_in(self, seconds: float) -> None:
        self._recount = min(self._recount, steady() + seconds)
        self._wake.set()

    async def _count(self) -> None:
        """Ask the spool who is blocked, at a moment when it knows all that we know."""
        ledger = self._worker.ledger
        for _ in range(TRIES):
            await ledger.flush()
            self._recount = NEVER
            version = ledger.version
            waiting = await self._list_retrying()
            blocked = await self._spool.blocked(self._name)
            if version == ledger.version:
                self._follow |= self._hand.recount(blocked, waiting)
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
            if entry is None or self._hand.has(later.mark) or moved(later.mark):
                continue
            self._hand.bring(later)
            job = self.job(later.mark, entry, self._events(entry), later)
            if job is None:
                self._hand.ended(later.mark)
                self._worker.go_on(later.user)
            else:
                self._worker.push(job)

    def job(
        self, mark: Mark, entry: Entry, events: Sequence[Event], later: Later | None = None
    ) -> Job | None:
        """Return a delivery as a job; None, and a dead letter, where it cannot be made any more."""
        try:
            return job_of(mark, entry, self._name, events, self._steps_of, later=later)
        except Unrenderable as error:
            self._worker.burials.lost(mark, entry, str(error))
            return None

    def _events(self, entry: Entry) -> Sequence[Event]:
        try:
            return self._parse(entry)
        except Rejected as error:
            log.warning("no_longer_parses", request=entry.id, source=entry.source, error=str(error))
        except Exception:
            log.exception("plugin_failed", vendor=entry.vendor, step="parse", request=entry.id)
        return ()
