"""The traces of all gateways of a cluster: each stores those of what it accepted and delivered."""

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from gateway.spool.cluster import Peers
from gateway.suggestions import check_name
from gateway.trace.records import ALL_LINES, Trace, TraceFilter, TraceLine
from gateway.trace.store import StoredTraces, found_ids

T = TypeVar("T")
Place = int | str
"""Where a page of lines ends: a number, or in a cluster each gateway's number as a text."""
PLACE = r"^([0-9]{1,16}|[^:,]+:[0-9]{1,16}(,[^:,]+:[0-9]{1,16})*)$"
"""A place as a text."""
_NUMBER = re.compile("[0-9]+")
_encode = msgspec.msgpack.Encoder().encode


class _AskedLines(msgspec.Struct, frozen=True):
    which: TraceFilter
    before: Mapping[str, int]
    """By gateway: the number of the last line that is known."""
    limit: int


class _AskedTraces(msgspec.Struct, frozen=True):
    identity: str
    limit: int
    requests: tuple[str, ...] = ()
    """If any, the traces of these requests instead, whatever is in their events."""


class FoundLines(NamedTuple):
    """A page of lines, the newest first."""

    lines: list[TraceLine]
    next: Place | None
    """Where the next page begins; None on the last page."""
    silent: Mapping[str, str]
    """The gateways that did not answer, with the reason."""


class FoundTraces(NamedTuple):
    """Traces, the newest first."""

    traces: list[Trace]
    silent: Mapping[str, str]
    """The gateways that did not answer, with the reason."""


class ClusterTraces:
    """The stored traces of a gateway, and of all others if it is one of several.

    Args:
        own: those of this gateway.
        node: the name of this gateway; empty if it is alone.
        peers: the other gateways; None if it is alone.
    """

    def __init__(self, own: StoredTraces, node: str, peers: Peers | None) -> None:
        self._own, self._node, self._peers = own, node, peers
        self._lines = _Topic("trace.lines", peers, list[TraceLine])
        self._traces = _Topic("trace.show", peers, list[Trace])
        if peers is not None:
            peers.serve(self._lines.name, self._answer_lines)
            peers.serve(self._traces.name, self._answer_traces)

    async def find(
        self,
        which: TraceFilter = ALL_LINES,
        before: Place | None = None,
        limit: int = 50,
        node: str = "",
    ) -> FoundLines:
        """Return the newest lines, the newest first; of one gateway alone if *node* names one.

        Raises:
            TraceError: those of this gateway cannot be read.
            UnknownName: there is no such gateway.
        """
        if self._peers is None:
            if node:
                check_name("gateway", node, ())
            number = int(before) if before and _NUMBER.fullmatch(str(before)) else None
            lines = await self._own.find(which, number, limit)
            return FoundLines(lines, lines[-1].number if len(lines) == limit else None, {})
        places = _places(before)
        asked = _AskedLines(which, places, limit)
        found, silent = await self._lines.ask(asked)
        found[self._node] = await self._find(asked)
        if node:
            check_name("gateway", node, found.keys() | silent.keys())
            found = {name: lines for name, lines in found.items() if name == node}
            silent = {name: why for name, why in silent.items() if name == node}
        merged = heapq.merge(*found.values(), key=lambda line: -line.at)
        page = [line for _, line in zip(range(limit), merged, strict=False)]
        ends = {**places, **{line.node: line.number for line in page}}
        return FoundLines(page, _place(ends) if len(page) == limit else None, silent)

    async def show(self, identity: str, limit: int = 20) -> FoundTraces:
        """Return the traces for an id, the newest first, each made of what any gateway has of it.

        Raises:
            TraceError: those of this gateway cannot be read.
        """
        if self._peers is None:
            return FoundTraces(await self._own.show(identity, limit), {})
        asked = _AskedTraces(identity, limit)
        found, silent = await self._traces.ask(asked)
        newest = _merged((await self._show(asked), *found.values()))[:limit]
        requests = tuple(one.request for one in newest)
        if requests and not set(requests) & set(found_ids(identity)):
            # Found by what is in its events, which a gateway that only delivered does not store.
            asked = _AskedTraces(identity, limit, requests)
            again, still_silent = await self._traces.ask(asked)
            newest = _merged((await self._show(asked), *{**found, **again}.values()))[:limit]
            silent = {**silent, **still_silent}
        return FoundTraces(newest, silent)

    async def _find(self, asked: _AskedLines) -> list[TraceLine]:
        """Return lines of this gateway, with its name."""
        lines = await self._own.find(asked.which, asked.before.get(self._node), asked.limit)
        return [replace(line, node=self._node) for line in lines]

    async def _show(self, asked: _AskedTraces) -> list[Trace]:
        """Return traces of this gateway, with its name in each of their records."""
        if asked.requests:
            found = await self._own.of_requests(asked.requests)
        else:
            found = await self._own.show(asked.identity, asked.limit)
        return [
            replace(
                one,
                received=replace(one.received, node=self._node) if one.received else None,
                attempts=tuple(replace(tried, node=self._node) for tried in one.attempts),
            )
            for one in found
        ]

    async def _answer_lines(self, data: bytes) -> bytes:
        asked = msgspec.msgpack.decode(data, type=_AskedLines)
        return self._fitting(await self._find(asked))

    async def _answer_traces(self, data: bytes) -> bytes:
        asked = msgspec.msgpack.decode(data, type=_AskedTraces)
        return self._fitting(await self._show(asked))

    def _fitting(self, found: Sequence[object]) -> bytes:
        """Return as many of the first as one answer has room for, at least one."""
        data = _encode(found)
        while self._peers is not None and len(data) > self._peers.room and len(found) > 1:
            found = found[: len(found) // 2]
            data = _encode(found)
        return data


class _Topic(Generic[T]):
    """A question to the other gateways, and the type of its answers."""

    def __init__(self, name: str, peers: Peers | None, kind: type[T]) -> None:
        self.name, self._peers = name, peers
        self._decode = msgspec.msgpack.Decoder(kind).decode

    async def ask(self, question: object) -> tuple[dict[str, T], dict[str, str]]:
        """Return the answers by gateway, and why others gave none."""
        if self._peers is None:
            return {}, {}
        given, silent = await self._peers.ask(self.name, _encode(question))
        answers, missing = dict[str, T](), dict(silent)
        for node, data in given.items():
            try:
                answers[node] = self._decode(data)
            except msgspec.DecodeError as error:  # of another version
                missing[node] = str(error)
        return answers, missing


def _merged(answers: Iterable[Sequence[Trace]]) -> list[Trace]:
    """Return one trace for each request, the newest first."""
    by_request: dict[str, Trace] = {}
    for one in chain.from_iterable(answers):
        known = by_request.get(one.request)
        by_request[one.request] = _both(known, one) if known else one
    return sorted(by_request.values(), key=lambda one: one.request, reverse=True)


def _both(one: Trace, other: Trace) -> Trace:
    """Return what two gateways have of one request; the one that accepted it knows its response."""
    parts = sorted((one, other), key=_answered, reverse=True)
    events = {event.event: event for part in reversed(parts) for event in part.events}
    attempts = (*one.attempts, *other.attempts)
    return Trace(
        one.request,
        parts[0].received or parts[1].received,
        tuple(events[name] for name in sorted(events, key=_index)),
        tuple(sorted(attempts, key=lambda tried: tried.at)),
    )


def _answered(trace: Trace) -> bool:
    return trace.received is not None and trace.received.status is not None


def _index(event: str) -> tuple[int, str]:
    index = event.rpartition("-")[2]
    return (int(index) if index.isdecimal() else 0, event)


def _places(before: Place | None) -> dict[str, int]:
    """Return the numbers by gateway in a place; a number alone is of none."""
    if before is None or _NUMBER.fullmatch(str(before)):
        return {}
    pairs = (part.partition(":") for part in str(before).split(","))
    return {node: int(number) for node, _, number in pairs}


def _place(ends: Mapping[str, int]) -> Place:
    return ",".join(f"{node}:{number}" for node, number in sorted(ends.items()))
