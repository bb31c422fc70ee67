"""Trace records, and filters over them.

Later fields have defaults, so that what an older gateway wrote is read.

A trace is what became of one request: what was received, what it was parsed into, what each route
said of each event, and every try to deliver it. No credential is in any of it: they are hidden
before anything is written or handed to those who watch.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.event import Event
from gateway.tracking.schema import FieldPath

Outcome = Literal[
    "accepted",
    "duplicate",
    "refused",
    "delivered",
    "declined",
    "shadowed",
    "retry",
    "dead_letter",
]
"""What happened: an event was accepted, or was a duplicate; a request was refused; a delivery
arrived, was declined (the vendor's format has no word for it), was only looked at by a shadow, is
retried, or became a dead letter."""
FAILED = frozenset({"refused", "retry", "dead_letter"})
"""Outcomes that mean that something went wrong."""


class RecordedMessage(msgspec.Struct, frozen=True):
    """A request, as received or as sent, without credentials."""

    method: str
    url: str
    headers: dict[str, str]
    """Those that the gateway keeps, where it was received."""
    body: str
    size: int
    """Bytes of the whole body."""
    truncated: bool = False
    """``body`` is the beginning of it only."""


class RequestRecord(msgspec.Struct, frozen=True):
    """A request of a source, and what its sender was told."""

    request: str
    """The gateway's id of it, which its sender was told in ``x-gateway-request-id``."""
    at: float
    """Unix seconds."""
    source: str
    vendor: str
    message: RecordedMessage
    events: int
    """How many events were in it."""
    credential: str = ""
    """The name of the credential that came along, such as ``keys[0]``; empty where it is not
    known."""
    status: int | None = None
    """Of the answer; None where it was not kept, and the request was accepted."""
    seconds: float | None = None
    """Until the answer was ready."""
    fault: str = ""
    """Why it was refused, as a word (`gateway.errors.Fault`); empty where it was accepted."""
    reason: str = ""
    """Why it was refused, as a sentence."""


class RouteRecord(msgspec.Struct, frozen=True):
    """What one route said of an event; see `gateway.routing.router.RouteDecision`."""

    route: str
    destinations: tuple[str, ...]
    taken: bool
    reason: str
    decided_by: str = ""
    error: str = ""
    filtered: str = ""
    routed_to: tuple[str, ...] = ()


class EventRecord(msgspec.Struct, frozen=True):
    """An event of a request."""

    event: str
    """Its id: the request's, a dash and its number."""
    request: str
    at: float
    """Unix seconds at which the request came."""
    source: str
    type: str
    name: str
    """Its neutral name; its type where it has none."""
    message_id: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    duplicate: bool = False
    """It repeats an event, within the source's ``dedup``, and goes nowhere."""
    decisions: tuple[RouteRecord, ...] = ()
    """What every route said, in the order of the configuration."""
    violations: tuple[str, ...] = ()
    """Of the source's tracking plan; where a field was dropped for one, it says so."""
    dropped_fields: tuple[FieldPath, ...] = ()
    """The paths that the plan dropped, each as it is after those before it. What no table maps was
    dropped with them."""


class RecordedLoss(msgspec.Struct, frozen=True):
    """A field that the event has and the destination's format cannot say."""

    path: str
    kind: str
    """``lost`` or ``coerced``."""
    reason: str = ""
    """The reason, and what to write to have it sent, where it is known."""


ChangeKind = Literal["added", "changed", "removed"]


class RecordedChange(msgspec.Struct, frozen=True):
    """A field that the steps of a route changed."""

    path: str
    """Such as ``properties.products[].price``."""
    kind: ChangeKind


class AttemptRecord(msgspec.Struct, frozen=True):
    """One attempt of a delivery, or its end without one."""

    event: str
    request: str
    at: float
    """Unix seconds."""
    source: str
    destination: str
    vendor: str
    name: str
    outcome: Outcome
    reason: str = ""
    route: str = ""
    """The route whose steps it took; empty where it took none."""
    number: int = 0
    """Which attempt it was, from 1; 0 where nothing was sent."""
    status: int | None = None
    """Of the answer; None where none came."""
    seconds: float | None = None
    """Until the whole answer was there; None where nothing was sent."""
    response_excerpt: str = ""
    """The start of the response, or the error, of an attempt that did not arrive."""
    sent: RecordedMessage | None = None
    losses: tuple[RecordedLoss, ...] = ()
    """What of the event, as the steps left it, did not arrive."""
    user_id: str = ""
    anonymous_id: str = ""
    changes: tuple[RecordedChange, ...] = ()
    """What the steps changed."""
    omitted_changes: int = 0
    """How many fields they changed besides."""
    copy: int = 0
    """How many deliveries of the event the destination gets before this one, by other routes."""

    @property
    def failed(self) -> bool:
        """Tell whether it did not arrive."""
        return self.outcome in FAILED


class Trace(msgspec.Struct, frozen=True):
    """What became of one request, as far as it is kept."""

    request: str
    received: RequestRecord | None
    """None where that part is too old to be kept still."""
    events: tuple[EventRecord, ...]
    attempts: tuple[AttemptRecord, ...]
    """In the order in which they happened."""


Kind = Literal["request", "event", "delivery"]


class TraceLine(msgspec.Struct, frozen=True):
    """One thing that happened, in short: what ``gateway tail`` prints."""

    number: int
    """Rises; where to go on from. 0 for what is shown and not kept."""
    kind: Kind
    at: float
    """Unix seconds."""
    request: str
    source: str
    outcome: Outcome
    event: str = ""
    """Its id; empty for a request."""
    destination: str = ""
    name: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    reason: str = ""
    status: int | None = None
    seconds: float | None = None

    @property
    def failed(self) -> bool:
        """Tell whether something went wrong."""
        return self.outcome in FAILED


class TraceFilter(msgspec.Struct, frozen=True):
    """Which lines; every field that is set must hold."""

    source: str | None = None
    destination: str | None = None
    """Deliveries to this one."""
    name: str | None = None
    """The neutral name of the event."""
    user: str | None = None
    """A user id or an anonymous id."""
    failed: bool = False
    """Only what went wrong."""
    since: float | None = None
    """Unix seconds, inclusive."""
    until: float | None = None
    """Unix seconds, exclusive."""

    def takes(self, line: TraceLine) -> bool:
        """Tell whether *line* is one of them."""
        return (
            self.source in {None, line.source}
            and self.destination in {None, line.destination}
            and self.name in {None, line.name}
            and (self.user is None or self.user in {line.user_id, line.anonymous_id})
            and (line.failed or not self.failed)
            and (self.since is None or line.at >= self.since)
            and (self.until is None or line.at < self.until)
        )

    def concerns(self, source: str, to: str, events: Sequence[Event], *, failed: bool) -> bool:
        """Tell whether lines may be among them that are about *events* of *source*.

        They are on their way to *to*, or it is empty, and they have just come; they *failed*, or
        not.
        """
        # Asked about every event while anybody watches: what is not wanted must cost nothing.
        if (
            (self.failed and not failed)
            or (self.source is not None and self.source != source)
            or (self.destination is not None and self.destination != to)
            or (self.name is not None and all(self.name != (e.name or e.type) for e in events))
        ):
            return False
        user = self.user
        return user is None or any(user in (one.user_id, one.anonymous_id) for one in events)


ALL_LINES = TraceFilter()
