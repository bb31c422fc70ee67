"""TCP proxies that a test can cut and heal, so that the network fails between two programs."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

PIECE = 64 * 1024


class TcpProxy:
    """Passes bytes between its own port and *target*, a port of the loopback address.

    While it is cut it passes nothing in either direction, not even the end of a connection, and
    new connections stay unanswered: a network that drops packets. What it held arrives once it is
    healed.

    Attributes:
        port: where it listens.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        self.port = 0
        self._loop = loop
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def cut(self) -> None:
        """Pass nothing from now on."""
        _done(self._turn(self._open.clear), self._loop)

    def heal(self) -> None:
        """Pass everything again, first what waited."""
        _done(self._turn(self._open.set), self._loop)

    def reset(self) -> None:
        """Abort the open connections."""
        _done(self._abort(), self._loop)

    async def listen(self) -> None:
        """Begin to accept connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Accept no more connections, and abort the open ones."""
        if self._server:
            self._server.close()
        await self._abort()

    async def _turn(self, how: Callable[[], None]) -> None:
        how()

    async def _abort(self) -> None:
        serving = set(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, far_writer))
                    group.create_task(self._pass(far_reader, writer))
            finally:
                far_writer.transport.abort()
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._serving.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE):
            await self._open.wait()
            writer.write(piece)
            await writer.drain()
        await self._open.wait()
        writer.write_eof()


class TcpProxies:
    """Proxies that work in a thread of their own, whatever the test's event loop does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._made: list[TcpProxy] = []

    def to(self, port: int) -> TcpProxy:
        """Return a new proxy in front of *port*."""
        made = TcpProxy(self._loop, port)
        self._made.append(made)
        _done(made.listen(), self._loop)
        return made

    def close(self) -> None:
        """Close all proxies."""
        for proxy in self._made:
            _done(proxy.close(), self._loop)


@contextmanager
def tcp_proxies() -> Iterator[TcpProxies]:
    """Run a thread for proxies, and yield their maker."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()
    proxies = TcpProxies(loop)
    try:
        yield proxies
    finally:
        proxies.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _done(what: Coroutine[None, None, None], loop: asyncio.AbstractEventLoop) -> None:
    """Run *what* on the proxies' loop, and wait for it."""
    asyncio.run_coroutine_threadsafe(what, loop).result(timeout=10)
