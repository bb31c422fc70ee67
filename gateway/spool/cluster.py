"""A cluster, as one of its gateways sees it: its state, and questions to the others."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec

NodeState = Literal["ready", "starting", "leaving", "gone"]


class ClusterNode(msgspec.Struct, frozen=True):
    """A gateway of the cluster."""

    name: str
    """It is new at each start of the gateway."""
    state: NodeState
    """``ready``: it may own shards. ``starting``: it still listens to the others. ``leaving``: it
    gives its shards away. ``gone``: it fell silent within the last hour, without leaving."""
    version: str
    started: float
    """Unix seconds; 0 if it does not tell."""
    silent: float
    """Seconds since it was last heard; 0 for the gateway that tells."""
    config: str
    """The digest of its configuration, as far as deliveries depend on it."""


class ClusterShard(msgspec.Struct, frozen=True):
    """A shard of the log, and how far its owner is."""

    number: int
    owner: str
    """The gateway that delivers it; empty if none does."""
    epoch: int
    """How often the shard changed its owner; 0 while it is being claimed."""
    pending: int | None
    """Pending deliveries; null if the owner did not answer."""
    lag: float | None
    """Seconds since the oldest event arrived that waits for its first attempt, 0 without one; null
    if the owner did not answer."""


class ClusterStream(msgspec.Struct, frozen=True):
    """A stream of NATS."""

    name: str
    leader: str
    """The server that leads it; empty if none does, or if there is only one server."""
    replicas: int
    """The servers that should have it."""
    current: int
    """The servers that have all of it; 0 if no leader answers."""
    behind: list[str]
    """The servers that are away or lack a part of it."""


class ClusterState(msgspec.Struct, frozen=True):
    """The whole cluster."""

    node: str
    """The gateway that tells."""
    nodes: list[ClusterNode]
    shards: list[ClusterShard]
    streams: list[ClusterStream]

    @property
    def alive(self) -> list[ClusterNode]:
        """Return the gateways that are not gone."""
        return [one for one in self.nodes if one.state != "gone"]

    @property
    def config(self) -> str:
        """Return the digest of the configuration of the gateway that tells."""
        return next((one.config for one in self.nodes if one.name == self.node), "")


PeerAnswer = Callable[[bytes], Awaitable[bytes]]
"""Answers a question of another gateway; a `GatewayError` becomes the reason that it has none."""


class PeerAnswers(NamedTuple):
    """What the other gateways say."""

    answers: Mapping[str, bytes]
    """By gateway."""
    silent: Mapping[str, str]
    """The gateways that are alive and have no answer, with the reason."""


class Peers(Protocol):
    """The other gateways of a cluster."""

    @property
    def room(self) -> int:
        """Return the bytes that an answer may have."""

    def serve(self, topic: str, answer: PeerAnswer) -> None:
        """Answer questions about *topic* with what *answer* returns."""

    async def ask(self, topic: str, data: bytes) -> PeerAnswers:
        """Return the answers that come within some seconds; whoever is alive is asked."""

    async def tell(self, node: str, topic: str, data: bytes) -> None:
        """Send *data* to what *node* serves for *topic*; nothing comes back, and it may be lost.

        Raises SpoolError if it cannot be sent.
        """
