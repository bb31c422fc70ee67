"""What is traced, and what dead letters tell of a request or an event that is not."""

import asyncio

from msgspec.structs import replace

from gateway.admin.desk import Desk
from gateway.spool import Dead
from gateway.trace.ends import meant
from gateway.trace.given_up import trial_of
from gateway.trace.interface import Parsed, Received, Trace, Tried
from gateway.trace.making import Maker
from gateway.trace.untraced import stored

MOST = 20
"""Dead letters that are read."""


async def traced(desk: Desk, identity: str) -> list[Trace]:
    """Return what is traced under an id; where that is not all, with what dead letters say.

    Raises:
        TraceError: traces cannot be read.
        SpoolError: the spool cannot tell.
    """
    found = await desk.gateway.observed.traces.show(identity)
    if any(identity in {one.request, *(event.event for event in one.events)} for one in found):
        return found
    for which in meant(identity):
        letters = await desk.gateway.spool.dead_letters(which, limit=MOST)
        if letters:
            told = await asyncio.to_thread(_trace, desk, letters)
            mine = [_both(one, told) for one in found if one.request == told.request]
            others = [one for one in found if one.request != told.request]
            return [*(mine or [told]), *others]
    return found or await _untraced(desk, identity)


async def _untraced(desk: Desk, identity: str) -> list[Trace]:
    """Return a request that the spool still has, and of which nothing is traced."""
    for which in meant(identity):
        owing = await desk.gateway.spool.owing(which.request or "")
        if owing is not None:
            return [await asyncio.to_thread(stored, owing.entry, _maker(desk), whole=owing.whole)]
    return []


def _maker(desk: Desk) -> Maker:
    gateway = desk.gateway
    return Maker(gateway.observed.recorder.maker.setting, gateway.config.trace.bodies)


def _both(trace: Trace, told: Trace) -> Trace:
    """Return the trace of a request with a further event of it."""
    events, tries = (*trace.events, *told.events), (*trace.tries, *told.tries)
    return replace(trace, events=events, tries=tries)


def _trace(desk: Desk, found: list[Dead]) -> Trace:
    gateway = desk.gateway
    maker = _maker(desk)
    received: Received | None = None
    events: dict[str, Parsed] = {}
    tries: list[Tried] = []
    for dead in found:
        trial = trial_of(dead, gateway.parse, gateway.output_of(dead.destination))
        for record in maker.tried(trial, whole=True):
            if isinstance(record, Received):
                received = record
            elif isinstance(record, Parsed):
                events[record.event] = record
            else:
                tries.append(record)
    return Trace(found[0].entry.id, received, tuple(events.values()), tuple(tries))
