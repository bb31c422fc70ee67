"""Who sees what becomes of deliveries."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

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


class Witness(Protocol):
    """Sees every try of one destination's deliveries."""

    def ended(
        self, job: Job, outcome: End, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Note how a try of *job* ended; *attempt* is None where nothing was sent."""
