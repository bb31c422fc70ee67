"""One vendor's HTTP server: planned faults first, then the vendor's own rules."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway.exchange import Request, Response
from gateway.sandbox.faults import Fault, Faults
from gateway.sandbox.journal import Journal
from gateway.sandbox.rules import Answer, Sandbox, status_text

GONE: Final = "the sender went away during a planned delay"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER``, on, zero seconds: closing the socket sends a RST (socket(7))."""


class Server:
    """Serve one vendor, count its faults down, and write the journal where there is one."""

    def __init__(
        self,
        vendor: Sandbox,
        key: str | None,
        faults: Faults,
        journal: Journal | None,
        arrivals: Iterator[int],
    ) -> None:
        self._vendor = vendor
        self._key = key
        self._faults = faults
        self._journal = journal
        self._arrivals = arrivals
        self._prefix = len(vendor.name) + 1

    async def serve(self, http: web.Request) -> web.StreamResponse:
        """Answer one request as the vendor would, unless a fault was planned."""
        arrival = next(self._arrivals)
        fault = self._faults.take(self._vendor.name)
        body, unreadable = await _read(http)
        request = self._received(http, body, arrival)
        try:
            answer = await self._faulted(http, request, fault) if fault else None
        except _NoAnswer as lost:
            self._note(arrival, request, None, str(lost))
            return web.Response()
        except asyncio.CancelledError:
            # A server may be set to cancel what nobody waits for any more.
            self._note(arrival, request, None, GONE)
            raise
        if answer is None and unreadable:
            answer = Answer(
                self._vendor.failure(unreadable, request),
                f"the body cannot be read: {status_text(unreadable)}",
            )
        answer = answer or self._vendor.answer(request, self._key)
        self._note(arrival, request, answer.response, answer.reason)
        said = answer.response
        told = web.Response(status=said.status, headers=said.headers, body=said.body or None)
        if unreadable:
            told.force_close()
        return told

    def _received(self, http: web.Request, body: bytes, arrival: int) -> Request:
        url = _printable(http.raw_path)[self._prefix :]
        return Request(
            method=http.method,
            url=url if url.startswith("/") else f"/{url}",
            headers={name.lower(): _printable(value) for name, value in http.headers.items()},
            body=body,
            id=f"sandbox-{arrival}",
            received_at=datetime.now(UTC),
        )

    async def _faulted(self, http: web.Request, request: Request, fault: Fault) -> Answer | None:
        await asyncio.sleep(fault.delay)
        if http.transport is None or http.transport.is_closing():
            raise _NoAnswer(GONE)
        if fault.reset:
            _drop(http)
            raise _NoAnswer(fault.reason)
        if fault.status is None:
            return None
        said = self._vendor.failure(fault.status, request)
        if fault.retry_after is not None:
            headers = {**said.headers, "retry-after": fault.retry_after}
            said = Response(said.status, headers, said.body)
        return Answer(said, fault.reason)

    def _note(
        self, arrival: int, request: Request, response: Response | None, reason: str | None
    ) -> None:
        if self._journal is not None:
            self._journal.add(arrival, self._vendor.name, request, response, reason)


class _NoAnswer(Exception):
    """The sender gets no answer, for the reason given."""


async def _read(http: web.Request) -> tuple[bytes, int]:
    """Return the body, inflated, and 0; or the status for why it cannot be had."""
    try:
        return await http.read(), 0
    except web.HTTPRequestEntityTooLarge:
        return b"", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    except web.RequestPayloadError:
        # aiohttp would read on to the end after the answer, and log the same error again.
        http.content.feed_eof()
        return b"", HTTPStatus.BAD_REQUEST


def _drop(http: web.Request) -> None:
    transport = http.transport
    if transport is None:
        return
    bare = transport.get_extra_info("socket")
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def _printable(text: str) -> str:
    """Replace what was no UTF-8 on the wire, so that the journal can be written as JSON."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
