"""Which destinations have as much pending as they may, over all shards of the cluster."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from gateway.spool.evictions import backlog_full
from gateway.spool.jetstream.presence import SignOfLife
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.values import BacklogLimit, SpoolFull

_RETRY_AFTER = 5.0


class ClusterBacklog:
    """Adds up what is pending: exactly in the own shards, in others by the last signs of life.

    So a bound holds but for what the cluster accepts within a second.

    Args:
        own: returns the shards that this gateway delivers.
        nodes: returns the last signs of the other gateways that are alive.

    Attributes:
        bounds: by destination.
    """

    def __init__(
        self,
        own: Callable[[], Iterable[JetStreamShard]],
        nodes: Callable[[], Mapping[str, SignOfLife]],
    ) -> None:
        self.bounds: Mapping[str, BacklogLimit] = {}
        self._own, self._nodes = own, nodes
        self._coming: Counter[str] = Counter()

    def own(self) -> dict[str, int]:
        """Return what is pending in the shards of this gateway, by destination."""
        found: Counter[str] = Counter()
        for shard in self._own():
            for name, state in shard.state.destinations.items():
                found[name] += sum(state.counts())
        return found

    def elsewhere(self, destination: str, shard: int) -> int:
        """Return how much is pending for a destination in all other shards."""
        pending = sum(sign.depths.get(destination, 0) for sign in self._nodes().values())
        for one in self._own():
            if one.number != shard and (state := one.state.destinations.get(destination)):
                pending += sum(state.counts())
        return pending

    @contextmanager
    def coming(self, destinations: Collection[str]) -> Iterator[None]:
        """Count an entry that is being stored as pending."""
        self._coming.update(list(destinations))
        try:
            yield
        finally:
            self._coming.subtract(list(destinations))

    def refused(self, destinations: Collection[str]) -> dict[str, str]:
        """Return why some destinations refuse an entry.

        Raises SpoolFull if no other one takes it; those that drop what is too much do not count.
        """
        refused = {name: why for name in destinations if (why := self.refusal(name))}
        if refused:
            others = [self.bounds.get(name) for name in destinations if name not in refused]
            if not any(bound and bound.overflow != "drop" for bound in others):
                raise SpoolFull("; ".join(refused.values()), _RETRY_AFTER)
        return refused

    def refusal(self, destination: str) -> str | None:
        """Return why a destination refuses one more entry; None if it takes it."""
        bound = self.bounds.get(destination)
        if bound is None or bound.max_backlog is None or bound.overflow != "refuse":
            return None
        pending = self.elsewhere(destination, -1) + self._coming[destination]
        return (
            backlog_full(destination, bound.max_backlog) if pending >= bound.max_backlog else None
        )

    def refusing(self) -> dict[str, str]:
        """Return the destinations that refuse entries now, with the reason of each."""
        return {name: why for name in self.bounds if (why := self.refusal(name))}
