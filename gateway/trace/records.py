"""Trace records, and filters for them.

A trace is the history of one request: what was received, its events, each route's decision about
each event, and each attempt to deliver it. Credentials are redacted before a record is stored or
shown.

New fields need defaults, so that records of an older gateway can be read.
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
"""What happened: an event was accepted, or was a duplicate; a request was refused; a delivery was
delivered, was declined (the vendor's format cannot express it), was compared by a shadow, will be
retried, or became a dead letter."""
LONGEST = 1000
"""Characters that are recorded of a reason, a URL, a name or an id; all can be the sender's own."""
FAILED = frozenset({"refused", "retry", "dead_letter"})
"""Outcomes of failures."""


def shortened(text: str) -> str:
    """Return *text* as it is recorded: its beginning if it is too long."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


class RecordedMessage(msgspec.Struct, frozen=True):
    """A request, as received or as sent, without credentials."""

    method: str
    url: str
    headers: dict[str, str]
    """Of a received request only those that the gateway stores."""
    body: str
    size: int
    """The size of the whole body in bytes."""
    truncated: bool = False
    """``body`` is only the beginning."""


class RequestRecord(msgspec.Struct, frozen=True):
    """A request to a source, and the response to its sender."""

    request: str
    """The gateway's id of the request, which is in the response's ``x-gateway-request-id``."""
    at: float
    """Unix seconds."""
    source: str
    vendor: str
    message: RecordedMessage
    events: int
    """The number of events."""
    credential: str = ""
    """The name of the key that was sent, such as ``keys[0]``; empty if it is unknown."""
    status: int | None = None
    """The response's status; None if it was not recorded, and the request was accepted."""
    seconds: float | None = None
    """Seconds until the response was ready."""
    fault: str = ""
    """The kind of rejection (`gateway.errors.Fault`); empty if it was accepted."""
    reason: str = ""
    """The reason of the rejection, as a sentence."""
    node: str = ""
    """The gateway that recorded it, among several that share a log; empty if it is alone."""


class RouteRecord(msgspec.Struct, frozen=True):
    """One route's decision about an event; see `gateway.routing.router.RouteDecision`."""

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
    """The event's id: the request's id, a dash and the event's index."""
    request: str
    at: float
    """Unix seconds at which the request arrived."""
    source: str
    type: str
    name: str
    """The neutral name, or the type if it has none."""
    message_id: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    duplicate: bool = False
    """The event is a duplicate within the source's ``dedup`` window, and is not delivered."""
    decisions: tuple[RouteRecord, ...] = ()
    """All routes' decisions, in the order of the configuration."""
    violations: tuple[str, ...] = ()
    """Violations of the source's tracking plan; each says whether the field was dropped."""
    dropped_fields: tuple[FieldPath, ...] = ()
    """The paths that the plan dropped, each as it is after the earlier ones are dropped. Leftovers
    of the payload were dropped with them."""


class RecordedLoss(msgspec.Struct, frozen=True):
    """A field of the event that the destination's format cannot carry, or carries less exactly."""

    path: str
    kind: str
    """``lost`` or ``coerced``."""
    reason: str = ""
    """The reason, and if known how to get the field sent."""


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
    """The route whose steps were applied; empty without steps."""
    number: int = 0
    """The number of the attempt, from 1; 0 if nothing was sent."""
    status: int | None = None
    """The response's status; None without a response."""
    seconds: float | None = None
    """Seconds until the whole response was received; None if nothing was sent."""
    response_excerpt: str = ""
    """The beginning of the response, or the error, of a failed attempt."""
    sent: RecordedMessage | None = None
    losses: tuple[RecordedLoss, ...] = ()
    """The losses of the event after the steps."""
    user_id: str = ""
    anonymous_id: str = ""
    changes: tuple[RecordedChange, ...] = ()
    """The fields that the steps changed."""
    omitted_changes: int = 0
    """The number of further changed fields."""
    copy: int = 0
    """How many deliveries of the event the destination gets before this one, from other routes."""
    node: str = ""
    """The gateway that recorded it, among several that share a log; empty if it is alone."""

    @property
    def failed(self) -> bool:
        """Return whether the attempt failed."""
        return self.outcome in FAILED


class Trace(msgspec.Struct, frozen=True):
    """The history of one request, as far as it is stored."""

    request: str
    received: RequestRecord | None
    """None if this part has expired."""
    events: tuple[EventRecord, ...]
    attempts: tuple[AttemptRecord, ...]
    """In order."""


Kind = Literal["request", "event", "delivery"]


class TraceLine(msgspec.Struct, frozen=True):
    """One occurrence in short, as ``gateway tail`` prints it."""

    number: int
    """Increases; use it to continue after a line. 0 for a line that is not stored."""
    kind: Kind
    at: float
    """Unix seconds."""
    request: str
    source: str
    outcome: Outcome
    event: str = ""
    """The event's id; empty for a request."""
    destination: str = ""
    name: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    reason: str = ""
    status: int | None = None
    seconds: float | None = None
    node: str = ""
    """The gateway that recorded it, among several that share a log; empty if it is alone."""

    @property
    def failed(self) -> bool:
        """Return whether it is a failure."""
        return self.outcome in FAILED


class TraceFilter(msgspec.Struct, frozen=True):
    """A filter for lines; all fields that are set must match."""

    source: str | None = None
    destination: str | None = None
    """Only deliveries to this destination."""
    name: str | None = None
    """The neutral name of the event."""
    user: str | None = None
    """A user id or an anonymous id."""
    failed: bool = False
    """Only failures."""
    since: float | None = None
    """Unix seconds, inclusive."""
    until: float | None = None
    """Unix seconds, exclusive."""

    def takes(self, line: TraceLine) -> bool:
        """Return whether *line* matches."""
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
        """Return whether lines about *events* of *source* may match.

        Args:
            source: the source of the events.
            to: the destination of a delivery; empty for events that have just arrived.
            events: the events.
            failed: whether the lines are failures.
        """
        # Called for every event while there are viewers, so it must be fast.
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
