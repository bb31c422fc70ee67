"""One delivery in a worker's hands."""

from gateway.event import Event
from gateway.exchange import Request
from gateway.spool import Attempt, Cause, Entry, Failed, Later, Mark

REMEMBERED_ATTEMPTS = 100
"""Attempts that a delivery keeps, the newest; a vendor down for a week makes thousands."""


class Job:
    """One event on its way to one destination.

    Attributes:
        mark: its place in the log.
        siblings: how many events its request has in all.
        waiting: it stands as an exception in the spool, so its end must be recorded there.
        parked: there it stands behind another, rather than for a try of its own.
        alone: it was refused in company, so it is tried without.
    """

    __slots__ = (
        "alone", "attempts", "entry", "event", "mark", "parked", "sent", "siblings", "user",
        "waiting",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what there is to know of a delivery, each once
        self,
        mark: Mark,
        entry: Entry,
        event: Event,
        *,
        siblings: int = 1,
        attempts: tuple[Attempt, ...] = (),
        waiting: bool = False,
        parked: bool = False,
    ) -> None:
        self.mark = mark
        self.entry = entry
        self.event = event
        self.user = event.user_key
        self.attempts = attempts
        self.waiting = waiting
        self.parked = parked
        self.siblings = siblings
        self.alone = False
        self.sent: Request | None = None

    @property
    def size(self) -> int:
        """Return the bytes that the job keeps in memory, roughly."""
        return len(self.entry.request.body)

    def tried(self, attempt: Attempt) -> None:
        """Note an attempt."""
        self.attempts = (*self.attempts, attempt)[-REMEMBERED_ATTEMPTS:]

    def later(self, due: float, reason: str = "", *, parked: bool = False) -> Later:
        """Return the job as a delivery that waits."""
        return Later(
            self.mark, due, self.attempts, reason, self.user, self.event.name or "", parked
        )

    def failed(self, cause: Cause, reason: str, at: float, rendered: bytes) -> Failed:
        """Return the job as a delivery that is given up; *rendered* has no credential in it."""
        return Failed(
            self.mark,
            cause,
            reason,
            at,
            self.attempts,
            rendered,
            self.event.name or self.event.type,
            self.user,
        )
