"""Order per user: the next event of a user waits until the one before is settled."""

from collections import deque
from collections.abc import Sequence

from gateway.delivery.job import Job


class Users:
    """Whose events are in hand, and whose wait in the spool.

    A user is *busy* while one of their events is on its way, and *blocked* while some of them
    stand as exceptions in the spool: then those that follow must queue up behind them there.
    Events of nobody in particular wait for nobody.
    """

    def __init__(self) -> None:
        self._busy: dict[str, deque[Job] | None] = {}
        self._blocked: dict[str, int] = {}

    def seed(self, blocked: dict[str, int]) -> None:
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

    def enter(self, job: Job) -> bool:
        """Tell whether *job* may go at once; otherwise it is kept until it may."""
        user = job.user
        if not user:
            return True
        if user not in self._busy:
            self._busy[user] = None
            return True
        queue = self._busy[user]
        if queue is None:
            queue = self._busy[user] = deque()
        queue.append(job)
        return False

    def busy(self, user: str) -> bool:
        """Tell whether an event of the user is on its way."""
        return user in self._busy

    def leave(self, user: str) -> Job | None:
        """Return the user's next job, now that the one before is settled."""
        if not user:
            return None
        queue = self._busy.get(user)
        if queue:
            return queue.popleft()
        self._busy.pop(user, None)
        return None

    def followers(self, user: str, most: int) -> list[Job]:
        """Return the user's next jobs, to go together with the one on its way."""
        queue = self._busy.get(user)
        if not queue:
            return []
        return [queue.popleft() for _ in range(min(most, len(queue)))]

    def put_back(self, user: str, jobs: Sequence[Job]) -> None:
        """Let *jobs*, which `followers` gave, be the user's next again."""
        queue = self._busy.get(user)
        if queue is None:
            queue = self._busy[user] = deque()
        queue.extendleft(reversed(jobs))

    def waiting(self, user: str) -> list[Job]:
        """Return the user's jobs that wait in memory, and forget them; the user stays busy."""
        queue = self._busy.get(user)
        if not queue:
            return []
        self._busy[user] = None
        return list(queue)
