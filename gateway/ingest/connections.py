"""The clients' connections: how long they may take, how many there are, how much they may hold.

aiohttp closes connections that are idle; everything else is here. One timer looks at all of them.
Under pressure the client that holds most gives way, and of its connections the one that has been
silent longest, so that whoever sends a request that is whole is served:

    waits for a request, or for its head   closed
    waits for the rest of a body           answered with "try later", in the vendor's words, closed
    is being answered                      left alone
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.log_limit import LogLimit

NO_AUTO_DECOMPRESS = {"auto_decompress": False}
"""How the server is to hand over bodies."""
SPARE = 256
"""Files that are open besides connections, and those that these need at vendors."""
LINES = 256
"""Header lines of a request; past them its head is too large."""
AHEAD = 64 * 1024
"""Bytes of a body that are read before somebody takes them; aiohttp stops at twice as many."""
REQUEST, LINE = 1024, 160
"""Bytes that a request takes, and each line of its head, beside those that were sent."""
SMALL = 16 * 1024
"""Bytes that a client may hold although the budget is spent, while the others hold no more than an
eighth above it: what they hold may be worked on for a while."""
LINGER = 2.0
"""Seconds in which the client of a connection that is about to be closed may read why."""
BATCH = 64
"""A look for connections that can be closed goes over all of them, so it frees this part of a limit
at once."""
VAIN = 0.05
"""Seconds between two looks for connections that can be closed, where the last one found none."""
QUIET = 10.0
"""Seconds between two log lines about connections of one kind."""
NO_HTTP, TOO_LONG_URI, TOO_LARGE_HEAD = 400, 414, 431

log = structlog.get_logger()


class Halted(Exception):
    """The rest of a body is not waited for; the text says why."""


class ClientGone(ConnectionResetError):
    """The client has closed its connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take."""

    header_timeout: float = 15.0
    body_timeout: float = 30.0
    idle_timeout: float = 75.0
    max_connections: int = 4096
    per_client: int = 2048
    """Connections from one address, unless it is a trusted proxy's."""
    max_headers: int = 32 * 1024
    max_bodies: int = 64 * 1024 * 1024
    """Bytes that were received and are not yet answered, over all connections."""

    @property
    def tick(self) -> float:
        """Return the seconds between two looks at all connections."""
        return min(1.0, max(0.02, min(self.header_timeout, self.body_timeout) / 10))


class Guard:
    """What holds for all connections of an application, and what is told of them.

    Args:
        limits: what clients may take.
        trusts: tells whether an address is a proxy's, through which many clients come.
        closed: told, with the reason, of each connection that is closed or turned away.
        unreadable: told, with the kind of mistake, of each request that is no HTTP.
    """

    def __init__(
        self,
        limits: Limits,
        trusts: Callable[[str], bool],
        closed: Callable[[str], None],
        unreadable: Callable[[str], None],
    ) -> None:
        self.limits = limits
        self.trusts = trusts
        self.unreadable = unreadable
        self.held = 0
        """Bytes that were received and are not yet answered."""
        self._closed = closed
        self._open: set[ClientConnection] = set()
        self._leaving: set[ClientConnection] = set()
        self._clients = Counter[str]()
        self._timer: asyncio.TimerHandle | None = None
        self._lines = LogLimit(1, QUIET)
        self._vain: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._open)

    def admit(self, new: "ClientConnection") -> None:
        """Make room for a connection; where there is none, it is answered with "try later"."""
        limits = self.limits
        self._open.add(new)
        client = new.client
        self._clients[client] += 1
        if client and self._clients[client] > limits.per_client:
            own = [one for one in self._open if one.client == client and one is not new]
            if not self._close(own, limits.per_client, "client_limit"):
                new.turn_away("too many connections from this address; try again")
        elif len(self._open) > limits.max_connections:
            others = [one for one in self._open if one is not new]
            if not self._close(others, limits.max_connections, "limit"):
                new.turn_away("too many connections; try again")
        if new.refused:
            self.report("refused")
            if len(self._open) > limits.max_connections + limits.max_connections // 16 + 1:
                new.force_close()
        if self._timer is None:
            self._look()

    def leave(self, one: "ClientConnection") -> None:
        """Count a connection no more, as it is about to end."""
        if one not in self._open:
            return
        self._open.discard(one)
        self._leaving.add(one)
        self._clients[one.client] -= 1
        if self._clients[one.client] <= 0:
            del self._clients[one.client]
        self.held -= one.held
        one.held = 0

    def forget(self, one: "ClientConnection") -> None:
        """Forget a connection that has ended."""
        self.leave(one)
        self._leaving.discard(one)

    def take(self, one: "ClientConnection", size: int) -> None:
        """Count bytes that a connection holds now; past the budget somebody has to give way."""
        if one not in self._open:
            return
        one.held += size
        self.held += size
        most = self.limits.max_bodies
        if self.held <= (most * 9 // 8 if one.held <= SMALL else most):
            return
        if self._may_look("memory"):
            reading = [other for other in self._open if other.reads_body or other.queues]
            goal = most * 7 // 8
            for other in _heaviest(reading, lambda found: found.held):
                if self.held <= goal:
                    break
                self.leave(other)
                self.report("memory")
                other.halt("too many large requests at once; try again")
            self._looked("memory", found=self.held <= goal)
        if self.held > most:
            self.leave(one)
            self.report("memory")
            one.halt("too many large requests at once; try again")

    def release(self, one: "ClientConnection", size: int) -> None:
        """Count bytes that a connection holds no more."""
        if one in self._open:
            one.held -= size
            self.held -= size

    def report(self, why: str) -> None:
        """Count a connection that is closed or turned away, and say so now and then."""
        self._closed(why)
        if self._lines.take(why):
            log.info("connection_closed", reason=why, connections=len(self._open), held=self.held)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, some: "Iterable[ClientConnection]", limit: int, why: str) -> int:
        """Close connections that wait for their client; return how many."""
        if not self._may_look(why):
            return 0
        count = 0
        waiting = [one for one in some if one.waits]
        for one in _heaviest(waiting, lambda _: 1):
            if count > limit // BATCH:
                break
            count += 1
            self.leave(one)
            self.report(why)
            one.halt("too many connections; try again")
        self._looked(why, found=count > 0)
        return count

    def _may_look(self, why: str) -> bool:
        """Tell whether a look over all connections may find any, so soon after the last one."""
        return asyncio.get_running_loop().time() >= self._vain.get(why, 0.0)

    def _looked(self, why: str, *, found: bool) -> None:
        """Note whether a look found any: while all are busy, looking each time would cost more."""
        if not found:
            self._vain[why] = asyncio.get_running_loop().time() + VAIN

    def _look(self) -> None:
        """Close what takes too long."""
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for one in [*self._open, *self._leaving]:
            why = one.overdue(now)
            if why is not None:
                self.report(why)
        if self._open or self._leaving:
            self._timer = loop.call_later(self.limits.tick, self._look)


def _heaviest(
    some: "Iterable[ClientConnection]", weight: "Callable[[ClientConnection], int]"
) -> "Iterator[ClientConnection]":
    """Yield connections in the order in which they give way.

    Those of the client that holds most come first, and of one client's those that have been silent
    longest. A proxy's connection counts for the client of its last request.
    """
    clients: dict[str, list[ClientConnection]] = {}
    for one in some:
        clients.setdefault(one.client or one.speaks_for or str(id(one)), []).append(one)
    by_silence = [sorted(own, key=lambda one: one.heard) for own in clients.values()]
    for own in sorted(by_silence, key=lambda own: (-sum(map(weight, own)), own[0].heard)):
        yield from own


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


def allow_files(connections: int) -> int:
    """Let the process open as many files as *connections* need; return how many of them it may.

    A quarter of all files is for everything else: vendors, the spool. Without one to accept with,
    nobody would be served.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * 4 // 3 + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft * 3 // 4))


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
