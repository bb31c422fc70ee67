"""Read the state of the cluster: from signs of life, the owners of shards and the servers."""

import asyncio
from collections.abc import Iterable, Mapping

from gateway.errors import SpoolError
from gateway.spool.cluster import ClusterNode, ClusterShard, ClusterState, ClusterStream, NodeState
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.membership import Membership
from gateway.spool.jetstream.owners import ShardOwners
from gateway.spool.jetstream.presence import SignOfLife
from gateway.spool.jetstream.questions import AskDepths
from gateway.spool.values import QueueDepth

LIMIT = 2.0
"""Seconds that a gateway or a stream's leader may take to answer."""


async def read_cluster(
    membership: Membership,
    owners: ShardOwners,
    connection: NatsConnection,
    streams: Iterable[str],
    now: float,
) -> ClusterState:
    """Return the state of the cluster; what does not answer in time is told as such.

    Args:
        membership: of this gateway.
        owners: asks the others.
        connection: to the servers.
        streams: the names of the cluster's streams.
        now: Unix seconds.
    """
    depths, found = await asyncio.gather(
        owners.ask_once(AskDepths(), LIMIT),
        asyncio.gather(*[_stream(connection, name) for name in streams]),
    )
    own = membership.own()
    nodes = [_node(own, 0.0)]
    others, gone = membership.heard(), membership.gone()
    at = membership.now()
    nodes += [_node(heard.sign, at - heard.at) for heard in others.values()]
    nodes += [_node(heard.sign, at - heard.at, "gone") for heard in gone.values()]
    signs = (own, *(heard.sign for heard in others.values()))
    shards = [_shard(n, _owner(n, signs), depths.get(n), now) for n in owners.shards]
    nodes.sort(key=lambda one: one.name)
    return ClusterState(own.node, nodes, shards, found)


def _node(sign: SignOfLife, silent: float, state: NodeState | None = None) -> ClusterNode:
    alive: NodeState = "leaving" if sign.leaving else "ready" if sign.ready else "starting"
    return ClusterNode(
        sign.node, state or alive, sign.version, sign.started, round(silent, 3), sign.digest
    )


def _owner(shard: int, signs: Iterable[SignOfLife]) -> tuple[int, str]:
    """Return the latest claim of a shard, and who names it; 0 and empty without any."""
    claims = ((sign.owned[shard], sign.node) for sign in signs if shard in sign.owned)
    return max(claims, default=(0, ""))


def _shard(
    number: int, claim: tuple[int, str], depths: Mapping[str, QueueDepth] | None, now: float
) -> ClusterShard:
    epoch, owner = claim
    if depths is None:
        return ClusterShard(number, owner, epoch, None, None)
    pending = sum(one.backlog + one.retrying + one.parked for one in depths.values())
    unread = (one.oldest_unread for one in depths.values() if one.oldest_unread is not None)
    lag = max(0.0, now - min(unread, default=now))
    return ClusterShard(number, owner, epoch, pending, round(lag, 3))


async def _stream(connection: NatsConnection, name: str) -> ClusterStream:
    try:
        async with asyncio.timeout(LIMIT):
            info = await connection.stream_info(name)
    except (SpoolError, TimeoutError):
        return ClusterStream(name, "", 0, 0, [])
    behind = [one.name for one in info.followers if not one.current]
    return ClusterStream(
        name,
        info.leader,
        int(info.config["num_replicas"]),
        1 + len(info.followers) - len(behind),
        behind,
    )
