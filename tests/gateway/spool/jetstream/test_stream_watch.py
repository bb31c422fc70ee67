"""A gateway notices what NATS lost, and that the streams are full."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest

from gateway.errors import SpoolError
from gateway.spool import BacklogLimit, Entry, SpoolFull, SpoolLimits
from gateway.spool.clock import SteadyClock
from gateway.spool.jetstream import stream_watch
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.spool import JetStreamSpool
from gateway.testing.spool.contract import entry, eventually
from tests.cluster.servers import NatsServers
from tests.gateway.spool.jetstream.faulty_connection import FaultyConnection, refused
from tests.gateway.spool.jetstream.test_spool import Runner

OpenSpool = Callable[..., Awaitable[JetStreamSpool]]


@pytest.fixture
def own_layout() -> Layout:
    """Return streams that only this test uses."""
    return Layout(f"own{uuid4().hex}")


@pytest.fixture
async def opened(
    nats_cluster: NatsServers,
    own_layout: Layout,
    connection: FaultyConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[OpenSpool]:
    """Return a function that opens the spool of one more gateway, of a cluster with one shard."""
    monkeypatch.setattr(stream_watch, "LOOK_INTERVAL", 0.1)
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def spool(limits: SpoolLimits, max_body: int) -> AsyncIterator[JetStreamSpool]:
            made = JetStreamSpool(
                NatsConnection(nats_cluster.urls),
                own_layout,
                shards=1,
                replicas=1,
                limits=limits,
                max_body=max_body,
            )
            made.run_shards(Runner())
            await made.open()
            await made.register({"a": BacklogLimit()})
            yield made
            await made.close()

        async def open_one(
            limits: SpoolLimits = SpoolLimits(),  # noqa: B008 - a frozen value
            max_body: int = 0,
        ) -> JetStreamSpool:
            return await stack.enter_async_context(spool(limits, max_body))

        yield open_one
        for name in own_layout.streams(1):
            await connection.api(f"STREAM.DELETE.{name}")


async def make_anew(connection: FaultyConnection, layout: Layout, name: str) -> None:
    """Replace a stream by an empty one."""
    await connection.api(f"STREAM.DELETE.{name}")
    await connection.create_stream(name, layout.streams(1)[name])


async def fill(spool: JetStreamSpool, one: Entry) -> None:
    """Append an entry without end."""
    while True:
        await spool.append(one)


@pytest.mark.parametrize("which", ["log_stream", "state_stream", "config_stream"])
async def test_a_gateway_takes_nothing_when_a_stream_is_lost(
    opened: OpenSpool, own_layout: Layout, connection: FaultyConnection, which: str
) -> None:
    """A stream that was made anew is named; nothing is accepted, delivered or answered any more."""
    spool = await opened()
    await spool.append(entry("r1", a=(0,)))
    name = getattr(own_layout, which)
    await make_anew(connection, own_layout, name)

    async def noticed() -> bool:
        return f"NATS lost the stream {name} of " in (spool.health() or "")

    await eventually(noticed)
    for call in (spool.append(entry("r2", a=(0,))), spool.save_consent({}, 1.0)):
        with pytest.raises(SpoolError, match="restore it from a backup"):
            await call
    with pytest.raises(SpoolError, match=name):
        await spool.depths()

    async def ended() -> bool:
        return not spool.leased() and not spool.shards

    await eventually(ended)
    with pytest.raises(SpoolError, match=f"NATS lost .*{name}"):
        await opened()


async def test_a_stream_that_is_missing_is_lost(
    opened: OpenSpool, own_layout: Layout, connection: FaultyConnection
) -> None:
    """A gateway does not make a stream anew that all gateways know."""
    spool = await opened()
    await connection.api(f"STREAM.DELETE.{own_layout.consent_stream}")

    async def noticed() -> bool:
        return f"NATS lost the stream {own_layout.consent_stream}" in (spool.health() or "")

    await eventually(noticed)
    with pytest.raises(SpoolError, match=f"lost the stream {own_layout.consent_stream}"):
        await opened()
    assert await connection.find_stream(own_layout.consent_stream) is None


async def test_one_bad_look_is_no_loss(
    own_layout: Layout, connection: FaultyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not know a stream yet ends no gateway."""
    monkeypatch.setattr(stream_watch, "LOOK_INTERVAL", 0.01)
    lost = asyncio.Event()
    await connection.create_stream(
        own_layout.log_stream, own_layout.streams(1)[own_layout.log_stream]
    )
    info = await connection.stream_info(own_layout.log_stream)
    watch = stream_watch.StreamWatch(
        connection, {own_layout.log_stream: info.created}, None, lost.set, SteadyClock()
    )
    connection.plan("$JS.API.STREAM.INFO", refused(404, 10059))
    await watch.begin()
    assert watch.trouble() is None
    await connection.api(f"STREAM.DELETE.{own_layout.log_stream}")
    with pytest.raises(SpoolError, match="NATS lost the stream"):
        await watch.begin()


async def test_full_streams_take_nothing_until_there_is_room(
    opened: OpenSpool, own_layout: Layout, connection: FaultyConnection
) -> None:
    """At max_bytes appends are refused, and health says why; with more room they go on."""
    spool = await opened(SpoolLimits(max_bytes=200_000))
    one = entry("r", body=b"x" * 20_000, a=(0,))
    with pytest.raises(SpoolFull) as full:
        await fill(spool, one)
    assert full.value.retry_after > 0
    assert "max_bytes (200000)" in (spool.health() or "")
    with pytest.raises(SpoolFull, match="max_bytes"):
        await spool.save_consent({}, 1.0)
    assert 100_000 < await spool.size() <= 200_000
    more = await opened(SpoolLimits(max_bytes=400_000))
    await more.append(one)
    await connection.purge(own_layout.log_stream, own_layout.log(0))

    async def takes_again() -> bool:
        return spool.health() is None

    await eventually(takes_again)
    await spool.append(one)


async def test_letters_count_as_well(
    opened: OpenSpool, own_layout: Layout, connection: FaultyConnection
) -> None:
    """What is in other streams than the log takes its room."""
    spool = await opened(SpoolLimits(max_bytes=200_000))
    await connection.store(own_layout.dead_letters(0), b"x" * 200_000)

    async def full() -> bool:
        return "max_bytes" in (spool.health() or "")

    await eventually(full)
    with pytest.raises(SpoolFull, match="max_bytes"):
        await spool.append(entry("r", a=(0,)))


async def test_messages_must_have_room_for_the_largest_request(opened: OpenSpool) -> None:
    """With too small a max_payload the gateway does not start, and says what it needs."""
    with pytest.raises(
        SpoolError, match=r"max_payload of the NATS servers is \d+ bytes; set it to"
    ):
        await opened(max_body=8 * 1024 * 1024)
