"""Relay requests to the vendor: forward, stream the response back, pool connections.

It is a reverse proxy to one address. Hop-by-hop headers are removed (RFC 9110, section 7.6.1);
everything else goes on unchanged in both directions. Bodies stream with backpressure. Nothing is
added that could change the vendor's behaviour; see docs/relay.md.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

import aiohttp
import structlog
from aiohttp import web
from msgspec.structs import replace
from multidict import CIMultiDict
from yarl import URL

from gateway.config.proxy import Proxy
from gateway.errors import Fault, RefusalCause, Rejected, Unavailable
from gateway.http import REQUEST_ID, Request, check_final_status, end_to_end_headers, harden, reason
from gateway.http_client import Connector, vendor_session
from gateway.ingest import body
from gateway.ingest.connections import ClientGone, Halted, connection_of, while_connected
from gateway.ingest.cors import Cors
from gateway.ingest.off_loop import OffLoop
from gateway.ingest.relay_key import RelayKeyExchange, without_unreadable
from gateway.ingest.response_masking import AS_IT_IS, Masking, inflated
from gateway.log_limit import LogLimit

CONNECTIONS = 256
"""Most parallel calls to one upstream; further ones wait."""
CALLS_EACH = 192
"""Most parallel calls of one client to one upstream."""
UPLOADS, UPLOADS_EACH = 128, 32
"""Most bodies that are streamed to one upstream in parallel, in total and per client. The client
decides how long such an upload takes."""
IDLE = 15.0
"""Seconds that an unused connection is kept. Most servers keep it longer: a call on a connection
that the server has just closed fails, and only some methods may be retried."""


class UpstreamAddress(NamedTuple):
    """The URL and idle timeout of an upstream."""

    url: str
    idle_timeout: float
    """Seconds without data in either direction after which a call is ended."""
    proxy: Proxy | None = None
    """The proxy that calls go through."""


class Turns:
    """Limits the number of parallel calls, in total and per client; further ones wait.

    Args:
        total: most calls at once.
        each: most calls of one client at once.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._each = each
        self._clients: dict[str, tuple[asyncio.Semaphore, set[object]]] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn of *client*, and hold it in the context."""
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
    """One vendor's server; all calls go to URLs below its address.

    Attributes:
        calls: limits parallel calls.
        uploads: limits parallel calls with a streamed body.
        through: arguments of aiohttp for the proxy.
    """

    def __init__(self, place: UpstreamAddress) -> None:
        self.calls = Turns(CONNECTIONS, CALLS_EACH)
        self.uploads = Turns(UPLOADS, UPLOADS_EACH)
        self.patience = place.idle_timeout
        self.through = proxy_arguments(place.proxy)
        self._base = place.url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._lent = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    def url(self, target: str) -> URL:
        """Return the URL of *target*, a path with its query, without any change of spelling.

        Raises:
            ValueError: the URL is invalid.
        """
        return URL(self._base + target, encoded=True)

    @contextmanager
    def session(self) -> Iterator[aiohttp.ClientSession]:
        """Return a session for one call; it stays open until the call ends."""
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
        """Close all connections when the last call has ended."""
        self._retired = True
        if not self._lent:
            await self.close()

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def proxy_arguments(proxy: Proxy | None) -> dict[str, Any]:
    """Return aiohttp's arguments for a call through *proxy*."""
    if proxy is None:
        return {}
    authorization = {"proxy-authorization": proxy.authorization} if proxy.authorization else {}
    return {"proxy": URL(f"http://{proxy.address}"), "proxy_headers": authorization}


class UpstreamPool:
    """The upstreams of a configuration; a reload keeps those that the new one has too."""

    def __init__(self) -> None:
        self._open: dict[UpstreamAddress, Upstream] = {}

    def get(self, place: UpstreamAddress) -> Upstream:
        """Return the upstream at *place*."""
        return self._open.setdefault(place, Upstream(place))

    async def retain(self, wanted: Iterable[UpstreamAddress]) -> None:
        """Close all other upstreams, each when its last call has ended."""
        kept = set(wanted)
        for place in [place for place in self._open if place not in kept]:
            await self._open.pop(place).retire()

    async def close(self) -> None:
        """Close all connections."""
        for upstream in self._open.values():
            await upstream.close()


OURS = frozenset({"host", "expect", "content-length"})
"""Request headers between client and gateway. The gateway has already handled ``expect``."""
UNPASSABLE = frozenset({"CONNECT", "TRACE"})
"""Methods for proxies; no vendor's API has them."""
SMALL = 64 * 1024
"""Bytes; a smaller body is read first, so that it can be sent again if a kept connection turns out
to be closed."""
CLIENT_GONE = 499
"""Recorded status of a call whose client has closed the connection, as in nginx."""

QUIET = 10.0
"""Seconds between two log lines about the same failure of a source's calls."""

log = structlog.get_logger()

Body = bytes | body.BodyStream | None


class Relay:
    """Relays the requests of one source to its vendor.

    Args:
        source: name of the source.
        upstream: the vendor's server.
        key_exchange: replaces the client's key by the gateway's own; None keeps the client's key.
        upload_timeout: seconds within which a body must arrive.
    """

    def __init__(
        self,
        source: str,
        upstream: Upstream,
        key_exchange: RelayKeyExchange | None = None,
        *,
        upload_timeout: float = 300.0,
    ) -> None:
        self._upload_timeout = upload_timeout
        self._source = source
        self._upstream = upstream
        self._key_exchange = key_exchange
        self._lines = LogLimit(1, QUIET)

    @property
    def uses_own_key(self) -> bool:
        """Return whether calls use the gateway's own key."""
        return self._key_exchange is not None

    def serves(self, request: Request) -> bool:
        """Return whether *request* may be relayed; the gateway's own key has limited endpoints."""
        return self._key_exchange is None or self._key_exchange.check(request)

    async def forward(
        self,
        http: web.BaseRequest,
        request: Request,
        cors: Cors,
        off_loop: OffLoop,
        client: str = "",
    ) -> web.StreamResponse:
        """Relay *request*; return the vendor's response after it has been sent to the client.

        The vendor's CORS headers are replaced by those of the source. The call ends when the client
        closes its connection. *client* is the client's address, for the limits per client. Large
        bodies are read *off_loop*.

        Raises:
            Rejected: the request cannot be relayed, or the vendor sent no response.
        """
        _check(request)
        call = _Call()
        try:
            with self._upstream.session() as session, while_connected(http):
                async with asyncio.timeout(self._upstream.patience) as clock:
                    moved = partial(self._moved, clock)
                    url, headers, call.upload = await self._outgoing(http, request, off_loop, moved)
                    call.ready = True
                    async with self._turn(call, client):
                        moved()
                        async with session.request(
                            request.method,
                            url,
                            data=call.upload,
                            headers=headers,
                            allow_redirects=False,
                            **self._upstream.through,
                        ) as found:
                            check_final_status(found.status)
                            headers = end_to_end_headers(found.headers)
                            headers = cors.with_headers(headers, http.headers.get("origin"))
                            headers[REQUEST_ID] = request.id
                            call.answer = _Answer(found, headers, self._masking(request))
                            await _copied(found, call.answer, http, moved)
        except ClientGone:
            self._log("relay_abandoned", request)
            return call.answer or web.Response(status=CLIENT_GONE, reason="Client Gone")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if call.answer is None:
                raise self._failed(request, call, error) from error
            self._break_off(http, request, error)
        return call.answer

    def _log(self, event: str, request: Request, **more: str) -> None:
        """Log the failure of a call, at a limited rate."""
        if times := self._lines.take(event):
            write = log.info if event == "relay_abandoned" else log.warning
            write(event, source=self._source, request=request.id, **more, times=times)

    @asynccontextmanager
    async def _turn(self, call: "_Call", client: str) -> AsyncIterator[None]:
        """Wait until *client* may make one more call."""
        async with AsyncExitStack() as turns:
            if isinstance(call.upload, body.BodyStream):
                await turns.enter_async_context(self._upstream.uploads.turn(client))
            await turns.enter_async_context(self._upstream.calls.turn(client))
            call.begun = True
            yield

    def _masking(self, request: Request) -> Masking:
        """Return the masking of the gateway's own key in the response to *request*."""
        return AS_IT_IS if self._key_exchange is None else self._key_exchange.masking(request)

    def _moved(self, clock: asyncio.Timeout) -> None:
        """Restart the idle timeout, because data has moved."""
        clock.reschedule(asyncio.get_running_loop().time() + self._upstream.patience)

    async def _outgoing(
        self, http: web.BaseRequest, request: Request, off_loop: OffLoop, moved: Callable[[], None]
    ) -> tuple[URL, CIMultiDict[str], Body]:
        """Return URL, headers and body of the call to the vendor."""
        headers = end_to_end_headers(http.headers, OURS)
        if self._key_exchange is not None:
            if body.inflated(http):
                headers.popall("content-encoding")
            whole = replace(request, body=await body.read_body(http))
            keyed = await off_loop(len(whole.body), self._key_exchange.lend, whole)
            without_unreadable(headers)
            for name, value in keyed.headers.items():
                headers[name] = value
            return self._upstream.url(keyed.url), headers, keyed.body or None
        url = self._upstream.url(request.url)
        if not http.body_exists:
            return url, headers, None
        length = http.content_length
        connection_of(http).allow(self._upload_timeout)
        if length is not None and length <= SMALL:
            return url, headers, await body.read_remaining(http) or None
        if length is not None:
            headers["content-length"] = str(length)
        return url, headers, body.BodyStream(http, moved)

    def _failed(self, request: Request, call: "_Call", error: Exception) -> Rejected:
        broken = call.upload.error if isinstance(call.upload, body.BodyStream) else None
        if isinstance(broken, Halted):
            return broken.refusal.error()
        if broken is not None:
            return Rejected("$", "the body is incomplete", Fault.MALFORMED)
        if not call.begun and call.ready:
            self._log("relay_full", request)
            what = "too many parallel calls to the vendor; try again"
            return Unavailable(what, RefusalCause.RELAY_FULL)
        cause = failure_cause(error)
        self._log("relay_failed", request, cause=cause)
        return Unavailable(f"no response from the vendor: {cause}", RefusalCause.RELAY_FAILED)

    def _break_off(self, http: web.BaseRequest, request: Request, error: Exception) -> None:
        """Abort the client's connection, so that a partial response does not look complete."""
        client = http.transport
        if client is not None and not client.is_closing():
            cause = failure_cause(error)
            self._log("relay_broken", request, cause=cause)
            client.abort()


@dataclass
class _Call:
    """The progress of one call."""

    upload: Body = None
    ready: bool = False
    """Whether it can be sent."""
    begun: bool = False
    """Whether its turn has come."""
    answer: "_Answer | None" = None


class _Answer(web.StreamResponse):
    """The vendor's response on its way to the client."""

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
        self._send_headers_immediately = not found.content.is_eof()  # else together with the body

    async def _prepare_headers(self) -> None:
        """Add no content type if the vendor sent none, as aiohttp would, and none of its own."""
        await super()._prepare_headers()
        if not self._typed:
            self.headers.popall("content-type", None)
        harden(self)


async def _copied(
    found: aiohttp.ClientResponse, answer: _Answer, http: web.BaseRequest, moved: Callable[[], None]
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
    """Check that the path stays below the upstream's address, however it is resolved.

    Raises:
        Rejected: the path may leave it, or the method is for proxies.
    """
    if request.method in UNPASSABLE:
        raise Rejected("$", f"{request.method} is not allowed here", Fault.METHOD)
    path = unquote(request.path).replace("\\", "/")
    if not path.startswith("/") or any(
        segment.partition(";")[0] in {".", ".."} for segment in path.split("/")
    ):
        raise Rejected("$", "no such endpoint", Fault.NOT_FOUND)


def failure_cause(error: Exception) -> str:
    """Return the cause in a few words; the error's own text may contain the whole URL."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy opens no tunnel (status {error.status})"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "cannot connect to the proxy"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "cannot connect"
    if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
        return "connection lost"
    return "invalid response"
