"""The way in: from an HTTP request to events that are safe, and the vendor's own answer."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog
from aiohttp import web

from gateway import body, untranslated
from gateway.clients import introduced, without_idle_id
from gateway.doors import Doors, Found, Source
from gateway.errors import Fault, Rejected, SpoolError
from gateway.event import Event
from gateway.exchange import REQUEST_ID, Request, Response
from gateway.ids import RequestIds
from gateway.mapping import spelt
from gateway.observed import Observed
from gateway.relay import TRY_AGAIN
from gateway.respond import Asking, Asks
from gateway.routing.consents import Consents
from gateway.routing.router import Router
from gateway.spool import Entry, Item, Once, Spool, SpoolFull, event_of, user_hash
from gateway.spool.clock import moment
from gateway.trace.raw import Arrival
from gateway.tracking import Kept, Plan, Tally

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

    async def receive(self, http: web.Request) -> web.StreamResponse:
        """Answer one HTTP request as its source's vendor would."""
        began = time.perf_counter()
        target = http.raw_path if http.raw_path.startswith("/") else http.path_qs
        path, mark, query = target.partition("?")
        found = self._world.doors.find(path, http.headers)
        if found is None:
            self._world.observed.nowhere()
            return web.json_response({"error": "not found"}, status=404)
        source, observed = found.source, self._world.observed
        if http.method == "OPTIONS" and (leave := _leave(http, found)) is not None:
            return leave
        met = source.clients.meet(http)
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
        if met.set_cookie and not (arrival.relayed or arrival.refused):
            answer.headers.add("set-cookie", met.set_cookie)
        return answer

    async def _answer(
        self, http: web.Request, found: Found, arrival: Arrival
    ) -> Response | web.StreamResponse:
        """Return the answer to a request; one that is on its way already is whole."""
        source, request = found.source, arrival.request
        try:
            if source.translates(request.method, found.path):
                return await self._take(http, found, arrival)
            arrival.relayed = True
            return await untranslated.answer(http, found, request)
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
        payload = reads.decode(stored)
        if reads.credential_in_body:
            arrival.key = reads.credential(request, payload)
            source = arrival.source = found.keyed(arrival.key)
            stored = source.stored(request, stored.body) if found.rivals else stored
        events = arrival.events = introduced(reads.read(stored, payload), stored)
        arrival.stored = stored = without_idle_id(stored, events)
        plan, kept = source.plan, Kept(events)
        if plan is not None:
            kept = self._planned(source, plan, stored, payload, events)
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
        asking = None if source.respond is None else Asking(source.reads.name, source.respond)
        try:
            events = await self._route(source, stored, kept, asking, arrival)
        except SpoolError as error:
            log.warning("not_kept", source=source.name, request=stored.id, error=str(error))
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
            plan = router.plan(source.name, events, consented)
        else:
            plan = router.plan(source.name, events)
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
            tuple([user_hash(event.user_key) for event in events]),
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
        workers = self._world.workers
        if asking:
            asking.begin(item, events, workers)
        for destination in item.entry.targets:
            worker = workers.get(destination)
            if worker is not None:
                worker.offer(item, events)


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
