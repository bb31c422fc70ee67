"""The story of a request: what was received, the event it became, what each destination got."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.linking import Field, event_fields, payload_fields
from gateway.admin.problem import Problem
from gateway.admin.traces import OFF, Asked, check_traced
from gateway.delivery import state_of
from gateway.delivery.state import WorkerState
from gateway.event import Event, as_json
from gateway.exchange import Declined, Request
from gateway.mapping import Row
from gateway.plugin import Output
from gateway.trace.interface import Decided, Loss, Message, Parsed, Trace, Tried

MOST = 20
"""Events of one request that are told, where no one event is asked for."""


class Payload(msgspec.Struct, frozen=True):
    """A request, taken apart."""

    method: str
    url: str
    headers: dict[str, str]
    body: str
    """As text; it may be its beginning only."""
    fields: list[Field]
    """What is in it, where it is JSON and whole."""


class Attempted(msgspec.Struct, frozen=True):
    """One try."""

    at: float
    outcome: str
    status: int | None
    seconds: float | None
    reason: str
    said: str


class DeliveryTold(msgspec.Struct, frozen=True):
    """An event on its way to one destination."""

    destination: str
    vendor: str
    route: str
    """The route whose steps it took; empty where it took none."""
    outcome: str
    """How it stands."""
    reason: str
    sent: Payload | None
    """What was sent last; null where nothing was."""
    losses: list[Loss]
    attempts: list[Attempted]


class Changed(msgspec.Struct, frozen=True):
    """A field that a step changed."""

    path: str
    before: Any
    """Null where there was none."""
    after: Any
    """Null where there is none."""


class StepTold(msgspec.Struct, frozen=True):
    """A step of a route, as it was taken."""

    route: str
    word: str
    kept_back: str
    """Why it lets the event go no further; empty where it does not."""
    changes: list[Changed]


class EventTold(msgspec.Struct, frozen=True):
    """One event of the request."""

    event: str
    type: str
    name: str
    repeated: bool
    fields: list[Field]
    """The neutral event; nothing where it cannot be made of what is kept."""
    decisions: list[Decided]
    deliveries: list[DeliveryTold]
    steps: list[StepTold] = []
    """In the playground; traces do not keep them."""
    planned: list[str] = []
    """What the source's tracking plan has against it."""


class Story(msgspec.Struct, frozen=True):
    """What became of one request."""

    request: str
    at: float | None
    """Unix seconds at which it came; null where that is not kept."""
    source: str
    vendor: str
    status: int | None
    """Of the answer; null where that is not kept."""
    refused: str
    """Why it was refused; empty where it was not."""
    received: Payload | None
    events: list[EventTold]
    more: int
    """Further events of the request, which are not told here."""


class Stories(msgspec.Struct, frozen=True):
    """Requests, the newest first."""

    stories: list[Story]


@endpoint("GET", "/story", refuses=OFF | {404: "Nothing is kept under this id."})
async def tell_story(desk: Desk, query: Asked) -> Stories:
    """Show what became of a request or an event, its fields linked from end to end."""
    check_traced(desk)
    found = await desk.gateway.observed.traces.show(query.id)
    if not found:
        raise Problem(404, f"nothing is kept under {query.id!r}; it may be too old, or not traced")
    return Stories([Telling(desk, trace, query.id).story() for trace in found])


class Telling:
    """Tells one trace, with what the present plugins and routes know of it."""

    def __init__(self, desk: Desk, trace: Trace, asked: str) -> None:
        self._gateway = desk.gateway
        self._trace = trace
        received = trace.received
        self._vendor = received.vendor if received else ""
        self._reads = self._gateway.registry.inputs.get(self._vendor)
        one = [event for event in trace.events if event.event == asked]
        self._told = (one or list(trace.events))[:MOST]
        self._events = {event.id: event for event in self._parsed()}

    def story(self) -> Story:
        """Return the story."""
        trace, received = self._trace, self._trace.received
        return Story(
            request=trace.request,
            at=received.at if received else None,
            source=received.source if received else "",
            vendor=self._vendor,
            status=received.status if received else None,
            refused=received.reason if received else "",
            received=payload(received.message, self._rows_in(received.message))
            if received
            else None,
            events=[self._event(parsed) for parsed in self._told],
            more=len(trace.events) - len(self._told),
        )

    def _parsed(self) -> list[Event]:
        received = self._trace.received
        if received is None or self._reads is None or received.message.cut:
            return []
        message = received.message
        request = Request(
            method=message.method,
            url=message.url,
            headers=message.headers,
            body=message.body.encode(),
            id=self._trace.request,
            received_at=datetime.fromtimestamp(received.at, UTC),
        )
        with suppress(Exception):  # what is kept has no credentials, which a plugin may insist on
            return self._reads().parse(request)
        return []

    def _event(self, parsed: Parsed) -> EventTold:
        event = self._events.get(parsed.event)
        tries: dict[tuple[str, str], list[Tried]] = {}
        for tried in self._trace.tries:
            if tried.event == parsed.event or tried.event.startswith(f"{parsed.event}-"):
                tries.setdefault((tried.event, tried.destination), []).append(tried)
        return EventTold(
            event=parsed.event,
            type=parsed.type,
            name=parsed.name,
            repeated=parsed.repeated,
            fields=event_fields(as_json(event)) if event else [],
            decisions=list(parsed.decisions),
            planned=list(parsed.planned),
            deliveries=[self._delivery(event, group) for group in tries.values()]
            + list(self._waiting(parsed, {to for _, to in tries})),
        )

    def _waiting(self, parsed: Parsed, tried: Collection[str]) -> Iterator[DeliveryTold]:
        """Yield the deliveries that were not tried so far, by how their destinations are now."""
        given = dict.fromkeys(to for decided in parsed.decisions for to in decided.gives)
        for to in given:
            worker = self._gateway.workers.get(to)
            if to not in tried and worker is not None:
                reason = waits_for(state_of(worker))
                yield DeliveryTold(to, worker.config.vendor, "", "waits", reason, None, [], [])

    def _delivery(self, event: Event | None, tries: list[Tried]) -> DeliveryTold:
        last = tries[-1]
        sent = next((tried for tried in reversed(tries) if tried.sent), None)
        return DeliveryTold(
            destination=last.destination,
            vendor=last.vendor,
            route=last.route,
            outcome=last.outcome,
            reason=last.reason,
            sent=payload(sent.sent, self._rows_out(event, sent)) if sent and sent.sent else None,
            losses=list(sent.losses) if sent else [],
            attempts=[
                Attempted(t.at, t.outcome, t.status, t.seconds, t.reason, t.said)
                for t in tries
                if t.number
            ],
        )

    def _rows_in(self, message: Message) -> list[Row]:
        if self._reads is None:
            return []
        mapped = self._reads.endpoints.get(f"{message.method} {message.url.partition('?')[0]}")
        return list(mapped.flat()) if mapped else []

    def _rows_out(self, event: Event | None, tried: Tried) -> list[Row]:
        config = self._gateway.config.destinations.get(tried.destination)
        if event is None or config is None or tried.sent is None:
            return []
        output = self._gateway.registry.outputs[config.vendor](config.settings)
        if tried.vendor == self._vendor and self._trace.received:
            return self._rows_in(self._trace.received.message)
        steps = self._gateway.steps_of(tried.route) if tried.route else None
        with suppress(Exception):  # steps may have changed since, and may fail now
            return list(rows_of(output, steps.apply(event) if steps else event))
        return []


def waits_for(state: WorkerState) -> str:
    """Return why nothing was sent to a destination so far."""
    if state.paused:
        return "An operator paused the destination."
    if state.circuit != "closed":
        return (
            f"The destination is in trouble, and is tried again from time to time: {state.reason}"
        )
    return "It waits in the spool for its turn, unless that gave it up: see the dead letters."


def rows_of(output: Output, event: Event) -> Iterable[Row]:
    """Return the rows that write *event* for a destination."""
    call = output.choose(event)
    return () if isinstance(call, Declined) else call.table.said(call.event)


def payload(message: Message, rows: Iterable[Row]) -> Payload:
    """Return a kept request, its fields linked by *rows*."""
    return taken_apart(message.method, message.url, message.headers, message.body, rows)


def taken_apart(method: str, url: str, headers: Any, body: str, rows: Iterable[Row]) -> Payload:
    """Return a request with the fields of its body."""
    return Payload(method, url, dict(headers), body, list(_fields(body, rows)))


def _fields(body: str, rows: Iterable[Row]) -> Iterator[Field]:
    with suppress(orjson.JSONDecodeError):
        yield from payload_fields(orjson.loads(body), rows)


ENDPOINTS: tuple[Endpoint, ...] = (tell_story,)
