"""Endpoints for the playground: what the gateway would do with a request."""

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
from gateway.config import SourceConfig
from gateway.config.inputs import source_input
from gateway.event import as_json
from gateway.event_diff import MISSING, diff_events
from gateway.explain import DeliveryExplanation, EventExplanation, Explainer, ExplainRequest
from gateway.http import Response
from gateway.mapping import EventMapping
from gateway.plugin.vendor import JSON, Input
from gateway.redact import HIDDEN, hides
from gateway.routing.steps import StepResult
from gateway.spool.dead_letters import Hide
from gateway.trace.records import RecordedLoss, RouteRecord
from gateway.tracking.plan import LEFT_OUT

OURS = frozenset(
    {"destination", "destinations", "routed_to", "source", "vendor", "route", "request"}
)
"""Fields with names from the configuration; they are links between pages and stay unchanged."""

T = TypeVar("T")


def redact_struct(value: T, hide: Hide) -> T:
    """Return a struct with *hide* applied to all texts in it, nested ones included.

    Fields that link pages stay unchanged.
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


PLACEHOLDER = "YOUR_KEY"
"""What an example has in place of a key, since no page shows one."""


class Example(msgspec.Struct, frozen=True):
    """A request from the vendor's documentation."""

    path: str
    """Such as ``POST /push``."""
    headers: dict[str, str]
    body: str


class PlaygroundSource(msgspec.Struct, frozen=True):
    """A source with an example request."""

    name: str
    vendor: str
    url: str
    """Its URL on the gateway's own machine."""
    endpoints: list[str]
    example: Example
    key_missing: bool
    """The example has `YOUR_KEY` where one of the source's keys must be."""


class PlaygroundSources(msgspec.Struct, frozen=True):
    """All sources."""

    sources: list[PlaygroundSource]


class PlaygroundRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request to explain; its key is not checked."""

    source: Name
    path: Annotated[str, Meta(min_length=1, max_length=200)]
    """The endpoint, such as ``POST /push``."""
    body: Annotated[str, Meta(max_length=200_000)]


class PlaygroundResponse(msgspec.Struct, frozen=True):
    """The response that the sender would get."""

    status: int
    body: str


class PlaygroundResult(msgspec.Struct, frozen=True):
    """The explanation of a request."""

    response: PlaygroundResponse | None
    """Null if the gateway would not respond by itself."""
    refused_reason: str
    """Empty if the request would be accepted."""
    request: RequestView


@endpoint("GET", "/playground")
async def list_entrances(context: AdminContext) -> PlaygroundSources:
    """List the sources, each with an example request."""
    config = context.gateway.config
    host, port = config.server.address
    found = []
    for name, source in config.sources.items():
        reads = source_input(config, context.gateway.registry, name)
        tried = example_of(reads, source)
        url = f"http://{host or 'localhost'}:{port}{source.mount}"
        missing = source.keys != "any"
        found.append(
            PlaygroundSource(name, source.vendor, url, list(reads.endpoints), tried, missing)
        )
    return PlaygroundSources(found)


def example_of(reads: Input, source: SourceConfig) -> Example:
    """Return the vendor's example for a source, with a placeholder for the key if it needs one."""
    example = reads.example
    headers, body = {**JSON, **example.headers}, example.body.decode()
    key = None if source.keys == "any" else reads.credential(example, reads.decode(example))
    if key:
        headers = {name: value.replace(key, PLACEHOLDER) for name, value in headers.items()}
        body = body.replace(key, PLACEHOLDER)
    if source.hosts:
        headers["host"] = source.hosts[0]
    return Example(f"{example.method} {example.path}", headers, body)


@endpoint(
    "POST",
    "/explain",
    refuses={409: "It is not clear which endpoint is meant."},
    role="viewer",
)
async def explain_request(context: AdminContext, body: PlaygroundRequest) -> PlaygroundResult:
    """Show what the gateway would do with a request; nothing is stored or sent.

    The result is that of `gateway explain` with the configuration in effect and without stored
    consent: as if the request were the only one.
    """
    gateway = context.gateway
    asked = ExplainRequest(body.body.encode(), body.source, body.path, JSON, datetime.now(UTC))
    explaining = Explainer(gateway.config, gateway.registry)
    explained = await asyncio.to_thread(explaining.explain, asked)
    reads = gateway.registry.inputs[explained.vendor]
    mapped = reads.endpoints.get(f"{explained.request.method} {explained.request.path}")
    was_received = taken_apart(
        explained.request.method,
        explained.request.url,
        explained.request.headers,
        body.body,
        mapped.flat() if mapped else (),
    )
    request = RequestView(
        request="playground",
        at=None,
        source=explained.source,
        vendor=explained.vendor,
        status=explained.answer.status if explained.answer else None,
        refused_reason="",
        received=was_received,
        events=[_event(context, event, mapped, was_received) for event in explained.events],
        omitted_events=0,
    )
    answer, refused = explained.answer, ""
    if explained.refusal is not None:
        answer, refused = explained.refusal.answer, explained.refusal.reason
    return redact_struct(PlaygroundResult(_answer(answer), refused, request), context.hide)


def _answer(response: Response | None) -> PlaygroundResponse | None:
    if response is None:
        return None
    return PlaygroundResponse(response.status, response.body.decode("utf-8", "replace"))


def _event(
    context: AdminContext,
    explained: EventExplanation,
    mapped: EventMapping | None,
    was_received: Payload,
) -> EventView:
    event, planned = explained.event, explained.planned
    return EventView(
        event=event.id,
        type=event.type,
        name=event.name or event.type,
        duplicate=False,
        fields=event_fields(as_json(event)),
        decisions=[RouteRecord(*route.decision) for route in explained.routes],
        deliveries=[
            _delivery(context, delivery, route.decision.route if route.steps else "")
            for route in explained.routes
            for delivery in route.deliveries
        ],
        steps=[
            _step(route.decision.route, step) for route in explained.routes for step in route.steps
        ],
        violations=[f"{what}{LEFT_OUT if gone else ''}" for what, gone in planned.told()]
        if planned
        else [],
        dropped_fields=left_out(mapped, was_received, explained.parsed, planned.dropped)
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


def _delivery(context: AdminContext, explained: DeliveryExplanation, route: str) -> DeliveryView:
    config, sent = context.gateway.config.destinations[explained.destination], explained.request
    output = context.gateway.registry.outputs[config.vendor](config.settings)
    outcome = "sent" if sent else "dead_letter" if explained.dead else "declined"
    if config.shadow is True and sent:
        outcome = "shadowed"
    return DeliveryView(
        destination=explained.destination,
        vendor=explained.vendor,
        route=route,
        outcome=outcome,
        reason=explained.reason,
        sent=taken_apart(
            sent.method, sent.url, sent.headers, sent.body, rows_of(output, explained.event)
        )
        if sent
        else None,
        losses=[RecordedLoss(loss.path, loss.how, loss.why) for loss in explained.losses],
        attempts=[],
    )


ENDPOINTS: tuple[Endpoint, ...] = (list_entrances, explain_request)
