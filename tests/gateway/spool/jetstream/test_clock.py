"""Changes of a gateway's system clock expire nothing early in a cluster either."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from gateway.spool import BacklogLimit, DedupWindow, SpoolLimits
from gateway.spool.clock import CONFIRM
from gateway.spool.jetstream import presence, stream_watch
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.spool import JetStreamSpool
from gateway.testing.spool.contract import entry
from tests.cluster.servers import NatsServers
from tests.gateway.spool.jetstream.test_spool import Runner, until
from tests.gateway.test_spool_clock import DAY, HOUR, Machine

Start = Callable[[], Awaitable[JetStreamSpool]]
FIRST = DedupWindow({0: "first"}, HOUR)


class Idle(Runner):
    """Delivers nothing, and records nothing at the end."""

    async def finish_shard(self, shard: object) -> None:
        """Do nothing."""


@pytest.fixture
def machine() -> Machine:
    """Return the gateway's machine."""
    return Machine()


@pytest.fixture
async def start(
    nats_cluster: NatsServers, layout: Layout, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    """Return a function that starts the cluster's only gateway again, which owns its shard then."""
    monkeypatch.setattr(presence, "WARM_UP", 0.0)
    monkeypatch.setattr(stream_watch, "LOOK_INTERVAL", 0.01)
    running: list[JetStreamSpool] = []

    async def started() -> JetStreamSpool:
        for one in running:
            await one.close()
        spool = JetStreamSpool(
            NatsConnection(nats_cluster.urls),
            layout,
            shards=1,
            limits=SpoolLimits(max_age=DAY),
            clock=machine.clock(),
        )
        running.append(spool)
        spool.run_shards(Idle())
        await spool.open()
        await spool.register({"a": BacklogLimit()})
        await until(lambda: bool(spool.shards))
        return spool

    yield started
    for one in running:
        await one.close()


async def pending(spool: JetStreamSpool) -> int:
    """Return how many deliveries are pending, once what is too old has expired."""
    await spool.shards[0].evictions.run()
    depth = (await spool.depths())["a"]
    return depth.backlog + depth.retrying


async def append(spool: JetStreamSpool, name: str, once: DedupWindow | None = None) -> bool:
    """Append an event; return whether it is delivered, once the shard's owner knows."""
    seq = (await spool.append(entry(name, a=(0,)), None, once)).seq
    return not await spool.shards[0].handed_over(seq)


async def all_expire(spool: JetStreamSpool, machine: Machine, count: int) -> None:
    """Check that *count* deliveries are pending until the end of their time, and expire then."""
    machine.passes(DAY - HOUR)
    await machine.looked_at()
    assert await pending(spool) == count
    machine.passes(2 * HOUR)
    assert await pending(spool) == 0


@pytest.mark.parametrize("wrong", [8 * DAY, -8 * DAY])
async def test_a_wrong_clock_at_start_ends_nothing_early(
    start: Start, machine: Machine, wrong: float
) -> None:
    """If a gateway starts far ahead or back, deliveries and ids live as long as they should."""
    await append(spool := await start(), "r1", FIRST)
    machine.passes(CONFIRM)
    await machine.looked_at()
    machine.sets(wrong)
    spool = await start()
    await machine.looked_at()
    assert not await append(spool, "r2", FIRST)
    assert await append(spool, "r3", DedupWindow({0: "second"}, HOUR))
    assert await pending(spool) == 2
    machine.sets(-wrong)
    await machine.looked_at()
    machine.passes(CONFIRM + 1)
    await machine.looked_at()
    assert not await append(spool, "r4", FIRST)
    machine.passes(HOUR)
    assert await append(spool, "r5", FIRST)
    assert await pending(spool) == 3


@pytest.mark.parametrize("seconds", [8 * DAY, -8 * DAY])
async def test_a_clock_that_is_set_for_good_ages_nothing(
    start: Start, machine: Machine, seconds: float
) -> None:
    """A clock that is set is followed after a while, and deliveries keep their age over a start."""
    await append(spool := await start(), "r1")
    machine.sets(seconds)
    await machine.looked_at()
    with capture_logs() as logs:
        machine.passes(CONFIRM)
        await machine.looked_at()
    assert [one["seconds"] for one in logs if one["event"] == "clock_changed"] == [seconds]
    assert spool.clock.of_day() == pytest.approx(machine.day(), abs=1)
    await append(spool, "r2", FIRST)
    spool = await start()
    machine.passes(2 * CONFIRM)
    await machine.looked_at()
    assert not await append(spool, "r3", FIRST)
    await all_expire(spool, machine, 2)
