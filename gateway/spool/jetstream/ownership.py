"""Which shards a node claims, gives away and drops: decisions without clock, network or journal.

All nodes compute alike who should own what, from who is alive. A mistake here costs repeated
deliveries, and neither order nor an event: a shard's journal decides who owns it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from hashlib import blake2b

from gateway.spool.jetstream.presence import INTERVAL, MARGIN, HeardSign, Presence, SignOfLife

PATIENCE = 1.0
"""Seconds for which a shard must be wanted elsewhere before it is given away."""
CLAIM_INTERVAL = 0.25
"""Seconds between two tries to claim a shard."""
SETTLE = INTERVAL + MARGIN
"""Seconds within which a sign of everybody who lives is heard."""


@lru_cache(maxsize=16)
def wanted_owners(nodes: frozenset[str], shards: int) -> tuple[str, ...]:
    """Return the node that should own each shard; empty without nodes.

    Rendezvous hashing: each shard goes to the node that draws highest for it and has not yet its
    share, the shards divided by the nodes and rounded up. When a node comes or goes, few shards
    move between the others.
    """
    if not nodes:
        return ()
    room = dict.fromkeys(sorted(nodes), -(-shards // len(nodes)))
    found = []
    for shard in range(shards):
        owner = max((node for node, left in room.items() if left), key=lambda n: _draw(n, shard))
        room[owner] -= 1
        found.append(owner)
    return tuple(found)


def _draw(node: str, shard: int) -> bytes:
    return blake2b(f"{node} {shard}".encode(), digest_size=8).digest()


class _Stage(Enum):
    CLAIMING = auto()
    OWNED = auto()
    GIVING = auto()
    DROPPING = auto()


@dataclass
class _Holding:
    """A shard that others leave alone, from before it is claimed until nothing of it runs."""

    begun: float
    """When the claim was decided."""
    stage: _Stage = _Stage.CLAIMING
    epoch: int = 0
    unwanted_since: float | None = None


@dataclass
class Decisions:
    """What the node must do now, each of it once."""

    claim: list[int] = field(default_factory=list)
    """Shards to take over: `Ownership.claimed` or `Ownership.ended` follows."""
    give: list[int] = field(default_factory=list)
    """Shards to record and release; `Ownership.ended` follows."""
    drop: list[int] = field(default_factory=list)
    """Shards to end at once, without a record; what else is done with them is cancelled, and
    `Ownership.ended` follows."""


class Ownership:
    """The shards of one node.

    Args:
        presence: what the node has heard.
        shards: the number of shards of the cluster.

    Attributes:
        leaving: whether the node gives all shards away.
    """

    def __init__(self, presence: Presence, shards: int) -> None:
        self.presence = presence
        self._shards = shards
        self._held: dict[int, _Holding] = {}
        self._not_before: dict[int, float] = {}
        self._refused: dict[int, tuple[str, float]] = {}
        self._lost: set[int] = set()
        self._signed = SignOfLife("", -INTERVAL)
        self.leaving = False

    @property
    def held(self) -> dict[int, int]:
        """Return epochs by shard, for all shards that others must leave alone."""
        return {shard: holding.epoch for shard, holding in self._held.items()}

    def sign(self, now: float) -> SignOfLife | None:
        """Return the sign of life to send now; None if none is due.

        One is due each `INTERVAL`, and at once when a shard is held or free, or the node ready.
        """
        sign = self.state(now)
        last = self._signed
        changed = (sign.ready, sign.leaving, sign.owned) != (last.ready, last.leaving, last.owned)
        if not changed and now - last.at < INTERVAL:
            return None
        self._signed = sign
        return sign

    def state(self, now: float) -> SignOfLife:
        """Return what the others are told now."""
        presence = self.presence
        return SignOfLife(presence.node, now, presence.ready(now), self.leaving, self.held)

    def leave(self) -> None:
        """Give all shards away, and take none."""
        self.leaving = True

    def claimed(self, shard: int, epoch: int) -> None:
        """Note that a claim succeeded; one that was dropped meanwhile stays so."""
        holding = self._held[shard]
        if holding.stage is _Stage.CLAIMING:
            holding.stage, holding.epoch = _Stage.OWNED, epoch
            self._refused.pop(shard, None)

    def lost(self, shard: int) -> None:
        """Note that the shard must be dropped: another node has claimed it, or it failed."""
        if shard in self._held:
            self._lost.add(shard)

    def ended(self, shard: int, now: float) -> None:
        """Note that nothing of a shard runs any more, or that its claim failed."""
        holding = self._held.pop(shard)
        self._lost.discard(shard)
        waited = holding.stage is _Stage.CLAIMING and now - holding.begun > MARGIN
        doubtful = waited or holding.stage is _Stage.DROPPING
        self._not_before[shard] = now + (SETTLE if doubtful else CLAIM_INTERVAL)

    def may_claim(self, shard: int, owner: str, now: float) -> bool:
        """Return whether a shard may be taken from *owner*, the last that claimed it.

        An owner that is alive and does not name the shard either has just claimed it, or has let
        it go and could not record that. The signs that follow the first look at it tell.

        Nothing is taken by a claim that had to wait for the servers: the owner's signs may be on
        their way, as the servers' answer was. It is judged anew when they have come.
        """
        if now - self._held[shard].begun > MARGIN:
            return False
        others = self.presence.others(now)
        if owner == self.presence.node or owner not in others:
            return True
        known, since = self._refused.setdefault(shard, (owner, now))
        if known != owner:
            self._refused[shard] = (owner, now)
            return False
        heard = others[owner]
        return shard not in heard.sign.owned and heard.at - since >= SETTLE

    def decide(self, now: float) -> Decisions:
        """Return what to do, by what was heard until now."""
        found = Decisions()
        if self.presence.lapsed(now):
            self.presence.lapse()
            found.drop += [shard for shard in self._held if self._drop(shard)]
            return found
        others = self.presence.others(now)
        lost = {shard for shard in self._held if self._outranked(shard, others)} | self._lost
        found.drop += [shard for shard in lost if self._drop(shard)]
        if self.leaving:
            found.give += [s for s, holding in self._held.items() if _give(holding)]
        elif self.presence.ready(now):
            self._follow_wanted(self._wanted(others), others, now, found)
        else:
            for holding in self._held.values():
                holding.unwanted_since = None
        return found

    def _wanted(self, others: Mapping[str, HeardSign]) -> tuple[str, ...]:
        able = {n for n, heard in others.items() if heard.sign.ready and not heard.sign.leaving}
        return wanted_owners(frozenset(able | {self.presence.node}), self._shards)

    def _follow_wanted(
        self, wanted: tuple[str, ...], others: Mapping[str, HeardSign], now: float, into: Decisions
    ) -> None:
        """Claim what this node should own and nobody holds; give what another should own."""
        theirs = {shard for heard in others.values() for shard in heard.sign.owned}
        for shard in theirs:
            self._refused.pop(shard, None)
        for shard, node in enumerate(wanted):
            holding = self._held.get(shard)
            if holding is None:
                due = now >= self._not_before.get(shard, 0.0)
                if node == self.presence.node and shard not in theirs and due:
                    self._held[shard] = _Holding(now)
                    into.claim.append(shard)
            elif node == self.presence.node:
                holding.unwanted_since = None
            elif holding.unwanted_since is None:
                holding.unwanted_since = now
            elif now - holding.unwanted_since >= PATIENCE and _give(holding):
                into.give.append(shard)

    def _outranked(self, shard: int, others: Mapping[str, HeardSign]) -> bool:
        """Return whether another node names a later claim of a shard than this node's."""
        epoch = self._held[shard].epoch
        return 0 < epoch < max((h.sign.owned.get(shard, 0) for h in others.values()), default=0)

    def _drop(self, shard: int) -> bool:
        """Mark a shard as being dropped; return whether it was not yet."""
        holding = self._held[shard]
        if holding.stage is _Stage.DROPPING:
            return False
        holding.stage = _Stage.DROPPING
        return True


def _give(holding: _Holding) -> bool:
    """Mark a shard as being given away; return whether it was owned until now."""
    if holding.stage is not _Stage.OWNED:
        return False
    holding.stage = _Stage.GIVING
    return True
