"""Traces: finding them, showing them, watching what happens."""

from collections.abc import AsyncIterator

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.letters import held_of
from gateway.admin.problem import Problem
from gateway.admin.stream import HEADERS, beating
from gateway.admin.traced import traced
from gateway.admin.values import Limit, Number, Seconds, Text
from gateway.letter import Letter
from gateway.trace.interface import Line, Trace, Which
from gateway.trace.sampling import Sampler
from gateway.trace.standing import Standing
from gateway.trace.untraced import nothing

SHOWN = 500
"""Lines a second that a stream shows: more nobody reads, and each takes time from events."""

_encode = msgspec.json.Encoder().encode


class Watching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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

    def which(self) -> Which:
        """Return it as traces take it."""
        said = {name: getattr(self, name) for name in Watching.__struct_fields__}
        return Which(**{name: value for name, value in said.items() if value is not UNSET})


class Search(Watching, frozen=True, forbid_unknown_fields=True):
    """Which lines, and which page of them."""

    before: Number | UnsetType = UNSET
    """The number of the last line of the page before."""
    limit: Limit = 50


class LinePage(msgspec.Struct, frozen=True):
    """What happened, the newest first."""

    lines: list[Line]
    next: int | None
    """``before`` of the next page; null where there is none."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose traces."""

    id: Text
    """Of a request or an event, a message id, a user id or an anonymous id."""


class Found(msgspec.Struct, frozen=True):
    """What is kept under an id, the newest first."""

    traces: list[Trace]
    letters: list[Letter]
    """The dead letters that there are of these requests' events."""
    standings: list[Standing]
    """Those of their deliveries that the spool's log still has."""


OFF = {409: "Nothing is traced."}


def check_traced(desk: Desk) -> None:
    """Check that requests are traced at all.

    Raises:
        Problem: none ever are.
    """
    if not desk.gateway.config.trace.on:
        raise Problem(409, "nothing is traced; set on = true in [trace], and start again")


@endpoint("GET", "/traces", refuses=OFF)
async def list_traces(desk: Desk, query: Search) -> LinePage:
    """List what happened, the newest first: requests, events and tries to deliver them."""
    check_traced(desk)
    before = None if query.before is UNSET else query.before
    limit = query.limit
    lines = await desk.gateway.observed.traces.find(query.which(), before, limit)
    return LinePage(lines, lines[-1].number if len(lines) == limit else None)


@endpoint("GET", "/trace", refuses=OFF | {404: "Nothing is kept under this id."})
async def show_trace(desk: Desk, query: Asked) -> Found:
    """Show what became of a request, an event, or what a user sent, step by step."""
    check_traced(desk)
    found = await traced(desk, query.id)
    if not found:
        raise Problem(404, nothing(query.id))
    held = [await held_of(desk, trace, trace.events) for trace in found]
    letters = [letter for one in held for letter in one.letters]
    return Found(found, letters, [standing for one in held for standing in one.standings])


@endpoint(
    "GET",
    "/tail",
    refuses={503: "As many streams are open as may be."},
    streams=HEADERS["content-type"],
)
async def tail(desk: Desk, http: web.Request, query: Watching) -> web.StreamResponse:
    """Watch what happens, as server-sent events with one line each.

    Of more than 500 lines a second the rest is left out, and an event ``skipped`` says how many.
    The stream ends, after an event ``dropped``, where its reader does not keep up.
    """
    return await desk.streams.send(http, _parts(desk, query.which()))


async def _parts(desk: Desk, which: Which) -> AsyncIterator[bytes | None]:
    sampler = Sampler(SHOWN)
    with desk.gateway.observed.hub.subscribe(which) as lines:
        async for batch in beating(lines.batches()):
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
