"""Run a gateway in tests, over sockets or in memory."""

import asyncio
import fcntl
import shutil
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from gateway.app import Gateway, GatewayRunner
from gateway.event import Event
from gateway.http import Response
from gateway.plugin.hookspecs import hookimpl
from gateway.spool.sqlite.database import FILE, LOCK
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.verdict import Declined, Verdict

PATIENCE = 60.0
"""Seconds after which a test gives up waiting."""


@dataclass
class SettledEvents:
    """Records accepted events and settled deliveries, and lets tests wait for them."""

    accepted: list[Event] = field(default_factory=list)
    settled: list[tuple[Event, str, Verdict | Declined]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def plugin(self) -> types.ModuleType:
        """Return a plugin with the hooks."""
        module = types.ModuleType("watching")

        @hookimpl
        def event_accepted(event: Event) -> None:
            self.accepted.append(event)
            self._changed.set()

        @hookimpl
        def delivery_settled(event: Event, destination: str, verdict: Verdict) -> None:
            self.settled.append((event, destination, verdict))
            self._changed.set()

        for hook in (event_accepted, delivery_settled):
            setattr(module, hook.__name__, hook)
        return module

    async def until(self, enough: Callable[["SettledEvents"], bool]) -> None:
        """Wait until *enough* returns True, at most `PATIENCE` seconds.

        Raises:
            TimeoutError: it did not.
        """
        async with asyncio.timeout(PATIENCE):
            while not enough(self):
                self._changed.clear()
                await self._changed.wait()


def check_balance(spool: Path) -> None:
    """Check that no delivery in a spool's folder is missing.

    The gateway may be running, stopped or killed. If it is not running, a copy is read, so that the
    next start finds the files unchanged.

    Raises:
        AssertionError: deliveries are missing, or were finished more often than accepted.
    """
    if not (spool / FILE).exists():
        return
    with TemporaryDirectory() as place:
        looked_at = spool
        if not _is_used(spool):
            looked_at = Path(shutil.copytree(spool, Path(place) / "spool"))
        with DeadLetterStore(looked_at) as box:
            wrong = {name: found for name, found in box.balances().items() if found.unaccounted}
    assert not wrong, f"{spool}: unaccounted for: {wrong}"


def _is_used(spool: Path) -> bool:
    try:
        with (spool / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@asynccontextmanager
async def serving(app: web.Application | Gateway) -> AsyncIterator[str]:
    """Serve *app* on a free loopback port; yield its URL.

    If it is a gateway, its balance is checked after it has stopped.
    """
    runner: web.BaseRunner
    if isinstance(app, Gateway):
        runner = GatewayRunner(app, shutdown_timeout=1)
    else:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
    if isinstance(app, Gateway):
        await asyncio.to_thread(check_balance, app.config.spool.path)


HEAD = b"\r\n\r\n"


class InMemoryClient:
    """A client of *server* without sockets; it reconnects after the server closes a connection.

    Args:
        server: the server of a `gateway.app.GatewayRunner` that is set up.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._end: _End | None = None

    async def exchange(self, request: bytes) -> Response:
        """Send one *request* as bytes, and return the response.

        Raises:
            ConnectionError: the server closed a new connection without a response.
        """
        if self._end is not None and not self._end.closed:
            with suppress(ConnectionError):  # it may end one after any answer
                return await self._end.exchange(request)
        self._end = _End(self._server())
        return await self._end.exchange(request)

    def close(self) -> None:
        """Close the connection."""
        if self._end is not None:
            self._end.close()


class _End(asyncio.Transport):
    """The server's end of a connection."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("192.0.2.1", 4000), "sockname": ("192.0.2.2", 80)})
        self.closed = False
        self._protocol = protocol
        self._written = bytearray()
        self._answered: asyncio.Future[Response] | None = None
        protocol.connection_made(self)

    async def exchange(self, request: bytes) -> Response:
        self._written.clear()
        self._answered = asyncio.get_running_loop().create_future()
        self._protocol.data_received(request)
        return await self._answered

    def write(self, data: Any) -> None:
        self._written += data
        answer = _whole(bytes(self._written))
        if answer is not None and self._answered is not None and not self._answered.done():
            self._answered.set_result(answer)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError("closed without an answer"))

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Do nothing: all bytes are passed on at once."""

    def resume_reading(self) -> None:
        """Do nothing."""


def _whole(written: bytes) -> Response | None:
    """Return the response in *written* if it is complete, else None."""
    head, mark, body = written.partition(HEAD)
    if not mark:
        return None
    line, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (pair.partition(":") for pair in lines)
    }
    if len(body) < int(headers.get("content-length", 0)):
        return None
    return Response(int(line.split()[1]), headers, body)
