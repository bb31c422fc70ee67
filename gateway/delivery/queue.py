"""One destination's jobs in memory: which may go next, and whose turn waits for what.

live ─┐                           ┌─ ready, by source ─┐
├─ JobQueue.add ─ UserOrder ┤                    ├─ JobQueue.pop ─ an attempt
log ──┘   (one event of a user    └─ retries ──────────┘   (one source after the other)
at a time)
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from gateway.delivery.job import Job
from gateway.spool import DeliveryRef, Evicted, WaitingDelivery

WINDOW = 16 * 1024 * 1024
"""Bytes of requests that a worker holds in memory; past them it reads from the spool, later."""
WINDOW_JOBS = 4096
USER_JOBS = 32
"""Jobs that one user may have in memory."""
SOURCE_JOBS = 64
"""Jobs that a source may have in memory however many others there are."""
ISOLATED_SHARE = 4
"""Of so many attempts one at most is of an event that fails while others are taken."""
MET = 4096
"""Users of whom is known that the vendor took an event of theirs lately."""
RETRIES = "\0retries"
"""The flow of all sources' jobs that were tried before; no source has such a name."""
ISOLATED = "\0isolated"
"""The flow of those that failed while the vendor took others."""


class UserOrder:
    """Order per user: the next event of a user waits until the one before is settled.

    A user is *active* while one of their events is on its way, and *blocked* while some of them
    stand as exceptions in the spool: then those that follow must queue up behind them there.
    Events of nobody in particular wait for nobody.
    """

    def __init__(self) -> None:
        self._active: dict[str, deque[Job] | None] = {}
        self._blocked: dict[str, int] = {}
        self._jobs: Counter[int] = Counter()

    def load(self, blocked: dict[str, int]) -> None:
        """Say who is blocked by how many deliveries, as the spool knows it."""
        self._blocked = blocked

    def blocked(self, user: str) -> bool:
        """Tell whether the user has deliveries that wait in the spool."""
        return user in self._blocked

    def block(self, user: str) -> None:
        """Note one more delivery of the user that waits in the spool."""
        if user:
            self._blocked[user] = self._blocked.get(user, 0) + 1

    def unblock(self, user: str) -> None:
        """Note that one of them is settled."""
        left = self._blocked.get(user, 0) - 1
        if left > 0:
            self._blocked[user] = left
        else:
            self._blocked.pop(user, None)

    def jobs(self, user: int) -> int:
        """Return how many jobs the user with this hash has."""
        return self._jobs[user]

    def count(self, user: int, more: int) -> None:
        """Note that the user with this hash has so many jobs more."""
        if user:
            self._jobs[user] += more
            if not self._jobs[user]:
                del self._jobs[user]

    def acquire(self, job: Job) -> bool:
        """Tell whether *job* may go at once; otherwise it is kept until it may."""
        user = job.user
        if not user:
            return True
        if user not in self._active:
            self._active[user] = None
            return True
        queue = self._active[user]
        if queue is None:
            queue = self._active[user] = deque()
        queue.append(job)
        return False

    def is_active(self, user: str) -> bool:
        """Tell whether an event of the user is on its way."""
        return user in self._active

    def release(self, user: str) -> Job | None:
        """Return the user's next job, now that the one before is settled."""
        if not user:
            return None
        queue = self._active.get(user)
        if queue:
            return queue.popleft()
        self._active.pop(user, None)
        return None

    def followers(self, user: str, most: int) -> list[Job]:
        """Return the user's next jobs, to go together with the one on its way."""
        queue = self._active.get(user)
        if not queue:
            return []
        return [queue.popleft() for _ in range(min(most, len(queue)))]

    def put_back(self, user: str, jobs: Sequence[Job]) -> None:
        """Let *jobs*, which `followers` gave, be the user's next again."""
        if not jobs:
            return
        queue = self._active.get(user)
        if queue is None:
            queue = self._active[user] = deque()
        queue.extendleft(reversed(jobs))

    def waiting(self, user: str) -> list[Job]:
        """Return the user's jobs that wait in memory, and forget them; the user stays active."""
        queue = self._active.get(user)
        if not queue:
            return []
        self._active[user] = None
        return list(queue)


class InFlight:
    """The jobs of one destination, and what of them stands in the spool as waiting all the same.

    A delivery that waits in the spool is in flight while there is a job for it, and rests
    otherwise. What rests blocks its user: what follows must be parked behind it. What is in flight
    does not, since what follows can queue up behind it here. A delivery that is spilled waits in
    the spool only so that the cursor can pass it.
    """

    def __init__(self, users: UserOrder) -> None:
        self._users = users
        self._jobs = 0
        self._bytes: Counter[str] = Counter()
        self._by_source: Counter[str] = Counter()
        self._fresh: dict[DeliveryRef, Job] = {}
        self._ahead: dict[DeliveryRef, Job] = {}
        self._restored: dict[DeliveryRef, str] = {}
        self._retrying: dict[str, set[DeliveryRef]] = {}
        self._evicted: set[DeliveryRef] = set()
        self._evicted_to = 0

    def __len__(self) -> int:
        """Return how many jobs there are."""
        return self._jobs

    def room(self, source: str, sources: int) -> int:
        """Return how many more jobs a source may have, if so many *sources* want some."""
        sources = max(sources, len(self._by_source) + (source not in self._by_source))
        if self._bytes[source] > WINDOW // sources:
            return 0
        return max(SOURCE_JOBS, WINDOW_JOBS // sources) - self._by_source[source]

    @property
    def waiting(self) -> int:
        """Return how many of them stand in the spool as waiting."""
        return len(self._restored)

    def has(self, mark: DeliveryRef) -> bool:
        """Tell whether there is a job for a delivery that waits in the spool."""
        return mark in self._restored

    def take(self, job: Job) -> None:
        """Take *job*, of the log or restored."""
        self._jobs += 1
        self._bytes[job.entry.source] += job.size
        self._by_source[job.entry.source] += 1
        self._users.count(job.user_hash, 1)
        if job.in_order:
            self._fresh[job.mark] = job
        elif job.ahead:
            self._ahead[job.mark] = job

    def release(self, job: Job) -> None:
        """Let go of *job*."""
        source = job.entry.source
        self._jobs -= 1
        self._bytes[source] -= job.size
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source], self._bytes[source]
        self._users.count(job.user_hash, -1)
        self._fresh.pop(job.mark, None)
        self._ahead.pop(job.mark, None)

    def oldest(self) -> Job | None:
        """Return the first of the log that is in flight and does not wait in the spool."""
        first = next(iter(self._fresh.values()), None)
        ahead = min(self._ahead.values(), key=lambda job: job.mark.seq, default=None)
        if first is None or (ahead is not None and ahead.mark.seq < first.mark.seq):
            return ahead
        return first

    # What waits in the spool

    def spill(self, job: Job) -> None:
        """Note that *job*, which stays in flight, stands in the spool as waiting."""
        self._fresh.pop(job.mark, None)
        self._ahead.pop(job.mark, None)
        job.waiting, job.parked, job.ahead = True, bool(job.user), False
        self._restored[job.mark] = job.user
        if job.mark.seq <= self._evicted_to:
            self._evicted.add(job.mark)

    def restore(self, later: WaitingDelivery) -> None:
        """Note that there is a job for what waits in the spool."""
        mark, user = later.mark, later.user
        self._restored[mark] = user
        retrying = self._retrying.get(user, set())
        known = later.parked or mark in retrying  # nobody knew of a replay
        retrying.discard(mark)
        if not retrying:
            self._retrying.pop(user, None)
        if known:
            self._users.unblock(user)

    def requeue(self, job: Job) -> None:
        """Note that *job*, which waits in the spool, only rests there again."""
        self._restored.pop(job.mark, None)
        if job.mark in self._evicted:
            self._evicted.discard(job.mark)
            return
        self._users.block(job.user)
        if not job.parked:
            self._retrying.setdefault(job.user, set()).add(job.mark)

    def retry_later(self, job: Job) -> None:
        """Note that *job* waits in the spool for its next attempt."""
        job.parked = False
        self.requeue(job)

    def settle(self, mark: DeliveryRef) -> None:
        """Note that a waiting delivery is settled; the spool does not know it yet."""
        self._restored.pop(mark, None)
        self._evicted.discard(mark)

    @property
    def retries(self) -> bool:
        """Tell whether something rests in the spool until its next attempt."""
        return bool(self._retrying)

    def retries_for(self, user: str) -> bool:
        """Tell whether something of the user's rests in the spool until its next attempt."""
        return user in self._retrying

    def resync(self, blocked: dict[str, int], retrying: Iterable[WaitingDelivery]) -> set[str]:
        """Take over what the spool says of all that waits; return who is to be followed.

        Those are blocked, and have neither a job in flight nor a retry to come.

        Args:
            blocked: how many deliveries wait, by user.
            retrying: those that wait for their next attempt.
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

    # What the spool gave up

    def is_evicted(self, job: Job) -> bool:
        """Tell whether the spool gave *job* up meanwhile; the job keeps that it did."""
        evicted = job.mark.seq <= self._evicted_to
        if job.waiting:
            evicted = job.mark in self._evicted
        job.had_trouble = job.had_trouble or evicted
        return evicted

    def on_evicted(self, notice: Evicted) -> None:
        """Note that the spool gave deliveries up by itself."""
        self._evicted_to = max(self._evicted_to, notice.cursor)
        self._evicted.update(mark for mark in notice.marks if mark in self._restored)


class JobQueue:
    """The jobs that may go, one source's after the other's.

    Args:
        concurrency: how many attempts are made at once.
        wake: called when there is one more that may go.
    """

    def __init__(self, concurrency: int, wake: Callable[[], None]) -> None:
        self.users = UserOrder()
        self.in_flight = InFlight(self.users)
        self.closed = False
        """Nothing more is taken: it is paused, or ends."""
        self._wake = wake
        self._flows: dict[str, deque[Job]] = {}
        """Jobs that may go, by source, and those of `RETRIES` and `ISOLATED`; the next is first."""
        self._most_isolated = max(1, concurrency // ISOLATED_SHARE)
        self._isolated_out = 0
        self._met: dict[int, None] = {}

    def __len__(self) -> int:
        """Return how many jobs could go at once."""
        return sum(len(jobs) for jobs in self._flows.values())

    @property
    def fresh(self) -> int:
        """Return how many of them were never tried."""
        return sum(
            len(jobs) for flow, jobs in self._flows.items() if flow not in (RETRIES, ISOLATED)
        )

    def fresh_of(self, source: str) -> int:
        """Return how many of a source's jobs could go at once."""
        return len(self._flows.get(source, ()))

    def room_for(self, user: int) -> int:
        """Return how many more jobs the user with this hash may have."""
        return USER_JOBS - self.users.jobs(user)

    def add(self, job: Job) -> None:
        """Let *job* go as soon as its user's turn comes."""
        self.in_flight.take(job)
        if self.users.acquire(job):
            self._push(job)

    def _push(self, job: Job) -> None:
        flow = job.entry.source
        if job.attempts:
            flow = ISOLATED if job.isolated else RETRIES
        jobs = self._flows.get(flow)
        if jobs is None:
            jobs = self._flows[flow] = deque()
        jobs.append(job)
        self._wake()

    def pop(self, *, probe: bool = False) -> Job | None:
        """Return the next job that may go.

        For a *probe* that is one that was never tried, if there is: the newest of a user of whom
        the vendor took an event lately, else the newest, since those before it may be what opened
        the circuit.
        """
        for flow in self._order(probe=probe):
            if flow == ISOLATED:
                if self._isolated_out >= self._most_isolated:
                    continue
                self._isolated_out += 1
            jobs = self._flows.pop(flow)
            job = self._probe(jobs) if probe else jobs.popleft()
            if jobs:
                self._flows[flow] = jobs
            return job
        return None

    def _probe(self, jobs: deque[Job]) -> Job:
        """Take the job out that tells most of the vendor."""
        for back, job in enumerate(reversed(jobs), 1):
            if job.user_hash in self._met:
                del jobs[-back]
                return job
        return jobs.pop()

    def passed(self, job: Job) -> None:
        """Note that the vendor took *job*."""
        if not job.user_hash:
            return
        self._met.pop(job.user_hash, None)
        self._met[job.user_hash] = None
        if len(self._met) > MET:
            del self._met[next(iter(self._met))]

    def _order(self, *, probe: bool) -> list[str]:
        flows = list(self._flows)
        return sorted(flows, key=_tried) if probe else flows

    def tried(self, job: Job) -> None:
        """Note that the attempt of *job*, which `pop` gave, has ended, before it is noted on it."""
        self._isolated_out -= job.isolated

    def release(self, job: Job) -> None:
        """Let the user's next job go."""
        following = self.users.release(job.user)
        if following is not None:
            self._push(following)


def _tried(flow: str) -> int:
    return (flow in (RETRIES, ISOLATED)) + (flow == ISOLATED)
