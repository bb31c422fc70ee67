"""Make jobs of waiting deliveries: retries that are due, and parked deliveries."""

from collections.abc import Callable, Iterable
from itertools import islice

from gateway.delivery.job import steady_time
from gateway.delivery.job_builder import JobBuilder
from gateway.delivery.progress import ProgressTracker
from gateway.delivery.queue import JobQueue
from gateway.spool import DeliveryRef, Shard, WaitingDelivery

PAGE = 100
"""Waiting deliveries read at once."""
LISTED = 1000
"""Waiting deliveries read at once if only their marks are needed."""
DOUBT = 0.1
"""Seconds until the spool is read again after an unexpected answer."""
TRIES = 5
"""How often a count is repeated at once because a delivery ended meanwhile."""
RECOUNT = 1.0
"""Seconds until the next count after it failed."""
NEVER = float("inf")


class WaitingReader:
    """Makes jobs of one destination's waiting deliveries when their time comes.

    A blocked user has a job in flight, a retry that is not due yet, or an entry in the list of
    users to continue. Otherwise the user's parked deliveries would stay in the spool forever.

    Args:
        name: name of the destination.
        shard: has the waiting deliveries.
        queue: gets the jobs.
        maker: makes the jobs.
        first_unread: returns the lowest seq of a user's unread deliveries in the log, by the
            user's hash.
        wake: called when there is something to read.
    """

    def __init__(  # noqa: PLR0913 - all dependencies of a reader
        self,
        name: str,
        shard: Shard,
        queue: JobQueue,
        maker: JobBuilder,
        *,
        first_unread: Callable[[int], int | None],
        wake: Callable[[], None],
    ) -> None:
        self._name = name
        self._shard = shard
        self._queue = queue
        self._in_flight = queue.in_flight
        self._maker = maker
        self._first_unread = first_unread
        self._wake = wake
        self._due = 0.0
        self._recount = NEVER
        self._recovering = False
        self._follow: set[str] = set()
        self._held: dict[str, None] = {}
        """Users whose parked deliveries wait for unread ones with the same user hash."""
        self._inherited: dict[DeliveryRef, float] = {}
        self._tracker: ProgressTracker

    def start(self, tracker: ProgressTracker) -> None:
        """Set the tracker, which knows the progress that is not recorded yet."""
        self._tracker = tracker

    @property
    def due(self) -> bool:
        """Return whether a retry may be due."""
        return self._due < NEVER and self._due <= steady_time()

    @property
    def next_at(self) -> float:
        """Return when there is something to do next, by `steady_time`."""
        return min(NEVER if self._queue.closed else self._due, self._recount)

    def doubt(self) -> None:
        """Read everything from the spool again."""
        self._due = self._recount = 0.0

    def due_at(self, due: float) -> None:
        """Record that a delivery waits in the spool until *due*."""
        if due < self._due:
            self._due = due
            self._wake()

    async def retry_by(self, latest: float, *, isolated: bool = True) -> None:
        """Make all retrying deliveries due at *latest*, unless they are due earlier.

        Without *isolated*, those that failed while the vendor accepted others keep their time.

        Raises:
            SpoolError: the spool cannot be read.
        """
        for later in await self._list_retrying():
            if isolated or not (later.attempts and later.attempts[-1].isolated):
                self._inherited[later.mark] = min(latest, self._due_of(later))
        self.due_at(latest)

    @property
    def hurries(self) -> bool:
        """Return whether a retry that `retry_by` made due earlier is still waiting."""
        now = steady_time()
        return any(due <= now for due in self._inherited.values())

    def recover(self) -> None:
        """Retry soon the deliveries that an outage delayed."""
        self._recovering = True
        self._wake()

    def continue_user(self, user: str) -> None:
        """Continue with the user's parked deliveries after the last one in flight."""
        if not user or not self._queue.users.blocked(user):
            return
        if not (self._queue.users.is_active(user) or self._in_flight.retries_for(user)):
            self._follow.add(user)
            self._wake()

    async def bring(self) -> None:
        """Make jobs of some due retries, and of parked deliveries of users to continue.

        Raises:
            SpoolError: the spool cannot be read.
        """
        if self._recount <= steady_time():
            await self.count()
        if self._recovering:
            self._recovering = False
            await self.retry_by(steady_time(), isolated=False)
        if self.due and not self._queue.closed:
            await self._bring_due()
        follow, self._follow = self._follow, set()
        for user in follow:
            await self._bring_parked(user)

    async def _bring_due(self) -> None:
        if self._in_flight.is_full_of_waiting:  # a sender may make many events fail
            self._due = steady_time() + DOUBT
            return
        self._due = NEVER
        await self._tracker.flush()
        now = steady_time()
        room = PAGE + self._in_flight.waiting
        with self._tracker.watch_moves() as moved:
            found = await self._shard.retrying(self._name, NEVER, room + 1)
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

    def _due_of(self, later: WaitingDelivery) -> float:
        return min(later.due, self._inherited.get(later.mark, NEVER))

    async def _bring_parked(self, user: str) -> None:
        await self._tracker.flush()
        with self._tracker.watch_moves() as moved:
            parked = await self._shard.parked(self._name, user, PAGE)
            if self._queue.users.is_active(user) or self._in_flight.retries_for(user):
                return
            # After a crash, earlier events that were in flight may be unread in the log.
            first = self._first_unread(self._shard.user_hash(user))
            ready = [x for x in parked if first is None or x.mark.seq < first]
            await self._load(ready, moved)
        if not parked:
            self._due = 0.0
            self.count_in(DOUBT)
        elif not ready:
            self._held[user] = None

    def look_at_held(self) -> None:
        """Continue users whose parked deliveries waited for unread ones in the log.

        Nothing else continues them if those were of another user with the same hash, or became
        dead letters without a user.
        """
        for user in list(islice(self._held, PAGE)):
            del self._held[user]
            self.continue_user(user)

    def count_in(self, seconds: float) -> None:
        """Plan to count the blocked users again in *seconds*."""
        self._recount = min(self._recount, steady_time() + seconds)
        self._wake()

    async def count(self) -> None:
        """Read the blocked users from the spool, at a time when it has all reported progress."""
        for _ in range(TRIES):
            await self._tracker.flush()
            self._recount = NEVER
            version = self._tracker.version
            if self._tracker.unreported:
                continue
            waiting = await self._list_retrying()
            blocked = await self._shard.blocked(self._name)
            if version == self._tracker.version:
                self._follow |= self._in_flight.resync(blocked, waiting)
                return
        self.count_in(RECOUNT)

    async def _list_retrying(self) -> list[WaitingDelivery]:
        found: list[WaitingDelivery] = []
        last: WaitingDelivery | None = None
        while True:
            page = await self._shard.retrying(self._name, NEVER, LISTED, last)
            found += page
            if len(page) < LISTED:
                return found
            last = page[-1]

    async def _load(
        self, waiting: Iterable[WaitingDelivery], moved: Callable[[DeliveryRef], bool]
    ) -> None:
        laters = list(waiting)
        entries = await self._shard.entries(sorted({later.mark.seq for later in laters}))
        by_seq = {item.seq: item.entry for item in entries}
        for later in laters:
            entry = by_seq.get(later.mark.seq)
            if entry is None or self._in_flight.has(later.mark) or moved(later.mark):
                continue
            self._in_flight.restore(later)
            job = self._maker.job(
                later.mark, entry, self._maker.events(later.mark.seq, entry), later=later
            )
            if job is None:
                self._in_flight.settle(later.mark)
                self.continue_user(later.user)
            else:
                self._queue.add(job)
