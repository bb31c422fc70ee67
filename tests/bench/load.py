"""A cheap load generator: keep-alive connections, one request after the other."""

import asyncio
import itertools
import time
from collections.abc import Sequence

import uvloop


class Connection(asyncio.Protocol):
    """Sends the next request when the response to the last one has arrived."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._left = 0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = transport
        self._next()

    def _next(self) -> None:
        load = self._load
        if load.left <= 0:
            self._transport.close()
            return
        load.left -= 1
        wait = load.turn() - time.perf_counter()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send, next(load.requests))
        else:
            self._send(next(load.requests))

    def _send(self, request: bytes) -> None:
        self._sent = time.perf_counter()
        self._transport.write(request)  # type: ignore[attr-defined]  # it is a stream

    def data_received(self, data: bytes) -> None:
        """Read a response; responses are short and their heads arrive in one piece."""
        if self._left > 0:
            self._left -= len(data)
        else:
            head, _, rest = data.partition(b"\r\n\r\n")
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")):
                raise SystemExit(f"not accepted: {data[:300]!r}")
            low = head.lower()
            at = low.find(b"content-length:")
            length = int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._left = length - len(rest)
        if self._left <= 0:
            self._load.latencies.append(time.perf_counter() - self._sent)
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end of this connection."""
        self._load.ended(error)


class Load:
    """Sends *count* requests over *connections* connections, cycling through *requests*.

    With a *rate* per second it sends them at even intervals, and late ones at once.
    """

    def __init__(
        self, requests: Sequence[bytes], count: int, connections: int, rate: float | None = None
    ) -> None:
        self.left = count
        self._pause = 1 / rate if rate else 0.0
        self._turn = time.perf_counter()
        self.requests = itertools.cycle(requests)
        self.latencies: list[float] = []
        self._open = connections
        self._done = asyncio.Event()

    def turn(self) -> float:
        """Return the time of the next request, by `time.perf_counter`."""
        self._turn += self._pause
        return self._turn

    def ended(self, error: Exception | None) -> None:
        """Count a closed connection; finish after the last one.

        Raises:
            SystemExit: it was lost.
        """
        if error is not None:
            raise SystemExit(f"connection lost: {error}")
        self._open -= 1
        if not self._open:
            self._done.set()

    async def run(self, port: int) -> None:
        """Send everything and wait for every response."""
        loop = asyncio.get_running_loop()
        for _ in range(self._open):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
        await self._done.wait()


def http(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return a POST request as bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def load(
    port: int,
    requests: Sequence[bytes],
    count: int,
    connections: int = 32,
    rate: float | None = None,
) -> list[float]:
    """Send *count* requests; return the latencies in seconds, sorted.

    Without a *rate* (requests per second), each connection sends as soon as a response arrives.
    """

    async def run() -> list[float]:
        work = Load(requests, count, connections, rate)
        await work.run(port)
        return sorted(work.latencies)

    return uvloop.run(run())
