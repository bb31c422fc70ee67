"""Nodes that find each other over real NATS servers, and share shards by their journals."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from gateway.errors import SpoolError
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.journal import ShardJournal
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.membership import HostReport, Membership, uptime
from gateway.spool.jetstream.ownership import Ownership, wanted_owners
from gateway.spool.jetstream.presence import Presence, node_name
from tests.cluster.servers import NatsServers
from tests.cluster.tcp_proxy import tcp_proxies

SHARDS = 6
PATIENCE = 20.0
"""Seconds until a state that does not come is given up."""


class JournalHost:
    """Runs nothing of a shard but its journal."""

    def __init__(self, connection: NatsConnection, layout: Layout, node: str) -> None:
        self.journals = [
            ShardJournal(connection, layout.state_stream, layout.journal(shard), node)
            for shard in range(SHARDS)
        ]
        self.running: set[int] = set()
        self.fails = False
        self.hangs = False
        self.changed = asyncio.Event()

    async def claim(self, shard: int, may_take: Callable[[str], bool]) -> int | None:
        """Claim the journal."""
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise SpoolError("it cannot be read")
        if not await self.journals[shard].claim(may_take):
            return None
        self.running.add(shard)
        self.changed.set()
        return self.journals[shard].epoch

    async def give(self, shard: int) -> None:
        """Release the journal."""
        self.running.discard(shard)
        await self.journals[shard].write("release", b"")

    async def drop(self, shard: int) -> None:
        """Write nothing."""
        self.running.discard(shard)
        self.changed.set()

    def report(self) -> HostReport:
        """Return figures to recognise."""
        return HostReport({"chrts": 3}, "digest")


class Node:
    """A node with a connection of its own."""

    def __init__(self, connection: NatsConnection, layout: Layout) -> None:
        self.connection = connection
        self.name = node_name("test")
        self.host = JournalHost(connection, layout, self.name)
        self.presence = Presence(self.name)
        self.membership = Membership(
            connection, f"{layout.name}.presence", Ownership(self.presence, SHARDS), self.host
        )


@asynccontextmanager
async def joined(layout: Layout, *urls: Sequence[str]) -> AsyncIterator[list[Node]]:
    """Start a node for each list of servers, and wait until they share the shards."""
    nodes = [Node(NatsConnection(each, patience=2.0), layout) for each in urls]
    try:
        for node in nodes:
            await node.connection.open()
            node.membership.start()
        await shared(*nodes)
        yield nodes
    finally:
        for node in nodes:
            await node.membership.close()
            await node.connection.close()


async def shared(*nodes: Node) -> None:
    """Wait until each shard runs on the one of *nodes* that should own it."""
    wanted = wanted_owners(frozenset(node.name for node in nodes), SHARDS)
    async with asyncio.timeout(PATIENCE):
        for node in nodes:
            mine = {shard for shard, owner in enumerate(wanted) if owner == node.name}
            while node.host.running != mine or set(node.membership.held) != mine:
                await look(node)


async def look(node: Node) -> None:
    """Wait until a node's host changed, or a moment."""
    node.host.changed.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await node.host.changed.wait()


async def heard_itself(node: Node) -> None:
    """Wait until a node hears a sign that it sends from now on."""
    presence, now = node.presence, uptime()
    async with asyncio.timeout(PATIENCE):
        while presence.silence(now) >= 0:
            await look(node)


async def test_nodes_share_the_shards_and_hand_them_over(
    layout: Layout, nats_cluster: NatsServers
) -> None:
    """Nodes see each other's signs and share the shards; one that leaves releases its own first."""
    async with joined(layout, nats_cluster.urls, nats_cluster.urls) as (one, other):
        async with asyncio.timeout(PATIENCE):
            while set(one.membership.nodes()[other.name].owned) != other.host.running:
                await look(one)
        sign = one.membership.nodes()[other.name]
        assert (sign.depths, sign.digest, sign.ready) == ({"chrts": 3}, "digest", True)
        assert one.membership.leased()
        given = set(other.host.running)
        await other.membership.leave()
        assert not other.host.running
        await shared(one)
        assert one.membership.nodes()[other.name].owned == {}  # before its lease ended
        assert all(one.host.journals[shard].epoch >= 2 for shard in given)


async def test_a_node_goes_on_when_its_server_is_killed(
    layout: Layout, nats_cluster: NatsServers
) -> None:
    """A node hears itself again by another server, and drops nothing."""
    urls = nats_cluster.urls
    async with joined(layout, urls[:1] + urls[1:], urls[1:]) as (one, other):
        epochs = dict(one.membership.held), dict(other.membership.held)
        await asyncio.to_thread(nats_cluster.kill, 0)
        try:
            await heard_itself(one)
            await heard_itself(other)
            assert (dict(one.membership.held), dict(other.membership.held)) == epochs
        finally:
            await asyncio.to_thread(nats_cluster.start, 0)
            await asyncio.to_thread(nats_cluster.ready)


async def test_a_node_that_is_cut_off_drops_its_shards(
    layout: Layout, nats_cluster: NatsServers
) -> None:
    """A node that hears nothing drops its shards, another takes them, and it takes part again."""
    with tcp_proxies() as proxies:
        urls, ways = nats_cluster.proxied(proxies)
        async with joined(layout, urls, nats_cluster.urls) as (one, other):
            for way in ways:
                way.cut()
            await shared(other)
            async with asyncio.timeout(PATIENCE):
                while one.host.running:
                    await look(one)
            assert not one.membership.leased()
            for way in ways:
                way.heal()
            await shared(one, other)


async def test_a_fenced_shard_is_dropped_and_failures_are_tried_again(
    layout: Layout, nats_cluster: NatsServers
) -> None:
    """A shard whose record was fenced is dropped; a claim that fails or hangs holds up no other."""
    async with joined(layout, nats_cluster.urls) as (one,):
        stranger = JournalHost(one.connection, layout, "stranger")
        assert await stranger.journals[2].claim(lambda _: True)
        one.host.fails = True
        one.membership.lost(2)
        async with asyncio.timeout(PATIENCE):
            while 2 in one.host.running:
                await look(one)
        assert one.host.running == {0, 1, 3, 4, 5}
        one.host.fails = False
        await shared(one)
        assert one.membership.held[2] == 3
        one.host.hangs = True
        one.membership.lost(2)
        async with asyncio.timeout(PATIENCE):
            while one.membership.held.get(2) != 0:
                await look(one)
    assert not one.host.running


async def test_a_node_hears_itself_again_by_a_new_client(
    layout: Layout, nats_cluster: NatsServers
) -> None:
    """Neither a message that is no sign nor a connection that is made anew ends a node's lease."""
    async with joined(layout, nats_cluster.urls) as (one,):
        for text in (b"", b"\xff\xff", b"\x81\xa4node\xa1x"):
            await one.connection.send(f"{layout.name}.presence", text)
        client, epochs = one.connection._client, dict(one.membership.held)
        assert client is not None
        await client.close()
        await heard_itself(one)
        assert one.membership.held == epochs
        await one.membership.leave()
        assert not one.host.running
