"""Endpoints for traces: search them, look one up, follow new ones."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from gateway.admin.context import HEADERS, AdminContext, ApiProblem, with_heartbeat
from gateway.admin.dead_letters import spool_records
from gateway.admin.endpoint import Endpoint, Limit, Seconds, Text, endpoint
from gateway.admin.trace_view import RequestView, ViewBuilder
from gateway.spool import DeadLetter
from gateway.spool.dead_letters import DeadLetterSummary
from gateway.trace.delivery_status import DeliveryState, filters_for_id
from gateway.trace.from_spool import explain_missing, snapshot_of_dead_letter, trace_from_spool
from gateway.trace.of_cluster import PLACE, FoundTraces
from gateway.trace.record_builder import RecordBuilder
from gateway.trace.records import (
    AttemptRecord,
    EventRecord,
    RequestRecord,
    Trace,
    TraceFilter,
    TraceLine,
)
from gateway.trace.sampling import RateSampler

MOST = 20
"""Dead letters that are read for one id."""


async def traced(context: AdminContext, identity: str) -> FoundTraces:
    """Return the traces for an id, of all gateways, completed from dead letters and the spool.

    Raises:
        TraceError: the traces cannot be read.
        SpoolError: the spool cannot be read.
    """
    stored = await context.gateway.traces.show(identity)
    found = stored.traces
    if any(identity in {one.request, *(event.event for event in one.events)} for one in found):
        return stored
    for which in filters_for_id(identity):
        letters = await context.gateway.spool.dead_letters(which, limit=MOST)
        if letters:
            from_letters = await asyncio.to_thread(_trace, context, letters)
            mine = [
                _both(one, from_letters) for one in found if one.request == from_letters.request
            ]
            others = [one for one in found if one.request != from_letters.request]
            return stored._replace(traces=[*(mine or [from_letters]), *others])
    return stored if found else stored._replace(traces=await _untraced(context, identity))


async def _untraced(context: AdminContext, identity: str) -> list[Trace]:
    """Return a trace made from the spool, for a request that is still there."""
    for which in filters_for_id(identity):
        pending = await context.gateway.spool.pending(which.request or "")
        if pending is not None:
            return [
                await asyncio.to_thread(
                    trace_from_spool, pending.entry, _builder(context), whole=pending.whole
                )
            ]
    return []


def _builder(context: AdminContext) -> RecordBuilder:
    gateway = context.gateway
    return RecordBuilder(gateway.observer.recorder.builder.setting, gateway.config.trace.max_body)


def _both(trace: Trace, from_letters: Trace) -> Trace:
    """Return the trace of a request with another event added."""
    events, tries = (*trace.events, *from_letters.events), (*trace.attempts, *from_letters.attempts)
    return replace(trace, events=events, attempts=tries)


def _trace(context: AdminContext, found: list[DeadLetter]) -> Trace:
    gateway = context.gateway
    builder = _builder(context)
    received: RequestRecord | None = None
    events: dict[str, EventRecord] = {}
    tries: list[AttemptRecord] = []
    for dead in found:
        trial = snapshot_of_dead_letter(dead, gateway.parse, gateway.output_of(dead.destination))
        for record in builder.tried(trial, whole=True):
            if isinstance(record, RequestRecord):
                received = record
            elif isinstance(record, EventRecord):
                events[record.event] = record
            else:
                tries.append(record)
    return Trace(found[0].entry.id, received, tuple(events.values()), tuple(tries))


SHOWN = 500
"""Lines per second that a stream sends; nobody reads faster, and each costs time."""

_encode = msgspec.json.Encoder().encode


class TailQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter for lines; all given fields must match."""

    source: Text | UnsetType = UNSET
    destination: Text | UnsetType = UNSET
    """Only deliveries to this destination."""
    name: Text | UnsetType = UNSET
    """The neutral name of the event."""
    user: Text | UnsetType = UNSET
    """A user id or an anonymous id."""
    failed: bool = False
    """Only failures."""
    since: Seconds | UnsetType = UNSET
    until: Seconds | UnsetType = UNSET
    """Exclusive."""

    def which(self) -> TraceFilter:
        """Return the filter for traces."""
        said = {name: getattr(self, name) for name in TailQuery.__struct_fields__}
        return TraceFilter(**{name: value for name, value in said.items() if value is not UNSET})


class TraceQuery(TailQuery, frozen=True, forbid_unknown_fields=True):
    """A filter for lines, and a page."""

    before: Annotated[str, Meta(pattern=PLACE, max_length=2000)] | UnsetType = UNSET
    """``next`` of the previous page."""
    limit: Limit = 50
    node: Text | UnsetType = UNSET
    """Only lines of this gateway of the cluster."""


class LinePage(msgspec.Struct, frozen=True):
    """A page of lines, the newest first."""

    lines: list[TraceLine]
    next: int | str | None
    """``before`` of the next page; null on the last page. A number of a gateway that is alone."""
    silent: dict[str, str]
    """The gateways of the cluster that did not answer, with the reason; their lines are missing."""


class TraceLookup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An id to look up."""

    id: Text
    """The id of a request or an event, a message id, a user id or an anonymous id."""


class TraceResult(msgspec.Struct, frozen=True):
    """The traces for an id, the newest first."""

    traces: list[Trace]
    dead_letters: list[DeadLetterSummary]
    """The present dead letters of these requests."""
    delivery_states: list[DeliveryState]
    """The states of their deliveries that are still in the spool."""
    silent: dict[str, str]
    """The gateways of the cluster that did not answer, with the reason; what they recorded is
    missing."""


OFF = {409: "Tracing is disabled."}


def check_traced(context: AdminContext) -> None:
    """Check that tracing is enabled.

    Raises:
        ApiProblem: it is not.
    """
    if not context.gateway.config.trace.enabled:
        raise ApiProblem(409, "tracing is disabled; set enabled = true in [trace], and restart")


@endpoint("GET", "/traces", refuses=OFF)
async def list_traces(context: AdminContext, query: TraceQuery) -> LinePage:
    """List requests, events and attempts, the newest first; in a cluster those of all gateways."""
    check_traced(context)
    before = None if query.before is UNSET else query.before
    which = query.which()
    await context.check_names(which.source, which.destination)
    node = "" if query.node is UNSET else query.node
    found = await context.gateway.traces.find(which, before, query.limit, node)
    return LinePage(found.lines, found.next, dict(found.silent))


def _no_trace(context: AdminContext, identity: str, silent: Mapping[str, str]) -> ApiProblem:
    config = context.gateway.config
    why = explain_missing(identity, config.trace.file(config.spool.path))
    return ApiProblem(404, "; ".join([why, *map(" did not answer: ".join, silent.items())]))


@endpoint("GET", "/trace", refuses=OFF | {404: "There is no trace for this id."})
async def show_trace(context: AdminContext, query: TraceLookup) -> TraceResult:
    """Show the history of a request or an event, or of what a user sent."""
    check_traced(context)
    found, silent = await traced(context, query.id)
    if not found:
        raise _no_trace(context, query.id, silent)
    held = [await spool_records(context, trace, trace.events) for trace in found]
    letters = [letter for one in held for letter in one.dead_letters]
    states = [state for one in held for state in one.delivery_states]
    return TraceResult(found, letters, states, dict(silent))


@endpoint(
    "GET",
    "/tail",
    refuses={503: "Too many streams are open."},
    streams=HEADERS["content-type"],
)
async def tail(context: AdminContext, http: web.Request, query: TailQuery) -> web.StreamResponse:
    """Stream requests, events and attempts as server-sent events, one line each.

    Each gateway of a cluster streams its own.
    Above 500 lines per second the rest is left out, and an event ``skipped`` has their number. If
    the client is too slow, the stream ends after an event ``dropped``. If a reload removes or
    changes the caller's token or role, it ends after an event ``ended`` with the ``reason``.
    """
    which = query.which()
    await context.check_names(which.source, which.destination)
    return await context.streams.send(http, _parts(context, which))


async def _parts(context: AdminContext, which: TraceFilter) -> AsyncIterator[bytes | None]:
    sampler = RateSampler(SHOWN)
    with context.gateway.observer.hub.subscribe(which) as lines:
        async for batch in with_heartbeat(lines.batches()):
            if batch is None:
                yield None
                continue
            # One write for the whole batch, since a write costs as much as a line.
            shown = [b"data: %s\n\n" % _encode(line) for line in batch if sampler.take()]
            if skipped := len(batch) - len(shown):
                shown.append(b'event: skipped\ndata: {"lines": %d}\n\n' % skipped)
            yield b"".join(shown)
        if lines.dropped:
            yield b"event: dropped\ndata: {}\n\n"


ENDPOINTS: tuple[Endpoint, ...] = (list_traces, show_trace, tail)


class Requests(msgspec.Struct, frozen=True):
    """Requests, the newest first."""

    requests: list[RequestView]
    silent: dict[str, str]
    """The gateways of the cluster that did not answer, with the reason; what they recorded is
    missing."""


@endpoint("GET", "/request", refuses=OFF | {404: "There is no trace for this id."})
async def show_request(context: AdminContext, query: TraceLookup) -> Requests:
    """Show the history of a request or an event, with its fields linked to each other."""
    check_traced(context)
    found, silent = await traced(context, query.id)
    if not found:
        raise _no_trace(context, query.id, silent)
    views = [await ViewBuilder(context, trace, query.id).view() for trace in found]
    return Requests(views, dict(silent))


REQUEST_ENDPOINTS: tuple[Endpoint, ...] = (show_request,)
