"""What a cluster acknowledged survives a power failure of all servers, if they sync each write."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Request
from gateway.spool import BacklogLimit, Entry, LogRecord, Progress, Shard
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import Unanswered
from gateway.spool.jetstream.spool import JetStreamSpool
from tests.cluster.servers import NatsServers, nats_servers

SHARDS = 4
DESTINATION = "a"
LAYOUT = Layout("power")
CLIENTS = 16
ENOUGH = 200
"""Entries that are acknowledged, and delivered ones that are recorded, before the power fails."""
PATIENCE = 30.0


class Deliverer:
    """Delivers what its shards hand over, and records it at once."""

    def __init__(self) -> None:
        self.delivered: set[str] = set()
        self.recorded: set[str] = set()
        self.cursors: dict[int, int] = {}
        """The last acknowledged cursor of each shard."""
        self._handed: dict[int, list[tuple[int, str]]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start_shard(self, shard: Shard) -> None:
        """Deliver all that the shard hands over."""
        self._handed[shard.number] = []
        self._tasks[shard.number] = asyncio.ensure_future(self._record(shard))
        shard.follow(partial(self._offer, shard.number))

    def _offer(self, shard: int, record: LogRecord, events: Sequence[Event] | None) -> None:
        del events
        self._handed[shard].append((record.seq, record.entry.id))
        self.delivered.add(record.entry.id)

    async def _record(self, shard: Shard) -> None:
        while True:
            if handed := self._handed[shard.number]:
                self._handed[shard.number] = []
                with suppress(SpoolError):  # the power failed
                    await shard.settle(DESTINATION, Progress(cursor=handed[-1][0]), soon=True)
                    self.recorded |= {name for _, name in handed}
                    self.cursors[shard.number] = handed[-1][0]
            await asyncio.sleep(0.01)

    async def finish_shard(self, shard: Shard) -> None:
        """Record no more."""
        self.abandon_shard(shard)

    def abandon_shard(self, shard: Shard) -> None:
        """Record no more."""
        self._tasks[shard.number].cancel()


class Reader:
    """Takes shards, and delivers nothing."""

    def start_shard(self, shard: Shard) -> None:
        """Do nothing."""

    async def finish_shard(self, shard: Shard) -> None:
        """Do nothing."""

    def abandon_shard(self, shard: Shard) -> None:
        """Do nothing."""


async def opened(servers: NatsServers, runner: Deliverer | Reader) -> JetStreamSpool:
    """Return the spool of the only gateway, once it owns all shards."""
    connection = NatsConnection(servers.urls, patience=2.0)
    spool = JetStreamSpool(connection, LAYOUT, shards=SHARDS, replicas=len(servers))
    spool.run_shards(runner)
    while True:
        try:
            await spool.open()
            break
        except Unanswered:  # no server leads yet
            continue
    await spool.register({DESTINATION: BacklogLimit()})
    async with asyncio.timeout(PATIENCE):
        while len(spool.shards) < SHARDS:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.05)
    return spool


async def accept_until_power_fails(servers: NatsServers, deliverer: Deliverer) -> set[str]:
    """Append entries of many users until the power fails; return those that were acknowledged."""
    acknowledged: set[str] = set()
    dice = random.Random()  # noqa: S311 - no secrets
    spool = await opened(servers, deliverer)
    numbers = count()

    async def client() -> None:
        while True:
            name = f"r{next(numbers)}"
            users = [spool.user_hash(f"u{dice.randrange(50)}") for _ in range(dice.choice((1, 2)))]
            request = Request(method="POST", url="/", body=dice.randbytes(1000))
            targets = {DESTINATION: tuple(range(len(users)))}
            await spool.append(Entry(name, "shop", request, targets, "chrts", users=tuple(users)))
            acknowledged.add(name)

    clients = [asyncio.ensure_future(client()) for _ in range(CLIENTS)]
    async with asyncio.timeout(PATIENCE):
        while min(len(acknowledged), len(deliverer.recorded)) < ENOUGH:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.001)
    forgotten = await asyncio.to_thread(servers.lose_power, dice)
    assert forgotten
    for each in clients:
        each.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await spool.close()
    return acknowledged


async def entries_left(servers: NatsServers) -> tuple[set[str], dict[int, int]]:
    """Start all servers again; return the ids of undelivered entries, and each shard's cursor."""
    for index in range(len(servers)):
        servers.start(index)
    await asyncio.to_thread(servers.ready)
    spool = await opened(servers, Reader())
    ids: set[str] = set()
    cursors = {}
    for shard in spool.shards:
        cursors[shard.number] = cursor = shard.cursor(DESTINATION)
        page = await shard.unread(DESTINATION, cursor, shard.position(), 100_000)
        ids |= {one.entry.id for one in await shard.entries([item.seq for item in page.items])}
    await spool.close()
    return ids, cursors


async def test_what_is_acknowledged_survives(tmp_path: Path) -> None:
    """With `sync_interval: always`, no acknowledged entry is lost, and no record of a delivery."""
    deliverer = Deliverer()
    with nats_servers(tmp_path, sync_always=True, lossy=True) as servers:
        acknowledged = await accept_until_power_fails(servers, deliverer)
        left, cursors = await entries_left(servers)
    assert acknowledged - left - deliverer.delivered == set()
    assert all(cursors[shard] >= cursor for shard, cursor in deliverer.cursors.items())
