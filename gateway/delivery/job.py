"""A job: one delivery in memory, its attempts and its outcome."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, final

import msgspec
import structlog

from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.http import Request
from gateway.routing.steps import StepChain
from gateway.spool import Attempt, Cause, DeliveryRef, Entry, FailedDelivery, WaitingDelivery
from gateway.verdict import Declined, Delivered, Refused, Verdict

StepsOf = Callable[[str], StepChain | None]
"""Returns the steps of a route by its name; None if there are none."""

REMEMBERED_ATTEMPTS = 100
"""Number of latest attempts that a delivery keeps; a vendor down for a week causes thousands."""


class Job(msgspec.Struct, eq=False):
    """One delivery of an event to one destination.

    Attributes:
        mark: its place in the log.
        entry: the request that it belongs to.
        event: as accepted. A further delivery of the same event to the same destination has other
            ids, because it is another message.
        steps: the steps of its route; None if the event is sent as it came.
        siblings: number of events of its request.
        attempts: the latest ones.
        waiting: it is a waiting delivery in the spool, so its outcome must be recorded there.
        parked: it waits there for an earlier event of its user, not for its own next attempt.
        unbuildable: why this process cannot make it now; another one may have the configuration.
        unbatched: it was refused in a batch or as forwarded, so it is sent alone and rendered.
        sent: the request of the latest attempt.
        forwarded: the latest attempt forwarded the received request.
        had_trouble: an attempt failed before, or it was a dead letter and is replayed.
        ahead: it overtakes others of the log, so its outcome is recorded separately.
        size: roughly its bytes in memory: its share of the request.
        user: the key that orders deliveries; empty if the event identifies no user.
        user_hash: the hash of its user, as in `gateway.spool.Entry.users`; 0 if unknown.
    """

    mark: DeliveryRef
    entry: Entry
    event: Event
    siblings: int = 1
    steps: StepChain | None = None
    attempts: tuple[Attempt, ...] = ()
    waiting: bool = False
    parked: bool = False
    had_trouble: bool = False
    ahead: bool = False
    user: str = ""
    user_hash: int = 0
    size: int = 0
    unbatched: bool = False
    sent: Request | None = None
    forwarded: bool = False
    unbuildable: str = ""

    def __post_init__(self) -> None:
        """Set what follows from the other attributes."""
        mark, entry, event = self.mark, self.entry, self.event
        if mark.copy:
            self.event = _further(event, mark.copy)
        self.user = event.user_key
        self.user_hash = entry.user(mark.index)
        self.size = len(entry.request.body) // self.siblings

    @property
    def outgoing_event(self) -> Event:
        """Return the event after the route's steps.

        Raises:
            Unrenderable: a step failed.
        """
        return self.event if self.steps is None else self.steps.apply(self.event)

    @property
    def isolated(self) -> bool:
        """Return whether it failed while the vendor accepted other users' events."""
        return bool(self.attempts) and any(attempt.isolated > 0 for attempt in self.attempts)

    def tried(self, attempt: Attempt) -> None:
        """Add an attempt."""
        earlier = self.attempts
        self.attempts = (*earlier, attempt)[-REMEMBERED_ATTEMPTS:] if earlier else (attempt,)

    def to_waiting(self, due: float, reason: str = "", *, parked: bool = False) -> WaitingDelivery:
        """Return the job as a waiting delivery."""
        return WaitingDelivery(
            self.mark, due, self.attempts, reason, self.user, self.event.name or "", parked
        )

    def to_failed(self, cause: Cause, reason: str, at: float, rendered: bytes) -> FailedDelivery:
        """Return the job as a failed delivery; secrets in *rendered* must be redacted."""
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


def build_job(  # noqa: PLR0913 - all parts of a delivery
    mark: DeliveryRef,
    entry: Entry,
    destination: str,
    events: Sequence[Event],
    steps_of: StepsOf,
    *,
    later: WaitingDelivery | None = None,
    ahead: bool = False,
) -> Job:
    """Return the job of a stored delivery.

    Raises:
        Unrenderable: the stored request has no such event any more, or the route has no steps.
    """
    number = mark.event
    if number >= len(events):
        raise Unrenderable(
            "the stored request no longer contains this event; the plugin has changed"
        )
    steps = None
    route = entry.route(destination, mark.index) if entry.routes else ""
    if route and (steps := steps_of(route)) is None:
        raise Unrenderable(
            f"route {route!r}, whose steps apply to this event, no longer exists or has no steps; "
            f"add it again, then replay the dead letter"
        )
    if later is None:
        return Job(mark, entry, events[number], len(events), steps, ahead=ahead)
    return Job(
        mark,
        entry,
        events[number],
        len(events),
        steps,
        later.attempts,
        waiting=True,
        parked=later.parked,
        had_trouble=bool(later.reason or later.attempts),
        ahead=ahead,
    )


_ORIGIN = time.time() - time.monotonic()


def steady_time() -> float:
    """Return Unix seconds that never jump: the system time at the start plus monotonic seconds.

    Retries are scheduled by this clock, so that setting the system clock neither delays them nor
    makes all of them due at once.
    """
    return _ORIGIN + time.monotonic()


@final
class Shadowed(msgspec.Struct, frozen=True):
    """A shadow destination handled the event; nothing was sent."""


class AttemptResult(msgspec.Struct, frozen=True):
    """The result of one attempt."""

    verdict: Verdict | Declined | Shadowed
    attempt: Attempt | None
    """None if nothing was sent."""
    cause: Cause = "refused"
    """Cause of the dead letter, if the verdict leads to one."""
    covers: int = 1
    """Number of jobs that it covers, from the first on."""
    told: bool = False
    """Whether the sender got the vendor's own response."""
    refused: Mapping[int, str] = {}
    """Reasons of those covered jobs, by position, that the vendor refused; it took the others."""

    def of(self, position: int) -> "AttemptResult":
        """Return the result of one of the covered jobs."""
        reason = self.refused.get(position)
        if reason is None:
            return self
        return msgspec.structs.replace(self, verdict=Refused(reason), refused={})


OnSettled = Callable[[Event, str, Verdict | Declined], None]
"""Called with event, destination and final verdict."""

Completion = Literal["delivered", "declined", "shadowed"]
"""Successful outcomes of a delivery."""
DeliveryOutcome = Completion | Literal["retry", "dead_letter"]
EndedWell = Delivered | Declined | Shadowed
ENDS: Mapping[type[EndedWell], Completion] = {
    Delivered: "delivered", Declined: "declined", Shadowed: "shadowed",
}  # fmt: skip


log = structlog.get_logger()


class DeliveryCounts:
    """The outcomes of a destination's deliveries since its start."""

    __slots__ = ("dead_lettered", "declined", "delivered", "retried", "shadowed")

    def __init__(self) -> None:
        self.delivered = self.declined = self.shadowed = self.retried = self.dead_lettered = 0


class DeliveryObserver(Protocol):
    """Observes every attempt of one destination's deliveries."""

    def on_attempt(
        self, job: Job, outcome: DeliveryOutcome, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Record the outcome of an attempt; *attempt* is None if nothing was sent."""


class Guarded:
    """Calls an observer and a callback, and logs their exceptions, so that no delivery fails.

    Args:
        observer: observes every attempt.
        settled: called at the end of each delivery, if given.
    """

    def __init__(self, observer: DeliveryObserver, settled: OnSettled | None) -> None:
        self._observer = observer
        self._settled = settled

    def on_attempt(
        self, job: Job, outcome: DeliveryOutcome, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Record the outcome of an attempt (see `DeliveryObserver`)."""
        try:
            self._observer.on_attempt(job, outcome, reason, attempt)
        except Exception:
            log.exception("observer_failed", delivery=job.event.id, outcome=outcome)

    def settled(self, event: Event, destination: str, verdict: Verdict | Declined) -> None:
        """Report the end of a delivery."""
        if self._settled is None:
            return
        try:
            self._settled(event, destination, verdict)
        except Exception:
            log.exception("observer_failed", delivery=event.id, destination=destination)
