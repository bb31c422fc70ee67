"""HTTP byte by byte: a scripted vendor, and a client that sends any bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.running import PATIENCE

Script = Callable[["Got", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Got:
    """A request that arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the first header called *name*."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def names(self) -> set[str]:
        """Return the names of all headers, lower-case."""
        return {name for name, _ in self.headers}


@dataclass
class Vendor:
    """A server that records its requests."""

    url: str = ""
    answer: bytes = OK
    """The bytes of every response."""
    script: Script | None = None
    """Handles requests instead of `answer`, if set."""
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    _serving: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the requests of one connection until it or the vendor ends."""
        self.connections += 1
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *rest = head.rstrip().split("\r\n")
                pairs = [name.partition(":")[::2] for name in rest]
                got = Got(line, [(name.lower(), value.strip()) for name, value in pairs])
                self.got.append(got)
                if self.script is not None:
                    await self.script(got, reader, writer)
                    continue
                got.body = await body_of(got, reader)
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(serving)
            writer.close()

    async def end(self) -> None:
        """Cancel all connections."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


async def body_of(got: Got, reader: asyncio.StreamReader) -> bytes:
    """Read a request's body, by `content-length` or chunks."""
    if got.header("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body
    return await reader.readexactly(int(got.header("content-length") or 0))


@asynccontextmanager
async def vendor() -> AsyncIterator[Vendor]:
    """Run a vendor on a free port."""
    made = Vendor()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await made.end()


async def exchange(url: str, sent: bytes) -> bytes:
    """Send bytes to *url*; return everything received until the connection closes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()
