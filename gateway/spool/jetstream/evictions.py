"""Give up a shard's deliveries: those that are too old, above the backlog, or refused."""

import asyncio
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from gateway.spool.clock import Clock
from gateway.spool.evictions import count_evicted, full_reason, log_evicted
from gateway.spool.jetstream.destination_state import DestinationState
from gateway.spool.jetstream.log_reader import LogReader
from gateway.spool.jetstream.recorder import Eviction, ProgressRecorder
from gateway.spool.jetstream.shard_state import ShardState
from gateway.spool.values import (
    BacklogLimit,
    Cause,
    DeliveryRef,
    Evicted,
    FailedDelivery,
    GivenUp,
    Outdated,
    Progress,
)

STEP = 64
"""Entries and waiting deliveries that are evicted at a time."""


class ShardEvictions:
    """Evicts deliveries of a shard, and tells its listeners.

    Args:
        state: of the shard.
        recorder: of the shard.
        entries: reads the shard's log.
        clock: of this gateway's spool.
        tell: called with each notice. A report that was made before is not recorded any more.

    Attributes:
        bounds: by destination; one without is an orphan, whose deliveries expire too.
        max_age: seconds for which a delivery may be pending; None is for ever.
        backlog_elsewhere: returns how much is pending for a destination in other shards.
        given_up: how many deliveries were evicted, by destination.
    """

    def __init__(
        self,
        state: ShardState,
        recorder: ProgressRecorder,
        entries: LogReader,
        clock: Clock,
        tell: Callable[[Evicted], None],
    ) -> None:
        self.bounds: Mapping[str, BacklogLimit] = {}
        self.max_age: float | None = None
        self.backlog_elsewhere: Callable[[str], int] = lambda _: 0
        self.given_up: dict[str, GivenUp] = {}
        self._state, self._recorder, self._entries = state, recorder, entries
        self._clock, self._tell = clock, tell
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Evict all that is too old or above the backlog; raises SpoolError if that fails."""
        async with self._lock:
            await self._refuse()
            for name in list(self._state.destinations):
                await self._expire(name)
                await self._overflow(name)

    async def refuse(self) -> None:
        """Make dead letters of what destinations refuse; raises SpoolError if that fails."""
        async with self._lock:
            await self._refuse()

    async def _refuse(self) -> None:
        for name, found in list(self._state.destinations.items()):
            while refused := found.waiting.parked_of("", STEP):
                at = self._clock.now() + self._clock.ahead
                dead = [FailedDelivery(one.mark, "overflow", one.reason, at) for one in refused]
                try:
                    await self._recorder.report(name, Progress(dead=dead), soon=True)
                except Outdated:
                    continue  # some of them may have been evicted meanwhile
                count_evicted(self.given_up, name, len(dead), 0)
                log_evicted(name, "overflow", refused[0].reason, len(dead), 0)

    async def _expire(self, name: str) -> None:
        if self.max_age is None:
            return
        reason = f"pending for more than {self.max_age:g} s"
        while await self._evict(name, "expired", reason, STEP, self._oldest_allowed()):
            pass

    async def _overflow(self, name: str) -> None:
        excess = self._excess(name)
        while excess > 0:
            reason = f"more than max_backlog ({self.bounds[name].max_backlog}) pending"
            await self._evict(name, "overflow", reason, min(excess, STEP), float("inf"))
            excess -= STEP

    def _oldest_allowed(self) -> float:
        return self._clock.sure() - (self.max_age or 0.0)

    def _excess(self, name: str) -> int:
        """Return how many deliveries this shard gives up: its part of what is above the bound."""
        bound, found = self.bounds.get(name), self._state.destinations.get(name)
        if found is None or bound is None or bound.overflow == "refuse" or not bound.max_backlog:
            return 0
        own = sum(found.counts())
        total = own + self.backlog_elsewhere(name)
        return -(-max(0, total - bound.max_backlog) * own // total) if total else 0

    async def _evict(self, name: str, cause: Cause, reason: str, count: int, before: float) -> bool:
        """Evict the oldest deliveries; return whether there were any."""
        at = self._clock.now() + self._clock.ahead
        why = FailedDelivery(DeliveryRef(0, 0), cause, reason, at)

        async def plan() -> Eviction | None:
            found = self._state.destinations.get(name)
            return await self._plan(found, why, count, before) if found else None

        evicted = await self._recorder.evict(name, plan)
        if evicted is None:
            return False
        self._tell(evicted)
        count_evicted(self.given_up, name, evicted.dead, evicted.dropped)
        log_evicted(name, cause, reason, evicted.dead, evicted.dropped)
        return True

    async def _plan(
        self, found: DestinationState, why: FailedDelivery, count: int, before: float
    ) -> Eviction | None:
        waiting, seqs = found.oldest(count, before)
        if not waiting and not seqs:
            return None
        dead = [
            replace(
                why,
                mark=one.mark,
                reason=full_reason(why.reason, one.reason),
                attempts=one.attempts,
                event_name=one.event_name,
                user=one.user,
            )
            for one in waiting
        ]
        for seq, entry in (await self._entries.entries(seqs)).items():
            for number in found.open_numbers(seq, entry.targets.get(found.name, ())):
                dead.append(replace(why, mark=DeliveryRef(seq, number)))  # noqa: PERF401 - two loops read better
        marks = tuple(one.mark for one in waiting)
        cursor = seqs[-1] if seqs else 0
        bound = self.bounds.get(found.name)
        if bound is not None and bound.overflow == "drop":
            return Eviction(Progress(cursor, done=marks), marks, [one.mark for one in dead])
        return Eviction(Progress(cursor, dead=dead), marks)
