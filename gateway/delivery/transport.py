"""HTTP/1.1 requests to one destination over kept connections."""

import asyncio
import functools
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import aiohappyeyeballs

from gateway.config import DestinationConfig
from gateway.config.proxy import Proxy, proxy_of
from gateway.config.tls_files import default_tls
from gateway.config.types import plain_value
from gateway.delivery.connection import Connection, Exchange, OnEnd
from gateway.delivery.proxy_tunnel import open_tunnel
from gateway.delivery.request_head import Origin, RequestHeads
from gateway.errors import TransportError
from gateway.http import NO_HEADERS, Request, Response

KEEP_ALIVE = 60.0
"""Seconds for which an idle connection is kept."""
UNWATCHED = 0.01
"""Seconds for which an idle connection is trusted; later it is asked whether something came."""
LOOKUP_TTL = 300.0
"""Seconds for which the addresses of a host are remembered."""
MAX_AGE = 300.0
"""Seconds after which a connection is not used again, so that a host that moves is followed."""
HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds after which the next address is tried as well (RFC 8305, section 5)."""

CLOSED = "connection lost: the destination is closed"

AddressInfo = tuple[
    int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]
]


class Transport(Protocol):
    """Whatever can carry a request to a destination."""

    def post(self, request: Request, on_end: OnEnd, *, whole: bool = False) -> object:
        """Send *request*, and call *on_end* once, later, with its response or `TransportError`.

        Args:
            request: to be sent.
            on_end: called from the event loop, never before the return.
            whole: keep every header of the response, and more of its body.
        """

    async def close(self) -> None:
        """Close every connection."""


class HttpTransport:
    """HTTP/1.1 with kept connections; one per destination, so that none waits for another.

    Redirects are not followed: an event goes where the configuration says. Nothing is sent twice.

    Args:
        timeout: seconds from sending to the end of the response, a wait for a connection included;
            it is noticed up to a tenth later.
        connections: the most that may be open at once.
        tls: settings for https addresses; the system's where left out.
        proxy: makes every connection; None to connect directly.
        headers: added to every request, by lower-case names.
    """

    def __init__(
        self,
        *,
        timeout: float,
        connections: int,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._most = connections
        self._tls = tls
        self._proxy = proxy
        self._via = f" through proxy {proxy.address}" if proxy else ""
        self._heads = RequestHeads(headers)
        self._addresses = Addresses()
        self._open: dict[Connection, asyncio.Task[None] | None] = {}
        """Every connection; with the task that opens it, where it is not open yet."""
        self._idle: dict[Origin, list[Connection]] = {}
        self._under_way: dict[Exchange, None] = {}
        """In the order of their deadlines."""
        self._waiting: deque[Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, request: Request, *, whole: bool = False) -> Response:
        """Return the response to *request*, the *whole* of it or what a verdict needs.

        Once a status line has come the vendor has decided, so a response that cannot be read
        further has that status, and says why in ``unread``.

        Raises:
            TransportError: no status line came in time.
        """
        ended: asyncio.Future[Response] = self._loop.create_future()

        def on_end(end: Response | TransportError) -> None:
            if ended.done():
                return
            if isinstance(end, Response):
                ended.set_result(end)
            else:
                ended.set_exception(end)

        exchange = self.post(request, on_end, whole=whole)
        try:
            return await ended
        except asyncio.CancelledError:
            if exchange is not None:
                self.cancel(exchange)
            raise

    def post(self, request: Request, on_end: OnEnd, *, whole: bool = False) -> Exchange | None:
        """Send *request*, and call *on_end* once with its response or `TransportError`.

        Returns:
            What `cancel` takes; None where the request cannot be sent, which *on_end* learns soon.
        """
        loop = self._loop
        if self._closed:
            loop.call_soon(on_end, TransportError("reset", CLOSED))
            return None
        try:
            head = self._heads.of(request)
        except ValueError as error:
            why = TransportError("protocol", f"the request cannot be sent: {error}")
            loop.call_soon(on_end, why)
            return None
        body, now = request.body, loop.time()
        payload = b"%b%d\r\n\r\n%b" % (head.start, len(body), body)
        exchange = Exchange(head.origin, payload, on_end, now + self._timeout)
        if whole:
            exchange.whole = True
        if request.method == "HEAD":
            exchange.bodyless = True
        self._under_way[exchange] = None
        if self._timer is None:
            self._timer = loop.call_later(self._timeout / 10, self._end_overdue)
        if self._waiting or not self._begin(exchange, now):
            self._waiting.append(exchange)
        return exchange

    def cancel(self, exchange: Exchange) -> None:
        """Give *exchange* up; nobody is told, and its connection is not used again."""
        self._under_way.pop(exchange, None)
        if exchange.connection is not None:
            exchange.connection.drop()
        elif exchange in self._waiting:
            self._waiting.remove(exchange)

    def _begin(self, exchange: Exchange, now: float) -> bool:
        """Send *exchange*; return False if it has to wait for a connection."""
        idle = self._idle.get(exchange.origin)
        while idle:
            connection = idle.pop()
            rested = now - connection.idle_since
            fresh = rested < UNWATCHED or (rested <= KEEP_ALIVE and not connection.has_unread())
            if connection.is_usable and fresh:
                connection.begin(exchange)
                return True
            self._forget(connection)
        if len(self._open) >= self._most and not self._drop_idle():
            return False
        connection = Connection(self, exchange.origin)
        connection.begin(exchange)
        self._open[connection] = self._loop.create_task(self._connect(connection))
        return True

    def _drop_idle(self) -> bool:
        """Close an idle connection to another server; tell whether there was one."""
        for idle in self._idle.values():
            if idle:
                self._forget(idle.pop(0))
                return True
        return False

    def _forget(self, connection: Connection) -> None:
        connection.abort()
        task = self._open.pop(connection, None)
        if task is not None:
            task.cancel()

    async def _connect(self, connection: Connection) -> None:
        origin, proxy = connection.origin, self._proxy
        dialled = Origin(proxy.host, proxy.port, tls=False) if proxy else origin
        loop = self._loop
        try:
            found = await self._addresses.of(dialled)
            made = await aiohappyeyeballs.start_connection(
                found, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY, interleave=1, loop=loop
            )
            connection.socket = made
            try:
                if proxy is not None:
                    await open_tunnel(made, proxy, origin)
                tls = (self._tls or default_tls()) if origin.tls else None
                await loop.create_connection(
                    lambda: connection, sock=made, ssl=tls,
                    server_hostname=origin.host.rstrip(".") if origin.tls else None,
                )  # fmt: skip
            except BaseException:
                made.close()
                raise
        except (OSError, ssl.SSLError, ValueError) as error:
            self._addresses.distrust(dialled)
            what = f"cannot connect to {origin.host}:{origin.port}{self._via}: {error}"
            connection.fail("connect", what)
        finally:
            if connection in self._open:
                self._open[connection] = None

    def on_exchange_end(self, connection: Connection, exchange: Exchange, *, keep: bool) -> None:
        """Take *connection* back from *exchange*, and begin what waits for one."""
        self._under_way.pop(exchange, None)
        now = self._loop.time()
        if keep and not self._closed and now < connection.opened_at + MAX_AGE:
            connection.idle_since = now
            self._idle.setdefault(connection.origin, []).append(connection)
        else:
            self._forget(connection)
        if self._waiting:
            self._loop.call_soon(self._begin_next)

    def _begin_next(self) -> None:
        now = self._loop.time()
        while self._waiting and self._begin(self._waiting[0], now):
            self._waiting.popleft()

    def on_connection_lost(self, connection: Connection) -> None:
        """Forget a connection that the server closed."""
        self._open.pop(connection, None)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def _end_overdue(self) -> None:
        now = self._loop.time()
        message = f"no response in {self._timeout:g} s"
        while self._under_way:
            exchange = next(iter(self._under_way))
            if exchange.deadline > now:
                break
            self._under_way.pop(exchange)
            if exchange.connection is not None:
                opening = self._open.get(exchange.connection) is not None
                exchange.connection.fail("timeout", message + self._via * opening)
            else:
                self._waiting.remove(exchange)
                exchange.end(TransportError("timeout", message))
        # Only now: the end of one request often begins another, which must start no second timer.
        self._timer = None
        if self._under_way:
            self._timer = self._loop.call_later(self._timeout / 10, self._end_overdue)

    async def close(self) -> None:
        """Close every connection, and end what is under way."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            exchange = self._waiting.popleft()
            self._under_way.pop(exchange)
            exchange.end(TransportError("reset", CLOSED))
        opening = [task for task in self._open.values() if task is not None]
        for connection in list(self._open):
            if connection.exchange is not None:
                connection.fail("reset", CLOSED)
            self._forget(connection)
        self._idle.clear()
        await asyncio.gather(*opening, return_exceptions=True)


class Addresses:
    """Looks up the addresses of hosts, and remembers them for `LOOKUP_TTL` seconds.

    Older addresses are used until there are new ones, so that no failure of the name server stops
    deliveries to a host that was reached before.
    """

    def __init__(self) -> None:
        self._known: dict[Origin, list[AddressInfo]] = {}
        self._fresh_until: dict[Origin, float] = {}
        """Left out where no known address answered."""
        self._lookups: dict[Origin, asyncio.Task[list[AddressInfo]]] = {}

    async def of(self, origin: Origin) -> list[AddressInfo]:
        """Return the addresses of *origin*; one look-up serves all who ask meanwhile.

        Raises:
            OSError: there are none.
        """
        loop = asyncio.get_running_loop()
        known = self._known.get(origin)
        fresh_until = self._fresh_until.get(origin)
        if known is not None and fresh_until is not None and loop.time() < fresh_until:
            return known
        lookup = self._lookups.get(origin)
        if lookup is None:
            lookup = self._lookups[origin] = loop.create_task(self._look_up(origin))
            lookup.add_done_callback(functools.partial(self._take, origin))
        if known is not None and fresh_until is not None:
            return known
        try:
            return await asyncio.shield(lookup)
        except OSError:
            if known is None:
                raise
            return known

    @staticmethod
    async def _look_up(origin: Origin) -> list[AddressInfo]:
        loop = asyncio.get_running_loop()
        return [*await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)]

    def _take(self, origin: Origin, lookup: asyncio.Task[list[AddressInfo]]) -> None:
        del self._lookups[origin]
        if not lookup.cancelled() and lookup.exception() is None:
            self._known[origin] = lookup.result()
            self._fresh_until[origin] = asyncio.get_running_loop().time() + LOOKUP_TTL

    def distrust(self, origin: Origin) -> None:
        """Look *origin* up before the next connection: no address answered."""
        self._fresh_until.pop(origin, None)


def make_transport(config: DestinationConfig) -> HttpTransport:
    """Return the transport of a configured destination."""
    return HttpTransport(
        timeout=config.timeout,
        connections=config.concurrency,
        tls=config.tls.context if config.tls else None,
        proxy=proxy_of(config.proxy),
        headers={name: plain_value(value) for name, value in config.headers.items()},
    )
