"""What a worker has in hand, and what of it stands in the spool as waiting all the same."""

from collections.abc import Iterable, Sequence

from gateway.delivery.job import Job
from gateway.delivery.users import Users
from gateway.spool import Item, Later, Mark, Taken

WINDOW = 16 * 1024 * 1024
"""Bytes of requests that a worker holds in memory; past them it reads from the spool, later."""
WINDOW_JOBS = 4096


class Hand:
    """The jobs of one destination.

    A delivery that waits in the spool is in hand while there is a job for it, and rests
    otherwise. What rests blocks its user: what follows must be parked behind it. What is in hand
    does not, since what follows can queue up behind it here. A delivery that is held waits in the
    spool only so that the cursor can pass it.
    """

    def __init__(self, users: Users) -> None:
        self._users = users
        self._bytes = 0
        self._jobs = 0
        self._fresh: dict[Mark, Job] = {}
        self._brought: dict[Mark, str] = {}
        self._ended: set[Mark] = set()
        self._passed = 0
        self._retrying: dict[str, set[Mark]] = {}
        self._given_up: set[Mark] = set()
        self._given_up_to = 0

    def __len__(self) -> int:
        """Return how many jobs there are."""
        return self._jobs

    @property
    def full(self) -> bool:
        """Tell whether these are as many as there may be."""
        return self._bytes > WINDOW or self._jobs >= WINDOW_JOBS

    @property
    def waiting(self) -> int:
        """Return how many of them stand in the spool as waiting."""
        return len(self._brought)

    def has(self, mark: Mark) -> bool:
        """Tell whether there is a job for a delivery that waits in the spool."""
        return mark in self._brought

    def take(self, job: Job) -> None:
        """Take *job*, of the log or brought back."""
        self._bytes += job.size
        self._jobs += 1
        if not job.waiting:
            self._fresh[job.mark] = job

    def release(self, job: Job) -> None:
        """Let go of *job*."""
        self._bytes -= job.size
        self._jobs -= 1
        self._fresh.pop(job.mark, None)

    def oldest(self) -> Job | None:
        """Return the first of the log that is in hand and does not wait in the spool."""
        return next(iter(self._fresh.values()), None)

    # What waits in the spool

    def hold(self, job: Job) -> None:
        """Note that *job*, which stays in hand, stands in the spool as waiting."""
        del self._fresh[job.mark]
        job.waiting, job.parked = True, bool(job.user)
        self._brought[job.mark] = job.user
        if job.mark.seq <= self._given_up_to:
            self._given_up.add(job.mark)

    def bring(self, later: Later) -> None:
        """Note that there is a job for what waits in the spool."""
        mark, user = later.mark, later.user
        self._brought[mark] = user
        retrying = self._retrying.get(user, set())
        known = later.parked or mark in retrying  # nobody knew of a replay
        retrying.discard(mark)
        if not retrying:
            self._retrying.pop(user, None)
        if known:
            self._users.unblock(user)

    def put_back(self, job: Job) -> None:
        """Note that *job*, which waits in the spool, only rests there again."""
        self._brought.pop(job.mark, None)
        if job.mark in self._given_up:
            self._given_up.discard(job.mark)
            return
        self._users.block(job.user)
        if not job.parked:
            self._retrying.setdefault(job.user, set()).add(job.mark)

    def retry_later(self, job: Job) -> None:
        """Note that *job* waits in the spool for its next try."""
        job.parked = False
        self.put_back(job)

    def ended(self, mark: Mark) -> None:
        """Note that a waiting delivery is settled; the spool does not know it yet."""
        self._brought.pop(mark, None)
        self._given_up.discard(mark)
        if mark.seq > self._passed:
            self._ended.add(mark)

    def left(self, item: Item, destination: str) -> Sequence[int]:
        """Return which events of *item*, read from the log, have not ended as waiting ones.

        A crash may leave those that wait ahead of the cursor, so that they come before it.
        """
        indexes = item.entry.targets[destination]
        if not self._ended:
            return indexes
        return [index for index in indexes if Mark(item.seq, index) not in self._ended]

    def passed(self, seq: int) -> None:
        """Note that the log was taken up to *seq*."""
        self._passed = seq
        if self._ended:
            self._ended = {mark for mark in self._ended if mark.seq > seq}

    @property
    def retries(self) -> bool:
        """Tell whether something rests in the spool until its next try."""
        return bool(self._retrying)

    def retries_for(self, user: str) -> bool:
        """Tell whether something of the user's rests in the spool until its next try."""
        return user in self._retrying

    def recount(self, blocked: dict[str, int], retrying: Iterable[Later]) -> set[str]:
        """Take over what the spool says of all that waits; return who is to be followed.

        Those are blocked, and have neither a job in hand nor a retry to come.

        Args:
            blocked: how many deliveries wait, by user.
            retrying: those that wait for their next try.
        """
        self._retrying = {}
        for later in retrying:
            if later.mark not in self._brought:
                self._retrying.setdefault(later.user, set()).add(later.mark)
        for mark, user in self._brought.items():
            if mark not in self._given_up and user in blocked:
                blocked[user] -= 1
        blocked = {user: count for user, count in blocked.items() if count > 0}
        self._users.seed(blocked)
        return {user for user in blocked if not (self._users.busy(user) or self.retries_for(user))}

    # What the spool gave up

    def was_taken(self, job: Job) -> bool:
        """Tell whether the spool gave *job* up meanwhile; the job keeps that it did."""
        taken = job.mark.seq <= self._given_up_to
        if job.waiting:
            taken = job.mark in self._given_up
        job.troubled = job.troubled or taken
        return taken

    def taken_away(self, notice: Taken) -> None:
        """Note that the spool gave deliveries up by itself."""
        self._given_up_to = max(self._given_up_to, notice.cursor)
        self._given_up.update(mark for mark in notice.marks if mark in self._brought)
