"""One delivery in a worker's hands."""

from collections.abc import Callable, Sequence

import msgspec

from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.exchange import Request
from gateway.routing.steps import Steps
from gateway.spool import Attempt, Cause, Entry, Failed, Later, Mark

StepsOf = Callable[[str], Steps | None]
"""A route's name to its steps."""

REMEMBERED_ATTEMPTS = 100
"""Attempts that a delivery keeps, the newest; a vendor down for a week makes thousands."""


class Job:
    """One event on its way to one destination.

    Attributes:
        mark: its place in the log.
        event: as accepted. A further delivery of an event to the same destination has ids of its
            own, since it is another message to whoever counts them.
        steps: those of its route; None where the event goes as it came.
        siblings: how many events its request has in all.
        waiting: it stands as an exception in the spool, so its end must be recorded there.
        parked: there it stands behind another, rather than for a try of its own.
        alone: it was refused in company, so it is tried without.
        sent: the request of the latest try.
        forwarded: it was its own request, as it came.
        troubled: it went wrong before: it was tried in vain, or was given up and is replayed.
        ahead: it overtakes others of the log, so its end is recorded by itself.
        user_hash: stands for its user where many are kept; 0 where it is not known.
    """

    __slots__ = (
        "ahead", "alone", "attempts", "entry", "event", "forwarded", "mark", "parked", "sent",
        "siblings", "steps", "troubled", "user", "user_hash", "waiting",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what there is to know of a delivery, each once
        self,
        mark: Mark,
        entry: Entry,
        event: Event,
        *,
        siblings: int = 1,
        steps: Steps | None = None,
        attempts: tuple[Attempt, ...] = (),
        waiting: bool = False,
        parked: bool = False,
        troubled: bool = False,
        ahead: bool = False,
    ) -> None:
        self.mark = mark
        self.entry = entry
        self.event = event if mark.way == 0 else _further(event, mark.way)
        self.steps = steps
        self.user = event.user_key
        self.user_hash = entry.user(mark.index)
        self.attempts = attempts
        self.waiting = waiting
        self.parked = parked
        self.siblings = siblings
        self.alone = False
        self.sent: Request | None = None
        self.forwarded = False
        self.troubled = troubled
        self.ahead = ahead

    @property
    def outgoing(self) -> Event:
        """Return the event after the route's steps.

        Raises:
            Unrenderable: a step failed.
        """
        return self.event if self.steps is None else self.steps.apply(self.event)

    @property
    def size(self) -> int:
        """Return the bytes that the job keeps in memory, roughly: its share of the request."""
        return len(self.entry.request.body) // self.siblings

    @property
    def in_order(self) -> bool:
        """Tell whether the cursor alone says that it ended well."""
        return not (self.waiting or self.ahead)

    @property
    def isolated(self) -> bool:
        """Tell whether it has failed while the vendor took other users' events."""
        return any(attempt.isolated > 0 for attempt in self.attempts)

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


def _further(event: Event, way: int) -> Event:
    message = event.message_id and f"{event.message_id}-{way}"
    return msgspec.structs.replace(event, id=f"{event.id}-{way}", message_id=message)


def job_of(  # noqa: PLR0913 - what a delivery is made of
    mark: Mark,
    entry: Entry,
    destination: str,
    events: Sequence[Event],
    steps_of: StepsOf,
    *,
    later: Later | None = None,
    ahead: bool = False,
) -> Job:
    """Return the job for a delivery that the spool keeps.

    Raises:
        Unrenderable: what is kept does not lead to it any more.
    """
    if mark.event >= len(events):
        raise Unrenderable(
            "the stored request no longer parses into this event; its plugin has changed"
        )
    route = entry.route(destination, mark.index) if entry.routes else ""
    steps = steps_of(route) if route else None
    if route and steps is None:
        raise Unrenderable(
            f"it is to be sent after the steps of the route {route!r}, and there is no such route "
            f"with steps any more; give a route this name and its steps, then replay it"
        )
    return Job(
        mark,
        entry,
        events[mark.event],
        siblings=len(events),
        steps=steps,
        attempts=later.attempts if later else (),
        waiting=later is not None,
        parked=later is not None and later.parked,
        troubled=later is not None and bool(later.reason or later.attempts),
        ahead=ahead,
    )
