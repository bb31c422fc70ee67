"""Telling one trace, with what the present plugins and routes know of it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.admin.desk import Desk
from gateway.admin.leaving import left_out
from gateway.admin.letters import held_of
from gateway.admin.linking import Field, event_fields, payload_fields
from gateway.admin.told import Attempted, DeliveryTold, EventTold, Payload, Story
from gateway.delivery import Worker, state_of
from gateway.event import Event, as_json
from gateway.exchange import Declined, Request
from gateway.json_text import loads
from gateway.mapping import Mapped, Row
from gateway.plugin import Output
from gateway.trace.ends import ends
from gateway.trace.interface import Message, Parsed, Trace, Tried
from gateway.trace.sampling import chosen
from gateway.trace.standing import End, Held
from gateway.tracking.amend import without

ORPHANED = (
    "The destination is not in the configuration any more; what it is owed stays in the spool."
)
MOST = 20
"""Events of one request that are told, where no one event is asked for."""


class Telling:
    """Tells one trace, with what the present plugins and routes know of it."""

    def __init__(self, desk: Desk, trace: Trace, asked: str) -> None:
        self._gateway = desk.gateway
        self._desk = desk
        self._trace = trace
        self._held = Held((), ())
        received = trace.received
        self._vendor = received.vendor if received else ""
        self._reads = self._gateway.registry.inputs.get(self._vendor)
        self._mapped = self._endpoint(received.message) if received else None
        self._rows_in = list(self._mapped.flat()) if self._mapped else []
        self._received = payload(received.message, self._rows_in) if received else None
        one = [event for event in trace.events if event.event == asked]
        self._told = (one or list(trace.events))[:MOST]
        self._events = {event.id: event for event in self._parsed()}

    async def story(self) -> Story:
        """Return the story.

        Raises:
            SpoolError: the spool cannot tell what was given up.
        """
        trace, received = self._trace, self._trace.received
        self._held = await held_of(self._desk, trace, self._told)
        return Story(
            request=trace.request,
            at=received.at if received else None,
            source=received.source if received else "",
            vendor=self._vendor,
            status=received.status if received else None,
            refused=received.reason if received else "",
            received=self._received,
            events=[self._event(parsed) for parsed in self._told],
            more=max(len(trace.events), received.events if received else 0) - len(self._told),
        )

    def _endpoint(self, message: Message) -> Mapped | None:
        endpoint = f"{message.method} {message.url.partition('?')[0]}"
        return self._reads.endpoints.get(endpoint) if self._reads else None

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
        came = self._events.get(parsed.event)
        event = without(came, parsed.left_out) if came and parsed.left_out else came
        ended = ends(self._trace, parsed, self._held)
        return EventTold(
            event=parsed.event,
            type=parsed.type,
            name=parsed.name,
            repeated=parsed.repeated,
            fields=event_fields(as_json(event)) if event else [],
            decisions=list(parsed.decisions),
            planned=list(parsed.planned),
            left_out=self._left_out(came, parsed),
            deliveries=[self._delivery(event, end) for end in ended],
        )

    def _delivery(self, event: Event | None, end: End) -> DeliveryTold:
        """Return how a delivery stands."""
        worker, letter = self._gateway.workers.get(end.destination), end.letter
        vendor = end.tries[-1].vendor if end.tries else worker.config.vendor if worker else ""
        said = sentence(end.words(traced=chosen(self._trace.request)))
        outcome, reason, then = "waits" if end.owed else "ended", said, ""
        if letter is not None:
            outcome, reason = "dead", f"{letter.cause}: {letter.reason}"
        elif end.tries:
            outcome, reason, then = end.tries[-1].outcome, end.tries[-1].reason, said
            if outcome == "later" and not worker:
                then = ORPHANED
        elif end.standing is not None and end.owed and not end.standing.behind:
            reason = waits_for(worker)
        told = DeliveryTold(
            end.destination, vendor, end.route, outcome, reason, None, [], [], letter=letter,
            then=then,
        )  # fmt: skip
        return self._tried(event, end.tries, told) if end.tries else told

    def _tried(
        self, event: Event | None, tries: Sequence[Tried], told: DeliveryTold
    ) -> DeliveryTold:
        """Return *told* with what was sent, and each try."""
        sent = next((tried for tried in reversed(tries) if tried.sent), None)
        return replace(
            told,
            sent=payload(sent.sent, self._rows_out(event, sent)) if sent and sent.sent else None,
            losses=list(sent.losses) if sent else [],
            attempts=[
                Attempted(t.at, t.outcome, t.status, t.seconds, t.reason, t.said)
                for t in tries
                if t.number
            ],
            changes=list(tries[-1].changes),
            more_changes=tries[-1].more_changes,
        )

    def _left_out(self, came: Event | None, parsed: Parsed) -> list[str]:
        if came is None or self._mapped is None or self._received is None:
            return []
        return left_out(self._mapped, self._received, came, parsed.left_out)

    def _rows_out(self, event: Event | None, tried: Tried) -> list[Row]:
        config = self._gateway.config.destinations.get(tried.destination)
        if event is None or config is None or tried.sent is None:
            return []
        output = self._gateway.registry.outputs[config.vendor](config.settings)
        if tried.vendor == self._vendor and self._trace.received:
            return self._rows_in
        steps = self._gateway.steps_of(tried.route) if tried.route else None
        with suppress(Exception):  # steps may have changed since, and may fail now
            return list(rows_of(output, steps.apply(event) if steps else event))
        return []


def sentence(words: str) -> str:
    """Return *words* as a sentence; nothing of nothing."""
    return f"{words[0].upper()}{words[1:]}." if words else ""


def waits_for(worker: Worker | None) -> str:
    """Return why nothing was sent to a destination so far; None is one that is not configured."""
    if worker is None:
        return ORPHANED
    state = state_of(worker)
    if state.paused:
        return "An operator paused the destination."
    if state.circuit != "closed":
        return (
            f"The destination is in trouble, and is tried again from time to time: {state.reason}"
        )
    if worker.config.shadow:
        return "It waits for the shadow to look at it; one that is far behind skips some."
    return "It waits in the spool for its turn."


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
        yield from payload_fields(loads(body), rows)
