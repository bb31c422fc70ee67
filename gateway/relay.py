"""Passing a call through to the vendor at once, and its answer back as it comes.

A careful reverse proxy, to one address only: hop-by-hop headers stay behind (RFC 9110, section
7.6.1), everything else goes on unchanged in both directions, bodies stream with backpressure, and
nothing is added that could change what the vendor does; see docs/relay.md.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

import aiohttp
import structlog
from aiohttp import web
from msgspec.structs import replace
from multidict import CIMultiDict
from yarl import URL

from gateway import body
from gateway.cors import Cors
from gateway.errors import Fault, Rejected
from gateway.exchange import REQUEST_ID, Request
from gateway.headers import check_final, end_to_end
from gateway.plugin import Output
from gateway.upstream import Upstream

TRY_AGAIN = 5
"""Seconds after which a sender should try again when nothing better is known."""
OURS = frozenset({"host", "expect", "content-length"})
"""Request headers that are between the client and the gateway. ``expect`` has been met by then."""
UNPASSABLE = frozenset({"CONNECT", "TRACE"})
"""Methods that speak to proxies; a vendor's API has neither."""
SMALL = 64 * 1024
"""Bytes of a body that is read whole first: it may then be sent again if a kept connection
turns out to be closed."""

log = structlog.get_logger()

Body = bytes | body.Stream | None


class Relay:
    """One source's way through to its vendor.

    Args:
        source: its name.
        upstream: the vendor's server.
        lender: puts the gateway's own credential in place of the client's; None leaves the
            client's.
    """

    def __init__(self, source: str, upstream: Upstream, lender: Output | None = None) -> None:
        self._source = source
        self._upstream = upstream
        self._lender = lender

    @property
    def lends(self) -> bool:
        """Tell whether the gateway's own credential goes out."""
        return self._lender is not None

    async def pass_on(self, http: web.Request, request: Request, cors: Cors) -> web.StreamResponse:
        """Return the vendor's answer to *request*, which has been sent by then.

        What the vendor says to browsers is replaced by what the source does, as *cors* has it.

        Raises:
            Rejected: it cannot be passed on, or the vendor gave no answer.
        """
        _check(request)
        answer: _Answer | None = None
        upload: Body = None
        try:
            with self._upstream.session() as session:
                async with asyncio.timeout(self._upstream.patience) as clock:
                    moved = partial(self._moved, clock)
                    url, headers, upload = await self._outgoing(http, request, moved)
                    async with session.request(
                        request.method, url, data=upload, headers=headers, allow_redirects=False
                    ) as found:
                        check_final(found.status)
                        headers = cors.marked(end_to_end(found.headers), http.headers.get("origin"))
                        headers[REQUEST_ID] = request.id
                        answer = _Answer(found, headers)
                        await _copied(found, answer, http, moved)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if answer is None:
                raise self._failed(request, upload, error) from error
            self._break_off(http, request, error)
        return answer

    def _moved(self, clock: asyncio.Timeout) -> None:
        """Put off the end of patience, as something has moved."""
        clock.reschedule(asyncio.get_running_loop().time() + self._upstream.patience)

    async def _outgoing(
        self, http: web.Request, request: Request, moved: Callable[[], None]
    ) -> tuple[URL, CIMultiDict[str], Body]:
        """Return the address, the headers and the body that go out."""
        headers = end_to_end(http.headers, OURS)
        if self._lender is not None:
            if body.inflated(http):
                headers.popall("content-encoding")
            lent = self._lender.lend(replace(request, body=await body.whole(http)))
            for name, value in lent.headers.items():
                headers[name] = value
            return self._upstream.url(lent.url), headers, lent.body or None
        url = self._upstream.url(request.url)
        if not http.body_exists:
            return url, headers, None
        length = http.content_length
        if length is not None and length <= SMALL:
            return url, headers, await body.rest(http) or None
        if length is not None:
            headers["content-length"] = str(length)
        return url, headers, body.Stream(http, moved)

    def _failed(self, request: Request, upload: Body, error: Exception) -> Rejected:
        if isinstance(upload, body.Stream) and upload.error is not None:
            return Rejected("$", "the body did not arrive whole", Fault.MALFORMED)
        cause = _cause(error)
        log.warning("relay_failed", source=self._source, request=request.id, cause=cause)
        return Rejected("$", f"the vendor gave no answer: {cause}", Fault.UNAVAILABLE, TRY_AGAIN)

    def _break_off(self, http: web.Request, request: Request, error: Exception) -> None:
        """End the client's connection, so that half an answer does not pass for a whole one."""
        client = http.transport
        if client is not None and not client.is_closing():
            cause = _cause(error)
            log.warning("relay_broken", source=self._source, request=request.id, cause=cause)
            client.abort()


class _Answer(web.StreamResponse):
    """The vendor's answer, as it goes back."""

    def __init__(self, found: aiohttp.ClientResponse, headers: CIMultiDict[str]) -> None:
        super().__init__(status=found.status, reason=found.reason, headers=headers)
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
    if found.content.is_eof():
        await answer.write_eof(found.content.read_nowait())
        return
    async for piece in found.content.iter_any():
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
