"""Receive requests: find the source, read, route, store, respond.

Requests that are not events are relayed to the source's upstream. Without an upstream, the gateway
answers a few reads itself and refuses all others in the vendor's format.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import structlog
from aiohttp import web
from aiohttp.hdrs import ORIGIN
from msgspec.structs import replace

from gateway.errors import TRY_AGAIN, Fault, RefusalCause, Rejected, SpoolError, Unavailable
from gateway.event import Event
from gateway.http import REQUEST_ID, Request, Response
from gateway.ingest.arrival import IngestObserver, RequestContext, RequestIdGenerator
from gateway.ingest.body import read_body
from gateway.ingest.connection_limits import ConnectionRefusal
from gateway.ingest.connections import NO_HTTP, connection_of
from gateway.ingest.events import plan_events, read_events, without_unused_client_id
from gateway.ingest.off_loop import LARGE_REQUEST, OffLoop
from gateway.ingest.responses import Answer, header_lines
from gateway.ingest.sources import READS, Source, SourceIndex, SourceMatch
from gateway.ingest.suppression import Suppression, blanked, rejection, targets_without
from gateway.ingest.upstream_reply import UpstreamReplies
from gateway.log_limit import LogLimit
from gateway.plugin.client_credentials import key_in_body
from gateway.routing.consent import ConsentMemory
from gateway.routing.router import AT_ONCE, Router
from gateway.spool import DedupWindow, Entry, Intake, SpoolFull
from gateway.spool.clock import moment
from gateway.tracking import PlannedEvents, ViolationCounter

log = structlog.get_logger()


Page = Callable[[Mapping[str, str]], Awaitable[Response]]
"""Returns a page of the gateway itself; takes the headers of the request."""
JSON_LINES = header_lines({"content-type": "application/json; charset=utf-8"})
NOT_HTTP = Answer(
    NO_HTTP,
    header_lines({"content-type": "text/plain; charset=utf-8"}),
    b"This is not an HTTP request.\n",
)


async def _pass_through(
    http: web.BaseRequest, found: SourceMatch, request: Request, off_loop: OffLoop
) -> web.StreamResponse | Response:
    """Return the response to a *request* that is not an event.

    A large body is read *off_loop*.

    Raises:
        Rejected: nothing serves the request, or its key is not accepted.
    """
    reads, key = found.source.input, found.source.input.relayed_credential(request)
    if key is None and found.relays_with_own_key:
        payload = await read_body(http)
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


async def _public_file(http: web.BaseRequest, found: SourceMatch, request: Request) -> Response:
    """Return the file that a page loads with *request*.

    Raises:
        Rejected: there is no such file, it cannot be fetched, or its key is not accepted.
    """
    source = found.for_files(found.source.input.relayed_credential(request))
    address = source.client_identifier.base_url(http) + source.mount
    file = source.input.public_file(request, address)
    if isinstance(file, Response):
        return file
    if source.files is None:
        raise source.rejection_for(request.method, found.path)
    return await source.files.get(file, request)


QUIET = 10.0
"""Seconds between two log lines about requests of a source that cannot be stored, or that fail."""
TOO_LARGE_HEAD = "the request line and headers are too large"


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
    def spool(self) -> Intake:
        """Return the spool."""

    @property
    def replies(self) -> UpstreamReplies:
        """Return the vendors' responses that clients wait for."""

    @property
    def observer(self) -> IngestObserver:
        """Return the observer of requests."""

    @property
    def suppression(self) -> Suppression | None:
        """Return whose events are left out; None for nobody's."""

    @property
    def tally(self) -> ViolationCounter:
        """Return the counter of tracking plan violations."""

    def accepted(self, events: Sequence[Event], source: str) -> None:
        """Report that *events* are stored."""


class Receiver:
    """Receives the requests of all sources, and those of the gateway's own *pages*."""

    def __init__(self, services: IngestServices, pages: Mapping[str, Page]) -> None:
        self._services = services
        self._pages = pages
        self._ids = RequestIdGenerator()
        self._off_loop = OffLoop()
        self._not_stored = LogLimit(1, QUIET)
        self._failed = LogLimit(1, QUIET)

    async def receive(self, http: web.BaseRequest) -> Answer | web.StreamResponse:
        """Return the response to one HTTP request, in the format of its source's vendor."""
        began = time.perf_counter()
        services, connection = self._services, connection_of(http)
        headers, method, target = http.headers, http.method, http.raw_path
        wrong = connection.wrong(http)
        if wrong == NO_HTTP:
            return NOT_HTTP
        if target[:1] != "/":
            target = http.path_qs
        path, mark, query = target.partition("?")
        if method in READS and not wrong and path in self._pages:
            return _plain(await self._pages[path](headers))
        found = services.sources.find(path, headers, method)
        if found is None:
            return self._no_source(wrong)
        source = found.source
        if method == "OPTIONS" and not wrong:
            preflight = source.cors.preflight(headers, source.allowed(found.path))
            if preflight is not None:
                return _plain(preflight)
        identified = source.client_identifier.identify(http)
        if not connection.client:
            connection.speaks_for = source.client_identifier.address(http)
        request = Request(
            method=method,
            url=found.path + mark + query,
            headers=headers,
            id=self._ids.next(traced=services.observer.sample(source.name)),
            received_at=moment(services.spool.clock.of_day()),
            client=identified.client,
        )
        arrival = RequestContext(request, source)
        response = await self._respond(http, found, arrival, wrong)
        arrival.status = wrong or response.status
        arrival.seconds = time.perf_counter() - began
        services.observer.received(arrival)
        if not isinstance(response, Response):
            return response
        cookie = "" if arrival.relayed or arrival.refused else identified.set_cookie
        return _answer(response, arrival, source, cookie, headers.get(ORIGIN))

    def _no_source(self, wrong: int) -> Answer:
        """Return the response to a request for no source."""
        self._services.observer.no_source(Fault.TOO_LARGE if wrong else Fault.NOT_FOUND)
        error = TOO_LARGE_HEAD if wrong else "not found"
        return Answer(wrong or 404, JSON_LINES, f'{{"error": "{error}"}}'.encode())

    async def _respond(
        self, http: web.BaseRequest, found: SourceMatch, arrival: RequestContext, wrong: int
    ) -> Response | web.StreamResponse:
        """Return the response to a request; a StreamResponse has been sent already.

        Args:
            http: the request.
            found: its source.
            arrival: what is known of it.
            wrong: the status if its head is too large; else 0.
        """
        source, request = found.source, arrival.request
        try:
            if wrong or connection_of(http).refusal:
                _refuse_head(None if wrong else connection_of(http).refusal)
            if source.networks and not found.by_key:
                source.check_address(source.client_identifier.address(http))
            if source.translates(request.method, found.path):
                return await self._ingest(http, found, arrival)
            if source.offers(request.method, found.path):
                return await _public_file(http, found, request)
            arrival.relayed = True
            return await _pass_through(http, found, request, self._off_loop)
        except Rejected as error:
            arrival.refused, arrival.relayed = error, False
            return _refusal(source, request, error)
        except Exception as error:
            if arrival.relayed:  # a part of the response may have been sent
                self._services.observer.failed(arrival)
                raise
            arrival.refused = refused = self._report(arrival, error)
            return _refusal(source, request, refused)

    def _report(self, arrival: RequestContext, error: Exception) -> Rejected:
        """Log a bug that a request met; return why the request is refused, to try again."""
        source = arrival.source
        if times := self._failed.take(source.name):
            log.error(
                "request_failed",
                source=source.name,
                plugin=source.input.name,
                request=arrival.request.id,
                times=times,
                exc_info=error,
            )
        return Unavailable("the request cannot be handled now; try again", RefusalCause.INTERNAL)

    async def _ingest(
        self, http: web.BaseRequest, found: SourceMatch, arrival: RequestContext
    ) -> Response:
        request, reads = arrival.request, found.source.input
        if not reads.credential_in_body:
            arrival.key = reads.credential(request, None)
            arrival.source = found.for_key(arrival.key)
        body = await read_body(http, once=True)
        size = max(len(body), len(request.url))
        if size <= LARGE_REQUEST:
            stored, events, kept = self._read(found, arrival, body)
        else:
            stored, events, kept = await self._off_loop(size, self._read, found, arrival, body)
        if not self._services.accepting:
            raise Unavailable("shutting down; try again", RefusalCause.NOT_ACCEPTING)
        source = arrival.source
        if found.by_key and source.networks:
            source.check_address(source.client_identifier.address(http))
        if arrival.private:
            if (suppression := self._services.suppression) is None or not suppression.refuses:
                return reads.accept(stored, events)
            raise rejection()
        if source.reply_timeout is None:
            await self._store(source, stored, kept, arrival)
            return reads.accept(stored, events)
        replies = self._services.replies
        with replies.expect(stored.id, source.reply_timeout) as reply:
            if not await self._store(source, stored, kept, arrival):
                return reads.accept(stored, events)
            replies.stored(reply)
            return await reply.wait() or reads.accept(stored, events)

    def _read(
        self, found: SourceMatch, arrival: RequestContext, body: bytes
    ) -> tuple[Request, list[Event], PlannedEvents]:
        """Return a request as it is stored, its events, and those that the tracking plan leaves.

        Raises:
            Rejected: the vendor would refuse the request, or its key is not accepted.
        """
        request, source, reads = arrival.request, arrival.source, arrival.source.input
        stored = arrival.stored = source.to_stored(request, body)
        payload = reads.decode(stored)
        if reads.credential_in_body:
            arrival.key = reads.credential(replace(request, body=body), payload)
            source = arrival.source = found.for_key(arrival.key)
            if found.by_key:
                stored = source.to_stored(request, body)
        events = arrival.events = read_events(source, stored, payload)
        if stored.client is not None:
            arrival.stored = stored = without_unused_client_id(stored, events)
        return stored, events, check_events(self._services, arrival, stored, payload, events)

    async def _store(
        self, source: Source, stored: Request, kept: PlannedEvents, arrival: RequestContext
    ) -> bool:
        """Route events and return once they are stored for every destination.

        Returns:
            Whether a route leads an event to a destination.

        Raises:
            Rejected: the events cannot be stored now.
        """
        try:
            return await store_events(
                self._services, arrival, stored, kept, _window(source, arrival.events)
            )
        except SpoolError as error:
            raise self._unstorable(source, stored, error) from error

    def _unstorable(self, source: Source, stored: Request, error: SpoolError) -> Rejected:
        """Log that a request cannot be stored; return why it is refused."""
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
        return Unavailable(reason, cause, max(1, round(after)))


def check_events(
    services: IngestServices,
    arrival: RequestContext,
    stored: Request,
    payload: Any,
    events: list[Event],
) -> PlannedEvents:
    """Leave out people on the suppression list; return the events that the tracking plan leaves.

    Args:
        services: the parts of the gateway.
        arrival: the request; gets what is left of its events.
        stored: the request as the spool stores it.
        payload: its decoded body.
        events: its events.

    Raises:
        Rejected: an event violates a plan that refuses violations.
    """
    source, suppression = arrival.source, services.suppression
    if suppression is not None and (left_out := suppression.among(events)):
        arrival.suppressed, arrival.private = left_out, len(left_out) == len(events)
        arrival.events = blanked(events, left_out)
        if arrival.private:
            return PlannedEvents(())
    if source.plan is None:
        return PlannedEvents(events)
    kept = plan_events(source, stored, payload, events, services.tally)
    arrival.events = blanked(kept.events, arrival.suppressed)
    return kept


async def store_events(
    services: IngestServices,
    arrival: RequestContext,
    stored: Request,
    kept: PlannedEvents,
    window: DedupWindow | None,
) -> bool:
    """Route events and return once they are stored for every destination.

    Args:
        services: the parts of the gateway.
        arrival: the request with its events.
        stored: the request as the spool stores it.
        kept: what the tracking plan leaves of its events.
        window: the ids that must not repeat; None for no deduplication.

    Returns:
        Whether a route leads an event to a destination.

    Raises:
        SpoolError: the events cannot be stored now.
    """
    source, events, left_out = arrival.source, arrival.events, arrival.suppressed
    router, consents, spool = services.router, services.consents, services.spool
    if consents.on:
        asked = router.asks_consent
        arrival.consented = await consents.update(source.name, events, asked=asked)
    if len(events) > AT_ONCE:
        plan = await router.plan_many(source.name, kept.events, arrival.consented)
    else:
        plan = router.plan(source.name, kept.events, arrival.consented)
    arrival.turns = plan.turns
    if targets := targets_without(plan.targets, left_out):
        entry = Entry(
            stored.id,
            source.name,
            stored,
            targets,
            source.input.name,
            plan.routes,
            kept.dropped,
            tuple([spool.user_hash(event.user_key) for event in events]),
        )
        within = services.replies.patience(stored.id)
        appended = await spool.append(entry, events, window, reply_within=within)
        if appended.repeats:
            _say_repeats(entry, appended.repeats)
            left_out |= appended.repeats
    if left_out:
        events = [event for index, event in enumerate(events) if index not in left_out]
    arrival.kept = events
    services.accepted(events, source.name)
    return bool(targets)


def _window(source: Source, events: Sequence[Event]) -> DedupWindow | None:
    """Return the ids that must not repeat, and for how long; None without dedup."""
    if source.dedup is None:
        return None
    ids = {i: event.message_id for i, event in enumerate(events) if event.message_id}
    return DedupWindow(ids, source.dedup)


def _say_repeats(entry: Entry, repeats: Collection[int]) -> None:
    log.debug("duplicate_dropped", source=entry.source, request=entry.id, events=sorted(repeats))


def _refuse_head(refusal: ConnectionRefusal | None) -> NoReturn:
    """Refuse a request by its connection's *refusal*; without one, because its head is too large.

    Raises:
        Rejected: always.
    """
    if refusal is not None:
        raise refusal.error()
    raise Rejected("$", TOO_LARGE_HEAD, Fault.TOO_LARGE, cause=RefusalCause.HEAD_TOO_LARGE)


def _answer(
    response: Response, arrival: RequestContext, source: Source, cookie: str, origin: str | None
) -> Answer:
    """Return the *response* of a *source*, with the headers of this request alone.

    Args:
        response: the vendor's response.
        arrival: what is known of the request.
        source: its source.
        cookie: the ``set-cookie`` header; empty for none.
        origin: the origin of the page that sent it, if any.
    """
    own = f"{REQUEST_ID}: {arrival.request.id}\r\n"
    timing = source.input.timing_header
    if timing and timing not in response.headers:
        own += f"{timing}: {arrival.seconds:.6f}\r\n"
    if cookie:
        own += f"set-cookie: {cookie}\r\n"
    lines = source.response_lines(response, origin) + own.encode()
    return Answer(arrival.status, lines, response.body)


def _plain(response: Response) -> Answer:
    """Return a response that belongs to no source."""
    lines = header_lines(response.headers, has_body=bool(response.body))
    return Answer(response.status, lines, response.body)


def _refusal(source: Source, request: Request, error: Rejected) -> Response:
    """Return the vendor's response to a refused request; it says when to try again, if ever."""
    response = source.input.refuse(request, error)
    if error.fault is not Fault.UNAVAILABLE:
        return response
    headers = {**response.headers, "retry-after": str(error.value)}
    return Response(response.status, headers, response.body)
