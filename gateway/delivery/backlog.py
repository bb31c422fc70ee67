"""What a worker reads back from the spool: backlog, retries that are due, parked events."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.delivery.job import Job
from gateway.errors import Rejected, SpoolError
from gateway.event import Event
from gateway.spool import Entry, Later, Mark, Taken

if TYPE_CHECKING:
    from gateway.delivery.worker import Worker

PAGE = 100
"""Entries read at once."""
TICK = 1.0
"""Seconds after which an idle destination's cursor follows the log, so that it can be trimmed."""
NEVER = float("inf")

log = structlog.get_logger()


class Backlog:
    """The worker's reader.

    Entries come live, as they are accepted, while the worker keeps up; when it holds as much as
    it may, they are left in the spool and read back later, in the same order.
    """

    def __init__(self, worker: "Worker", parse: Callable[[Entry], Sequence[Event]]) -> None:
        self.behind = False
        self._worker = worker
        self._spool = worker.spool
        self._name = worker.name
        self._parse = parse
        self._taken = 0
        self._began = 0
        self._due = 0.0
        self._loaded: set[Mark] = set()
        self._counted: set[Mark] = set()
        self._retrying: dict[str, int] = {}
        self._given_up: set[Mark] = set()
        self._given_up_to = 0
        self._follow: set[str] = set()
        self._recount = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin where the cursor stands."""
        self._taken = self._spool.cursor(self._name)
        self._began = self._spool.position()
        self.behind = self._taken < self._began
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{self._name}/log")

    async def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # Called by the worker

    def reached(self) -> int:
        """Return the seq up to which everything was taken, or was not for this destination."""
        return self._taken if self.behind else max(self._taken, self._spool.position())

    def takes_live(self, seq: int) -> bool:
        """Tell whether the entry at *seq*, just accepted, is to be delivered from memory."""
        if self.behind or seq <= self._taken:
            return False
        if self._worker.full:
            self.behind = True
            return False
        self._taken = seq
        return True

    def hungry(self) -> None:
        """Read on, if there is anything to read."""
        if self.behind:
            self._wake.set()

    def due_at(self, due: float, job: Job) -> None:
        """Note that *job* waits in the spool until *due*."""
        self._loaded.add(job.mark)
        self._counted.add(job.mark)
        if job.user:
            self._retrying[job.user] = self._retrying.get(job.user, 0) + 1
        if due < self._due:
            self._due = due
            self._wake.set()

    def unload(self, mark: Mark) -> None:
        """Note that *mark*, brought from the spool, waits there again."""
        self._loaded.discard(mark)

    def ended(self, mark: Mark) -> None:
        """Note that a waiting delivery is settled; the spool does not know it yet."""
        self._counted.discard(mark)
        self._given_up.discard(mark)

    def recorded(self, marks: Iterable[Mark]) -> None:
        """Note that the spool knows of *marks* what we know: what it says of them holds again."""
        self._loaded.difference_update(marks)

    def follow(self, user: str) -> None:
        """Bring the user's parked deliveries."""
        self._follow.add(user)
        self._wake.set()

    def was_taken(self, job: Job) -> bool:
        """Tell whether the spool gave *job* up meanwhile."""
        if job.waiting:
            return job.mark in self._given_up
        return job.mark.seq <= self._given_up_to

    def taken_away(self, notice: Taken) -> None:
        """Note that the spool gave deliveries up by itself."""
        self._given_up_to = max(self._given_up_to, notice.cursor)
        self._taken = max(self._taken, notice.cursor)
        gone = set(notice.marks)
        self._given_up |= gone & self._loaded
        self._counted -= gone
        self._recount = True
        self._wake.set()

    def replayed(self) -> None:
        """Note that dead letters came back."""
        self._due = 0.0
        self._wake.set()

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
                self._wake.set()

    def _pause(self) -> float:
        return max(0.0, min(TICK, self._due - time.time()))

    async def _bring(self) -> None:
        if self._recount:
            self._recount = False
            await self._count()
        if self._due <= time.time():
            await self._bring_due()
        while self._follow:
            await self._bring_parked(self._follow.pop())
        while self.behind and not self._worker.full:
            await self._bring_page()
        self._worker.ledger.advance()

    async def _bring_page(self) -> None:
        reading = await self._spool.read(self._name, self._taken, PAGE)
        for item in reading.items:
            if item.seq > self._taken:
                self._worker.admit(item, self._events(item.entry))
        self._taken = max(self._taken, reading.scanned)
        self.behind = self._taken < self._spool.position()

    async def _bring_due(self) -> None:
        self._due = NEVER
        await self._worker.ledger.flush()
        now = time.time()
        room = PAGE + len(self._loaded)
        found = await self._spool.exceptions(self._name, NEVER, room + 1)
        fresh = [later for later in found if later.mark not in self._loaded]
        due = [later for later in fresh if later.due <= now][:PAGE]
        await self._load(due)
        rest = [later.due for later in fresh if later not in due]
        if rest:
            self._due = min(self._due, max(min(rest), now + 0.01))

    async def _bring_parked(self, user: str) -> None:
        await self._worker.ledger.flush()
        parked = await self._spool.parked(self._name, user, PAGE)
        if self._worker.users.busy(user) or user in self._retrying:
            return
        if parked:
            await self._load(parked)
        else:
            await self._count()

    async def _count(self) -> None:
        """Ask the spool again who is blocked, at a moment when it knows all that we know."""
        ledger = self._worker.ledger
        while True:
            await ledger.flush()
            version = ledger.version
            blocked = await self._spool.blocked(self._name)
            if version == ledger.version:
                self._worker.users.seed(blocked)
                return

    async def _load(self, waiting: Iterable[Later]) -> None:
        laters = list(waiting)
        entries = await self._spool.entries(sorted({later.mark.seq for later in laters}))
        by_seq = {item.seq: item.entry for item in entries}
        for later in laters:
            entry = by_seq.get(later.mark.seq)
            if entry is None or later.mark in self._loaded:
                continue
            self._loaded.add(later.mark)
            if not later.parked:
                self._retries(later.user)
            if later.mark.seq > self._began and later.mark not in self._counted and later.user:
                if not later.parked:
                    self._worker.users.block(later.user)
                self._counted.add(later.mark)
            events = self._events(entry)
            if later.mark.index < len(events):
                event = events[later.mark.index]
                self._worker.push(
                    Job(
                        later.mark,
                        entry,
                        event,
                        siblings=len(events),
                        attempts=later.attempts,
                        waiting=True,
                    )
                )
            else:
                self._worker.lost(later.mark, entry)
                self._worker.users.unblock(later.user)
                self.ended(later.mark)

    def _retries(self, user: str) -> None:
        left = self._retrying.get(user, 0) - 1
        if left > 0:
            self._retrying[user] = left
        else:
            self._retrying.pop(user, None)

    def _events(self, entry: Entry) -> Sequence[Event]:
        try:
            return self._parse(entry)
        except Rejected as error:
            log.warning("no_longer_parses", request=entry.id, source=entry.source, error=str(error))
            return ()
