"""The way in: from an HTTP request to events that are safe, and the vendor's own answer."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import structlog
from aiohttp import web

from gateway import body, untranslated
from gateway.apart import Apart, Turns
from gateway.clients import introduced, without_idle_id
from gateway.connections import NO_HTTP, connection_of
from gateway.doors import Doors, Found, Source
from gateway.errors import TRY_AGAIN, Fault, Rejected, SpoolError
from gateway.event import Event
from gateway.exchange import REQUEST_ID, Request, Response
from gateway.ids import RequestIds
from gateway.log_limit import LogLimit
from gateway.mapping import spelt
from gateway.observed import Observed
from gateway.respond import Asking, Asks
from gateway.routing.consents import Consents
from gateway.routing.plan import Plan as Routed
from gateway.routing.router import AT_ONCE, NOBODY, Consented, Router
from gateway.spool import Entry, Item, Once, Spool, SpoolFull, event_of
from gateway.spool.clock import moment
from gateway.trace.raw import Arrival
from gateway.tracking import Kept, Plan, Tally

QUIET = 10.0
"""Seconds in which a source is logged once whose events cannot be kept."""
TOO_LARGE_HEAD = "the request's line and headers are too large"

log = structlog.get_logger()


class Takes(Asks, Protocol):
    """A worker, as far as the way in knows it."""

    def offer(self, item: Item, events: Sequence[Event]) -> None:
        """Take an entry that was just accepted."""


class World(Protocol):
    """What the running gateway gives to the way in; a reload changes it between requests."""

    accepting: bool
    """Whether new events are taken."""

    @property
    def doors(self) -> Doors:
        """Return which source a request is for."""

    @property
    def router(self) -> Router:
        """Return which destinations an event goes to."""

    @property
    def consents(self) -> Consents:
        """Return what users consented to."""

    @property
    def spool(self) -> Spool:
        """Return where events are kept."""

    @property
    def workers(self) -> Mapping[str, Takes]:
        """Return who delivers, by destination."""

    @property
    def observed(self) -> Observed:
        """Return what sees every request."""

    @property
    def tally(self) -> Tally:
        """Return what counts events that are not as planned."""

    def accepted(self, events: Sequence[Event], source: str) -> None:
        """Tell those who listen that *events* are safe."""


class Ingest:
    """Receives the requests of all sources."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ids = RequestIds()
        self._apart = Apart()
        self._not_kept = LogLimit(1, QUIET)
        self._offers = Turns()

    async def receive(self, http: web.Request) -> web.StreamResponse:
        """Answer one HTTP request as its source's vendor would."""
        began = time.perf_counter()
        observed, connection = self._world.observed, connection_of(http)
        wrong = 0 if connection is None else connection.wrong(http)
        if wrong == NO_HTTP:
            return web.Response(status=wrong, text="This is no HTTP request.\n")
        target = http.raw_path if http.raw_path.startswith("/") else http.path_qs
        path, mark, query = target.partition("?")
        found = self._world.doors.find(path, http.headers, http.method)
        if found is None:
            return self._nowhere(wrong)
        source = found.source
        if http.method == "OPTIONS" and not wrong and (leave := _leave(http, found)) is not None:
            return leave
        met = source.clients.meet(http)
        if connection is not None and not connection.client:
            connection.speaks_for = source.clients.address(http)
        request = Request(
            method=http.method,
            url=found.path + mark + query,
            headers=http.headers,
            id=self._ids.next(traced=observed.chooses()),
            received_at=moment(self._world.spool.clock.of_day()),
            client=met.client,
        )
        arrival = Arrival(request, source)
        response = await self._answer(http, found, arrival)
        if wrong and isinstance(response, Response):
            response = Response(wrong, response.headers, response.body)
        arrival.status = response.status
        arrival.seconds = time.perf_counter() - began
        observed.received(arrival)
        if isinstance(response, web.StreamResponse):
            return response
        headers = source.cors.marked(response.headers, http.headers.get("origin"))
        headers[REQUEST_ID] = request.id
        if source.reads.elapsed_header:
            headers.setdefault(source.reads.elapsed_header, f"{arrival.seconds:.6f}")
        answer = web.Response(status=response.status, body=response.body, headers=headers)
        if not http.content.is_eof() and body.waits(http):
            answer.force_close()  # its sender may leave out the body that nobody asked for
        if met.set_cookie and not (arrival.relayed or arrival.refused):
            answer.headers.add("set-cookie", met.set_cookie)
        return answer

    def _nowhere(self, wrong: int) -> web.Response:
        """Return the answer to a request that is for no source."""
        self._world.observed.nowhere(Fault.TOO_LARGE if wrong else Fault.NOT_FOUND)
        said = TOO_LARGE_HEAD if wrong else "not found"
        return web.json_response({"error": said}, status=wrong or 404)

    async def _answer(
        self, http: web.Request, found: Found, arrival: Arrival
    ) -> Response | web.StreamResponse:
        """Return the answer to a request; one that is on its way already is whole."""
        source, request = found.source, arrival.request
        try:
            _check_head(http)
            if source.translates(request.method, found.path):
                return await self._take(http, found, arrival)
            arrival.relayed = True
            return await untranslated.answer(http, found, request, self._apart)
        except Rejected as error:
            arrival.refused, arrival.relayed = error, False
            response = source.reads.refuse(request, error)
            if error.fault is Fault.UNAVAILABLE:
                response = _with_header(response, "retry-after", str(error.value))
            return response
        except Exception:
            self._world.observed.failed(arrival)
            raise

    async def _take(self, http: web.Request, found: Found, arrival: Arrival) -> Response:
        source, reads, request = found.source, found.source.reads, arrival.request
        if not reads.credential_in_body:
            arrival.key = reads.credential(request, None)
            source = arrival.source = found.keyed(arrival.key)
        stored = arrival.stored = source.stored(request, await body.whole(http))
        size = max(len(stored.body), len(stored.url))
        payload = await self._apart(size, reads.decode, stored)
        if reads.credential_in_body:
            arrival.key = reads.credential(request, payload)
            source = arrival.source = found.keyed(arrival.key)
            stored = source.stored(request, stored.body) if found.rivals else stored
        events = arrival.events = await self._apart(size, _read, source, stored, payload)
        arrival.stored = stored = without_idle_id(stored, events)
        plan, kept = source.plan, Kept(events)
        if plan is not None:
            kept = await self._apart(size, self._planned, source, plan, stored, payload, events)
            arrival.events = kept.events
        return await self._keep(source, stored, kept, arrival) or reads.accept(stored, events)

    def _planned(
        self, source: Source, plan: Plan, stored: Request, payload: Any, events: list[Event]
    ) -> Kept:
        """Return what the source's tracking *plan* lets through of *events*.

        Raises:
            Rejected: an event is not as planned, and the plan refuses such.
        """

        def spell(event: Event, index: int, path: Sequence[str | int]) -> str:
            mapped = source.reads.endpoints[f"{stored.method} {stored.path}"]
            return spelt(mapped, payload, event, index, path)

        return plan.keeps(events, spell, stored.id, self._world.tally)

    async def _keep(
        self, source: Source, stored: Request, kept: Kept, arrival: Arrival
    ) -> Response | None:
        """Return once *events* are safe for every destination that they are routed to.

        The vendor's own answer is returned where the source asks for it and it comes in time.

        Raises:
            Rejected: they cannot be kept now.
        """
        world = self._world
        if not world.accepting:
            raise Rejected("$", "shutting down; try again", Fault.UNAVAILABLE, TRY_AGAIN)
        asking = None if source.respond is None else Asking(source.reads, source.respond)
        try:
            events = await self._route(source, stored, kept, asking, arrival)
        except SpoolError as error:
            if times := self._not_kept.take(source.name):
                log.warning(
                    "not_kept", source=source.name, request=stored.id, error=str(error), times=times
                )
            after = error.retry_after if isinstance(error, SpoolFull) else TRY_AGAIN
            reason = "the event cannot be stored now; try again"
            wait = max(1, round(after))
            raise Rejected("$", reason, Fault.UNAVAILABLE, wait) from error
        arrival.kept = events
        world.accepted(events, source.name)
        return await asking.answer() if asking else None

    async def _route(
        self,
        source: Source,
        stored: Request,
        kept: Kept,
        asking: Asking | None,
        arrival: Arrival,
    ) -> Sequence[Event]:
        """Write down where events go, if they go anywhere; return them without repeats.

        Raises:
            SpoolError: they cannot be kept now.
        """
        world, events = self._world, kept.events
        router = world.router
        if world.consents.on:
            consented = await world.consents.hear(source.name, events, asked=router.asks_consent)
            arrival.consented = consented
            plan = await _plan(router, source.name, events, consented)
        else:
            plan = await _plan(router, source.name, events)
        arrival.turns = plan.turns
        if not plan.targets:
            return events
        entry = Entry(
            stored.id,
            source.name,
            stored,
            plan.targets,
            source.reads.name,
            plan.routes,
            kept.dropped,
            tuple([world.spool.user_hash(event.user_key) for event in events]),
        )
        if source.dedup is not None:
            return await self._append_once(entry, events, source.dedup, asking)
        await world.spool.append(entry, lambda item: self._owed(item, events, asking))
        return events

    async def _append_once(
        self, entry: Entry, events: Sequence[Event], window: float, asking: Asking | None
    ) -> Sequence[Event]:
        """Append what of *entry* repeats nothing; return its *events* without the repeats.

        A message id counts as seen for *window* seconds.

        Raises:
            SpoolError: it cannot be kept now.
        """
        new: set[int] = set()

        def accepted(item: Item) -> None:
            new.update(_events_of(item.entry))
            self._owed(item, events, asking)

        ids = {i: event.message_id for i, event in enumerate(events) if event.message_id}
        await self._world.spool.append(entry, accepted, Once(ids, window))
        repeats = _events_of(entry) - new
        if not repeats:
            return events
        log.debug("repeated", source=entry.source, request=entry.id, events=sorted(repeats))
        return [event for i, event in enumerate(events) if i not in repeats]

    def _owed(self, item: Item, events: Sequence[Event], asking: Asking | None) -> None:
        if asking:
            asking.begin(item, events, self._world.workers)
        for destination, numbers in item.entry.targets.items():
            self._offers.put(partial(self._offer, destination, item, events), len(numbers))

    def _offer(self, destination: str, item: Item, events: Sequence[Event]) -> None:
        """Offer an entry to whoever delivers by now; one that began since has it from the spool."""
        worker = self._world.workers.get(destination)
        if worker is not None:
            worker.offer(item, events)


def _read(source: Source, stored: Request, payload: Any) -> list[Event]:
    """Return the events of a request, with what they do not say of their sender themselves.

    Raises:
        Rejected: the vendor would refuse it, there are too many of them, or its second credential
            is not accepted.
    """
    source.check_secret(stored, payload)
    events = source.reads.read(stored, payload)
    if source.max_events is not None and len(events) > source.max_events:
        what = f"more than {source.max_events} events in one request"
        raise Rejected("$", what, Fault.TOO_LARGE)
    return introduced(events, stored)


async def _plan(
    router: Router,
    source: str,
    events: Sequence[Event],
    consented: Mapping[int, Consented] = NOBODY,
) -> Routed:
    """Return where the *events* of one request go."""
    if len(events) > AT_ONCE:
        return await router.plan_many(source, events, consented)
    return router.plan(source, events, consented)


def _check_head(http: web.Request) -> None:
    """Pass a request whose head is within its limit, over a connection that there is room for.

    Raises:
        Rejected: it is not.
    """
    connection = connection_of(http)
    if connection is None:
        return
    if connection.wrong(http):
        raise Rejected("$", TOO_LARGE_HEAD, Fault.TOO_LARGE)
    if connection.refused:
        raise Rejected("$", connection.refused, Fault.UNAVAILABLE, TRY_AGAIN)


def _leave(http: web.Request, found: Found) -> web.Response | None:
    """Return the answer to a browser's preflight; None where it is none."""
    source = found.source
    leave = source.cors.preflight(http.headers, source.allowed(found.path))
    if leave is None:
        return None
    return web.Response(status=leave.status, body=leave.body, headers=leave.headers)


def _events_of(entry: Entry) -> set[int]:
    """Return the indexes of the events that go anywhere."""
    return {event_of(number) for numbers in entry.targets.values() for number in numbers}


def _with_header(response: Response, name: str, value: str) -> Response:
    return Response(response.status, {**response.headers, name: value}, response.body)
