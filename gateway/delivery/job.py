"""A job: one delivery in memory, its attempts, and how it ends."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
import structlog

from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.http import Request
from gateway.routing.steps import StepChain
from gateway.spool import Attempt, Cause, DeliveryRef, Entry, FailedDelivery, WaitingDelivery
from gateway.verdict import Declined, Delivered, Verdict

StepsOf = Callable[[str], StepChain | None]
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
        "ahead",
        "attempts",
        "entry",
        "event",
        "forwarded",
        "had_trouble",
        "mark",
        "parked",
        "sent",
        "siblings",
        "steps",
        "unbatched",
        "user",
        "user_hash",
        "waiting",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what there is to know of a delivery, each once
        self,
        mark: DeliveryRef,
        entry: Entry,
        event: Event,
        *,
        siblings: int = 1,
        steps: StepChain | None = None,
        attempts: tuple[Attempt, ...] = (),
        waiting: bool = False,
        parked: bool = False,
        troubled: bool = False,
        ahead: bool = False,
    ) -> None:
        self.mark = mark
        self.entry = entry
        self.event = event if mark.copy == 0 else _further(event, mark.copy)
        self.steps = steps
        self.user = event.user_key
        self.user_hash = entry.user(mark.index)
        self.attempts = attempts
        self.waiting = waiting
        self.parked = parked
        self.siblings = siblings
        self.unbatched = False
        self.sent: Request | None = None
        self.forwarded = False
        self.had_trouble = troubled
        self.ahead = ahead

    @property
    def outgoing_event(self) -> Event:
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

    def to_waiting(self, due: float, reason: str = "", *, parked: bool = False) -> WaitingDelivery:
        """Return the job as a delivery that waits."""
        return WaitingDelivery(
            self.mark, due, self.attempts, reason, self.user, self.event.name or "", parked
        )

    def to_failed(self, cause: Cause, reason: str, at: float, rendered: bytes) -> FailedDelivery:
        """Return the job as a delivery that is given up; *rendered* has no credential in it."""
        return FailedDelivery(
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


def build_job(  # noqa: PLR0913 - what a delivery is made of
    mark: DeliveryRef,
    entry: Entry,
    destination: str,
    events: Sequence[Event],
    steps_of: StepsOf,
    *,
    later: WaitingDelivery | None = None,
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


_ORIGIN = time.time() - time.monotonic()


def steady_time() -> float:
    """Return Unix seconds as they stood when the process began, and what has passed since.

    Waits end by this clock, so that setting the machine's clock back makes none of them longer,
    and setting it forward makes no retries all at once.
    """
    return _ORIGIN + time.monotonic()


class Shadowed(NamedTuple):
    """A shadow has looked at it: it is neither delivered nor refused."""


class AttemptResult(NamedTuple):
    """How one try ended."""

    verdict: Verdict | Declined | Shadowed
    attempt: Attempt | None
    """None where nothing was sent."""
    cause: Cause = "refused"
    """Of the dead letter, if the verdict makes one."""
    covers: int = 1
    """How many of the jobs it is about, from the first on."""
    told: bool = False
    """Whoever sent the request has been told the vendor's own answer."""


OnSettled = Callable[[Event, str, Verdict | Declined], None]
"""Told the event, the destination and how it ended."""

Completion = Literal["delivered", "declined", "shadowed"]
"""How a delivery may end well."""
DeliveryOutcome = Completion | Literal["later", "dead"]
EndedWell = Delivered | Declined | Shadowed
ENDS: Mapping[type[EndedWell], Completion] = {
    Delivered: "delivered", Declined: "declined", Shadowed: "shadowed",
}  # fmt: skip


log = structlog.get_logger()


class DeliveryObserver(Protocol):
    """Sees every try of one destination's deliveries."""

    def on_attempt(
        self, job: Job, outcome: DeliveryOutcome, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Note how a try of *job* ended; *attempt* is None where nothing was sent."""


class Guarded:
    """A witness, and whom to tell of ends, whose mistakes cost no delivery: they are logged.

    Args:
        witness: sees every try.
        settled: called at each delivery's end; None where nobody listens.
    """

    def __init__(self, witness: DeliveryObserver, settled: OnSettled | None) -> None:
        self._witness = witness
        self._settled = settled

    def on_attempt(
        self, job: Job, outcome: DeliveryOutcome, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Note how a try of *job* ended (see `DeliveryObserver`)."""
        try:
            self._witness.on_attempt(job, outcome, reason, attempt)
        except Exception:
            log.exception("not_witnessed", delivery=job.event.id, outcome=outcome)

    def settled(self, event: Event, destination: str, verdict: Verdict | Declined) -> None:
        """Tell that a delivery ended, and how."""
        if self._settled is None:
            return
        try:
            self._settled(event, destination, verdict)
        except Exception:
            log.exception("not_witnessed", delivery=event.id, destination=destination)
