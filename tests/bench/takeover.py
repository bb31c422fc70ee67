"""Measure taking over a shard with many waiting deliveries: ``python -m tests.bench.takeover``.

Three NATS servers and both owners share the machine.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import uvloop

from gateway.http import Request
from gateway.spool import BacklogLimit, DeliveryRef, Entry, Progress, WaitingDelivery
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.layout import MAX_ROWS, Layout
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.user_hash import UserHash
from tests.cluster.servers import nats_servers

DESTINATION = "a"
BODY = bytes(1000)
USERS = 20_000
HASH = UserHash(b"secret")


class Takeover(NamedTuple):
    """What one took."""

    seconds: float
    cpu: float
    """Seconds of this process."""


async def fill(urls: Sequence[str], layout: Layout, waiting: int) -> None:
    """Let *waiting* deliveries of one destination wait in the shard, and leave it as if killed."""
    connection = NatsConnection(urls)
    await connection.open()
    for name, settings in layout.streams(replicas=len(urls)).items():
        await connection.create_stream(name, settings)
    writer = FrameWriter(connection, layout, uuid4().hex)
    owned = JetStreamShard(writer, 0, HASH)
    await owned.claim()
    await owned.register({DESTINATION: BacklogLimit()})
    owned.start()
    for begin in range(0, waiting, MAX_ROWS):
        numbers = range(begin, min(begin + MAX_ROWS, waiting))
        users = [f"u{number % USERS}" for number in numbers]
        entries = [
            Entry(
                f"r{number}",
                "shop",
                Request(method="POST", url="/", body=BODY),
                {DESTINATION: (0,)},
                "chrts",
                users=(HASH(user),),
            )
            for number, user in zip(numbers, users, strict=True)
        ]
        seqs = await asyncio.gather(*[writer.append(0, entry) for entry in entries])
        await owned.handed_over(seqs[-1])
        later = [
            WaitingDelivery(DeliveryRef(seq, 0), time.time() + 3600, user=user, event_name="order")
            for seq, user in zip(seqs, users, strict=True)
        ]
        await owned.settle(DESTINATION, Progress(cursor=seqs[-1], later=later), soon=True)
    await owned.abandon()
    await connection.close()


async def take_over(urls: Sequence[str], layout: Layout, waiting: int) -> Takeover:
    """Take the shard over once, and leave it as if killed."""
    connection = NatsConnection(urls)
    await connection.open()
    owned = JetStreamShard(FrameWriter(connection, layout, uuid4().hex), 0, HASH)
    before, began = _cpu(), time.perf_counter()
    while not await owned.claim():
        pass
    taken = time.perf_counter() - began, _cpu() - before
    assert owned.state.destinations[DESTINATION].balance().pending == waiting
    await owned.abandon()
    await connection.close()
    return Takeover(*taken)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measured(
    urls: Sequence[str], layout: Layout, waiting: int, rounds: int
) -> list[Takeover]:
    """Return what taking over a new shard took, each round anew."""
    await fill(urls, layout, waiting)
    return [await take_over(urls, layout, waiting) for _ in range(rounds)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, nats_servers(Path(folder)) as servers:
        work = measured(servers.urls, Layout("bench"), options.waiting, options.rounds)
        found = uvloop.run(work)
    seconds, cpu = (statistics.median(values) for values in zip(*found, strict=True))
    print(
        f"a shard with {options.waiting:,} waiting deliveries is taken over in {seconds:.2f} s "
        f"({cpu:.2f} s of CPU), at most {max(one.seconds for one in found):.2f} s"
    )


if __name__ == "__main__":
    main()
