"""A spool of one JetStream shard, for the suites of spools."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn
from uuid import uuid4

import pytest

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.clock import GivenClock
from gateway.spool.dead_letters import (
    ALL_DEAD_LETTERS,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
)
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.consent import ConsentStore
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.identity import join
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.pauses import PausedDestinations
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.user_hash import UserHash
from gateway.spool.values import (
    Appended,
    BacklogLimit,
    ConsentRecord,
    DedupWindow,
    Entry,
    GivenUp,
    Progress,
    QueueDepth,
    SpoolLimits,
)


def not_yet(what: str) -> NoReturn:
    """Skip a test of what is not built yet."""
    pytest.skip(f"not on JetStream yet: {what}")


class OneShardSpool:
    """The parts on JetStream behind the methods of a spool that the suites use."""

    def __init__(
        self,
        urls: Sequence[str],
        layout: Layout,
        clock: Callable[[], float],
        limits: SpoolLimits,
    ) -> None:
        self._limits = limits
        self.layout, self.clock = layout, GivenClock(clock)
        self._connection = NatsConnection(urls)
        self._registered: frozenset[str] = frozenset()
        self._paused = PausedDestinations(self._connection, layout)
        self._consent = ConsentStore(self._connection, layout, self.clock)
        self._closed = True
        self._appending: set[asyncio.Future[Appended]] = set()

    async def open(self) -> None:
        """Claim the shard; it is taken from whoever has it."""
        await self._connection.open()
        self._writer = FrameWriter(self._connection, self.layout, uuid4().hex, self.clock)
        identity = await join(self._connection, self.layout, 1)
        self._shard = JetStreamShard(self._writer, 0, UserHash(identity.secret), trim_delay=0)
        while not await self._shard.claim():
            pass
        self._shard.evictions.max_age = self._limits.max_age
        self._shard.start()
        self._closed = False
        self._trimming = asyncio.create_task(self._trim())

    async def close(self) -> None:
        """Release the shard, or leave it to whoever has it now."""
        if self._closed:
            return
        self._closed = True
        self._trimming.cancel()
        await asyncio.gather(self._trimming, return_exceptions=True)
        await self._writer.close()
        await asyncio.gather(*self._appending, return_exceptions=True)
        await self._shard.release()
        await self._connection.close()

    async def _trim(self) -> None:
        while not self._closed:
            try:
                await self._shard.evictions.run()
                await self._shard.trim()
            except SpoolError:
                return
            await asyncio.sleep(0.02)

    # ---- intake ----------------------------------------------------------------------------

    def append(
        self, entry: Entry, events: Sequence[Event] | None = None, once: DedupWindow | None = None
    ) -> Awaitable[Appended]:
        """Store an entry; done when it was handed over."""
        if self._closed:
            raise SpoolError("the spool is closed")
        if strangers := set(entry.targets) - self._registered:
            failed: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
            failed.set_exception(SpoolError(f"not registered: {strangers}"))
            return failed
        appended = asyncio.ensure_future(
            self._appended(self._writer.append(0, entry, events, once))
        )
        self._appending.add(appended)
        appended.add_done_callback(self._appending.discard)
        return appended

    async def _appended(self, stored: asyncio.Future[int]) -> Appended:
        repeats = await self._shard.handed_over(seq := await stored)
        there = await self._shard.entries([seq])
        await self._shard.evictions.run()
        return Appended(seq if there or not repeats else 0, repeats)

    async def save_consent(
        self, records: Mapping[bytes, Mapping[str, ConsentRecord]], window: float
    ) -> None:
        """Store consent."""
        await self._consent.save(records, window)

    async def load_consent(self, users: Sequence[bytes]) -> dict[bytes, dict[str, ConsentRecord]]:
        """Return stored consent."""
        return await self._consent.load(users)

    def health(self) -> str | None:
        """Return why appends fail."""
        return "closed" if self._closed else self._connection.health()

    # ---- the shard -------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Return a method of the shard that needs nothing of the spool's."""
        return getattr(self._open_shard, name)

    @property
    def _open_shard(self) -> JetStreamShard:
        if self._closed:
            raise SpoolError("the spool is closed")
        return self._shard

    def settle(self, destination: str, progress: Progress, *, soon: bool = True) -> Awaitable[None]:
        """Record progress, at once."""
        return self._open_shard.settle(destination, progress, soon=soon)

    # ---- administration --------------------------------------------------------------------

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set the destinations."""
        self._shard.evictions.bounds = dict(destinations)
        await self._shard.register(list(destinations))
        self._registered = frozenset(destinations)

    async def forget(self, destination: str) -> int:
        """Forget a destination that is not registered."""
        if destination in self._registered:
            raise SpoolError(f"{destination!r} is registered")
        pending = await self._shard.forget(destination)
        await self._paused.pause(destination, paused=False)
        return pending

    async def depths(self) -> dict[str, QueueDepth]:
        """Return the depths."""
        return {
            name: QueueDepth(found.cursor, *found.counts(), found.dead_letters, found.oldest_time())
            for name, found in self._shard.state.destinations.items()
        }

    def given_up(self) -> Mapping[str, GivenUp]:
        """Return what was evicted."""
        return self._shard.evictions.given_up

    async def dead_letters(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, after: int = 0, limit: int = 50
    ) -> list[DeadLetter]:
        """Return dead letters."""
        return await self._shard.dead_letters.find(which, after, limit)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """Return one dead letter."""
        return await self._shard.dead_letters.one(number)

    async def letter_groups(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, limit: int = 50
    ) -> list[DeadLetterGroup]:
        """Return groups of dead letters."""
        return await self._shard.dead_letters.groups(which, limit)

    async def delete_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Delete dead letters."""
        return await self._shard.dead_letters.delete(which)

    async def replay_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Replay dead letters."""
        return await self._shard.replay(which)

    async def orphans(self) -> dict[str, QueueDepth]:
        """Return the depths of destinations that are not registered."""
        depths = await self.depths()
        return {name: depth for name, depth in depths.items() if name not in self._registered}

    async def paused(self) -> frozenset[str]:
        """Return the paused destinations."""
        return await self._paused.names()

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Store whether a destination is paused."""
        if destination not in self._shard.state.destinations:
            raise SpoolError(f"unknown destination {destination!r}")
        await self._paused.pause(destination, paused=paused)

    async def size(self) -> int:
        """Return nothing."""
        not_yet("the size")
