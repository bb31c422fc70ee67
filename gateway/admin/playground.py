"""The playground: what would become of a request, with nothing stored and nothing sent."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.hiding import hidden
from gateway.admin.leaving import left_out
from gateway.admin.linking import event_fields
from gateway.admin.telling import rows_of, taken_apart
from gateway.admin.told import Changed, DeliveryTold, EventTold, Payload, StepTold, Story
from gateway.admin.values import Name
from gateway.changes import GONE, changes
from gateway.event import as_json
from gateway.exchange import Response
from gateway.explain import Asked, DeliveryStory, EventStory, Explaining
from gateway.mapping import Mapped
from gateway.plugin import JSON
from gateway.routing.steps import Taken
from gateway.secret_names import HIDDEN, hides
from gateway.trace.interface import Decided, Loss
from gateway.tracking.plan import LEFT_OUT


class Example(msgspec.Struct, frozen=True):
    """A request of the vendor's own document."""

    path: str
    """Such as ``POST /push``."""
    headers: dict[str, str]
    body: str


class Entrance(msgspec.Struct, frozen=True):
    """A source to send to."""

    name: str
    vendor: str
    url: str
    """Where it is, as seen from the gateway's own machine."""
    endpoints: list[str]
    example: Example


class Entrances(msgspec.Struct, frozen=True):
    """The sources that there are to try."""

    sources: list[Entrance]


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request to tell about. Its credential is not asked for."""

    source: Name
    path: Annotated[str, Meta(min_length=1, max_length=200)]
    """The endpoint, such as ``POST /push``."""
    body: Annotated[str, Meta(max_length=200_000)]


class Answer(msgspec.Struct, frozen=True):
    """What the sender would read."""

    status: int
    body: str


class Explained(msgspec.Struct, frozen=True):
    """What would become of a request."""

    answer: Answer | None
    """Null where the gateway would not answer by itself."""
    refused: str
    """Why it would become no events; empty where it would."""
    story: Story


@endpoint("GET", "/playground")
async def list_entrances(desk: Desk) -> Entrances:
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
        found.append(Entrance(name, source.vendor, url, list(reads.endpoints), tried))
    return Entrances(found)


@endpoint("POST", "/explain", refuses={409: "There is no such source, or no such endpoint."})
async def explain_request(desk: Desk, body: Trial) -> Explained:
    """Tell what would become of a request, step by step; nothing is stored or sent.

    It is what `gateway explain` tells, by the configuration in effect: the request is told as if it
    were alone, and nothing is known of its users.
    """
    gateway = desk.gateway
    asked = Asked(body.body.encode(), body.source, body.path, JSON, datetime.now(UTC))
    explaining = Explaining(gateway.config, gateway.registry)
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
    story = Story(
        request="playground",
        at=None,
        source=told.source,
        vendor=told.vendor,
        status=told.answer.status if told.answer else None,
        refused="",
        received=was_received,
        events=[_event(desk, event, mapped, was_received) for event in told.events],
        more=0,
    )
    answer, refused = told.answer, ""
    if told.refusal is not None:
        answer, refused = told.refusal.answer, told.refusal.reason
    return hidden(Explained(_answer(answer), refused, story), desk.hide)


def _answer(response: Response | None) -> Answer | None:
    if response is None:
        return None
    return Answer(response.status, response.body.decode("utf-8", "replace"))


def _event(desk: Desk, told: EventStory, mapped: Mapped | None, was_received: Payload) -> EventTold:
    event, planned = told.event, told.planned
    return EventTold(
        event=event.id,
        type=event.type,
        name=event.name or event.type,
        repeated=False,
        fields=event_fields(as_json(event)),
        decisions=[Decided(*route.decision) for route in told.routes],
        deliveries=[
            _delivery(desk, delivery, route.decision.route if route.steps else "")
            for route in told.routes
            for delivery in route.deliveries
        ],
        steps=[_step(route.decision.route, step) for route in told.routes for step in route.steps],
        planned=[f"{what}{LEFT_OUT if gone else ''}" for what, gone in planned.told()]
        if planned
        else [],
        left_out=left_out(mapped, was_received, told.came, planned.dropped)
        if mapped and planned
        else [],
    )


def _step(route: str, step: Taken) -> StepTold:
    changed = [
        Changed(path, *(_shown(path, value) for value in (before, after)))
        for path, before, after in changes(step.before, step.after)
    ]
    return StepTold(route, step.word, step.kept_back, changed)


def _shown(path: str, value: Any) -> Any:
    if value is GONE:
        return None
    return HIDDEN if hides(path) else value


def _delivery(desk: Desk, told: DeliveryStory, route: str) -> DeliveryTold:
    config, sent = desk.gateway.config.destinations[told.destination], told.request
    output = desk.gateway.registry.outputs[config.vendor](config.settings)
    outcome = "sent" if sent else "dead" if told.dead else "declined"
    if config.shadow is True and sent:
        outcome = "compared"
    return DeliveryTold(
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
        losses=[Loss(loss.path, loss.how, loss.why) for loss in told.losses],
        attempts=[],
    )


ENDPOINTS: tuple[Endpoint, ...] = (list_entrances, explain_request)
