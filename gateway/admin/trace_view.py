"""The history of one request, as the API and the console show it."""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from gateway.admin.context import AdminContext
from gateway.admin.dead_letters import spool_records
from gateway.delivery import Team
from gateway.event import Event, as_json
from gateway.http import Request
from gateway.ingest.arrival import is_sampled
from gateway.json_text import loads
from gateway.mapping import EventMapping, Row, wire_path
from gateway.plugin.vendor import Output
from gateway.redact import without_secrets
from gateway.spool.dead_letters import DeadLetterSummary
from gateway.trace.delivery_status import DeliveryStatus, SpoolRecords, delivery_statuses
from gateway.trace.records import (
    AttemptRecord,
    EventRecord,
    RecordedChange,
    RecordedLoss,
    RecordedMessage,
    RouteRecord,
    Trace,
)
from gateway.tracking.field_removal import without_fields
from gateway.tracking.schema import FieldPath
from gateway.verdict import Declined

MAX_FIELDS = 400
"""Fields that are shown of one payload."""

DEEPEST = 100
"""Levels of a payload that are shown."""
TOO_DEEP = "(nested too deeply to be shown)"

_INDEX = re.compile(r"\[\d+\]")


class LinkedField(msgspec.Struct, frozen=True):
    """One value in a payload or an event."""

    path: str
    """Such as ``items[0].price``."""
    value: Any
    """Text, number, boolean or null, or an empty object or array."""
    link: str = ""
    """The corresponding field of the event, such as ``properties.products[].price``; empty if there
    is none."""


def flattened(value: Any, above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the paths and values of all leaves in JSON, down to `DEEPEST` levels.

    JSON may be nested deeper than Python can recurse.
    """
    if depth > DEEPEST and isinstance(value, dict | list):
        yield above, TOO_DEEP
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flattened(inner, f"{above}.{name}" if above else name, depth + 1)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from flattened(inner, f"{above}[{index}]", depth + 1)
    else:
        yield above or "$", value


def general(path: str) -> str:
    """Return a path without list indexes: ``items[].price``."""
    return _INDEX.sub("[]", path)


def event_fields(event: Any) -> list[LinkedField]:
    """Return the fields of an event; fields of payloads link to them."""
    return [
        LinkedField(path, value, general(path)) for path, value in _some(without_secrets(event))
    ]


def payload_fields(payload: Any, rows: Iterable[Row]) -> list[LinkedField]:
    """Return the fields of a vendor's payload, each with the corresponding field of the event."""
    links, clean = FieldLinks(rows), without_secrets(payload)
    return [LinkedField(path, value, links.find(general(path))) for path, value in _some(clean)]


def _some(value: Any) -> Iterator[tuple[str, Any]]:
    for number, found in enumerate(flattened(value)):
        if number >= MAX_FIELDS:
            return
        yield found


class FieldLinks:
    """Maps paths in a payload to paths in the event, by the rows of a table."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._exact: dict[str, str] = {}
        self._stars: dict[str, str] = {}
        for row in rows:
            event = general(row.event)
            for path in row.synonyms:
                if path.endswith("*"):
                    self._stars.setdefault(path.removesuffix("*").removesuffix("."), event)
                else:
                    self._exact.setdefault(general(path), event)

    def find(self, path: str) -> str:
        """Return the event's field for *path*; fields without a row are in ``extra``."""
        if path in self._exact:
            return self._exact[path]
        for above, rest in _above(path):
            if (event := self._exact.get(above)) is not None:
                return f"{event}{rest}" if event else ""
            if (event := self._stars.get(above)) is not None:
                return f"{event}{rest}" if event else ""
        return f"extra.{path}"


def _above(path: str) -> Iterator[tuple[str, str]]:
    """Yield the parents of *path*, the nearest first, each with the remaining path."""
    for found in reversed(list(re.finditer(r"\.|\[\]", path))):
        yield path[: found.start()], path[found.start() :]
    yield "", f".{path}"


class Payload(msgspec.Struct, frozen=True):
    """A request with its parsed fields."""

    method: str
    url: str
    headers: dict[str, str]
    body: str
    """As text; possibly truncated."""
    fields: list[LinkedField]
    """The fields of the body; empty if it is truncated or not JSON."""


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt."""

    at: float
    outcome: str
    status: int | None
    seconds: float | None
    reason: str
    response_excerpt: str
    """The beginning of the response, or the error."""
    node: str = ""
    """The gateway of the cluster that made it; empty if it is alone."""


class DeliveryView(msgspec.Struct, frozen=True):
    """The delivery of an event to one destination."""

    destination: str
    vendor: str
    route: str
    """The route whose steps were applied; empty without steps."""
    outcome: str
    """The outcome of the last attempt, or ``dead_letter`` or ``pending``; ``finished`` if the
    outcome was not traced. In the playground also ``sent``: it would be sent."""
    reason: str
    sent: Payload | None
    """The last outgoing request; null if nothing was sent."""
    losses: list[RecordedLoss]
    """The losses of the event after the steps."""
    attempts: list[AttemptView]
    changes: list[RecordedChange] = []
    """The fields that the steps changed; the playground shows the steps instead."""
    omitted_changes: int = 0
    """The number of further changed fields."""
    dead_letter: DeadLetterSummary | None = None
    """Its dead letter; null if there is none, or no longer."""
    next_step: str = ""
    """What will happen to it next, or happened since."""


class ChangeView(msgspec.Struct, frozen=True):
    """A field that a step changed."""

    path: str
    before: Any
    """Null if the field was missing."""
    after: Any
    """Null if the field is missing."""


class StepView(msgspec.Struct, frozen=True):
    """A step that was applied."""

    route: str
    word: str
    filtered: str
    """Why it filters the event; empty if the event passes."""
    changes: list[ChangeView]


class EventView(msgspec.Struct, frozen=True):
    """One event of the request."""

    event: str
    type: str
    name: str
    duplicate: bool
    """The event is a duplicate and is not delivered (``dedup``)."""
    fields: list[LinkedField]
    """The neutral event, without the fields that the tracking plan dropped; empty if it cannot be
    made from the stored trace."""
    decisions: list[RouteRecord]
    deliveries: list[DeliveryView]
    steps: list[StepView] = []
    """Only in the playground; traces do not store them."""
    violations: list[str] = []
    """Violations of the source's tracking plan; each says whether the field was dropped."""
    dropped_fields: list[str] = []
    """The received fields that were dropped for a violation, such as ``items[1].price``."""


class RequestView(msgspec.Struct, frozen=True):
    """The history of one request."""

    request: str
    at: float | None
    """Unix seconds of its arrival; null if that is not stored."""
    source: str
    vendor: str
    status: int | None
    """The response's status; null if that is not stored."""
    refused_reason: str
    """Why it was refused; empty if it was accepted."""
    received: Payload | None
    events: list[EventView]
    omitted_events: int
    """How many further events the request has."""
    node: str = ""
    """The gateway of the cluster that took it; empty if it is alone."""


_LIST_INDEX = re.compile(r"\[(\d+)\]")


def left_out(
    mapped: EventMapping, received: Payload, before: Event, paths: Collection[FieldPath]
) -> list[str]:
    """Return the paths of the fields in a request that were dropped.

    Args:
        mapped: the mapping that parsed the request.
        received: the request.
        before: the event before fields were dropped.
        paths: the dropped paths of the event.
    """
    if not (paths and received.fields):
        return []
    gone = list(_spelt(mapped, received.body, before, paths))
    return [
        field.path
        for field in received.fields
        if any(_below(_LIST_INDEX.sub(r".\1", field.path), path) for path in gone)
        or (field.link.startswith("extra.") and before.extra)
    ]


def _spelt(
    mapped: EventMapping, body: str, before: Event, paths: Collection[FieldPath]
) -> Iterator[str]:
    payload = loads(body)
    index = int(before.id.rpartition("-")[2])
    for path in paths:
        yield wire_path(mapped, payload, before, index, path)


def _below(path: str, above: str) -> bool:
    return path == above or path.startswith(f"{above}.")


ORPHANED = "The destination is no longer configured; its pending deliveries stay in the spool."
MAX_DELIVERIES = 20
"""Events of one request that are shown, unless one event is asked for."""


class ViewBuilder:
    """Makes the view of one trace, with the current plugins and routes."""

    def __init__(self, context: AdminContext, trace: Trace, asked: str) -> None:
        self._gateway = context.gateway
        self._context = context
        self._trace = trace
        self._held = SpoolRecords((), ())
        received = trace.received
        self._vendor = received.vendor if received else ""
        self._reads = self._gateway.registry.inputs.get(self._vendor)
        self._mapped = self._endpoint(received.message) if received else None
        self._rows_in = list(self._mapped.flat()) if self._mapped else []
        self._received = payload(received.message, self._rows_in) if received else None
        one = [event for event in trace.events if event.event == asked]
        self._shown = (one or list(trace.events))[:MAX_DELIVERIES]
        self._events = {event.id: event for event in self._parsed()}

    async def view(self) -> RequestView:
        """Return the view.

        Raises:
            SpoolError: the dead letters cannot be read.
        """
        trace, received = self._trace, self._trace.received
        self._held = await spool_records(self._context, trace, self._shown)
        count = max(len(trace.events), received.events if received else 0)
        return RequestView(
            request=trace.request,
            at=received.at if received else None,
            source=received.source if received else "",
            vendor=self._vendor,
            status=received.status if received else None,
            refused_reason=received.reason if received else "",
            received=self._received,
            events=[self._event(parsed) for parsed in self._shown],
            omitted_events=count - len(self._shown),
            node=received.node if received else "",
        )

    def _endpoint(self, message: RecordedMessage) -> EventMapping | None:
        endpoint = f"{message.method} {message.url.partition('?')[0]}"
        return self._reads.endpoints.get(endpoint) if self._reads else None

    def _parsed(self) -> list[Event]:
        received = self._trace.received
        if received is None or self._reads is None or received.message.truncated:
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
        with suppress(Exception):  # stored requests have no credentials; a plugin may require them
            return self._reads().parse(request)
        return []

    def _event(self, parsed: EventRecord) -> EventView:
        before = self._events.get(parsed.event)
        event = (
            without_fields(before, parsed.dropped_fields)
            if before and parsed.dropped_fields
            else before
        )
        ended = delivery_statuses(self._trace, parsed, self._held)
        return EventView(
            event=parsed.event,
            type=parsed.type,
            name=parsed.name,
            duplicate=parsed.duplicate,
            fields=event_fields(as_json(event)) if event else [],
            decisions=list(parsed.decisions),
            violations=list(parsed.violations),
            dropped_fields=self._left_out(before, parsed),
            deliveries=[self._delivery(event, end) for end in ended],
        )

    def _delivery(self, event: Event | None, end: DeliveryStatus) -> DeliveryView:
        """Return the view of a delivery."""
        team, letter = self._gateway.teams.get(end.destination), end.dead_letter
        vendor = end.attempts[-1].vendor if end.attempts else team.config.vendor if team else ""
        said = sentence(end.words(traced=is_sampled(self._trace.request), now=time.time()))
        outcome, reason, next_step = "pending" if end.pending else "finished", said, ""
        if letter is not None:
            outcome, reason = "dead_letter", f"{letter.cause}: {letter.reason}"
        elif end.attempts:
            outcome, reason, next_step = end.attempts[-1].outcome, end.attempts[-1].reason, said
            if outcome == "retry" and not team:
                next_step = ORPHANED
        elif end.state is not None and end.pending and not end.state.parked:
            reason = waits_for(team)
        view = DeliveryView(
            end.destination, vendor, end.route, outcome, reason, None, [], [], dead_letter=letter,
            next_step=next_step,
        )  # fmt: skip
        return self._tried(event, end.attempts, view) if end.attempts else view

    def _tried(
        self, event: Event | None, tries: Sequence[AttemptRecord], view: DeliveryView
    ) -> DeliveryView:
        """Return *view* with the last outgoing request and all attempts."""
        sent = next((tried for tried in reversed(tries) if tried.sent), None)
        return replace(
            view,
            sent=payload(sent.sent, self._rows_out(event, sent)) if sent and sent.sent else None,
            losses=list(sent.losses) if sent else [],
            attempts=[
                AttemptView(
                    t.at, t.outcome, t.status, t.seconds, t.reason, t.response_excerpt, t.node
                )
                for t in tries
                if t.number
            ],
            changes=list(tries[-1].changes),
            omitted_changes=tries[-1].omitted_changes,
        )

    def _left_out(self, before: Event | None, parsed: EventRecord) -> list[str]:
        if before is None or self._mapped is None or self._received is None:
            return []
        return left_out(self._mapped, self._received, before, parsed.dropped_fields)

    def _rows_out(self, event: Event | None, tried: AttemptRecord) -> list[Row]:
        config = self._gateway.config.destinations.get(tried.destination)
        if event is None or config is None or tried.sent is None:
            return []
        output = self._gateway.registry.outputs[config.vendor](config.settings)
        if self._trace.received and self._gateway.registry.forwards(self._vendor, tried.vendor):
            return self._rows_in
        steps = self._gateway.steps_of(tried.route) if tried.route else None
        with suppress(Exception):  # the steps may have changed since, and may fail now
            return list(rows_of(output, steps.apply(event) if steps else event))
        return []


def sentence(words: str) -> str:
    """Return *words* as a sentence; empty if there are none."""
    return f"{words[0].upper()}{words[1:]}." if words else ""


def waits_for(team: Team | None) -> str:
    """Return why nothing was sent to a destination so far; None stands for an unconfigured one."""
    if team is None:
        return ORPHANED
    state = team.status()
    if state.paused:
        return "An operator paused the destination."
    if state.circuit != "closed":
        return f"The destination fails, and is probed at intervals: {state.reason}"
    if team.config.shadow:
        return "It waits for the shadow, which skips events if it is too slow."
    return "It is pending in the spool."


def rows_of(output: Output, event: Event) -> Iterable[Row]:
    """Return the rows that write *event* for a destination."""
    call = output.select(event)
    return () if isinstance(call, Declined) else call.table.said(call.event)


def payload(message: RecordedMessage, rows: Iterable[Row]) -> Payload:
    """Return a stored request with its fields linked by *rows*."""
    return taken_apart(message.method, message.url, message.headers, message.body, rows)


def taken_apart(method: str, url: str, headers: Any, body: str, rows: Iterable[Row]) -> Payload:
    """Return a request with the fields of its body."""
    return Payload(method, url, dict(headers), body, list(_fields(body, rows)))


def _fields(body: str, rows: Iterable[Row]) -> Iterator[LinkedField]:
    with suppress(orjson.JSONDecodeError):
        yield from payload_fields(loads(body), rows)
