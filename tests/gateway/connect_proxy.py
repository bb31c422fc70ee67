"""An HTTP proxy that opens tunnels for those who know its password, as Squid does."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


def refusal(status: bytes) -> bytes:
    """Return a proxy's response with *status* and no tunnel."""
    return b"HTTP/1.1 %b\r\nproxy-authenticate: Basic\r\ncontent-length: 2\r\n\r\nno" % status


@dataclass
class ConnectProxy:
    """A proxy that writes down whom it connected to.

    Args:
        credentials: user and password that it wants; empty for none.
        said: its response instead of a tunnel; None to open one.
        silent: it says nothing.
    """

    credentials: str = ""
    said: bytes | None = None
    silent: bool = False
    address: str = ""
    heads: list[bytes] = field(default_factory=list)
    """The head of each request for a tunnel."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first request arrives."""
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def targets(self) -> list[str]:
        """Return host and port of each request."""
        return [head.split(b" ")[1].decode() for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Open a tunnel, or refuse to."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            self.asked.set()
            if self.silent:
                await reader.read()
            elif self.said is not None:
                writer.write(self.said)
            elif self._knows(head):
                await self._tunnel(head, reader, writer)
            else:
                writer.write(refusal(b"407 Proxy Authentication Required"))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _knows(self, head: bytes) -> bool:
        wanted = b"proxy-authorization: Basic " + base64.b64encode(self.credentials.encode())
        return not self.credentials or wanted + b"\r\n" in head

    async def _tunnel(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, _ = head.split(b" ", 2)
        assert method == b"CONNECT"
        host, _, port = target.decode().rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError:
            writer.write(refusal(b"503 Service Unavailable"))
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 proxy\r\n\r\n")
        try:
            await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))
        finally:
            far_writer.close()

    async def end(self) -> None:
        """Close the tunnels."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def connect_proxy(
    credentials: str = "", said: bytes | None = None, *, silent: bool = False
) -> AsyncIterator[ConnectProxy]:
    """Run a proxy on a free port of the loopback address."""
    made = ConnectProxy(credentials, said, silent)
    running = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{running.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        running.close()
        await made.end()
