"""One client's connection: how long it may take, and how it ends.

aiohttp closes connections that are idle; everything else is here, and in `Guard`, which knows all
of them.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.ingest.connection_limits import Guard

NO_AUTO_DECOMPRESS = {"auto_decompress": False}
"""How the server is to hand over bodies."""
LINES = 256
"""Header lines of a request; past them its head is too large."""
AHEAD = 64 * 1024
"""Bytes of a body that are read before somebody takes them; aiohttp stops at twice as many."""
REQUEST, LINE = 1024, 160
"""Bytes that a request takes, and each line of its head, beside those that were sent."""
LINGER = 2.0
"""Seconds in which the client of a connection that is about to be closed may read why."""
NO_HTTP, TOO_LONG_URI, TOO_LARGE_HEAD = 400, 414, 431


class Halted(Exception):
    """The rest of a body is not waited for; the text says why."""


class ClientGone(ConnectionResetError):
    """The client has closed its connection."""


class ClientConnection(web.RequestHandler):
    """One client's connection, as aiohttp handles it, within the limits of its `Guard`.

    Attributes:
        client: the peer's address; empty for a proxy's, behind which there are many.
        heard: when something last came.
        held: bytes that were received and are not yet answered.
        speaks_for: whose address the last request had that came through a proxy.
        refused: why its requests are not taken; empty where they are.
        left: called when the connection ends.
        uninvited: whether the client waits to be asked for a body (RFC 9110, section 10.1.1).
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
        "left",
        "refused",
        "speaks_for",
        "uninvited",
    )

    def __init__(self, server: "Server", **options: Any) -> None:
        super().__init__(server, **options)
        self._guard = server.guard
        self.client = self.speaks_for = ""
        self.heard = self._loop.time()
        self.held = 0
        self.refused = ""
        self.uninvited = False
        self.left: Callable[[], object] | None = None
        self._bad: list[tuple[object, int]] = []  # raw headers of those that are refused, a status
        self._owed = 0  # requests that came and are not answered
        self._body: StreamReader | None = None  # that of the last request
        self._body_until = 0.0
        self._deaf = False  # nothing that comes now is a request
        self._head = b""  # of the next request, as far as it came
        self._head_since: float | None = None
        self._stuck_since: float | None = None  # the client does not read
        self._wire: asyncio.Transport | None = None  # aiohttp forgets its own before it is closed

    @property
    def _in_body(self) -> bool:
        return self._body is not None and not self._body.is_eof()

    @property
    def reads_body(self) -> bool:
        """Tell whether the rest of a request's body is to come."""
        return self._owed > 0 and self._in_body

    @property
    def queues(self) -> bool:
        """Tell whether requests wait here behind the one that is being answered."""
        return self._owed > 1

    @property
    def waits(self) -> bool:
        """Tell whether nothing happens here until the client sends more."""
        return not self._owed or (self._owed == 1 and self.reads_body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        self.client = "" if not address or self._guard.trusts(address) else address
        self._wire = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        self._guard.admit(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._guard.forget(self)
        left, self.left = self.left, None
        if left is not None:
            left()

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._stuck_since = self._loop.time()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._stuck_since = None

    def data_received(self, data: bytes) -> None:
        """Take what came, count it, and keep the head of a request within its limit."""
        if self._force_close or self._close or self._deaf:
            return
        now = self.heard = self._loop.time() if data else self.heard
        in_body, body = self._in_body, self._body
        if data and not in_body and self._head_since is None:
            self._head_since = now
        count = self._request_count
        super().data_received(data)
        new = self._request_count - count
        if new and in_body and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._messages.pop()
            self._break_off(body)
        elif new:
            self._owed += new
            self._arrived(data, now, new)
        elif data and not in_body:
            self._head += data
            if len(self._head) > self._guard.limits.max_headers:
                self._owed += 1
                self._request_count += 1
                self._give_up(b"", None)
        self._guard.take(self, len(data) + self._weight(new))
        if self._upgraded and self._parser is not None:
            # Nothing here speaks another protocol, so what follows is the next request.
            self._parser.set_upgraded(False)
            self._upgraded = False
            tail, self._message_tail = self._message_tail, b""
            if tail:
                self._guard.release(self, len(tail))
                self.data_received(tail)

    def _arrived(self, data: bytes, now: float, new: int) -> None:
        """Note that *new* requests have come, at least the head of the last one."""
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
        """Return the bytes that the *new* requests take, beside what was sent of them."""
        last = islice(reversed(self._messages), new) if new else ()
        heads = (one for one, _ in last if isinstance(one, RawRequestMessage))
        return sum(REQUEST + LINE * len(head.raw_headers) for head in heads)

    def _is_too_large(self, head: RawRequestMessage) -> bool:
        size = len(head.path) + sum(len(n) + len(v) + 4 for n, v in head.raw_headers)
        return size > self._guard.limits.max_headers

    def _break_off(self, body: StreamReader | None) -> None:
        """End the *body* that is on its way, as what came of it is no HTTP."""
        self._deaf = True
        self._lingering_time = LINGER
        if self._owed and body is not None:
            body.set_exception(web.RequestPayloadError("the body is no HTTP"))
        else:
            self.force_close()

    def _give_up(self, data: bytes, error: BaseException | None) -> None:
        """Queue what is known of a request whose head is too large or wrong, as the last one.

        The rest of what the client sends is let pass for a while, so that it reads the answer: a
        connection that is closed with bytes unread is reset.
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

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer to a request, which is held no more.

        Where it is the last one, the client is told so at once, though some of its body may still
        come: what is said behind a body that was never asked for could be that body.
        """
        if self.refused or self.uninvited or (self._deaf and self._owed == 1):
            self.uninvited = False
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._owed -= 1
            if self._bad:
                self._bad = [bad for bad in self._bad if bad[0] is not request.raw_headers]
            waiting = sum(body.total_bytes for _, body in self._messages)
            waiting += self._weight(len(self._messages))
            if not self._buffer_paused:  # else requests that are not even parsed wait, too
                self._guard.release(self, max(0, self.held - waiting))
            if self._in_body and self._body is not None and self._body.exception() is not None:
                # What still comes is let pass: reading it is no mistake any more.
                self._body.set_exception(cast("BaseException", None))
            wire = self.transport
            if not resp.keep_alive and wire is not None and wire.can_write_eof():
                wire.write_eof()

    def halt(self, reason: str) -> None:
        """Wait no longer for the client: answer "try later" if a body is awaited, and close."""
        if self.reads_body and self._body is not None:
            self._lingering_time = LINGER
            self.refused = reason
            self._body.set_exception(Halted(reason))
        elif not self._owed:
            self.force_close()
        else:
            self.refused = reason
            if self._body is not None:
                self._body.set_exception(Halted(reason))
            self._forget_queue()

    def _forget_queue(self) -> None:
        """Let go of all that came behind the request that is being answered, or is about to be."""
        while len(self._messages) > (not self._request_in_progress):
            self._messages.pop()
        self._parser, self._deaf, self._owed = None, True, 1

    def overdue(self, now: float) -> str | None:
        """End what takes too long; return what it was."""
        limits = self._guard.limits
        wire = self._wire
        if wire is not None and wire.is_closing() and self._stuck_since is None:
            self._stuck_since = now
        stuck = 0.0 if self._stuck_since is None else now - self._stuck_since
        if wire is not None and stuck > limits.body_timeout:
            wire.abort()
            self._wire = None
            return "write_timeout"
        if self.reads_body and not self.refused and now > self._body_until:
            self.halt("the body did not arrive in time; try again")
            return "body_timeout"
        since = self._head_since
        if since is not None and now - since > limits.header_timeout:
            if not self._owed and self.transport is not None:
                self.transport.write(
                    b"HTTP/1.1 408 Request Timeout\r\n"
                    b"content-length: 0\r\nconnection: close\r\n\r\n"
                )
            self.force_close()
            return "header_timeout"
        return None

    def wrong(self, request: web.BaseRequest) -> int:
        """Return the status for a request whose head is too large, or no HTTP; 0 for others."""
        known = (status for raw, status in self._bad if raw is request.raw_headers)
        return next(known, 0)

    def turn_away(self, reason: str) -> None:
        """Take no request: the first one is answered with "try later", if it comes in time."""
        self.refused = reason
        self._head_since = self._loop.time()

    def allow(self, seconds: float) -> None:
        """Let the body that is on its way take so long from now on."""
        self._body_until = self._loop.time() + seconds

    def passed(self, size: int) -> None:
        """Note that bytes of the body have gone on, and are held no more."""
        self._guard.release(self, min(size, self.held))

    def hold(self, size: int) -> None:
        """Note that a body takes more room than it came with.

        Raises:
            Halted: there is no such room.
        """
        self._guard.take(self, size)
        error = None if self._body is None else self._body.exception()
        if isinstance(error, Halted):
            raise error


def _salvaged(head: bytes) -> RawRequestMessage | None:
    """Return a request of whose *head* a part came; None where not even its target did."""
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
    raw = tuple([(b"", b"")])  # noqa: C409 - one of its own, by which the request is known again
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


def connection_of(http: web.BaseRequest) -> ClientConnection | None:
    """Return the connection of a request; None where the server keeps no limits."""
    protocol = http.protocol
    return protocol if isinstance(protocol, ClientConnection) else None


@contextmanager
def while_connected(http: web.BaseRequest) -> Iterator[None]:
    """Cancel what is done within when the client goes; raise `ClientGone` then."""
    connection, task = connection_of(http), asyncio.current_task()
    if connection is None or task is None:
        yield
        return
    gone = False

    def left() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    if connection.transport is None:
        raise ClientGone("the client has gone")
    connection.left = left
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone("the client has gone") from None
        raise
    finally:
        connection.left = None


class Server(web.Server):
    """aiohttp's server with connections that keep to the limits of a guard, as they are now."""

    def __init__(self, guard: Guard, plain: web.Server) -> None:
        super().__init__(plain.request_handler, request_factory=plain.request_factory)
        self.guard = guard

    def __call__(self) -> web.RequestHandler:
        """Return what handles a new connection."""
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
            **NO_AUTO_DECOMPRESS,
        )


GUARD = web.AppKey("guard", Guard)


class Runner(web.AppRunner):
    """Runs an application; its connections keep to the limits of its `GUARD`, if it has one."""

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        guard = self.app.get(GUARD)
        return plain if guard is None else Server(guard, plain)

    async def cleanup(self) -> None:
        """Stop."""
        await super().cleanup()
        guard = self.app.get(GUARD)
        if guard is not None:
            guard.stop()
