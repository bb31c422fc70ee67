"""Receive requests: find the source, read, route, store, respond.

With an upstream they go there. Without one a few reads have an answer of the gateway's own, and
all else is refused as the vendor would refuse it.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog
from aiohttp import web

from gateway.errors import TRY_AGAIN, Fault, Rejected, SpoolError
from gateway.event import Event
from gateway.http import REQUEST_ID, Request, Response
from gateway.ingest import body
from gateway.ingest.arrival import IngestObserver, RequestContext, RequestIdGenerator
from gateway.ingest.connections import NO_HTTP, connection_of
from gateway.ingest.events import plan_events, read_events, without_unused_client_id
from gateway.ingest.off_loop import OffLoop, TurnQueue
from gateway.ingest.sources import Source, SourceIndex, SourceMatch
from gateway.ingest.upstream_reply import ReplySource, UpstreamReply
from gateway.log_limit import LogLimit
from gateway.plugin.client_credentials import key_in_body
from gateway.routing.consent import ConsentMemory
from gateway.routing.router import AT_ONCE, NOBODY, Consented, Router
from gateway.routing.router import DeliveryPlan as Routed
from gateway.spool import DedupWindow, Entry, LogRecord, Spool, SpoolFull, event_index
from gateway.spool.clock import moment
from gateway.tracking import PlannedEvents, ViolationCounter

log = structlog.get_logger()


async def _pass_through(
    http: web.Request, found: SourceMatch, request: Request, apart: OffLoop
) -> web.StreamResponse | Response:
    """Return what the sender of *request*, for the source that was *found*, is told.

    A large one is read *apart* from the loop.

    Raises:
        Rejected: there is no answer, or the credential is not accepted.
    """
    reads, key = found.source.input, found.source.input.relayed_credential(request)
    if key is None and found.relays_with_own_key:
        said = await body.read_body(http)
        key = await apart(len(said), key_in_body, said, reads)
    if found.can_relay or f"{request.method} {found.path}" in reads.unsupported:
        source = found.source if key is None else found.for_key(key)
        if source.relay is not None:
            if source.relay.uses_own_key and key is None:
                raise Rejected("$", "no credential came along", Fault.UNAUTHENTICATED)
            if not source.relay.serves(request):
                log.info("relay_not_served", source=source.name, request=request.id)
                raise source.rejection_for(request.method, found.path)
            client = source.client_identifier.address(http)
            return await source.relay.forward(http, request, source.cors, apart, client)
        told = reads.static_response(request, secrets.token_hex(16))
        if told is not None:
            return told
    raise found.source.rejection_for(request.method, found.path)


QUIET = 10.0
"""Seconds in which a source is logged once whose events cannot be kept."""
TOO_LARGE_HEAD = "the request's line and headers are too large"


class DeliveryQueue(ReplySource, Protocol):
    """A worker, as far as the way in knows it."""

    def offer(self, item: LogRecord, events: Sequence[Event]) -> None:
        """Take an entry that was just accepted."""


class IngestServices(Protocol):
    """What the running gateway gives to the way in; a reload changes it between requests."""

    accepting: bool
    """Whether new events are taken."""

    @property
    def sources(self) -> SourceIndex:
        """Return which source a request is for."""

    @property
    def router(self) -> Router:
        """Return which destinations an event goes to."""

    @property
    def consents(self) -> ConsentMemory:
        """Return what users consented to."""

    @property
    def spool(self) -> Spool:
        """Return where events are kept."""

    @property
    def workers(self) -> Mapping[str, DeliveryQueue]:
        """Return who delivers, by destination."""

    @property
    def observer(self) -> IngestObserver:
        """Return what sees every request."""

    @property
    def tally(self) -> ViolationCounter:
        """Return what counts events that are not as planned."""

    def accepted(self, events: Sequence[Event], source: str) -> None:
        """Tell those who listen that *events* are safe."""


class Receiver:
    """Receives the requests of all sources."""

    def __init__(self, world: IngestServices) -> None:
        self._world = world
        self._ids = RequestIdGenerator()
        self._apart = OffLoop()
        self._not_kept = LogLimit(1, QUIET)
        self._offers = TurnQueue()

    async def receive(self, http: web.Request) -> web.StreamResponse:
        """Answer one HTTP request as its source's vendor would."""
        began = time.perf_counter()
        observed, connection = self._world.observer, connection_of(http)
        wrong = 0 if connection is None else connection.wrong(http)
        if wrong == NO_HTTP:
            return web.Response(status=wrong, text="This is no HTTP request.\n")
        target = http.raw_path if http.raw_path.startswith("/") else http.path_qs
        path, mark, query = target.partition("?")
        found = self._world.sources.find(path, http.headers, http.method)
        if found is None:
            return self._nowhere(wrong)
        source = found.source
        if (
            http.method == "OPTIONS"
            and not wrong
            and (leave := _preflight_response(http, found)) is not None
        ):
            return leave
        met = source.client_identifier.identify(http)
        if connection is not None and not connection.client:
            connection.speaks_for = source.client_identifier.address(http)
        request = Request(
            method=http.method,
            url=found.path + mark + query,
            headers=http.headers,
            id=self._ids.next(traced=observed.sample()),
            received_at=moment(self._world.spool.clock.of_day()),
            client=met.client,
        )
        arrival = RequestContext(request, source)
        response = await self._answer(http, found, arrival)
        if wrong and isinstance(response, Response):
            response = Response(wrong, response.headers, response.body)
        arrival.status = response.status
        arrival.seconds = time.perf_counter() - began
        observed.received(arrival)
        if isinstance(response, web.StreamResponse):
            return response
        headers = source.cors.with_headers(response.headers, http.headers.get("origin"))
        headers[REQUEST_ID] = request.id
        if source.input.timing_header:
            headers.setdefault(source.input.timing_header, f"{arrival.seconds:.6f}")
        answer = web.Response(status=response.status, body=response.body, headers=headers)
        if not http.content.is_eof() and body.waits(http):
            answer.force_close()  # its sender may leave out the body that nobody asked for
        if met.set_cookie and not (arrival.relayed or arrival.refused):
            answer.headers.add("set-cookie", met.set_cookie)
        return answer

    def _nowhere(self, wrong: int) -> web.Response:
        """Return the answer to a request that is for no source."""
        self._world.observer.no_source(Fault.TOO_LARGE if wrong else Fault.NOT_FOUND)
        said = TOO_LARGE_HEAD if wrong else "not found"
        return web.json_response({"error": said}, status=wrong or 404)

    async def _answer(
        self, http: web.Request, found: SourceMatch, arrival: RequestContext
    ) -> Response | web.StreamResponse:
        """Return the answer to a request; one that is on its way already is whole."""
        source, request = found.source, arrival.request
        try:
            _check_head(http)
            if source.translates(request.method, found.path):
                return await self._take(http, found, arrival)
            arrival.relayed = True
            return await _pass_through(http, found, request, self._apart)
        except Rejected as error:
            arrival.refused, arrival.relayed = error, False
            response = source.input.refuse(request, error)
            if error.fault is Fault.UNAVAILABLE:
                response = _with_header(response, "retry-after", str(error.value))
            return response
        except Exception:
            self._world.observer.failed(arrival)
            raise

    async def _take(
        self, http: web.Request, found: SourceMatch, arrival: RequestContext
    ) -> Response:
        source, reads, request = found.source, found.source.input, arrival.request
        if not reads.credential_in_body:
            arrival.key = reads.credential(request, None)
            source = arrival.source = found.for_key(arrival.key)
        stored = arrival.stored = source.to_stored(request, await body.read_body(http))
        size = max(len(stored.body), len(stored.url))
        payload = await self._apart(size, reads.decode, stored)
        if reads.credential_in_body:
            arrival.key = reads.credential(request, payload)
            source = arrival.source = found.for_key(arrival.key)
            stored = source.to_stored(request, stored.body) if found.by_key else stored
        events = arrival.events = await self._apart(size, read_events, source, stored, payload)
        arrival.stored = stored = without_unused_client_id(stored, events)
        kept = PlannedEvents(events)
        if source.plan is not None:
            tally = self._world.tally
            kept = await self._apart(size, plan_events, source, stored, payload, events, tally)
            arrival.events = kept.events
        return await self._store(source, stored, kept, arrival) or reads.accept(stored, events)

    async def _store(
        self, source: Source, stored: Request, kept: PlannedEvents, arrival: RequestContext
    ) -> Response | None:
        """Return once *events* are safe for every destination that they are routed to.

        The vendor's own answer is returned where the source asks for it and it comes in time.

        Raises:
            Rejected: they cannot be kept now.
        """
        world = self._world
        if not world.accepting:
            raise Rejected("$", "shutting down; try again", Fault.UNAVAILABLE, TRY_AGAIN)
        asking = (
            None
            if source.reply_timeout is None
            else UpstreamReply(source.input, source.reply_timeout)
        )
        try:
            events = await self._route(source, stored, kept, asking, arrival)
        except SpoolError as error:
            if times := self._not_kept.take(source.name):
                log.warning(
                    "append_failed",
                    source=source.name,
                    request=stored.id,
                    error=str(error),
                    times=times,
                )
            after = error.retry_after if isinstance(error, SpoolFull) else TRY_AGAIN
            reason = "the event cannot be stored now; try again"
            wait = max(1, round(after))
            raise Rejected("$", reason, Fault.UNAVAILABLE, wait) from error
        arrival.kept = events
        world.accepted(events, source.name)
        return await asking.wait() if asking else None

    async def _route(
        self,
        source: Source,
        stored: Request,
        kept: PlannedEvents,
        asking: UpstreamReply | None,
        arrival: RequestContext,
    ) -> Sequence[Event]:
        """Write down where events go, if they go anywhere; return them without repeats.

        Raises:
            SpoolError: they cannot be kept now.
        """
        world, events = self._world, kept.events
        router = world.router
        if world.consents.on:
            consented = await world.consents.update(source.name, events, asked=router.asks_consent)
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
            source.input.name,
            plan.routes,
            kept.dropped,
            tuple([world.spool.user_hash(event.user_key) for event in events]),
        )
        if source.dedup is not None:
            return await self._append_once(entry, events, source.dedup, asking)
        await world.spool.append(entry, lambda item: self._hand_to_workers(item, events, asking))
        return events

    async def _append_once(
        self, entry: Entry, events: Sequence[Event], window: float, asking: UpstreamReply | None
    ) -> Sequence[Event]:
        """Append what of *entry* repeats nothing; return its *events* without the repeats.

        A message id counts as seen for *window* seconds.

        Raises:
            SpoolError: it cannot be kept now.
        """
        new: set[int] = set()

        def accepted(item: LogRecord) -> None:
            new.update(_events_of(item.entry))
            self._hand_to_workers(item, events, asking)

        ids = {i: event.message_id for i, event in enumerate(events) if event.message_id}
        await self._world.spool.append(entry, accepted, DedupWindow(ids, window))
        repeats = _events_of(entry) - new
        if not repeats:
            return events
        log.debug(
            "duplicate_dropped", source=entry.source, request=entry.id, events=sorted(repeats)
        )
        return [event for i, event in enumerate(events) if i not in repeats]

    def _hand_to_workers(
        self, item: LogRecord, events: Sequence[Event], asking: UpstreamReply | None
    ) -> None:
        if asking:
            asking.register(item, events, self._world.workers)
        for destination, numbers in item.entry.targets.items():
            self._offers.put(partial(self._offer, destination, item, events), len(numbers))

    def _offer(self, destination: str, item: LogRecord, events: Sequence[Event]) -> None:
        """Offer an entry to whoever delivers by now; one that began since has it from the spool."""
        worker = self._world.workers.get(destination)
        if worker is not None:
            worker.offer(item, events)


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


def _preflight_response(http: web.Request, found: SourceMatch) -> web.Response | None:
    """Return the answer to a browser's preflight; None where it is none."""
    source = found.source
    leave = source.cors.preflight(http.headers, source.allowed(found.path))
    if leave is None:
        return None
    return web.Response(status=leave.status, body=leave.body, headers=leave.headers)


def _events_of(entry: Entry) -> set[int]:
    """Return the indexes of the events that go anywhere."""
    return {event_index(number) for numbers in entry.targets.values() for number in numbers}


def _with_header(response: Response, name: str, value: str) -> Response:
    return Response(response.status, {**response.headers, name: value}, response.body)
