"""A small node for tests: it accepts marks, and delivers the entries of its shards one by one.

``python -m tests.cluster.node NAME SHARDS VENDOR_PORT URL...`` prints the port at which it takes
one mark a line. It answers each with 1 once the mark is stored, or with 0. SIGTERM ends it in
order.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from zlib import crc32

import structlog

from gateway.errors import SpoolError
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.membership import HostReport, Membership
from gateway.spool.jetstream.ownership import Ownership
from gateway.spool.jetstream.presence import Presence, node_name
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.values import BacklogLimit, Fenced, LogRecord, Progress
from gateway.testing.spool.contract import entry
from tests.soak.marks import marks_in
from tests.soak.raw_http import read_message

DESTINATION = "chrts"
PAGE = 256
TURN = 0.02
"""Seconds between two looks whether deliveries may go on."""


def shard_of(user: str, shards: int) -> int:
    """Return the shard of a user's entries."""
    return crc32(user.encode()) % shards


class ShardRun:
    """Delivers the entries of one claimed shard in order."""

    def __init__(self, shard: JetStreamShard, port: int, leased: Callable[[], bool]) -> None:
        self.shard = shard
        self.task: asyncio.Task[None] | None = None
        self._port, self._leased = port, leased
        self._stopping = False
        self._queue: asyncio.Queue[LogRecord | None] = asyncio.Queue()
        self._recording: asyncio.Task[None] | None = None
        self._cursor = 0

    async def start(self, lost: Callable[[int], None]) -> None:
        """Deliver what is unread, then what comes."""
        await self.shard.register({DESTINATION: BacklogLimit()})
        upto = self.shard.position()
        self.shard.follow(lambda record, _: self._queue.put_nowait(record))
        self.shard.start()

        async def run() -> None:
            try:
                await self._run(upto)
            except Fenced:
                lost(self.shard.number)

        self.task = asyncio.get_running_loop().create_task(run())

    async def finish(self) -> None:
        """End after the delivery under way, and wait until it is recorded."""
        self._stopping = True
        self._queue.put_nowait(None)
        if self.task:
            await self.task
        if self._recording:
            self.shard.hurry()
            await self._recording

    async def end(self) -> None:
        """End at once."""
        tasks = [task for task in (self.task, self._recording) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.shard.abandon()

    async def _run(self, upto: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            after = self.shard.cursor(DESTINATION)
            while after < upto and not self._stopping:
                page = await self.shard.unread(DESTINATION, after, upto, PAGE)
                for record in await self.shard.entries([item.seq for item in page.items]):
                    await self._deliver(record, reader, writer)
                after = page.scanned
            while (record_ := await self._queue.get()) and not self._stopping:
                await self._deliver(record_, reader, writer)
        finally:
            writer.transport.abort()

    async def _deliver(
        self, record: LogRecord, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._stopping:
            return
        while not self._leased():  # noqa: ASYNC110 - a lease is time
            await asyncio.sleep(TURN)
        body = record.entry.request.body
        writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await read_message(reader)
        self._cursor = record.seq
        if self._recording is None or self._recording.done():
            if self._recording:
                self._recording.result()
            self._recording = asyncio.get_running_loop().create_task(self._record())

    async def _record(self) -> None:
        """Record how far it is, one report at a time."""
        recorded = 0
        while recorded < self._cursor:
            recorded = self._cursor
            await self.shard.settle(DESTINATION, Progress(cursor=recorded))


class NodeHost:
    """Runs the shards of a node."""

    def __init__(self, writer: FrameWriter, port: int) -> None:
        self.membership: Membership
        self._writer, self._port = writer, port
        self._runs: dict[int, ShardRun] = {}

    async def claim(self, shard: int, may_take: Callable[[str], bool]) -> int | None:
        """Claim a shard and deliver."""
        claimed = JetStreamShard(self._writer, shard, lambda user: crc32(user.encode()))
        run = self._runs[shard] = ShardRun(claimed, self._port, self.membership.leased)
        if not await claimed.claim(may_take):
            return None
        await run.start(self.membership.lost)
        return claimed.epoch

    async def give(self, shard: int) -> None:
        """Finish what is under way, and release the shard."""
        await self._runs[shard].finish()
        await self._runs.pop(shard).shard.release()

    async def drop(self, shard: int) -> None:
        """End at once."""
        if run := self._runs.pop(shard, None):
            await run.end()

    def report(self) -> HostReport:
        """Return nothing."""
        return HostReport()


async def _serve(writer: FrameWriter, shards: int) -> asyncio.Server:
    """Take marks, one a line."""

    async def serve(lines: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await lines.readline():
                (mark,) = marks_in(line)
                shard = shard_of(str(mark.user), shards)
                try:
                    await writer.append(shard, entry(mark.text, body=line, **{DESTINATION: (0,)}))
                except SpoolError:
                    answers.write(b"0\n")
                else:
                    answers.write(b"1\n")
        answers.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def run(name: str, shards: int, port: int, urls: list[str]) -> None:
    """Run a node until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection, layout = NatsConnection(urls), Layout(name)
    await connection.open()
    presence = Presence(node_name("node"))
    writer = FrameWriter(connection, layout, presence.node)
    host = NodeHost(writer, port)
    membership = Membership(connection, f"{name}.presence", Ownership(presence, shards), host)
    host.membership = membership
    membership.start()
    server = await _serve(writer, shards)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - whoever started it reads it
    await stop.wait()
    server.close()
    await writer.close()
    await membership.leave()
    await connection.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
