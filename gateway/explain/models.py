"""What is asked, and what there is to tell. Credentials of destinations are not among it."""

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
    """A question that cannot be answered: it does not say which source, or which endpoint."""


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """A request as a person states it, with as much left out as goes without saying."""

    body: bytes
    source: str = ""
    """Through which source it comes; its credential is not asked for then. Where this is left
    out, path, host and credential decide as they do for the running gateway."""
    path: str = ""
    """``/push`` or ``POST /push``, with its query; the endpoint that takes the body where this is
    left out."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """With names in lower case."""
    at: datetime = EPOCH
    """When it arrives."""
    ip: str = ""
    """The address of the person's device behind it; empty for a backend."""
    consented: Mapping[str, bool] = field(default_factory=dict)
    """What is remembered of its users' consent."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request becomes no events, and what its sender is told."""

    reason: str
    answer: Response | None
    """None where the gateway would not answer by itself."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request as it would go out, with the credentials hidden."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str
    forwarded: bool
    """It is the received request as it came, all of its events in one."""
    also: "tuple[OutgoingRequest, ...]" = ()
    """Further requests that say the rest of the event."""


@dataclass(frozen=True, slots=True)
class DeliveryExplanation:
    """One event on its way to one destination."""

    destination: str
    vendor: str
    event: Event
    """As it is rendered, after the route's steps; as accepted where a step fails."""
    request: OutgoingRequest | None = None
    reason: str = ""
    """Why there is no request."""
    dead: bool = False
    """For that reason it becomes a dead letter."""
    losses: tuple[Loss, ...] = ()
    """What the event knows and the request does not say."""
    derived: Mapping[str, str] = field(default_factory=dict)
    """What the request says although nobody said it, to what it follows from."""
    shadow: bool = False
    """The destination is a shadow, so that the request is made for comparison."""


@dataclass(frozen=True, slots=True)
class RouteExplanation:
    """What one route says of one event, and does with it."""

    decision: RouteDecision
    steps: tuple[StepResult, ...] = ()
    """The steps that are taken, the last of which may keep the event back."""
    deliveries: tuple[DeliveryExplanation, ...] = ()


@dataclass(frozen=True, slots=True)
class EventExplanation:
    """What becomes of one event."""

    event: Event
    """As it is routed, without what the tracking plan left out."""
    came: Event
    """As it came, with that."""
    planned: PlanResult | None
    """What its source's tracking plan has against it."""
    routes: tuple[RouteExplanation, ...]
    """All routes, in the order of the configuration."""

    @property
    def deliveries(self) -> tuple[DeliveryExplanation, ...]:
        """Return the deliveries of all routes."""
        return tuple(delivery for route in self.routes for delivery in route.deliveries)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of one request."""

    request: Request
    """As it is stored."""
    source: str
    """Empty where no source takes it."""
    vendor: str
    refusal: Refusal | None = None
    answer: Response | None = None
    """What its sender is told where it is not refused."""
    events: tuple[EventExplanation, ...] = ()
