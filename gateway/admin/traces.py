"""Traces: search, look up, follow, and one request from end to end."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from gateway.admin.context import HEADERS, AdminContext, ApiProblem, with_heartbeat
from gateway.admin.dead_letters import held_of
from gateway.admin.endpoint import Endpoint, Limit, Number, Seconds, Text, endpoint
from gateway.admin.trace_view import RequestView, ViewBuilder
from gateway.spool import DeadLetter
from gateway.spool.dead_letters import DeadLetterSummary
from gateway.trace.delivery_status import DeliveryState, filters_for_id
from gateway.trace.from_spool import explain_missing, snapshot_of_dead_letter, trace_from_spool
from gateway.trace.record_builder import RecordBuilder
from gateway.trace.recorder import RateSampler
from gateway.trace.records import (
    AttemptRecord,
    EventRecord,
    RequestRecord,
    Trace,
    TraceFilter,
    TraceLine,
)

MOST = 20
"""Dead letters that are read."""


async def traced(desk: AdminContext, identity: str) -> list[Trace]:
    """Return what is traced under an id; where that is not all, with what dead letters say.

    Raises:
        TraceError: traces cannot be read.
        SpoolError: the spool cannot tell.
    """
    found = await desk.gateway.observer.traces.show(identity)
    if any(identity in {one.request, *(event.event for event in one.events)} for one in found):
        return found
    for which in filters_for_id(identity):
        letters = await desk.gateway.spool.dead_letters(which, limit=MOST)
        if letters:
            told = await asyncio.to_thread(_trace, desk, letters)
            mine = [_both(one, told) for one in found if one.request == told.request]
            others = [one for one in found if one.request != told.request]
            return [*(mine or [told]), *others]
    return found or await _untraced(desk, identity)


async def _untraced(desk: AdminContext, identity: str) -> list[Trace]:
    """Return a request that the spool still has, and of which nothing is traced."""
    for which in filters_for_id(identity):
        owing = await desk.gateway.spool.pending(which.request or "")
        if owing is not None:
            return [
                await asyncio.to_thread(
                    trace_from_spool, owing.entry, _maker(desk), whole=owing.whole
                )
            ]
    return []


def _maker(desk: AdminContext) -> RecordBuilder:
    gateway = desk.gateway
    return RecordBuilder(gateway.observer.recorder.maker.setting, gateway.config.trace.max_body)


def _both(trace: Trace, told: Trace) -> Trace:
    """Return the trace of a request with a further event of it."""
    events, tries = (*trace.events, *told.events), (*trace.attempts, *told.attempts)
    return replace(trace, events=events, attempts=tries)


def _trace(desk: AdminContext, found: list[DeadLetter]) -> Trace:
    gateway = desk.gateway
    maker = _maker(desk)
    received: RequestRecord | None = None
    events: dict[str, EventRecord] = {}
    tries: list[AttemptRecord] = []
    for dead in found:
        trial = snapshot_of_dead_letter(dead, gateway.parse, gateway.output_of(dead.destination))
        for record in maker.tried(trial, whole=True):
            if isinstance(record, RequestRecord):
                received = record
            elif isinstance(record, EventRecord):
                events[record.event] = record
            else:
                tries.append(record)
    return Trace(found[0].entry.id, received, tuple(events.values()), tuple(tries))


SHOWN = 500
"""Lines a second that a stream shows: more nobody reads, and each takes time from events."""

_encode = msgspec.json.Encoder().encode


class TailQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines; every field that is given must hold."""

    source: Text | UnsetType = UNSET
    destination: Text | UnsetType = UNSET
    """Deliveries to this one."""
    name: Text | UnsetType = UNSET
    """The neutral name of the event."""
    user: Text | UnsetType = UNSET
    """A user id or an anonymous id."""
    failed: bool = False
    """Only what went wrong."""
    since: Seconds | UnsetType = UNSET
    until: Seconds | UnsetType = UNSET
    """Before then."""

    def which(self) -> TraceFilter:
        """Return it as traces take it."""
        said = {name: getattr(self, name) for name in TailQuery.__struct_fields__}
        return TraceFilter(**{name: value for name, value in said.items() if value is not UNSET})


class TraceQuery(TailQuery, frozen=True, forbid_unknown_fields=True):
    """Which lines, and which page of them."""

    before: Number | UnsetType = UNSET
    """The number of the last line of the page before."""
    limit: Limit = 50


class LinePage(msgspec.Struct, frozen=True):
    """What happened, the newest first."""

    lines: list[TraceLine]
    next: int | None
    """``before`` of the next page; null where there is none."""


class TraceLookup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose traces."""

    id: Text
    """Of a request or an event, a message id, a user id or an anonymous id."""


class TraceResult(msgspec.Struct, frozen=True):
    """What is kept under an id, the newest first."""

    traces: list[Trace]
    dead_letters: list[DeadLetterSummary]
    """The dead letters that there are of these requests' events."""
    delivery_states: list[DeliveryState]
    """Of those of their deliveries that the spool still has."""


OFF = {409: "Nothing is traced."}


def check_traced(desk: AdminContext) -> None:
    """Check that requests are traced at all.

    Raises:
        Problem: none ever are.
    """
    if not desk.gateway.config.trace.enabled:
        raise ApiProblem(409, "nothing is traced; set enabled = true in [trace], and start again")


@endpoint("GET", "/traces", refuses=OFF)
async def list_traces(desk: AdminContext, query: TraceQuery) -> LinePage:
    """List what happened, the newest first: requests, events and attempts."""
    check_traced(desk)
    before = None if query.before is UNSET else query.before
    limit = query.limit
    which = query.which()
    await desk.check_names(which.source, which.destination)
    lines = await desk.gateway.observer.traces.find(which, before, limit)
    return LinePage(lines, lines[-1].number if len(lines) == limit else None)


@endpoint("GET", "/trace", refuses=OFF | {404: "Nothing is kept under this id."})
async def show_trace(desk: AdminContext, query: TraceLookup) -> TraceResult:
    """Show what became of a request, an event, or what a user sent, step by step."""
    check_traced(desk)
    found = await traced(desk, query.id)
    if not found:
        raise ApiProblem(404, explain_missing(query.id))
    held = [await held_of(desk, trace, trace.events) for trace in found]
    letters = [letter for one in held for letter in one.dead_letters]
    return TraceResult(found, letters, [state for one in held for state in one.delivery_states])


@endpoint(
    "GET",
    "/tail",
    refuses={503: "As many streams are open as may be."},
    streams=HEADERS["content-type"],
)
async def tail(desk: AdminContext, http: web.Request, query: TailQuery) -> web.StreamResponse:
    """Watch what happens, as server-sent events with one line each.

    Of more than 500 lines a second the rest is left out, and an event ``skipped`` says how many.
    The stream ends, after an event ``dropped``, where its reader does not keep up.
    """
    which = query.which()
    await desk.check_names(which.source, which.destination)
    return await desk.streams.send(http, _parts(desk, which))


async def _parts(desk: AdminContext, which: TraceFilter) -> AsyncIterator[bytes | None]:
    sampler = RateSampler(SHOWN)
    with desk.gateway.observer.hub.subscribe(which) as lines:
        async for batch in with_heartbeat(lines.batches()):
            if batch is None:
                yield None
                continue
            # One write for all of them: each costs as much as a line does.
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


@endpoint("GET", "/request", refuses=OFF | {404: "Nothing is kept under this id."})
async def show_request(desk: AdminContext, query: TraceLookup) -> Requests:
    """Show what became of a request or an event, its fields linked from end to end."""
    check_traced(desk)
    found = await traced(desk, query.id)
    if not found:
        raise ApiProblem(404, explain_missing(query.id))
    return Requests([await ViewBuilder(desk, trace, query.id).view() for trace in found])


REQUEST_ENDPOINTS: tuple[Endpoint, ...] = (show_request,)
