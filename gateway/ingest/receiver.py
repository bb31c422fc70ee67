"""Receive requests: find the source, read, route, store, respond.

Requests that are not events are relayed to the source's upstream. Without an upstream, the gateway
answers a few reads itself and refuses all others in the vendor's format.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog
from aiohttp import web

from gateway.errors import TRY_AGAIN, Fault, RefusalCause, Rejected, SpoolError, Unavailable
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
    http: web.Request, found: SourceMatch, request: Request, off_loop: OffLoop
) -> web.StreamResponse | Response:
    """Return the response to a *request* that is not an event.

    A large body is read *off_loop*.

    Raises:
        Rejected: nothing serves the request, or its key is not accepted.
    """
    reads, key = found.source.input, found.source.input.relayed_credential(request)
    if key is None and found.relays_with_own_key:
        payload = await body.read_body(http)
        key = await off_loop(len(payload), key_in_body, payload, reads)
    if found.can_relay or f"{request.method} {found.path}" in reads.unsupported:
        source = found.source if key is None else found.for_key(key)
        if source.relay is not None:
            if source.relay.uses_own_key and key is None:
                raise Rejected("$", "the request has no key", Fault.UNAUTHENTICATED)
            if not source.relay.serves(request):
                log.info("relay_refused", source=source.name, request=request.id)
                raise source.rejection_for(request.method, found.path)
            client = source.client_identifier.address(http)
            return await source.relay.forward(http, request, source.cors, off_loop, client)
        static = reads.static_response(request, secrets.token_hex(16))
        if static is not None:
            return static
    raise found.source.rejection_for(request.method, found.path)


QUIET = 10.0
"""Seconds between two log lines about events of a source that cannot be stored."""
TOO_LARGE_HEAD = "the request line and headers are too large"


class DeliveryQueue(ReplySource, Protocol):
    """A destination's worker, as the receiver sees it."""

    def offer(self, item: LogRecord, events: Sequence[Event]) -> None:
        """Accept a new entry."""


class IngestServices(Protocol):
    """The parts of the running gateway that the receiver needs; a reload may replace them."""

    accepting: bool
    """Whether new events are accepted."""

    @property
    def sources(self) -> SourceIndex:
        """Return the index that finds a request's source."""

    @property
    def router(self) -> Router:
        """Return the router of events to destinations."""

    @property
    def consents(self) -> ConsentMemory:
        """Return the stored consent of users."""

    @property
    def spool(self) -> Spool:
        """Return the spool."""

    @property
    def workers(self) -> Mapping[str, DeliveryQueue]:
        """Return the workers by destination."""

    @property
    def observer(self) -> IngestObserver:
        """Return the observer of requests."""

    @property
    def tally(self) -> ViolationCounter:
        """Return the counter of tracking plan violations."""

    def accepted(self, events: Sequence[Event], source: str) -> None:
        """Report that *events* are stored."""


class Receiver:
    """Receives the requests of all sources."""

    def __init__(self, services: IngestServices) -> None:
        self._services = services
        self._ids = RequestIdGenerator()
        self._off_loop = OffLoop()
        self._not_stored = LogLimit(1, QUIET)
        self._offers = TurnQueue()

    async def receive(self, http: web.Request) -> web.StreamResponse:
        """Return the response to one HTTP request, in the format of its source's vendor."""
        began = time.perf_counter()
        observed, connection = self._services.observer, connection_of(http)
        wrong = 0 if connection is None else connection.wrong(http)
        if wrong == NO_HTTP:
            return web.Response(status=wrong, text="This is not an HTTP request.\n")
        target = http.raw_path if http.raw_path.startswith("/") else http.path_qs
        path, mark, query = target.partition("?")
        found = self._services.sources.find(path, http.headers, http.method)
        if found is None:
            return self._no_source(wrong)
        source = found.source
        if (
            http.method == "OPTIONS"
            and not wrong
            and (preflight := _preflight_response(http, found)) is not None
        ):
            return preflight
        identified = source.client_identifier.identify(http)
        if connection is not None and not connection.client:
            connection.speaks_for = source.client_identifier.address(http)
        request = Request(
            method=http.method,
            url=found.path + mark + query,
            headers=http.headers,
            id=self._ids.next(traced=observed.sample(source.name)),
            received_at=moment(self._services.spool.clock.of_day()),
            client=identified.client,
        )
        arrival = RequestContext(request, source)
        response = await self._respond(http, found, arrival)
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
            answer.force_close()  # the sender may omit a body that was not requested
        if identified.set_cookie and not (arrival.relayed or arrival.refused):
            answer.headers.add("set-cookie", identified.set_cookie)
        return answer

    def _no_source(self, wrong: int) -> web.Response:
        """Return the response to a request for no source."""
        self._services.observer.no_source(Fault.TOO_LARGE if wrong else Fault.NOT_FOUND)
        error = TOO_LARGE_HEAD if wrong else "not found"
        return web.json_response({"error": error}, status=wrong or 404)

    async def _respond(
        self, http: web.Request, found: SourceMatch, arrival: RequestContext
    ) -> Response | web.StreamResponse:
        """Return the response to a request; a StreamResponse has been sent already."""
        source, request = found.source, arrival.request
        try:
            _check_head(http)
            if source.translates(request.method, found.path):
                return await self._ingest(http, found, arrival)
            arrival.relayed = True
            return await _pass_through(http, found, request, self._off_loop)
        except Rejected as error:
            arrival.refused, arrival.relayed = error, False
            response = source.input.refuse(request, error)
            if error.fault is Fault.UNAVAILABLE:
                response = _with_header(response, "retry-after", str(error.value))
            return response
        except Exception:
            self._services.observer.failed(arrival)
            raise

    async def _ingest(
        self, http: web.Request, found: SourceMatch, arrival: RequestContext
    ) -> Response:
        source, reads, request = found.source, found.source.input, arrival.request
        if not reads.credential_in_body:
            arrival.key = reads.credential(request, None)
            source = arrival.source = found.for_key(arrival.key)
        stored = arrival.stored = source.to_stored(request, await body.read_body(http))
        size = max(len(stored.body), len(stored.url))
        payload = await self._off_loop(size, reads.decode, stored)
        if reads.credential_in_body:
            arrival.key = reads.credential(request, payload)
            source = arrival.source = found.for_key(arrival.key)
            stored = source.to_stored(request, stored.body) if found.by_key else stored
        events = await self._off_loop(size, read_events, source, stored, payload)
        arrival.events = events
        arrival.stored = stored = without_unused_client_id(stored, events)
        kept = PlannedEvents(events)
        if source.plan is not None:
            tally = self._services.tally
            kept = await self._off_loop(size, plan_events, source, stored, payload, events, tally)
            arrival.events = kept.events
        return await self._store(source, stored, kept, arrival) or reads.accept(stored, events)

    async def _store(
        self, source: Source, stored: Request, kept: PlannedEvents, arrival: RequestContext
    ) -> Response | None:
        """Route events and return once they are stored for every destination.

        The result is the vendor's own response if the source asks for it and it comes in time.

        Raises:
            Rejected: the events cannot be stored now.
        """
        services = self._services
        if not services.accepting:
            raise Unavailable("shutting down; try again", RefusalCause.NOT_ACCEPTING)
        reply = (
            None
            if source.reply_timeout is None
            else UpstreamReply(source.input, source.reply_timeout)
        )
        try:
            events = await self._route(source, stored, kept, reply, arrival)
        except SpoolError as error:
            if times := self._not_stored.take(source.name):
                log.warning(
                    "append_failed",
                    source=source.name,
                    request=stored.id,
                    error=str(error),
                    times=times,
                )
            cause, after = RefusalCause.SPOOL_FAILED, float(TRY_AGAIN)
            if isinstance(error, SpoolFull):
                cause, after = RefusalCause.SPOOL_FULL, error.retry_after
            reason = "the event cannot be stored now; try again"
            raise Unavailable(reason, cause, max(1, round(after))) from error
        arrival.kept = events
        services.accepted(events, source.name)
        return await reply.wait() if reply else None

    async def _route(
        self,
        source: Source,
        stored: Request,
        kept: PlannedEvents,
        reply: UpstreamReply | None,
        arrival: RequestContext,
    ) -> Sequence[Event]:
        """Store events that have a destination; return all events without duplicates.

        Raises:
            SpoolError: the events cannot be stored now.
        """
        services, events = self._services, kept.events
        router, consents = services.router, services.consents
        if consents.on:
            consented = await consents.update(source.name, events, asked=router.asks_consent)
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
            tuple([services.spool.user_hash(event.user_key) for event in events]),
        )
        if source.dedup is not None:
            return await self._append_once(entry, events, source.dedup, reply)
        await services.spool.append(entry, lambda item: self._hand_to_workers(item, events, reply))
        return events

    async def _append_once(
        self, entry: Entry, events: Sequence[Event], window: float, reply: UpstreamReply | None
    ) -> Sequence[Event]:
        """Append *entry* without duplicates; return *events* without duplicates.

        A message id is a duplicate for *window* seconds.

        Raises:
            SpoolError: the entry cannot be stored now.
        """
        new: set[int] = set()

        def accepted(item: LogRecord) -> None:
            new.update(_events_of(item.entry))
            self._hand_to_workers(item, events, reply)

        ids = {i: event.message_id for i, event in enumerate(events) if event.message_id}
        await self._services.spool.append(entry, accepted, DedupWindow(ids, window))
        repeats = _events_of(entry) - new
        if not repeats:
            return events
        log.debug(
            "duplicate_dropped", source=entry.source, request=entry.id, events=sorted(repeats)
        )
        return [event for i, event in enumerate(events) if i not in repeats]

    def _hand_to_workers(
        self, item: LogRecord, events: Sequence[Event], reply: UpstreamReply | None
    ) -> None:
        if reply:
            reply.register(item, events, self._services.workers)
        for destination, numbers in item.entry.targets.items():
            self._offers.put(partial(self._offer, destination, item, events), len(numbers))

    def _offer(self, destination: str, item: LogRecord, events: Sequence[Event]) -> None:
        """Offer an entry to the destination's current worker.

        A worker that started after the entry was stored reads it from the spool.
        """
        worker = self._services.workers.get(destination)
        if worker is not None:
            worker.offer(item, events)


async def _plan(
    router: Router,
    source: str,
    events: Sequence[Event],
    consented: Mapping[int, Consented] = NOBODY,
) -> Routed:
    """Return the deliveries of one request's *events*."""
    if len(events) > AT_ONCE:
        return await router.plan_many(source, events, consented)
    return router.plan(source, events, consented)


def _check_head(http: web.Request) -> None:
    """Check the size of a request's head, and that there is room for its connection.

    Raises:
        Rejected: the head is too large, or there are too many connections.
    """
    connection = connection_of(http)
    if connection is None:
        return
    if connection.wrong(http):
        cause = RefusalCause.HEAD_TOO_LARGE
        raise Rejected("$", TOO_LARGE_HEAD, Fault.TOO_LARGE, cause=cause)
    if connection.refusal:
        raise connection.refusal.error()


def _preflight_response(http: web.Request, found: SourceMatch) -> web.Response | None:
    """Return the response to a browser's preflight; None if the request is not a preflight."""
    source = found.source
    answer = source.cors.preflight(http.headers, source.allowed(found.path))
    if answer is None:
        return None
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def _events_of(entry: Entry) -> set[int]:
    """Return the indexes of the events that have a destination."""
    return {event_index(number) for numbers in entry.targets.values() for number in numbers}


def _with_header(response: Response, name: str, value: str) -> Response:
    return Response(response.status, {**response.headers, name: value}, response.body)
