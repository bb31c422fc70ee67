"""Connections to three NATS servers, with streams that a test has for itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4
from zlib import crc32

import pytest

from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.values import BacklogLimit
from tests.cluster.servers import NatsServers
from tests.gateway.spool.jetstream.faulty_connection import FaultyConnection


@pytest.fixture
async def connection(nats_cluster: NatsServers) -> AsyncIterator[FaultyConnection]:
    """Return an open connection."""
    made = FaultyConnection(nats_cluster.urls)
    await made.open()
    yield made
    await made.close()


class SharedLayout(Layout):
    """Subjects of a test's own in streams that all tests share: streams take long to make."""

    @property
    def log_stream(self) -> str:
        """Return the stream of all tests' frames."""
        return "shared_LOG"

    @property
    def config_stream(self) -> str:
        """Return the stream of all tests' identities."""
        return "shared_CONFIG"

    @property
    def state_stream(self) -> str:
        """Return the stream of all tests' journals."""
        return "shared_STATE"

    @property
    def consent_stream(self) -> str:
        """Return the stream of all tests' consent."""
        return "shared_CONSENT"


@pytest.fixture
async def layout(connection: FaultyConnection) -> SharedLayout:
    """Return subjects that only this test uses."""
    for name, settings in SharedLayout("shared.*").streams(replicas=3).items():
        await connection.create_stream(name, settings)
    return SharedLayout(f"shared.{uuid4().hex}")


ClaimShard = Callable[[], Awaitable[JetStreamShard]]


@pytest.fixture
async def claimed(connection: FaultyConnection, layout: Layout) -> AsyncIterator[ClaimShard]:
    """Return a function that claims shard 0 for another gateway each time."""
    made: list[JetStreamShard] = []

    async def claimed() -> JetStreamShard:
        shard = make_shard(connection, layout)
        made.append(shard)
        assert await shard.claim()
        await shard.register({"a": BacklogLimit(), "b": BacklogLimit()})
        shard.start()
        return shard

    yield claimed
    await asyncio.gather(*[shard.abandon() for shard in made])


@pytest.fixture
def writer(connection: FaultyConnection, layout: Layout) -> FrameWriter:
    """Return a gateway's writer."""
    return FrameWriter(connection, layout, uuid4().hex)


def make_shard(connection: NatsConnection, layout: Layout) -> JetStreamShard:
    """Return shard 0 for a gateway of its own; not claimed."""
    writer = FrameWriter(connection, layout, uuid4().hex)
    return JetStreamShard(writer, 0, user_hash, trim_delay=0)


def user_hash(user: str) -> int:
    """Return a hash of a user's key."""
    return crc32(user.encode()) if user else 0
