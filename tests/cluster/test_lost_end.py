"""A log whose end NATS lost: new frames get the numbers of lost ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from gateway.errors import SpoolError
from gateway.spool import BacklogLimit, Progress
from gateway.spool.jetstream import presence
from gateway.spool.jetstream import shard as shards
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.spool import JetStreamSpool
from gateway.testing.spool.contract import entry
from tests.cluster.servers import NatsServers, nats_servers
from tests.gateway.spool.jetstream.test_spool import Runner, until

LOG, STATE = "g_LOG", "g_STATE"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the only gateway claim at once, and be sure of a loss soon."""
    monkeypatch.setattr(presence, "WARM_UP", 0.1)
    monkeypatch.setattr(shards, "SURE_OF_LOSS", 0.5)


async def append(spool: JetStreamSpool, *names: str) -> None:
    """Append entries, one after the other, as soon as the server takes them."""
    for name in names:
        while True:
            try:
                await spool.append(entry(name, a=(0,)))
            except SpoolError:
                continue
            break


async def restart(server: NatsServers, folder: Path, streams: Sequence[str], *, back: bool) -> None:
    """Stop the server, copy its streams or put the copies *back*, and start it."""
    await asyncio.to_thread(server.stop, 0)
    for name in streams:
        if back:
            server.put_back(name, folder / name)
        else:
            server.copy(name, folder / name)
    server.start(0)
    await asyncio.to_thread(server.ready)


@asynccontextmanager
async def opened(server: NatsServers, runner: Runner) -> AsyncIterator[JetStreamSpool]:
    """Open a spool of one shard, which this gateway owns, and close it at the end."""
    spool = JetStreamSpool(NatsConnection(server.urls), Layout("g"), shards=1, replicas=1)
    spool.run_shards(runner)
    await spool.open()
    try:
        await spool.register({"a": BacklogLimit()})
        await until(lambda: bool(spool.shards))
        yield spool
    finally:
        await spool.close()


@pytest.mark.parametrize("new", [("g",), ("g", "h", "i")], ids=["too short", "replaced"])
async def test_a_shard_whose_log_lost_its_end_stops(tmp_path: Path, new: Sequence[str]) -> None:
    """New frames are not taken for lost ones: the owner ends and says why, and nobody claims it."""
    runner = Runner()
    with nats_servers(tmp_path / "nats", 1) as server, structlog.testing.capture_logs() as logged:
        async with opened(server, runner) as spool:
            await append(spool, "a", "b", "c")
            await until(lambda: len(runner.got) == 3)
            await restart(server, tmp_path, [LOG], back=False)
            await append(spool, "d", "e", "f")
            await until(lambda: len(runner.got) == 6)
            (shard,) = spool.shards
            await shard.settle("a", Progress(cursor=shard.position()), soon=True)
            await restart(server, tmp_path, [LOG], back=True)
            await append(spool, *new)
            await until(lambda: any(line["event"] == "shard_claim_failed" for line in logged))
    assert [name for name, _ in runner.got] == list("abcdef")
    assert runner.told[-1] == "abandon 0"
    (lost,) = [line["reason"] for line in logged if line["event"] == "log_lost"]
    assert lost.startswith("g.log.0: NATS lost the end of the log")
    failed = [line["reason"] for line in logged if line["event"] == "shard_claim_failed"]
    assert {reason.partition(": it")[0].partition(": frame")[0] for reason in failed} == {
        "g.log.0: NATS lost the end of the log"
    }


async def test_what_comes_after_a_loss_is_delivered_if_the_journal_did_not_know_what_was_lost(
    tmp_path: Path,
) -> None:
    """If log and journal lost the same, whoever claims the shard delivers all that came since."""
    runner = Runner()
    with nats_servers(tmp_path / "nats", 1) as server, structlog.testing.capture_logs() as logged:
        async with opened(server, runner) as spool:
            await append(spool, "a")
            await until(lambda: len(runner.got) == 1)
            await restart(server, tmp_path, [LOG, STATE], back=False)
            await append(spool, "b")
            await until(lambda: len(runner.got) == 2)
            await restart(server, tmp_path, [LOG, STATE], back=True)
            await append(spool, "c", "d")
            await until(lambda: len(runner.told) >= 3)
            (shard,) = spool.shards
            page = await shard.unread("a", 0, shard.position(), 10)
            records = await shard.entries([item.seq for item in page.items])
    assert runner.told == ["start 0", "abandon 0", "start 0", "finish 0"]
    assert [record.entry.id for record in records] == ["a", "c", "d"]
    assert [line["event"] for line in logged].count("log_lost") == 1
