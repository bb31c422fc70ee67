"""Who sees what becomes of deliveries."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import structlog

from gateway.delivery.attempt import Shadowed
from gateway.delivery.job import Job
from gateway.event import Event
from gateway.exchange import Declined, Delivered, Verdict
from gateway.spool import Attempt

Settled = Callable[[Event, str, Verdict | Declined], None]
"""Told the event, the destination and how it ended."""

Completion = Literal["delivered", "declined", "shadowed"]
"""How a delivery may end well."""
End = Completion | Literal["later", "dead"]
EndedWell = Delivered | Declined | Shadowed
ENDS: Mapping[type[EndedWell], Completion] = {
    Delivered: "delivered", Declined: "declined", Shadowed: "shadowed",
}  # fmt: skip


log = structlog.get_logger()


class Witness(Protocol):
    """Sees every try of one destination's deliveries."""

    def ended(
        self, job: Job, outcome: End, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Note how a try of *job* ended; *attempt* is None where nothing was sent."""


class Guarded:
    """A witness, and whom to tell of ends, whose mistakes cost no delivery: they are logged.

    Args:
        witness: sees every try.
        settled: called at each delivery's end; None where nobody listens.
    """

    def __init__(self, witness: Witness, settled: Settled | None) -> None:
        self._witness = witness
        self._settled = settled

    def ended(
        self, job: Job, outcome: End, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Note how a try of *job* ended (see `Witness`)."""
        try:
            self._witness.ended(job, outcome, reason, attempt)
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
