"""Which destinations have as much pending as they may, over all shards of the cluster."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

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
    """

    def __init__(
        self,
        own: Callable[[], Iterable[JetStreamShard]],
        nodes: Callable[[], Mapping[str, SignOfLife]],
    ) -> None:
        self._bounds: Mapping[str, BacklogLimit] = {}
        self._refuse: frozenset[str] = frozenset()
        self._own, self._nodes = own, nodes
        self._coming: Counter[str] = Counter()

    def set_bounds(self, bounds: Mapping[str, BacklogLimit]) -> None:
        """Set the bounds by destination."""
        self._bounds = bounds
        self._refuse = frozenset(
            name
            for name, bound in bounds.items()
            if bound.max_backlog is not None and bound.overflow == "refuse"
        )

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

    def coming(self, destinations: Collection[str]) -> AbstractContextManager[None]:
        """Count an entry that is being stored as pending."""
        counted = self._refuse.intersection(destinations)
        return self._counting(counted) if counted else nullcontext()

    @contextmanager
    def _counting(self, destinations: Collection[str]) -> Iterator[None]:
        self._coming.update(destinations)
        try:
            yield
        finally:
            self._coming.subtract(destinations)

    def refused(self, destinations: Collection[str]) -> dict[str, str]:
        """Return why some destinations refuse an entry.

        Raises SpoolFull if no other one takes it; those that drop what is too much do not count.
        """
        asked = self._refuse.intersection(destinations)
        refused = {name: why for name in asked if (why := self.refusal(name))}
        if refused:
            others = [self._bounds.get(name) for name in destinations if name not in refused]
            if not any(bound and bound.overflow != "drop" for bound in others):
                raise SpoolFull("; ".join(refused.values()), _RETRY_AFTER)
        return refused

    def refusal(self, destination: str) -> str | None:
        """Return why a destination refuses one more entry; None if it takes it."""
        most = self._bounds[destination].max_backlog if destination in self._refuse else None
        if most is None:
            return None
        pending = self.elsewhere(destination, -1) + self._coming[destination]
        return backlog_full(destination, most) if pending >= most else None

    def refusing(self) -> dict[str, str]:
        """Return the destinations that refuse entries now, with the reason of each."""
        return {name: why for name in self._refuse if (why := self.refusal(name))}
