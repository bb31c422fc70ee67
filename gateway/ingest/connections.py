"""One client's connection: its timeouts and size limits, and how it is closed.

aiohttp closes idle connections. Other limits of one connection are here; those over all connections
are in `Guard`.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.hdrs import EXPECT
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.ingest.connection_limits import BODY_LATE, STOPPING, ConnectionRefusal, Guard
from gateway.ingest.request_loop import Handler, RequestLoop
from gateway.ingest.responses import Answer

LINES = 256
"""Most header lines of a request."""
AHEAD = 64 * 1024
"""Bytes of a body that are buffered before they are read; aiohttp stops at twice as many."""
REQUEST, LINE = 1024, 160
"""Extra bytes of memory per request, and per header line."""
LINGER = 2.0
"""Seconds before a connection is closed, so that the client can read the response."""
NO_HTTP, TOO_LONG_URI, TOO_LARGE_HEAD = 400, 414, 431


class Halted(Exception):
    """The gateway stopped reading a body.

    Attributes:
        refusal: why.
    """

    def __init__(self, refusal: ConnectionRefusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class ClientGone(ConnectionResetError):
    """The client has closed its connection."""


class ClientConnection(RequestLoop):
    """One client's connection, with the limits of its `Guard`.

    Attributes:
        client: the peer's address; empty for a proxy, which has many clients.
        heard: loop time of the last data from the client.
        held: bytes of requests that were received and not yet answered.
        speaks_for: the client's address of the last request through a proxy.
        refusal: why its requests are refused; None if they are not.
        left: called when the connection ends.
        invited: whether the client of the current request got "100 Continue".
    """

    __slots__ = (
        "_bad",
        "_body",
        "_body_until",
        "_deaf",
        "_guard",
        "_head",
        "_head_since",
        "_owed",
        "_stuck_since",
        "_wire",
        "client",
        "heard",
        "held",
        "invited",
        "left",
        "refusal",
        "speaks_for",
    )

    def __init__(self, server: "Server", **options: Any) -> None:
        super().__init__(server, server.respond, server.max_body, **options)
        self._guard = server.guard
        self.client = self.speaks_for = ""
        self.heard = self._loop.time()
        self.held = 0
        self.refusal: ConnectionRefusal | None = None
        self.invited = False
        self.left: Callable[[], object] | None = None
        self._bad: list[tuple[object, int]] = []  # raw headers and status of refused requests
        self._owed = 0  # requests without a response yet
        self._body: StreamReader | None = None  # of the last request
        self._body_until = 0.0
        self._deaf = False  # further data is ignored
        self._head = b""  # of the next request, incomplete
        self._head_since: float | None = None
        self._stuck_since: float | None = None  # since when the client does not read
        self._wire: asyncio.Transport | None = None  # aiohttp drops its own before it is closed

    @property
    def _in_body(self) -> bool:
        return self._body is not None and not self._body.is_eof()

    @property
    def reads_body(self) -> bool:
        """Return whether a request's body is incomplete."""
        return self._owed > 0 and self._in_body

    @property
    def queues(self) -> bool:
        """Return whether further requests wait behind the current one."""
        return self._owed > 1

    @property
    def waits(self) -> bool:
        """Return whether the connection waits for data from the client."""
        return not self._owed or (self._owed == 1 and self.reads_body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection; the guard refuses it if there are too many."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        self.client = "" if not address or self._guard.trusts(address) else address
        self._wire = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        self._guard.admit(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Unregister the connection, and call ``left``."""
        super().connection_lost(exc)
        if self._in_body and self._body is not None:
            # aiohttp tells only a handler; the loop may be reading the rest after the response.
            self._body.set_exception(
                exc or ConnectionResetError("the client closed the connection")
            )
        self._guard.forget(self)
        left, self.left = self.left, None
        if left is not None:
            left()

    def pause_writing(self) -> None:
        """Record that the client does not read."""
        super().pause_writing()
        self._stuck_since = self._loop.time()

    def resume_writing(self) -> None:
        """Record that the client reads again."""
        super().resume_writing()
        self._stuck_since = None

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Read on after a pause; aiohttp calls this for each piece of a body that is taken."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it
        """Keep the connection until all complete requests have responses, then close it.

        The client may have closed only its own half. A relayed call ends, as an incomplete body
        does: the client has most likely left.
        """
        stays = self._owed > 0 and not self._in_body and self.left is None
        self._deaf = self._deaf or stays
        return stays

    def data_received(self, data: bytes) -> None:
        """Parse and count data, and limit the size of a request's head."""
        if self._force_close or self._close or self._deaf:
            return
        now = self.heard = self._loop.time() if data else self.heard
        body = self._body
        in_body = body is not None and not body.is_eof()
        if data and not in_body and self._head_since is None:
            self._head_since = now
        count = self._request_count
        super().data_received(data)
        size = len(data)
        if new := self._request_count - count:
            if in_body and not isinstance(self._messages[-1][0], RawRequestMessage):
                self._messages.pop()
                self._break_off(body)
            else:
                self._owed += new
                self._arrived(data, now, new)
            size += self._weight(new)
        elif data and not in_body:
            self._head += data
            if len(self._head) > self._guard.limits.max_headers:
                self._owed += 1
                self._request_count += 1
                self._give_up(b"", None)
        self._guard.take(self, size)
        if self._upgraded and self._parser is not None:
            # The gateway never switches protocols, so the rest is the next request.
            self._parser.set_upgraded(False)
            self._upgraded = False
            tail, self._message_tail = self._message_tail, b""
            if tail:
                self._guard.release(self, len(tail))
                self.data_received(tail)

    def _arrived(self, data: bytes, now: float, new: int) -> None:
        """Record *new* requests, of which at least the heads have come."""
        message, self._body = self._messages[-1]
        self._body_until = now + self._guard.limits.body_timeout
        if len(self._head) + len(data) > self._guard.limits.max_headers:
            for one, _ in islice(reversed(self._messages), new):
                if isinstance(one, RawRequestMessage) and self._is_too_large(one):
                    self._bad.append((one.raw_headers, TOO_LARGE_HEAD))
        if not isinstance(message, RawRequestMessage):
            self._messages.pop()
            self._give_up(data, message.exc)
        self._head, self._head_since = b"", None

    def _weight(self, new: int) -> int:
        """Return the extra bytes of memory of the last *new* requests."""
        weight = 0
        for head, _ in islice(reversed(self._messages), new):
            if isinstance(head, RawRequestMessage):
                weight += REQUEST + LINE * len(head.raw_headers)
        return weight

    def _is_too_large(self, head: RawRequestMessage) -> bool:
        size = len(head.path) + sum(len(n) + len(v) + 4 for n, v in head.raw_headers)
        return size > self._guard.limits.max_headers

    def _break_off(self, body: StreamReader | None) -> None:
        """Fail the current *body*, because it is not valid HTTP."""
        self._deaf = True
        self._lingering_time = LINGER
        if self._owed and body is not None:
            body.set_exception(web.RequestPayloadError("the body is not valid HTTP"))
        else:
            self.force_close()

    def _give_up(self, data: bytes, error: BaseException | None) -> None:
        """Queue a request whose head is too large or invalid, as the last one of the connection.

        Further data is read and ignored for a while, so that the client can read the response:
        closing a connection with unread data resets it.
        """
        head, self._head = self._head + data, b""
        body = StreamReader(self, self._read_bufsize, loop=self._loop)
        too_large = error is None or isinstance(error, LineTooLong) or "Too many" in str(error)
        salvaged = _salvaged(head) if too_large else None
        if salvaged is None:
            kind = "LineTooLong" if error is None else type(error).__name__
            self._guard.unreadable(kind)
            salvaged = _message("GET", "/", CIMultiDict())
            status = NO_HTTP
        else:
            line = head.partition(b"\r\n")[0]
            status = TOO_LARGE_HEAD
            if len(line) > self._guard.limits.max_headers:
                status = TOO_LONG_URI
        self._bad.append((salvaged.raw_headers, status))
        self._messages.append((salvaged, body))
        self._body = body
        self._body_until = self._loop.time() + self._guard.limits.body_timeout
        self._head_since = None
        self._lingering_time = LINGER
        self._deaf = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _send(
        self, request: web.BaseRequest, response: Answer | web.StreamResponse, *, keeps: bool
    ) -> bool:
        """Send the response to a request, and release its bytes.

        If the connection closes after it, the gateway sends that at once, even if a part of the
        body is still to come: data after a body that was never requested could be that body.
        """
        if self.refusal or (self._deaf and self._owed == 1):
            keeps = False
        elif EXPECT in request.headers and waits(request):
            asked = self.invited or not request.body_exists
            keeps = keeps and asked and request.content.is_eof()
        self.invited = False
        try:
            keeps = await super()._send(request, response, keeps=keeps)
        finally:
            self._owed -= 1
            if self._bad:
                self._bad = [bad for bad in self._bad if bad[0] is not request.raw_headers]
            waiting = 0
            if self._messages:
                waiting = sum(body.total_bytes for _, body in self._messages)
                waiting += self._weight(len(self._messages))
            if not self._buffer_paused:  # else there are requests that are not parsed yet
                self._guard.release(self, max(0, self.held - waiting))
            if self._in_body and self._body is not None and self._body.exception() is not None:
                # The rest of the body is read and ignored without an error.
                self._body.set_exception(cast("BaseException", None))
            wire = self.transport
            if not keeps and wire is not None and wire.can_write_eof():
                wire.write_eof()
        return keeps

    def close(self) -> None:
        """Take no more data; respond "try again" to a request whose body is incomplete."""
        super().close()
        if self.reads_body:
            self.halt(STOPPING)

    def halt(self, refusal: ConnectionRefusal) -> None:
        """Stop waiting for the client: respond "try again" to an incomplete request, and close."""
        if self.reads_body and self._body is not None:
            self._lingering_time = LINGER
            self.refusal = refusal
            self._body.set_exception(Halted(refusal))
        elif not self._owed:
            self.force_close()
        else:
            self.refusal = refusal
            if self._body is not None:
                self._body.set_exception(Halted(refusal))
            self._forget_queue()

    def _forget_queue(self) -> None:
        """Remove all requests behind the current one."""
        while len(self._messages) > (not self._request_in_progress):
            self._messages.pop()
        self._parser, self._deaf, self._owed = None, True, 1

    def overdue(self, now: float) -> str | None:
        """Close the connection if a timeout has passed; return its name, or None."""
        limits = self._guard.limits
        wire = self._wire
        if wire is not None and wire.is_closing() and self._stuck_since is None:
            self._stuck_since = now
        stuck = 0.0 if self._stuck_since is None else now - self._stuck_since
        if wire is not None and stuck > limits.body_timeout:
            wire.abort()
            self._wire = None
            return "write_timeout"
        if self.reads_body and not self.refusal and now > self._body_until:
            self.halt(BODY_LATE)
            return "body_timeout"
        since = self._head_since
        if since is not None and now - since > limits.header_timeout:
            self._head_since = None  # closing may take longer than until the next look
            if self._head:
                self._guard.late()
            if not self._owed and self.transport is not None:
                self.transport.write(
                    b"HTTP/1.1 408 Request Timeout\r\n"
                    b"content-length: 0\r\nconnection: close\r\n\r\n"
                )
            self.force_close()
            return "header_timeout"
        return None

    def wrong(self, request: web.BaseRequest) -> int:
        """Return the status for a request with a too large or invalid head; 0 for others."""
        if not self._bad:
            return 0
        known = (status for raw, status in self._bad if raw is request.raw_headers)
        return next(known, 0)

    def turn_away(self, refusal: ConnectionRefusal) -> None:
        """Refuse all requests: the first one gets "try again", if it comes in time."""
        self.refusal = refusal
        self._head_since = self._loop.time()

    def allow(self, seconds: float) -> None:
        """Set the time that the current body may take from now on, in seconds."""
        self._body_until = self._loop.time() + seconds

    def passed(self, size: int) -> None:
        """Release bytes of the body that were streamed on."""
        self._guard.release(self, min(size, self.held))

    def hold(self, size: int) -> None:
        """Count further bytes of a body, such as after decompression.

        Raises:
            Halted: there is no memory for them.
        """
        self._guard.take(self, size)
        error = None if self._body is None else self._body.exception()
        if isinstance(error, Halted):
            raise error


def _salvaged(head: bytes) -> RawRequestMessage | None:
    """Return the request of an incomplete *head*; None if even the target is missing."""
    line, _, rest = head.partition(b"\r\n")
    method, _, target = line.partition(b" ")
    path = target.partition(b" ")[0].decode("utf-8", "surrogateescape")
    if not path.startswith("/") or not method.isalpha():
        return None
    path = path[:8190]
    known: CIMultiDict[str] = CIMultiDict()
    for one in rest.split(b"\r\n"):
        name, colon, value = one.partition(b":")
        if colon and name.lower() in {b"host", b"origin"}:
            known[name.decode("latin-1")] = value.strip().decode("latin-1")
    return _message(method.decode("latin-1").upper(), path, known)


def _message(method: str, path: str, headers: CIMultiDict[str]) -> RawRequestMessage:
    plain, _, query = path.partition("?")
    url = URL.build(path=plain, query_string=query, encoded=True)
    raw = tuple([(b"", b"")])  # noqa: C409 - a new object, which identifies the request
    return RawRequestMessage(
        method,
        path,
        HttpVersion11,
        CIMultiDictProxy(headers),
        raw,
        should_close=True,
        compression=None,
        upgrade=False,
        chunked=False,
        url=url,
    )


def connection_of(http: web.BaseRequest) -> ClientConnection:
    """Return the connection of a request."""
    return http.protocol  # type: ignore[return-value]  # the server has no other connections


def waits(http: web.BaseRequest) -> bool:
    """Return whether the sender waits for "100 Continue" (RFC 9110, section 10.1.1)."""
    expected = http.headers.get(EXPECT)
    if expected is None:
        return False
    return expected.strip().lower() == "100-continue" and http.version >= HttpVersion11


@contextmanager
def while_connected(http: web.BaseRequest) -> Iterator[None]:
    """Cancel the body and raise `ClientGone` when the client closes the connection."""
    connection, task = connection_of(http), cast("asyncio.Task[None]", asyncio.current_task())
    gone = False

    def left() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    if connection.transport is None:
        raise ClientGone("the client closed the connection")
    connection.left = left
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone("the client closed the connection") from None
        raise
    finally:
        connection.left = None


class Server(web.Server):
    """aiohttp's server with the current limits of a guard.

    Args:
        respond: returns the response to a request.
        guard: the limits of its connections.
        max_body: largest body in bytes that a request may be read to.
    """

    def __init__(self, respond: Handler, guard: Guard, max_body: int) -> None:
        super().__init__(cast("Any", respond))
        self.respond = respond
        self.guard = guard
        self.max_body = max_body

    def __call__(self) -> web.RequestHandler:
        """Return the handler of a new connection."""
        limits = self.guard.limits
        return ClientConnection(
            self,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=limits.idle_timeout,
            max_line_size=limits.max_headers,
            max_field_size=limits.max_headers,
            max_headers=LINES,
            read_bufsize=AHEAD,
            auto_decompress=False,
        )
