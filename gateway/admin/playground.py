"""The playground: what would become of a request, with nothing stored and nothing sent."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.linking import event_fields
from gateway.admin.problem import Problem
from gateway.admin.story import DeliveryTold, EventTold, Payload, Story, rows_of, taken_apart
from gateway.admin.values import Name
from gateway.errors import Rejected
from gateway.event import Event, as_json
from gateway.exchange import Declined, Request, Response
from gateway.mapping import Loss as Lost
from gateway.plugin import JSON, Input, Output
from gateway.redact import Redactor
from gateway.trace.interface import Decided, Loss

UNKNOWN = {404: "There is no such source, or no such endpoint."}


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

    answer: Answer
    refused: str
    """Why it would be refused; empty where it would not."""
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


@endpoint("POST", "/explain", refuses=UNKNOWN)
async def explain_request(desk: Desk, body: Trial) -> Explained:
    """Tell what would become of a request, step by step; nothing is stored or sent.

    It is told as if it were alone: nothing is a repeat, and nothing is known of its users.
    """
    source = desk.gateway.config.sources.get(body.source)
    if source is None:
        raise Problem(404, f"there is no source {body.source!r}")
    reads = desk.gateway.registry.inputs[source.vendor]()
    if body.path not in reads.endpoints:
        known = ", ".join(reads.endpoints)
        raise Problem(404, f"{source.vendor} has no endpoint {body.path!r}; it has {known}")
    method, _, path = body.path.partition(" ")
    request = Request(
        method=method,
        url=path,
        headers=JSON,
        body=body.body.encode(),
        id="playground",
        received_at=datetime.now(UTC),
    )
    try:
        events = reads.parse(request)
    except Rejected as error:
        answer = reads.refuse(request, error)
        return Explained(_answer(answer), str(error), _story(body, request, reads, answer, []))
    answer = reads.accept(request, events)
    trying = _Trying(desk, body.source, reads, request)
    told = [trying.event(event, alone=len(events) == 1) for event in events]
    return Explained(_answer(answer), "", _story(body, request, reads, answer, told))


def _answer(response: Response) -> Answer:
    return Answer(response.status, response.body.decode("utf-8", "replace"))


def _story(
    trial: Trial, request: Request, reads: Input, answer: Response, events: list[EventTold]
) -> Story:
    return Story(
        request=request.id,
        at=None,
        source=trial.source,
        vendor=reads.name,
        status=answer.status,
        refused="",
        received=taken_apart(
            request.method, request.url, request.headers, trial.body,
            reads.endpoints[trial.path].flat(),
        ),
        events=events,
        more=0,
    )  # fmt: skip


class _Trying:
    """Takes events through routes, steps and outputs."""

    def __init__(self, desk: Desk, source: str, reads: Input, request: Request) -> None:
        self._gateway = desk.gateway
        self._source = source
        self._reads = reads
        self._request = request

    def event(self, event: Event, *, alone: bool) -> EventTold:
        decisions = self._gateway.router.explain(self._source, event)
        deliveries = [
            self._delivery(event, decision.route, name, alone=alone)
            for decision in decisions
            for name in decision.gives
        ]
        return EventTold(
            event=event.id,
            type=event.type,
            name=event.name or event.type,
            repeated=False,
            fields=event_fields(as_json(event)),
            decisions=[Decided(*decision) for decision in decisions],
            deliveries=deliveries,
        )

    def _delivery(self, event: Event, route: str, to: str, *, alone: bool) -> DeliveryTold:
        config = self._gateway.config.destinations[to]
        output = self._gateway.registry.outputs[config.vendor](config.settings)
        steps = self._gateway.steps_of(route)
        whole = config.vendor == self._reads.name and config.passthrough and alone and not steps
        outcome, reason, sent = "sent", "", None
        losses: Sequence[Lost] = ()
        try:
            changed = steps.apply(event) if steps else event
            request = (output.forward(self._request) if whole else None) or output.render(changed)
            if isinstance(request, Declined):
                outcome, reason = "declined", request.reason
            else:
                sent = self._sent(request, output, changed)
                losses = () if whole else output.losses(changed)
        except Exception as error:  # noqa: BLE001 - what a step or a plugin trips over is told
            outcome, reason = "dead", Redactor(config.settings).text(str(error))
        lost = [Loss(loss.path, loss.how) for loss in losses]
        taken = route if steps else ""
        return DeliveryTold(to, config.vendor, taken, outcome, reason, sent, lost, [])

    def _sent(self, request: Request, output: Output, event: Event) -> Payload:
        shown = Redactor(output.config).request(request)
        rows = rows_of(output, event)
        return taken_apart(shown["method"], shown["url"], shown["headers"], shown["body"], rows)


ENDPOINTS: tuple[Endpoint, ...] = (list_entrances, explain_request)
