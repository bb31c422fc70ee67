"""A gateway that owns a shard, appends, settles half of it, and waits to be killed."""

import asyncio
import json
import sys
from uuid import uuid4

from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.values import BacklogLimit, Progress
from gateway.testing.spool.contract import entry, failed, later
from tests.gateway.spool.jetstream.conftest import SharedLayout


async def main(layout: Layout, urls: list[str]) -> None:
    """Append 100 entries, settle the first 50, and report without waiting for the others."""
    connection = NatsConnection(urls)
    await connection.open()
    writer = FrameWriter(connection, layout, uuid4().hex)
    shard = JetStreamShard(writer, 0, len)
    await shard.claim()
    await shard.register({"a": BacklogLimit()})
    handed_over: asyncio.Queue[int] = asyncio.Queue()
    shard.follow(lambda record, _: handed_over.put_nowait(record.seq))
    shard.start()
    await asyncio.gather(*[writer.append(0, entry(f"r{n}", a=(0,))) for n in range(100)])
    seqs = [await handed_over.get() for _ in range(100)]
    report = Progress(cursor=seqs[49], later=[later(seqs[3])], dead=[failed(seqs[4])], delivered=48)
    await shard.settle("a", report, soon=True)
    unrecorded = shard.settle("a", Progress(cursor=seqs[-1], delivered=98))
    sys.stdout.write(json.dumps(seqs) + "\n")
    sys.stdout.flush()
    await asyncio.gather(unrecorded, asyncio.Event().wait())


if __name__ == "__main__":
    asyncio.run(main(SharedLayout(sys.argv[1]), sys.argv[2:]))
