"""Try a request: what the gateway would answer, route and send."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, Name, endpoint
from gateway.admin.trace_view import (
    ChangeView,
    DeliveryView,
    EventView,
    Payload,
    RequestView,
    StepView,
    event_fields,
    left_out,
    rows_of,
    taken_apart,
)
from gateway.event import as_json
from gateway.event_diff import MISSING, diff_events
from gateway.explain import DeliveryExplanation, EventExplanation, Explainer, ExplainRequest
from gateway.http import Response
from gateway.mapping import EventMapping
from gateway.plugin.vendor import JSON
from gateway.redact import HIDDEN, hides
from gateway.routing.steps import StepResult
from gateway.spool.dead_letters import Hide
from gateway.trace.records import RecordedLoss, RouteRecord
from gateway.tracking.plan import LEFT_OUT

OURS = frozenset(
    {"destination", "destinations", "routed_to", "source", "vendor", "route", "request"}
)
"""Fields that hold names of the configuration's: what leads from page to page must not change."""

T = TypeVar("T")


def redact_struct(value: T, hide: Hide) -> T:
    """Return a struct, however deep, with *hide* applied to the texts in it.

    What leads from one page to another stays as it is.
    """
    found: T = _hidden(value, hide)
    return found


def _hidden(value: Any, hide: Hide) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, msgspec.Struct):
        held = msgspec.structs.asdict(value)
        clean = {
            name: _hidden(inner, hide)
            for name, inner in held.items()
            if name not in OURS or isinstance(inner, msgspec.Struct)
        }
        return msgspec.structs.replace(value, **clean)
    if isinstance(value, dict):
        return {_hidden(name, hide): _hidden(inner, hide) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_hidden(inner, hide) for inner in value)
    return value


class Example(msgspec.Struct, frozen=True):
    """A request of the vendor's own document."""

    path: str
    """Such as ``POST /push``."""
    headers: dict[str, str]
    body: str


class PlaygroundSource(msgspec.Struct, frozen=True):
    """A source to send to."""

    name: str
    vendor: str
    url: str
    """Where it is, as seen from the gateway's own machine."""
    endpoints: list[str]
    example: Example


class PlaygroundSources(msgspec.Struct, frozen=True):
    """The sources that there are to try."""

    sources: list[PlaygroundSource]


class PlaygroundRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request to tell about. Its credential is not asked for."""

    source: Name
    path: Annotated[str, Meta(min_length=1, max_length=200)]
    """The endpoint, such as ``POST /push``."""
    body: Annotated[str, Meta(max_length=200_000)]


class PlaygroundResponse(msgspec.Struct, frozen=True):
    """What the sender would read."""

    status: int
    body: str


class PlaygroundResult(msgspec.Struct, frozen=True):
    """What would become of a request."""

    response: PlaygroundResponse | None
    """Null where the gateway would not respond by itself."""
    refused_reason: str
    """Empty where the request would be accepted."""
    request: RequestView


@endpoint("GET", "/playground")
async def list_entrances(desk: AdminContext) -> PlaygroundSources:
    """List the sources, each with a request to try."""
    config = desk.gateway.config
    host, port = config.server.address
    found = []
    for name, source in config.sources.items():
        reads = desk.gateway.registry.inputs[source.vendor]
        example = reads.example
        tried = Example(
            f"{example.method} {example.path}",
            {**JSON, **example.headers},
            example.body.decode(),
        )
        url = f"http://{host or 'localhost'}:{port}{source.mount}"
        found.append(PlaygroundSource(name, source.vendor, url, list(reads.endpoints), tried))
    return PlaygroundSources(found)


@endpoint("POST", "/explain", refuses={409: "It is not clear which endpoint is meant."})
async def explain_request(desk: AdminContext, body: PlaygroundRequest) -> PlaygroundResult:
    """Show what would become of a request, step by step; nothing is stored or sent.

    It is what `gateway explain` shows, by the configuration in effect: as if the request came
    alone, and nothing were known of its users.
    """
    gateway = desk.gateway
    asked = ExplainRequest(body.body.encode(), body.source, body.path, JSON, datetime.now(UTC))
    explaining = Explainer(gateway.config, gateway.registry)
    told = await asyncio.to_thread(explaining.explain, asked)
    reads = gateway.registry.inputs[told.vendor]
    mapped = reads.endpoints.get(f"{told.request.method} {told.request.path}")
    was_received = taken_apart(
        told.request.method,
        told.request.url,
        told.request.headers,
        body.body,
        mapped.flat() if mapped else (),
    )
    request = RequestView(
        request="playground",
        at=None,
        source=told.source,
        vendor=told.vendor,
        status=told.answer.status if told.answer else None,
        refused_reason="",
        received=was_received,
        events=[_event(desk, event, mapped, was_received) for event in told.events],
        omitted_events=0,
    )
    answer, refused = told.answer, ""
    if told.refusal is not None:
        answer, refused = told.refusal.answer, told.refusal.reason
    return redact_struct(PlaygroundResult(_answer(answer), refused, request), desk.hide)


def _answer(response: Response | None) -> PlaygroundResponse | None:
    if response is None:
        return None
    return PlaygroundResponse(response.status, response.body.decode("utf-8", "replace"))


def _event(
    desk: AdminContext, told: EventExplanation, mapped: EventMapping | None, was_received: Payload
) -> EventView:
    event, planned = told.event, told.planned
    return EventView(
        event=event.id,
        type=event.type,
        name=event.name or event.type,
        duplicate=False,
        fields=event_fields(as_json(event)),
        decisions=[RouteRecord(*route.decision) for route in told.routes],
        deliveries=[
            _delivery(desk, delivery, route.decision.route if route.steps else "")
            for route in told.routes
            for delivery in route.deliveries
        ],
        steps=[_step(route.decision.route, step) for route in told.routes for step in route.steps],
        violations=[f"{what}{LEFT_OUT if gone else ''}" for what, gone in planned.told()]
        if planned
        else [],
        dropped_fields=left_out(mapped, was_received, told.came, planned.dropped)
        if mapped and planned
        else [],
    )


def _step(route: str, step: StepResult) -> StepView:
    changed = [
        ChangeView(path, *(_shown(path, value) for value in (before, after)))
        for path, before, after in diff_events(step.before, step.after)
    ]
    return StepView(route, step.word, step.filtered, changed)


def _shown(path: str, value: Any) -> Any:
    if value is MISSING:
        return None
    return HIDDEN if hides(path) else value


def _delivery(desk: AdminContext, told: DeliveryExplanation, route: str) -> DeliveryView:
    config, sent = desk.gateway.config.destinations[told.destination], told.request
    output = desk.gateway.registry.outputs[config.vendor](config.settings)
    outcome = "sent" if sent else "dead_letter" if told.dead else "declined"
    if config.shadow is True and sent:
        outcome = "shadowed"
    return DeliveryView(
        destination=told.destination,
        vendor=told.vendor,
        route=route,
        outcome=outcome,
        reason=told.reason,
        sent=taken_apart(
            sent.method, sent.url, sent.headers, sent.body, rows_of(output, told.event)
        )
        if sent
        else None,
        losses=[RecordedLoss(loss.path, loss.how, loss.why) for loss in told.losses],
        attempts=[],
    )


ENDPOINTS: tuple[Endpoint, ...] = (list_entrances, explain_request)
