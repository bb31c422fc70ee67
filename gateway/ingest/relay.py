"""Relay requests to the vendor: forward, stream the response back, pool connections.

A careful reverse proxy, to one address only: hop-by-hop headers stay behind (RFC 9110, section
7.6.1), everything else goes on unchanged in both directions, bodies stream with backpressure, and
nothing is added that could change what the vendor does; see docs/relay.md.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

import aiohttp
import structlog
from aiohttp import web
from msgspec.structs import replace
from multidict import CIMultiDict
from yarl import URL

from gateway.errors import TRY_AGAIN, Fault, Rejected
from gateway.http import REQUEST_ID, Request, check_final_status, end_to_end_headers, reason
from gateway.http_client import Connector, vendor_session
from gateway.ingest import body
from gateway.ingest.connections import ClientGone, Halted, connection_of, while_connected
from gateway.ingest.cors import Cors
from gateway.ingest.off_loop import OffLoop
from gateway.ingest.relay_key import Lender, without_unreadable
from gateway.ingest.response_masking import AS_IT_IS, Masking, inflated
from gateway.log_limit import LogLimit

CONNECTIONS = 256
"""Calls to one upstream that may be under way; further ones wait for their turn."""
CALLS_EACH = 192
"""Calls of one client to one upstream that may be under way."""
UPLOADS, UPLOADS_EACH = 128, 32
"""Bodies that may go up to one upstream as they come in, and those of one client: whoever sends
them decides how long each takes."""
IDLE = 15.0
"""Seconds that an unused connection is kept: less than most servers do, since a call that is
sent down a connection just closed fails, and only some methods may be tried twice."""


class UpstreamAddress(NamedTuple):
    """Where an upstream is, and how long it may be silent."""

    url: str
    idle_timeout: float
    """Seconds in which nothing moves, in neither direction, after which a call is given up."""


class Turns:
    """So many at once, and so many of one client; all others wait for their turn.

    Args:
        total: at once.
        each: of them of one client.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._each = each
        self._clients: dict[str, tuple[asyncio.Semaphore, set[object]]] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn of *client*, and keep it."""
        mine, users = self._clients.setdefault(client, (asyncio.Semaphore(self._each), set()))
        user = object()
        users.add(user)
        try:
            async with mine, self._total:
                yield
        finally:
            users.discard(user)
            if not users:
                self._clients.pop(client, None)


class Upstream:
    """One vendor's server: whatever is passed on to it stays below its address.

    Attributes:
        calls: the turns of calls.
        uploads: the turns of those whose body goes up as it comes in.
    """

    def __init__(self, place: UpstreamAddress) -> None:
        self.calls = Turns(CONNECTIONS, CALLS_EACH)
        self.uploads = Turns(UPLOADS, UPLOADS_EACH)
        self.patience = place.idle_timeout
        self._base = place.url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._lent = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    def url(self, target: str) -> URL:
        """Return the address of *target*, a path with its query, not a letter of it changed.

        Raises:
            ValueError: there is no such address.
        """
        return URL(self._base + target, encoded=True)

    @contextmanager
    def session(self) -> Iterator[aiohttp.ClientSession]:
        """Lend the connections for one call; they stay open until it ends."""
        if self._session is None:
            self._session = vendor_session(
                Connector(limit=CONNECTIONS, ttl_dns_cache=300, keepalive_timeout=IDLE),
                also_skip=("content-type",),
            )
        self._lent += 1
        try:
            yield self._session
        finally:
            self._lent -= 1
            if self._retired and not self._lent:
                self._closing = asyncio.get_running_loop().create_task(self.close())

    async def retire(self) -> None:
        """Close every connection as soon as no call needs it."""
        self._retired = True
        if not self._lent:
            await self.close()

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class UpstreamPool:
    """The upstreams of a configuration; those that the next one has as well are kept."""

    def __init__(self) -> None:
        self._open: dict[UpstreamAddress, Upstream] = {}

    def get(self, url: str, patience: float) -> Upstream:
        """Return the upstream at *url*."""
        place = UpstreamAddress(url, patience)
        return self._open.setdefault(place, Upstream(place))

    async def retain(self, wanted: Iterable[UpstreamAddress]) -> None:
        """Let go of all others, each when its last call has ended."""
        kept = set(wanted)
        for place in [place for place in self._open if place not in kept]:
            await self._open.pop(place).retire()

    async def close(self) -> None:
        """Close every connection."""
        for upstream in self._open.values():
            await upstream.close()


OURS = frozenset({"host", "expect", "content-length"})
"""Request headers that are between the client and the gateway. ``expect`` has been met by then."""
UNPASSABLE = frozenset({"CONNECT", "TRACE"})
"""Methods that speak to proxies; a vendor's API has neither."""
SMALL = 64 * 1024
"""Bytes of a body that is read whole first: it may then be sent again if a kept connection
turns out to be closed."""
CLIENT_GONE = 499
"""The status under which a call is noted whose client has left, as nginx does."""

QUIET = 10.0
"""Seconds in which calls of a source that fail in the same way are logged once."""

log = structlog.get_logger()

Body = bytes | body.BodyStream | None


class Relay:
    """One source's way through to its vendor.

    Args:
        source: its name.
        upstream: the vendor's server.
        lender: puts the gateway's own credential in place of the client's; None leaves the
            client's.
        upload_timeout: seconds in which a body has to arrive.
    """

    def __init__(
        self,
        source: str,
        upstream: Upstream,
        lender: Lender | None = None,
        *,
        upload_timeout: float = 300.0,
    ) -> None:
        self._upload_timeout = upload_timeout
        self._source = source
        self._upstream = upstream
        self._lender = lender
        self._lines = LogLimit(1, QUIET)

    @property
    def uses_own_key(self) -> bool:
        """Tell whether the gateway's own credential goes out."""
        return self._lender is not None

    def serves(self, request: Request) -> bool:
        """Tell whether *request* may go on: with our credential, to some endpoints only."""
        return self._lender is None or self._lender.check(request)

    async def forward(
        self, http: web.Request, request: Request, cors: Cors, apart: OffLoop, client: str = ""
    ) -> web.StreamResponse:
        """Return the vendor's answer to *request*, which has been sent by then.

        What the vendor says to browsers is replaced by what the source does, as *cors* has it. The
        call ends when the client leaves, and waits for a turn of *client*, whose address it is.
        Large ones are looked into *apart* from the loop.

        Raises:
            Rejected: it cannot be passed on, or the vendor gave no answer.
        """
        _check(request)
        call = _Call()
        try:
            with self._upstream.session() as session, while_connected(http):
                async with asyncio.timeout(self._upstream.patience) as clock:
                    moved = partial(self._moved, clock)
                    url, headers, call.upload = await self._outgoing(http, request, apart, moved)
                    call.ready = True
                    async with self._turn(call, client):
                        moved()
                        async with session.request(
                            request.method,
                            url,
                            data=call.upload,
                            headers=headers,
                            allow_redirects=False,
                        ) as found:
                            check_final_status(found.status)
                            headers = end_to_end_headers(found.headers)
                            headers = cors.with_headers(headers, http.headers.get("origin"))
                            headers[REQUEST_ID] = request.id
                            call.answer = _Answer(found, headers, self._masking(request))
                            await _copied(found, call.answer, http, moved)
        except ClientGone:
            self._say("relay_abandoned", request)
            return call.answer or web.Response(status=CLIENT_GONE, reason="Client Gone")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if call.answer is None:
                raise self._failed(request, call, error) from error
            self._break_off(http, request, error)
        return call.answer

    def _say(self, event: str, request: Request, **more: str) -> None:
        """Log how a call failed, now and then."""
        if times := self._lines.take(event):
            write = log.info if event == "relay_abandoned" else log.warning
            write(event, source=self._source, request=request.id, **more, times=times)

    @asynccontextmanager
    async def _turn(self, call: "_Call", client: str) -> AsyncIterator[None]:
        """Wait until *client* may have one more call under way, or upload."""
        async with AsyncExitStack() as turns:
            if isinstance(call.upload, body.BodyStream):
                await turns.enter_async_context(self._upstream.uploads.turn(client))
            await turns.enter_async_context(self._upstream.calls.turn(client))
            call.begun = True
            yield

    def _masking(self, request: Request) -> Masking:
        """Return what keeps our credential out of the answer to *request*."""
        return AS_IT_IS if self._lender is None else self._lender.masking(request)

    def _moved(self, clock: asyncio.Timeout) -> None:
        """Put off the end of patience, as something has moved."""
        clock.reschedule(asyncio.get_running_loop().time() + self._upstream.patience)

    async def _outgoing(
        self, http: web.Request, request: Request, apart: OffLoop, moved: Callable[[], None]
    ) -> tuple[URL, CIMultiDict[str], Body]:
        """Return the address, the headers and the body that go out."""
        headers = end_to_end_headers(http.headers, OURS)
        if self._lender is not None:
            if body.inflated(http):
                headers.popall("content-encoding")
            whole = replace(request, body=await body.read_body(http))
            lent = await apart(len(whole.body), self._lender.lend, whole)
            without_unreadable(headers)
            for name, value in lent.headers.items():
                headers[name] = value
            return self._upstream.url(lent.url), headers, lent.body or None
        url = self._upstream.url(request.url)
        if not http.body_exists:
            return url, headers, None
        length = http.content_length
        connection = connection_of(http)
        if connection is not None:
            connection.allow(self._upload_timeout)
        if length is not None and length <= SMALL:
            return url, headers, await body.read_remaining(http) or None
        if length is not None:
            headers["content-length"] = str(length)
        return url, headers, body.BodyStream(http, moved)

    def _failed(self, request: Request, call: "_Call", error: Exception) -> Rejected:
        broken = call.upload.error if isinstance(call.upload, body.BodyStream) else None
        if isinstance(broken, Halted):
            return Rejected("$", str(broken), Fault.UNAVAILABLE, TRY_AGAIN)
        if broken is not None:
            return Rejected("$", "the body did not arrive whole", Fault.MALFORMED)
        if not call.begun and call.ready:
            self._say("relay_full", request)
            what = "too many calls are on their way to the vendor; try again"
            return Rejected("$", what, Fault.UNAVAILABLE, TRY_AGAIN)
        cause = _cause(error)
        self._say("relay_failed", request, cause=cause)
        return Rejected("$", f"the vendor gave no answer: {cause}", Fault.UNAVAILABLE, TRY_AGAIN)

    def _break_off(self, http: web.Request, request: Request, error: Exception) -> None:
        """End the client's connection, so that half an answer does not pass for a whole one."""
        client = http.transport
        if client is not None and not client.is_closing():
            cause = _cause(error)
            self._say("relay_broken", request, cause=cause)
            client.abort()


@dataclass
class _Call:
    """How far one call has come."""

    upload: Body = None
    ready: bool = False
    """It can be sent."""
    begun: bool = False
    """Its turn has come."""
    answer: "_Answer | None" = None


class _Answer(web.StreamResponse):
    """The vendor's answer, as it goes back."""

    def __init__(
        self, found: aiohttp.ClientResponse, headers: CIMultiDict[str], masking: Masking
    ) -> None:
        self.masking = masking
        if masking.hides:
            headers = masking.headers(headers)
            if headers.popall("content-encoding", None):
                headers.popall("content-length", None)
        said = reason(found.reason)
        super().__init__(status=found.status, reason=said and masking.text(said), headers=headers)
        self._typed = "content-type" in headers
        self._send_headers_immediately = not found.content.is_eof()  # else with the body, at once

    async def _prepare_headers(self) -> None:
        """Add no content type where the vendor named none; aiohttp would."""
        await super()._prepare_headers()
        if not self._typed:
            self.headers.popall("content-type", None)


async def _copied(
    found: aiohttp.ClientResponse, answer: _Answer, http: web.Request, moved: Callable[[], None]
) -> None:
    moved()
    await answer.prepare(http)
    if found.content.is_eof() and not answer.masking.hides:
        await answer.write_eof(found.content.read_nowait())
        return
    pieces: AsyncIterable[bytes] = found.content.iter_any()
    if answer.masking.hides:
        plain = inflated(pieces, found.headers.get("content-encoding", ""))
        pieces = answer.masking.pieces(plain)
    async for piece in pieces:
        await answer.write(piece)
        moved()
    await answer.write_eof()


def _check(request: Request) -> None:
    """Pass what stays below the upstream's address, whoever resolves it.

    Raises:
        Rejected: it does not, or it is no method of an API.
    """
    if request.method in UNPASSABLE:
        raise Rejected("$", f"{request.method} is not allowed here", Fault.METHOD)
    path = unquote(request.path).replace("\\", "/")
    if not path.startswith("/") or any(
        segment.partition(";")[0] in {".", ".."} for segment in path.split("/")
    ):
        raise Rejected("$", "no such endpoint", Fault.NOT_FOUND)


def _cause(error: Exception) -> str:
    """Return what went wrong in a word or two; an error's own text may hold the whole address."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "cannot connect"
    if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
        return "connection lost"
    return "no sensible answer"
