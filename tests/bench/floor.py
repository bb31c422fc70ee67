"""The floor program: the least that a gateway in Python could do, to compare the gateway with.

It accepts JSON on aiohttp's low-level server, commits it to SQLite (``synchronous=FULL``, many
requests in one commit) before it answers, and posts a copy to each sink over kept connections. It
knows no vendors, no order of users, no retries and no limits.

``python -m tests.bench.floor PORT... [reply]``: the sinks' ports, one per destination. Prints its
own port. With ``reply`` it answers only when every sink has.
"""

import asyncio
import gc
import queue
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path

import apsw
import orjson
import uvloop
from aiohttp import web

IN_FLIGHT = 64
"""Requests under way to a sink; in the gateway, too."""
PURGE = 5000
"""Rows that are deleted together."""
OK = b'{"success":true}'
JSON = {"content-type": "application/json"}
HEAD = b"POST /event/track HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
HEAD += b"authorization: Bearer bench\r\ncontent-length: %d\r\n\r\n%b"


class Log:
    """A thread that writes bodies, and where each destination stands, many in one commit."""

    def __init__(self, path: Path) -> None:
        self._queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[int]] | int] = (
            queue.SimpleQueue()
        )
        self._loop = asyncio.get_running_loop()
        self._connection = apsw.Connection(str(path))
        for setting in ("journal_mode=WAL", "synchronous=FULL"):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.execute("CREATE TABLE log(seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        threading.Thread(target=self._run, daemon=True).start()

    def append(self, body: bytes) -> "asyncio.Future[int]":
        """Write *body*; the future has its number once it is on the disk."""
        written: asyncio.Future[int] = self._loop.create_future()
        self._queue.put((body, written))
        return written

    def purge(self, below: int) -> None:
        """Delete what is *below* a number."""
        self._queue.put(below)

    def _run(self) -> None:
        number = 0
        while True:
            taken = [self._queue.get()]
            while not self._queue.empty():
                taken.append(self._queue.get())
            ended: list[tuple[asyncio.Future[int], int]] = []
            self._connection.execute("BEGIN IMMEDIATE")
            for one in taken:
                if isinstance(one, int):
                    self._connection.execute("DELETE FROM log WHERE seq < ?", (one,))
                    continue
                number += 1
                self._connection.execute("INSERT INTO log VALUES (?, ?)", (number, one[0]))
                ended.append((one[1], number))
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._tell, ended)

    @staticmethod
    def _tell(ended: list[tuple[asyncio.Future[int], int]]) -> None:
        for written, number in ended:
            if not written.done():
                written.set_result(number)


class Poster(asyncio.Protocol):
    """A connection to a sink that posts one body after the other."""

    def __init__(self, destination: "Destination") -> None:
        self._destination = destination

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Post the first."""
        self._transport = transport
        self._answered: asyncio.Future[None] | None = None
        self.post()

    def post(self) -> None:
        """Post the next body, or rest."""
        if not self._destination.waiting:
            self._destination.idle.append(self)
            return
        body, self._answered = self._destination.waiting.popleft()
        self._transport.write(HEAD % (len(body), body))  # type: ignore[attr-defined]  # a stream

    def data_received(self, data: bytes) -> None:
        """Count the response, which arrives in one piece."""
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the sink said {data[:100]!r}")
        self._destination.delivered += 1
        if self._answered is not None:
            self._answered.set_result(None)
        self.post()


class Destination:
    """What waits for a sink, and the connections to it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[bytes, asyncio.Future[None] | None]] = deque()
        self.idle: list[Poster] = []
        self.delivered = 0

    async def connect(self, port: int) -> None:
        """Open every connection."""
        loop = asyncio.get_running_loop()
        for _ in range(IN_FLIGHT):
            await loop.create_connection(lambda: Poster(self), "127.0.0.1", port)

    def put(self, body: bytes, answered: "asyncio.Future[None] | None" = None) -> None:
        """Send *body* as soon as a connection is free; then *answered* is done."""
        self.waiting.append((body, answered))
        if self.idle:
            self.idle.pop().post()


async def serve(ports: list[int], folder: Path, *, reply: bool) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    log = Log(folder / "log.db")
    destinations = [Destination() for _ in ports]
    for destination, port in zip(destinations, ports, strict=True):
        await destination.connect(port)
    purged = 0

    async def handle(request: web.BaseRequest) -> web.Response:
        nonlocal purged
        body = await request.read()
        event = orjson.loads(body)
        number = await log.append(body)
        answers = []
        for destination in destinations:
            answered = loop.create_future() if reply else None
            destination.put(orjson.dumps({"n": number, "event": event}), answered)
            if answered is not None:
                answers.append(answered)
        for answered in answers:
            await answered
        slowest = min((one.delivered for one in destinations), default=0)
        if slowest - purged > PURGE:
            purged = slowest
            log.purge(purged)
        return web.Response(body=OK, headers=JSON)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    sinks = [int(port) for port in sys.argv[1:] if port != "reply"]
    with tempfile.TemporaryDirectory() as made:
        uvloop.run(serve(sinks, Path(made), reply="reply" in sys.argv))
