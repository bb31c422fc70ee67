"""A spool of one JetStream shard, for the suites of spools: entries are numbered from 1 on."""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn
from uuid import uuid4
from zlib import crc32

import pytest
from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.dead_letters import (
    ALL_DEAD_LETTERS,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
)
from gateway.spool.interface import Offer
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.values import (
    Appended,
    BacklogLimit,
    Balance,
    DedupWindow,
    DeliveryRef,
    Entry,
    LogRecord,
    PendingRequest,
    Progress,
    QueueDepth,
    SpoolNotice,
    UnreadPage,
    WaitingDelivery,
)

_NEVER = 1 << 60
"""Added to numbers of entries that do not exist."""


def not_yet(what: str) -> NoReturn:
    """Skip a test of what is not built yet."""
    pytest.skip(f"not on JetStream yet: {what}")


class Place:
    """Where a spool keeps its entries, and what came there in which order."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.seqs: list[int] = []


class OneShardSpool:
    """The parts on JetStream behind the methods of a spool that the suites use.

    Seqs of JetStream rise with gaps. The suites name entries by 1, 2, 3: the n-th of the log.
    """

    number = 0

    def __init__(self, urls: Sequence[str], place: Place) -> None:
        self._place = place
        self._connection = NatsConnection(urls)
        self._registered: frozenset[str] = frozenset()
        self._closed = True
        self._handed_over = asyncio.Event()
        self._followers: list[Offer] = []

    async def open(self) -> None:
        """Claim the shard; it is taken from whoever has it."""
        layout = self._place.layout
        await self._connection.open()
        self._writer = FrameWriter(self._connection, layout, uuid4().hex)
        self._shard = JetStreamShard(self._writer, 0, self.user_hash, trim_delay=0)
        while not await self._shard.claim():
            pass
        self._shard.follow(self._on_entry)
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
        await self._shard.release()
        await self._connection.close()

    def _on_entry(self, record: LogRecord, events: Sequence[Event] | None) -> None:
        self._place.seqs.append(record.seq)
        for offer in self._followers:
            try:
                offer(replace(record, seq=len(self._place.seqs)), events)
            except Exception as error:  # noqa: BLE001 - as the shard does
                asyncio.get_running_loop().call_exception_handler({"exception": error})
        self._handed_over.set()

    async def _trim(self) -> None:
        while not self._closed:
            try:
                await self._shard.trim()
            except SpoolError:
                return
            await asyncio.sleep(0.02)

    # ---- numbers ---------------------------------------------------------------------------

    def _real(self, number: int) -> int:
        seqs = self._place.seqs
        if number <= len(seqs):
            return seqs[number - 1] if number else 0
        return _NEVER + number

    def _dense(self, seq: int) -> int:
        return bisect_right(self._place.seqs, seq)

    def _to_real(self, one: Any) -> Any:
        return replace(one, mark=DeliveryRef(self._real(one.mark.seq), one.mark.index))

    def _to_dense(self, one: Any) -> Any:
        return replace(one, mark=DeliveryRef(self._dense(one.mark.seq), one.mark.index))

    # ---- intake ----------------------------------------------------------------------------

    def append(
        self, entry: Entry, events: Sequence[Event] | None = None, once: DedupWindow | None = None
    ) -> Awaitable[Appended]:
        """Store an entry; done when it was handed over."""
        if once:
            not_yet("dedup")
        if self._closed:
            raise SpoolError("the spool is closed")
        if strangers := set(entry.targets) - self._registered:
            failed: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
            failed.set_exception(SpoolError(f"not registered: {strangers}"))
            return failed
        return self._appended(self._writer.append(0, entry, events))

    async def _appended(self, stored: asyncio.Future[int]) -> Appended:
        seq = await stored
        while self._shard.position() < seq:
            self._handed_over.clear()
            await self._handed_over.wait()
        return Appended(self._dense(seq))

    def user_hash(self, user: str) -> int:
        """Return a hash of a user's key."""
        return crc32(user.encode("utf-8", "surrogatepass")) if user else 0

    def health(self) -> str | None:
        """Return why appends fail."""
        return "closed" if self._closed else self._connection.health()

    # ---- the shard -------------------------------------------------------------------------

    def follow(self, offer: Offer) -> None:
        """Call *offer* for each entry."""
        self._followers.append(offer)

    def subscribe(self, listener: Callable[[SpoolNotice], None]) -> None:
        """Call *listener* for each notice."""
        self._shard.subscribe(listener)

    def position(self) -> int:
        """Return the number of the last entry."""
        return self._dense(self._shard.position())

    def cursor(self, destination: str) -> int:
        """Return a cursor as a number."""
        return self._dense(self._shard.cursor(destination))

    async def unread(self, destination: str, after: int, upto: int, limit: int) -> UnreadPage:
        """Return a page of pending deliveries."""
        self._check()
        page = await self._shard.unread(destination, self._real(after), self._real(upto), limit)
        items = [replace(item, seq=self._dense(item.seq)) for item in page.items]
        scanned = upto if page.scanned == self._real(upto) else self._dense(page.scanned)
        return UnreadPage(items, scanned)

    async def entries(self, seqs: Sequence[int]) -> list[LogRecord]:
        """Return entries by their numbers."""
        found = await self._shard.entries([self._real(seq) for seq in seqs])
        return [replace(record, seq=self._dense(record.seq)) for record in found]

    async def retrying(
        self, destination: str, due_before: float, limit: int, after: WaitingDelivery | None = None
    ) -> list[WaitingDelivery]:
        """Return retrying deliveries."""
        last = self._to_real(after) if after else None
        found = await self._shard.retrying(destination, due_before, limit, last)
        return [self._to_dense(one) for one in found]

    async def parked(self, destination: str, user: str, limit: int) -> list[WaitingDelivery]:
        """Return parked deliveries."""
        found = await self._shard.parked(destination, user, limit)
        return [self._to_dense(one) for one in found]

    async def blocked(self, destination: str) -> dict[str, int]:
        """Return users with waiting deliveries."""
        return await self._shard.blocked(destination)

    def settle(self, destination: str, progress: Progress, *, soon: bool = True) -> Awaitable[None]:
        """Record progress, at once."""
        self._check()
        real = replace(
            progress,
            cursor=self._real(progress.cursor),
            later=[self._to_real(one) for one in progress.later],
            dead=[self._to_real(one) for one in progress.dead],
            done=[DeliveryRef(self._real(mark.seq), mark.index) for mark in progress.done],
        )
        return self._shard.settle(destination, real, soon=soon)

    async def balances(self) -> dict[str, Balance]:
        """Return the balances."""
        return await self._shard.balances()

    # ---- administration --------------------------------------------------------------------

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set the destinations."""
        if any(limit.max_backlog and limit.overflow != "refuse" for limit in destinations.values()):
            not_yet("bounds")
        await self._shard.register(list(destinations))
        self._registered = frozenset(destinations)

    async def forget(self, destination: str) -> int:
        """Forget a destination that is not registered."""
        if destination in self._registered:
            raise SpoolError(f"{destination!r} is registered")
        return await self._shard.forget(destination)

    async def depths(self) -> dict[str, QueueDepth]:
        """Return the depths, without the age of the oldest."""
        return {
            name: QueueDepth(
                self._dense(found.cursor), *found.counts(), found.dead_letters, oldest=None
            )
            for name, found in self._shard.state.destinations.items()
        }

    async def pending(self, request_id: str) -> PendingRequest | None:
        """Return None if a request is not in the log."""
        for record in await self._shard.entries(self._place.seqs):
            if record.entry.id == request_id:
                not_yet("look-up of a request's deliveries")
        return None

    async def dead_letters(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, after: int = 0, limit: int = 50
    ) -> list[DeadLetter]:
        """Return dead letters."""
        found = await self._shard.dead_letters.find(which, after, limit)
        return [self._to_dense(one) for one in found]

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """Return one dead letter."""
        found = await self._shard.dead_letters.one(number)
        return self._to_dense(found) if found else None

    async def letter_groups(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, limit: int = 50
    ) -> list[DeadLetterGroup]:
        """Return groups; the suites name the newest letter by its place."""
        groups = await self._shard.dead_letters.groups(which, limit)
        ids = [one.id for one in await self._shard.dead_letters.find(ALL_DEAD_LETTERS, 0, 1000)]
        return [replace(group, newest=ids.index(group.newest) + 1) for group in groups]

    async def delete_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Delete dead letters."""
        return await self._shard.dead_letters.delete(which)

    async def replay_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Replay nothing."""
        del which
        not_yet("replay")

    async def orphans(self) -> dict[str, QueueDepth]:
        """Return nothing."""
        not_yet("orphans")

    async def paused(self) -> frozenset[str]:
        """Return nothing."""
        not_yet("pauses")

    async def size(self) -> int:
        """Return nothing."""
        not_yet("the size")

    def _check(self) -> None:
        if self._closed:
            raise SpoolError("the spool is closed")
