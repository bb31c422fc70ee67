"""Servers that send the odd responses of real vendors, proxies and networks, byte by byte."""

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

OK = b'{"success":true,"status":true,"code":200}'
LONG = b"y" * 500


def http(body: bytes = OK, more: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Return a response with its length and *more* headers."""
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, more, len(body)) + body


def unsized(body: bytes, more: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Return a response without a content length."""
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%b\r\n%b" % (status, more, body)


Tls = tuple[ssl.SSLContext, ssl.SSLContext] | None
"""The TLS settings of a server and of a client that trusts it; None without TLS."""


@dataclass(frozen=True)
class Said:
    """The pieces that a server sends, and whether it then closes the connection or falls silent."""

    pieces: tuple[bytes, ...]
    closes: bool = False
    pause: float = 0.0
    """Seconds between the pieces."""


def once(said: bytes, *, closes: bool = False) -> Said:
    """Return a response in one piece."""
    return Said((said,), closes)


WELL: dict[str, Said] = {
    "plain": once(http()),
    "no body": once(http(b"", status=b"202 Accepted")),
    "no content": once(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "gzip": once(http(gzip.compress(OK), b"content-encoding: gzip\r\n")),
    "x-gzip": once(http(gzip.compress(OK), b"content-encoding: X-GZIP\r\n")),
    "deflate": once(http(zlib.compress(OK), b"content-encoding: deflate\r\n")),
    "bare deflate": once(http(zlib.compress(OK, wbits=-15), b"content-encoding: deflate\r\n")),
    "identity": once(http(OK, b"content-encoding: identity\r\n")),
    "chunks": once(unsized(b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (OK[:5], len(OK) - 5, OK[5:]),
                           b"transfer-encoding: chunked\r\n")),
    "an oversized header": once(http(more=b"content-security-policy: %b\r\n" % (b"x" * 9000))),
    "many headers": once(http(more=b"".join(b"x-%d: %b\r\n" % (n, LONG) for n in range(200)))),
    "no reason": once(b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}"),
    "HTTP/1.0": once(b"HTTP/1.0 200 OK\r\n\r\n{}", closes=True),
    "an interim answer": once(b"HTTP/1.1 100 Continue\r\n\r\n" + http()),
    "early hints": once(b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n" + http()),
    "odd characters": once(http(more="x-a: caf\xe9 \u00b2\r\n".encode("latin-1"))),
    "a cookie": once(http(more=b"set-cookie: AWSALB=abc; Path=/\r\n")),
    "large": once(http(b"x" * 3_000_000)),
    "byte by byte": Said(tuple(bytes([one]) for one in http()), pause=0.001),
}  # fmt: skip
"""Responses that are read whole, or as far as a verdict needs."""

CUT: dict[str, Said] = {
    "a header that never ends": once(b"HTTP/1.1 200 OK\r\nx-a: " + b"x" * 200_000),
    "too many headers": once(http(more=b"".join(b"x-%d: y\r\n" % n for n in range(5000)))),
    "a head that is cut": once(b"HTTP/1.1 200 OK\r\ncontent-le", closes=True),
    "a head that stops": once(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "a cut body": once(unsized(b'{"succ', b"content-length: 400\r\n"), closes=True),
    "a body that stops": once(unsized(b'{"succ', b"content-length: 400\r\n")),
    "a dripping body": Said(
        (unsized(b"", b"content-length: 400\r\n"), *([b" "] * 400)), pause=0.02
    ),
    "a body that never ends": once(unsized(b"{", b"transfer-encoding: identity\r\n")),
    "a chunk that is cut": once(unsized(b"%x\r\n%b\r\n" % (len(OK), OK),
                                        b"transfer-encoding: chunked\r\n"), closes=True),
    "a chunk without a size": once(unsized(b"zz\r\n{}\r\n", b"transfer-encoding: chunked\r\n")),
    "brotli": once(http(b"\x0b\x02\x80{}\x03", b"content-encoding: br\r\n")),
    "zstd": once(http(b"\x28\xb5\x2f\xfd\x04\x00\x11\x00\x00{}", b"content-encoding: zstd\r\n")),
    "a false gzip": once(http(OK, b"content-encoding: gzip\r\n")),
    "two codings": once(http(OK, b"content-encoding: gzip, br\r\n")),
    "a second length": once(http(more=b"content-length: %d\r\n" % len(OK))),
    "two lengths": once(http(more=b"content-length: 7\r\n")),
    "a length that is none": once(unsized(OK, b"content-length: many\r\n")),
    "a negative length": once(unsized(OK, b"content-length: -1\r\n")),
    "a space in a header": once(http(more=b"x bad : 1\r\n")),
    "a header without a colon": once(http(more=b"nonsense\r\n")),
    "NUL in a header": once(http(more=b"x-a: a\0b\r\n")),
    "HTTP/2 in words": once(b"HTTP/2 200\r\ncontent-length: 2\r\n\r\n{}"),
    "an interim answer, and a cut one": once(
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nx", closes=True
    ),
}  # fmt: skip
"""Responses of which only the status line can be read."""

EITHER: dict[str, Said] = {
    "line feeds alone": once(http().replace(b"\r\n", b"\n")),
    "identity as a transfer coding": once(http(more=b"transfer-encoding: identity\r\n")),
    "closes without saying so": once(http(), closes=True),
    "more than its length": once(http(b"{}", b"") + b"rest"),
}
"""Responses that some clients read and some do not; the status line is valid either way."""

NONE: dict[str, tuple[Said, str]] = {
    "closed at once": (once(b"", closes=True), "reset"),
    "silence": (once(b""), "timeout"),
    "a cut status line": (once(b"HTTP/1.1 20", closes=True), "reset"),
    "a status line that stops": (once(b"HTTP/1.1 200 OK"), "timeout"),
    "nonsense": (once(b"nonsense\r\n\r\n"), "protocol"),
    "no HTTP": (once(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol"),
    "another protocol": (
        once(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        "protocol",
    ),
    "interim answers alone": (once(b"HTTP/1.1 102 Processing\r\n\r\n" * 3, closes=True), "reset"),
    "a flood of interim answers": (once(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000), "protocol"),
}


@dataclass
class Server:
    """A server that gives every request the same response, and counts the requests."""

    said: Said
    url: str = ""
    asked: int = 0
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    """The heads of all requests."""
    asking: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first request arrives."""
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the requests of one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(2)
                self.asked += 1
                self.asking.set()
                for piece in self.said.pieces:
                    writer.write(piece)
                    await writer.drain()
                    if self.said.pause:
                        await asyncio.sleep(self.said.pause)
                if self.said.closes:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def end(self) -> None:
        """Close the open connections."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@asynccontextmanager
async def server(said: Said, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run a server on a free port of the loopback address."""
    made = Server(said)
    running = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    made.url = f"{scheme}://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        running.close()
        await made.end()
