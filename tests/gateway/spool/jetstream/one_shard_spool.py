"""A spool of one JetStream shard, for the suites of spools."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

import pytest

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.clock import GivenClock
from gateway.spool.jetstream.backlog import ClusterBacklog
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.consent import ConsentStore
from gateway.spool.jetstream.frames import FrameWriter, RowExtras
from gateway.spool.jetstream.identity import join
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.operations import ClusterOperations
from gateway.spool.jetstream.questions import Question
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
    SpoolFull,
    SpoolLimits,
)

T = TypeVar("T")


def differs(how: str) -> NoReturn:
    """Skip a test of what is otherwise on JetStream."""
    pytest.skip(f"otherwise on JetStream: {how}")


def _failed(error: SpoolError) -> asyncio.Future[Appended]:
    failed: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
    failed.set_exception(error)
    return failed


class OneShardSpool(ClusterOperations):
    """The parts on JetStream behind the methods of a spool that the suites use."""

    def __init__(
        self,
        urls: Sequence[str],
        layout: Layout,
        clock: Callable[[], float],
        limits: SpoolLimits,
    ) -> None:
        self._limits = limits
        super().__init__(NatsConnection(urls), layout)
        self.layout, self.clock = layout, GivenClock(clock)
        self._consent = ConsentStore(self._connection, layout, self.clock)
        self._backlog = ClusterBacklog(lambda: [self._shard], dict)
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
        if strangers := entry.targets.keys() - self._registered.keys():
            return _failed(SpoolError(f"not registered: {strangers}"))
        try:
            refused = self._backlog.refused(entry.targets)
        except SpoolFull as error:
            return _failed(error)
        coming = self._backlog.coming(entry.targets)
        coming.__enter__()
        stored = self._writer.append(0, entry, events, once, extras=RowExtras(refused))
        appended = asyncio.ensure_future(self._appended(stored))
        self._appending.add(appended)
        appended.add_done_callback(self._appending.discard)
        appended.add_done_callback(lambda _: coming.__exit__(None, None, None))
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

    async def _ask(
        self, question: Question[T], shards: Iterable[int] | None = None
    ) -> dict[int, T]:
        assert shards is None or list(shards) == [0]
        return {0: await question.of(self._open_shard)}

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set the destinations."""
        await self._open_shard.register(destinations)
        self._registered = destinations
        self._backlog.set_bounds(destinations)

    def refusing(self) -> Mapping[str, str]:
        """Return what accepts nothing new."""
        return self._backlog.refusing()

    def given_up(self) -> Mapping[str, GivenUp]:
        """Return what was evicted."""
        return self._shard.evictions.given_up
