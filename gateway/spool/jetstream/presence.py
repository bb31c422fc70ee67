"""Which gateways are alive, in the eyes of one of them.

Each node tells the others that it lives, every `INTERVAL` seconds, and hears its own signs of life
as well. What it heard of itself, the others can have heard: until `LEASE` seconds after it sent
that sign, nobody takes its shards. It stops `MARGIN` seconds earlier.

Nothing here reads a clock: ``now`` is in seconds of a clock of this machine that never goes back.
"""

import secrets
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

INTERVAL = 0.6
"""Seconds between two signs of life."""
LEASE = 3.0
"""Seconds after a node's last sign of life until others take its shards."""
MARGIN = 0.5
"""Seconds by which a node stops earlier than others may begin."""
WARM_UP = LEASE + MARGIN
"""Seconds that a node listens before it judges who is not there."""
GONE = 3600.0
"""Seconds for which a node that fell silent without leaving is remembered."""


class SignOfLife(msgspec.Struct, frozen=True):
    """What a node tells the others.

    It is a map on the wire, so that other versions of the gateway may add fields.
    """

    node: str
    """A name that no other start of any node has."""
    at: float
    """When it was sent, by the node's own clock."""
    ready: bool = False
    """Whether the node may be given shards."""
    leaving: bool = False
    """Whether it gives its shards away."""
    owned: Mapping[int, int] = {}
    """Epochs by shard, for all shards that others must leave alone; 0 while it is being claimed."""
    depths: Mapping[str, int] = {}
    """What is pending in the node's shards, by destination: entries and waiting deliveries."""
    digest: str = ""
    """Of the node's configuration; differs while nodes are reloaded one by one."""
    version: str = ""
    """Of the gateway."""
    started: float = 0.0
    """Unix seconds at which the node started."""


class HeardSign(NamedTuple):
    """The last sign of life of another node."""

    at: float
    """When it was heard, by this node's clock."""
    sign: SignOfLife


def node_name(host: str) -> str:
    """Return a name for one start of a node on *host*."""
    return f"{host}-{secrets.token_hex(4)}"


def host_of(node: str) -> str:
    """Return the host in the name of a node."""
    return node.rpartition("-")[0]


class Presence:
    """What a node has heard of itself and of others.

    Args:
        node: its name.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self._until = self._since = self._heard_self = 0.0
        self._heard: dict[str, HeardSign] = {}
        self._gone: dict[str, HeardSign] = {}

    def hear(self, sign: SignOfLife, now: float) -> None:
        """Take a sign of life; one that arrives late, after a newer one, is ignored."""
        if sign.node == self.node:
            self._hear_self(sign.at, now)
            return
        last = self._heard.get(sign.node)
        if last is None:
            self._came(sign.node)
        if last is None or sign.at >= last.sign.at:
            self._heard[sign.node] = HeardSign(now, sign)

    def _hear_self(self, sent: float, now: float) -> None:
        self._heard_self = now
        if self.lapsed(now):
            return  # the shards are given up first
        if not self.leased(now):
            self._since = sent
        self._until = max(self._until, sent + LEASE - MARGIN)

    def leased(self, now: float) -> bool:
        """Return whether nobody else can have taken this node's shards for its silence."""
        return now < self._until

    def lapsed(self, now: float) -> bool:
        """Return whether others may have taken this node's shards: the lease ended too long ago."""
        return bool(self._until) and now >= self._until + MARGIN

    def lapse(self) -> None:
        """Begin anew after the lease lapsed."""
        self._until = self._since = 0.0

    def ready(self, now: float) -> bool:
        """Return whether the node has been leased without a break for `WARM_UP` seconds.

        Before that everybody seems dead: at the start, and after a pause in which it heard nothing.
        """
        return self.leased(now) and now - self._since >= WARM_UP

    def silence(self, now: float) -> float:
        """Return the seconds since this node heard itself."""
        return now - self._heard_self

    def others(self, now: float) -> dict[str, HeardSign]:
        """Return the last signs of the other nodes that are alive."""
        silent = [node for node, heard in self._heard.items() if now - heard.at >= LEASE]
        for node in silent:
            heard = self._heard.pop(node)
            # A node that heard nothing itself, after a pause, cannot tell who is gone.
            if self.leased(now) and not heard.sign.leaving:
                self._gone[node] = heard
        return self._heard

    def gone(self, now: float) -> dict[str, HeardSign]:
        """Return the last signs of the nodes that fell silent without leaving.

        A node that starts on the same host takes the place of one.
        """
        self._gone = {node: heard for node, heard in self._gone.items() if now - heard.at < GONE}
        return self._gone

    def _came(self, node: str) -> None:
        """Forget that a node is gone: the node itself, or one that it replaces."""
        same = [one for one in self._gone if host_of(one) == host_of(node)]
        replaced = node if node in self._gone else next(iter(same), "")
        self._gone.pop(replaced, None)
