"""Models of requests to explain, and of explanations, in which credentials are hidden."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.errors import GatewayError
from gateway.event import EPOCH, Event
from gateway.http import Request, Response
from gateway.mapping import Loss
from gateway.routing.router import RouteDecision
from gateway.routing.steps import StepResult
from gateway.tracking.plan import PlanResult


class ExplainRequestError(GatewayError):
    """A request cannot be explained: its source or endpoint is ambiguous, or does not exist."""


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """A request to explain; everything that has an obvious value may be left out."""

    body: bytes
    source: str = ""
    """The source that gets it; its key is not checked then. If empty, path, host and key decide, as
    in the running gateway; but a request without a key may go to the only source."""
    path: str = ""
    """``/push`` or ``POST /push``, with its query. If empty, the endpoint that accepts the body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names are in lower case."""
    at: datetime = EPOCH
    """The time of arrival."""
    ip: str = ""
    """The address of the user's device; empty for a server's request."""
    consented: Mapping[str, bool] = field(default_factory=dict)
    """The stored consent of its users, by category."""
    key: str = "`{}`"
    """How messages write ``from`` and ``path``: as keys of a test, or as options, ``--{}``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request has no events, and the response that its sender gets."""

    reason: str
    answer: Response | None
    """None if the gateway would not respond by itself."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request as it would be sent, with the credentials hidden."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str
    forwarded: bool
    """It is the received request, unchanged, with all of its events."""
    also: "tuple[OutgoingRequest, ...]" = ()
    """Further requests for the same event."""


@dataclass(frozen=True, slots=True)
class DeliveryExplanation:
    """One event for one destination."""

    destination: str
    vendor: str
    event: Event
    """The event after the route's steps; as accepted if a step fails."""
    request: OutgoingRequest | None = None
    reason: str = ""
    """Why there is no request."""
    dead: bool = False
    """The delivery becomes a dead letter for that reason."""
    losses: tuple[Loss, ...] = ()
    """Fields of the event that the request lacks, or has in another form."""
    derived: Mapping[str, str] = field(default_factory=dict)
    """Fields of the request that the event does not have, each with the fields that it follows
    from."""
    shadow: bool = False
    """The destination is a shadow: the request is only compared."""


@dataclass(frozen=True, slots=True)
class RouteExplanation:
    """One route's decision about one event, its steps and its deliveries."""

    decision: RouteDecision
    steps: tuple[StepResult, ...] = ()
    """The steps that were applied; the last one may filter the event."""
    deliveries: tuple[DeliveryExplanation, ...] = ()


@dataclass(frozen=True, slots=True)
class EventExplanation:
    """One event with its routes."""

    event: Event
    """The event as routed, without the fields that the tracking plan removed."""
    parsed: Event
    """The event as parsed, with those fields."""
    planned: PlanResult | None
    """The result of the tracking plan."""
    routes: tuple[RouteExplanation, ...]
    """All routes, in the order of the configuration; none for a suppressed event."""
    suppressed: bool = False
    """It is about a person on the suppression list, and goes nowhere."""

    @property
    def deliveries(self) -> tuple[DeliveryExplanation, ...]:
        """Return the deliveries of all routes."""
        return tuple(delivery for route in self.routes for delivery in route.deliveries)


@dataclass(frozen=True, slots=True)
class Explanation:
    """An explained request."""

    request: Request
    """The request as it would be stored."""
    source: str
    """Empty if no source serves the request."""
    vendor: str
    refusal: Refusal | None = None
    answer: Response | None = None
    """The sender's response, unless there is a refusal."""
    events: tuple[EventExplanation, ...] = ()
