"""One destination's jobs in memory: which may be sent next, and which wait for others.

live ─┐                           ┌─ ready, by source ─┐
├─ JobQueue.add ─ UserOrder ┤                    ├─ JobQueue.pop ─ an attempt
log ──┘   (one event of a user    └─ retries ──────────┘   (one source after the other)
at a time)
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from gateway.delivery.job import Job
from gateway.spool import REPLAYS, DeliveryRef, Evicted, WaitingDelivery

WINDOW = 16 * 1024 * 1024
"""Bytes of requests that a worker holds in memory; above it further ones stay in the spool."""
WINDOW_JOBS = 4096
"""Jobs that a worker holds in memory."""
USER_JOBS = 32
"""Jobs that one user may have in memory."""
SOURCE_JOBS = 64
"""Jobs that any source may have in memory, regardless of the number of sources."""
ISOLATED_SHARE = 4
"""At most one of this many parallel attempts is of an event that failed while others succeeded."""
MET = 4096
"""Least number of users to remember whose event the vendor answered recently, at most twice as many
are."""
RETRIES = "\0retries"
"""The flow of retried jobs of all sources; no source can have this name."""
ISOLATED = "\0isolated"
"""The flow of jobs that failed while the vendor accepted others."""


class UserOrder:
    """Keeps the order per user: the next event of a user waits until the one before is settled.

    A user is *active* while one of their events is in flight. A user is *blocked* while some of
    their deliveries wait in the spool: then the following ones must wait behind them there. Events
    without a user never wait for others.
    """

    def __init__(self) -> None:
        self._active: dict[str, deque[Job] | None] = {}
        self._blocked: dict[str, int] = {}

    def load(self, blocked: dict[str, int]) -> None:
        """Set the number of waiting deliveries in the spool, by user."""
        self._blocked = blocked

    def blocked(self, user: str) -> bool:
        """Return whether the user has waiting deliveries in the spool."""
        return user in self._blocked

    def block(self, user: str) -> None:
        """Count one more waiting delivery of the user in the spool."""
        if user:
            self._blocked[user] = self._blocked.get(user, 0) + 1

    def unblock(self, user: str) -> None:
        """Count one waiting delivery of the user less."""
        left = self._blocked.get(user, 0) - 1
        if left > 0:
            self._blocked[user] = left
        else:
            self._blocked.pop(user, None)

    def acquire(self, job: Job) -> bool:
        """Return whether *job* may be sent now; otherwise keep it until `release` returns it."""
        user, active = job.user, self._active
        if not user:
            return True
        if user not in active:
            active[user] = None
            return True
        queue = active[user]
        if queue is None:
            queue = active[user] = deque()
        queue.append(job)
        return False

    def is_active(self, user: str) -> bool:
        """Return whether an event of the user is in flight."""
        return user in self._active

    def release(self, user: str) -> Job | None:
        """Return the user's next job after the one before is settled; None if there is none."""
        queue = self._active.pop(user, None)
        if not queue:
            return None
        self._active[user] = queue
        return queue.popleft()

    def has_followers(self, user: str) -> bool:
        """Return whether further jobs of the user wait for the one in flight."""
        return bool(self._active.get(user))

    def followers(self, user: str, most: int) -> list[Job]:
        """Remove and return the user's next jobs, to send them together with the one in flight."""
        queue, found = self._active.get(user), list[Job]()
        while queue and len(found) < most and not queue[0].unbuildable:
            found.append(queue.popleft())
        return found

    def put_back(self, user: str, jobs: Sequence[Job]) -> None:
        """Put *jobs*, which `followers` returned, back as the user's next ones."""
        if not jobs:
            return
        queue = self._active.get(user)
        if queue is None:
            queue = self._active[user] = deque()
        queue.extendleft(reversed(jobs))

    def waiting(self, user: str) -> list[Job]:
        """Remove and return the user's jobs that wait in memory; the user stays active."""
        queue = self._active.get(user)
        if not queue:
            return []
        self._active[user] = None
        return list(queue)


class _Share:
    """What one source has in memory."""

    __slots__ = ("jobs", "size")

    def __init__(self) -> None:
        self.jobs = self.size = 0


class InFlight:
    """The jobs of one destination, and which of them are waiting deliveries in the spool.

    A waiting delivery is in flight while it has a job here, and resting otherwise. A resting one
    blocks its user: later events must be parked behind it. One in flight does not, because later
    events can queue behind it in memory. A spilled delivery is in flight, but recorded as waiting
    so that the cursor can pass it.
    """

    def __init__(self, users: UserOrder) -> None:
        self._users = users
        self._jobs = 0
        self.of_user: dict[int, int] = {}
        """The number of jobs of each user, by the hash of the user."""
        self._shares: dict[str, _Share] = {}
        self._fresh: dict[Job, None] = {}
        """Those of the log, in its order."""
        self._ahead: dict[DeliveryRef, Job] = {}
        self._restored: dict[DeliveryRef, str] = {}
        self._retrying: dict[str, set[DeliveryRef]] = {}
        self._evicted: set[DeliveryRef] = set()
        self._evicted_to = 0
        self.sharers = 1
        """Number of workers that share the memory of the destination."""

    def __len__(self) -> int:
        """Return the number of jobs."""
        return self._jobs

    def room(self, source: str, sources: int) -> int:
        """Return how many more jobs a source may have if *sources* sources have a backlog."""
        share = self._shares.get(source)
        if share is None:
            sources = max(sources, len(self._shares) + 1) * self.sharers
            return max(SOURCE_JOBS, WINDOW_JOBS // sources)
        sources = max(sources, len(self._shares)) * self.sharers
        if share.size > WINDOW // sources:
            return 0
        return max(SOURCE_JOBS, WINDOW_JOBS // sources) - share.jobs

    @property
    def waiting(self) -> int:
        """Return the number of jobs that are waiting deliveries in the spool."""
        return len(self._restored)

    @property
    def is_full_of_waiting(self) -> bool:
        """Return whether the waiting deliveries in flight leave no room for more."""
        return len(self._restored) >= WINDOW_JOBS // self.sharers

    def has(self, mark: DeliveryRef) -> bool:
        """Return whether a waiting delivery has a job."""
        return mark in self._restored

    def is_ahead(self, mark: DeliveryRef) -> bool:
        """Return whether a delivery that overtook the backlog has a job."""
        return mark in self._ahead

    def take(self, job: Job) -> None:
        """Add *job*, from the log or restored."""
        source, user = job.entry.lane, job.user_hash
        share = self._shares.get(source)
        if share is None:
            share = self._shares[source] = _Share()
        self._jobs += 1
        share.jobs += 1
        share.size += job.size
        if user:
            self.of_user[user] = self.of_user.get(user, 0) + 1
        if job.ahead:
            self._ahead[job.mark] = job
        elif not job.waiting:
            self._fresh[job] = None

    def release(self, job: Job) -> None:
        """Remove *job*."""
        source, user = job.entry.lane, job.user_hash
        share = self._shares[source]
        self._jobs -= 1
        share.jobs -= 1
        share.size -= job.size
        if not share.jobs:
            del self._shares[source]
        if user:
            left = self.of_user.pop(user) - 1
            if left:
                self.of_user[user] = left
        self._fresh.pop(job, None)
        if self._ahead:
            self._ahead.pop(job.mark, None)

    def oldest(self) -> Job | None:
        """Return the job with the lowest seq that is not a waiting delivery in the spool."""
        first = next(iter(self._fresh), None)
        ahead = min(self._ahead.values(), key=lambda job: job.mark.seq, default=None)
        if first is None or (ahead is not None and ahead.mark.seq < first.mark.seq):
            return ahead
        return first

    # Waiting deliveries in the spool

    def spill(self, job: Job) -> None:
        """Mark *job*, which stays in flight, as a waiting delivery in the spool."""
        self._fresh.pop(job, None)
        self._ahead.pop(job.mark, None)
        job.waiting, job.parked, job.ahead = True, bool(job.user), False
        self._restored[job.mark] = job.user
        if job.mark.seq <= self._evicted_to:
            self._evicted.add(job.mark)

    def restore(self, later: WaitingDelivery) -> None:
        """Mark a waiting delivery as in flight."""
        mark, user = later.mark, later.user
        self._restored[mark] = user
        retrying = self._retrying.get(user, set())
        known = later.parked or mark in retrying  # a replay was not counted before
        retrying.discard(mark)
        if not retrying:
            self._retrying.pop(user, None)
        if known:
            self._users.unblock(user)

    def requeue(self, job: Job) -> None:
        """Mark *job*, a waiting delivery, as resting in the spool."""
        self._restored.pop(job.mark, None)
        if job.mark in self._evicted:
            self._evicted.discard(job.mark)
            return
        self._users.block(job.user)
        if not job.parked:
            self._retrying.setdefault(job.user, set()).add(job.mark)

    def retry_later(self, job: Job) -> None:
        """Mark *job* as waiting in the spool for its next attempt."""
        job.parked = False
        self.requeue(job)

    def settle(self, mark: DeliveryRef) -> None:
        """Mark a waiting delivery as settled, before the spool knows it."""
        self._restored.pop(mark, None)
        self._evicted.discard(mark)

    @property
    def retries(self) -> bool:
        """Return whether any delivery rests in the spool until its next attempt."""
        return bool(self._retrying)

    def retries_for(self, user: str) -> bool:
        """Return whether a delivery of the user rests in the spool until its next attempt."""
        return user in self._retrying

    def resync(self, blocked: dict[str, int], retrying: Iterable[WaitingDelivery]) -> set[str]:
        """Take over the spool's state of waiting deliveries; return the users to continue.

        These users are blocked, but have neither a job in flight nor a retry to come.

        Args:
            blocked: number of waiting deliveries by user.
            retrying: all retrying deliveries.
        """
        self._retrying = {}
        for later in retrying:
            if later.mark not in self._restored:
                self._retrying.setdefault(later.user, set()).add(later.mark)
        for mark, user in self._restored.items():
            if mark not in self._evicted and user in blocked:
                blocked[user] -= 1
        blocked = {user: count for user, count in blocked.items() if count > 0}
        self._users.load(blocked)
        return {
            user for user in blocked if not (self._users.is_active(user) or self.retries_for(user))
        }

    # Evictions

    def is_evicted(self, job: Job) -> bool:
        """Return whether the spool evicted *job*; if so, set its ``had_trouble``."""
        if not job.waiting and job.mark.seq > self._evicted_to:
            return False
        evicted = not job.waiting or job.mark in self._evicted
        if evicted:
            job.had_trouble = True
        return evicted

    def on_evicted(self, notice: Evicted) -> None:
        """Record an eviction by the spool."""
        self._evicted_to = max(self._evicted_to, notice.cursor)
        self._evicted.update(mark for mark in notice.marks if mark in self._restored)


class JobQueue:
    """The jobs that may be sent; sources take turns.

    Args:
        concurrency: number of parallel attempts.
        wake: called when one more job may be sent.
        isolated_out: the deliveries under way that failed while the vendor accepted others.
    """

    def __init__(
        self, concurrency: int, wake: Callable[[], None], isolated_out: set[DeliveryRef]
    ) -> None:
        self.users = UserOrder()
        self.in_flight = InFlight(self.users)
        self.closed = False
        """Whether no more jobs are taken, because the worker is paused or stops."""
        self.ready = 0
        """Number of jobs that may be sent now."""
        self._wake = wake
        self._flows: dict[str, deque[Job]] = {}
        """Jobs that may be sent, by source, `RETRIES` and `ISOLATED`, in the order of turns."""
        self._most_isolated = max(1, concurrency // ISOLATED_SHARE)
        self._isolated_out = isolated_out
        self._met: set[int] = set()
        """Users whose event the vendor answered; once it is full, it becomes `_met_before`."""
        self._met_before: set[int] = set()

    @property
    def fresh(self) -> int:
        """Return the number of these that had no attempt yet."""
        return sum(
            len(jobs) for flow, jobs in self._flows.items() if flow not in (RETRIES, ISOLATED)
        )

    def fresh_of(self, source: str) -> int:
        """Return the number of a source's jobs that may be sent now and had no attempt yet."""
        return len(self._flows.get(source, ()))

    def room_for(self, user: int) -> int:
        """Return how many more jobs the user with this hash may have."""
        return USER_JOBS - self.in_flight.of_user.get(user, 0)

    def add(self, job: Job) -> None:
        """Queue *job*; it may be sent when the earlier events of its user are settled."""
        self.in_flight.take(job)
        if self.users.acquire(job):
            self._push(job)

    def _push(self, job: Job) -> None:
        flow, flows = job.entry.lane, self._flows
        if job.attempts:
            flow = ISOLATED if job.isolated else RETRIES
        if flow in flows:
            flows[flow].append(job)
        else:
            flows[flow] = deque((job,))
        self.ready += 1
        self._wake()

    def pop(self, *, probe: bool = False) -> Job | None:
        """Remove and return the next job to send; None if there is none.

        A *probe* prefers a job without attempts: the newest of a user whose event the vendor
        answered recently, else the newest of all, since older ones may have opened the circuit.
        """
        for flow in self._in_turn(probe=probe):
            if flow == ISOLATED and len(self._isolated_out) >= self._most_isolated:
                continue
            jobs = self._flows.pop(flow)
            job = self._probe(jobs) if probe else jobs.popleft()
            if flow == ISOLATED:
                self._isolated_out.add(job.mark)
            if jobs:
                self._flows[flow] = jobs
            self.ready -= 1
            return job
        return None

    def _in_turn(self, *, probe: bool) -> Sequence[str]:
        """Return the flows in the order in which one may give the next job; replays come last."""
        if probe:
            return sorted(self._flows, key=_tried)
        flows = list(self._flows)
        if REPLAYS in flows and len(flows) > 1:
            flows.remove(REPLAYS)
            flows.append(REPLAYS)
        return flows

    def _probe(self, jobs: deque[Job]) -> Job:
        """Remove and return the job that says most about the vendor's health."""
        for back, job in enumerate(reversed(jobs), 1):
            if job.user_hash in self._met or job.user_hash in self._met_before:
                del jobs[-back]
                return job
        return jobs.pop()

    def passed(self, job: Job) -> None:
        """Record that the vendor answered an attempt of *job*."""
        user, met = job.user_hash, self._met
        if user:
            met.add(user)
            if len(met) >= MET:
                self._met, self._met_before = set(), met

    def tried(self, job: Job) -> None:
        """Record the end of an attempt of *job*, which had attempts before."""
        self._isolated_out.discard(job.mark)

    def remove(self, job: Job, *, leave: bool = True) -> None:
        """Remove *job*, which ended; with *leave* the user's next job may be sent."""
        self.in_flight.release(job)
        if leave and (following := self.users.release(job.user)) is not None:
            self._push(following)


def _tried(flow: str) -> int:
    return (flow in (RETRIES, ISOLATED)) + (flow == ISOLATED)
