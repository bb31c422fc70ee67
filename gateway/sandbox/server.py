"""Serve every emulated vendor under its own path."""

import asyncio
import itertools
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway.errors import ConfigError
from gateway.http import Request, Response
from gateway.plugin.sandbox import Sandbox, SandboxResponse, status_text
from gateway.sandbox.api import SandboxApi
from gateway.sandbox.faults import FaultPlan, PlannedFault, UnknownVendorError
from gateway.sandbox.journal import Journal

GONE: Final = "the sender disconnected during a planned delay"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER``, on, zero seconds: closing the socket sends RST (socket(7))."""


class VendorServer:
    """Serves one vendor: applies its faults, responds, and writes the journal if there is one."""

    def __init__(
        self,
        vendor: Sandbox,
        key: str | None,
        faults: FaultPlan,
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
        """Respond to a request as the vendor would, unless a fault is planned."""
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
            # aiohttp can be set to cancel the handler when the client disconnects.
            self._note(arrival, request, None, GONE)
            raise
        if answer is None and unreadable:
            answer = SandboxResponse(
                self._vendor.failure(unreadable, request),
                f"cannot read the body: {status_text(unreadable)}",
            )
        answer = answer or self._vendor.respond(request, self._key)
        self._note(arrival, request, answer.response, answer.reason)
        sent = answer.response
        response = web.Response(status=sent.status, headers=sent.headers, body=sent.body or None)
        if unreadable:
            response.force_close()
        return response

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

    async def _faulted(
        self, http: web.Request, request: Request, fault: PlannedFault
    ) -> SandboxResponse | None:
        await asyncio.sleep(fault.delay)
        if http.transport is None or http.transport.is_closing():
            raise _NoAnswer(GONE)
        if fault.reset:
            _drop(http)
            raise _NoAnswer(fault.reason)
        if fault.status is None:
            return None
        failure = self._vendor.failure(fault.status, request)
        if fault.retry_after is not None:
            headers = {**failure.headers, "retry-after": fault.retry_after}
            failure = Response(failure.status, headers, failure.body)
        return SandboxResponse(failure, fault.reason)

    def _note(
        self, arrival: int, request: Request, response: Response | None, reason: str | None
    ) -> None:
        if self._journal is not None:
            self._journal.add(arrival, self._vendor.name, request, response, reason)


class _NoAnswer(Exception):
    """The sender gets no response; the message is the reason."""


async def _read(http: web.Request) -> tuple[bytes, int]:
    """Return the decompressed body and 0; or no body and the status of the error."""
    try:
        return await http.read(), 0
    except web.HTTPRequestEntityTooLarge:
        return b"", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    except web.RequestPayloadError:
        # Without this, aiohttp reads on after the response and logs the same error again.
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
    """Replace bytes that are not UTF-8, so that the journal can be written as JSON."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


LARGEST_BODY: Final = 16 * 1024 * 1024
"""Bytes after decompression; more than any vendor documents for events."""
JOURNAL_SIZE: Final = 100_000


def make_app(
    sandboxes: Iterable[Sandbox],
    keys: Mapping[str, str],
    *,
    journal: bool = True,
    journal_size: int = JOURNAL_SIZE,
) -> web.Application:
    """Return the sandbox as an application.

    Args:
        sandboxes: the vendors.
        keys: the only key to accept, by vendor; other vendors accept any key.
        journal: write a journal. Without it the page stays empty and no time is spent on it, as in
            benchmarks.
        journal_size: the number of requests to keep.

    Raises:
        ConfigError: two sandboxes have the same name, or a key is for an unknown vendor.
    """
    vendors = list(sandboxes)
    names = _checked_names(vendors, keys)
    faults = FaultPlan(names)
    written = Journal(journal_size)
    arrivals = itertools.count(1)
    app = web.Application(client_max_size=LARGEST_BODY)
    api = SandboxApi(written, faults, names)
    app.add_routes(api.routes())
    for vendor in vendors:
        server = VendorServer(
            vendor, keys.get(vendor.name), faults, written if journal else None, arrivals
        )
        app.router.add_route("*", f"/{vendor.name}", server.serve)
        app.router.add_route("*", f"/{vendor.name}/{{path:.*}}", server.serve)
    app.router.add_route("*", "/{vendor}{path:.*}", api.no_such_vendor)
    app.on_shutdown.append(api.close)
    return app


def _checked_names(vendors: Iterable[Sandbox], keys: Mapping[str, str]) -> list[str]:
    counted = Counter(vendor.name for vendor in vendors)
    names = sorted(counted)
    problems = [f"two sandboxes have the name {name!r}" for name in names if counted[name] > 1]
    problems += [
        f"--key {name}: {UnknownVendorError(name, names)}" for name in keys if name not in counted
    ]
    if problems:
        raise ConfigError(problems)
    return names
