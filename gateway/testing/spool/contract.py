"""Values and fixtures that the suites for spools share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.http import ClientInfo, Request
from gateway.spool import (
    Appended,
    Attempt,
    BacklogLimit,
    DedupWindow,
    DeliveryRef,
    Entry,
    FailedDelivery,
    Intake,
    LogRecord,
    Shard,
    Spool,
    SpoolLimits,
    SpoolNotice,
    WaitingDelivery,
)

PATIENCE = 10.0
"""Seconds after which a test stops waiting."""
FREE = BacklogLimit()
TRY = Attempt(at=1_700_000_001.5, status=503, latency=0.25, response_excerpt="try later")


class ManualClock:
    """A clock that stands still until a test sets it; Unix seconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def entry(name: str, *, body: bytes = b'{"event":"view"}', **targets: tuple[int, ...]) -> Entry:
    """Return an entry with a value in every field; ``a=(0,)`` sends its event 0 to ``a``."""
    request = Request(
        method="POST",
        url="/push?shop=1&x=%20",
        headers={"content-type": "application/json", "x-forwarded-for": "192.0.2.7"},
        body=body,
        id=name,
        received_at=datetime(2026, 11, 21, 6, 54, 1, 123456, tzinfo=UTC),
        client=ClientInfo("192.0.2.7", "c-1"),
    )
    return Entry(name, "shop", request, targets, "chrts")


def later(seq: int, index: int = 0, **changes: Any) -> WaitingDelivery:
    """Return a waiting delivery with a value in every field."""
    known: dict[str, Any] = {
        "due": 100.0,
        "attempts": (TRY,),
        "reason": "HTTP 503",
        "user": "u1",
        "event_name": "Product Viewed",
    }
    return WaitingDelivery(DeliveryRef(seq, index), **(known | changes))


def failed(seq: int, index: int = 0, **changes: Any) -> FailedDelivery:
    """Return a delivery that was given up, with a value in every field."""
    known: dict[str, Any] = {
        "cause": "refused",
        "reason": "HTTP 400: no such shop",
        "at": 1_700_000_002.0,
        "attempts": (TRY,),
        "rendered": b'{"url":"https://vendor.example/push"}',
        "event_name": "Product Viewed",
        "user": "u1",
    }
    return FailedDelivery(DeliveryRef(seq, index), **(known | changes))


class ShardSpool(Spool, Shard, Protocol):
    """A spool that is its own only shard, as the suites use it."""


def append(spool: Intake, one: Entry, once: DedupWindow | None = None) -> Awaitable[int]:
    """Append an entry at once; return its seq when that is awaited."""
    return _seq(spool.append(one, None, once))


async def _seq(appended: Awaitable[Appended]) -> int:
    return (await appended).seq


def follow(shard: Shard) -> list[LogRecord]:
    """Return a list that gets every entry that the shard hands over from now on."""
    told: list[LogRecord] = []
    shard.follow(lambda item, _events: told.append(item))
    return told


class Places:
    """The seqs of the entries that are appended from now on, by their number from 1 on."""

    def __init__(self, shard: Shard) -> None:
        self._told = follow(shard)

    def __getitem__(self, number: int) -> int:
        """Return the seq of an entry that was appended."""
        return self._told[number - 1].seq

    def __call__(self, first: int, last: int) -> list[int]:
        """Return the seqs of some entries, the last one included."""
        return [item.seq for item in self._told[first - 1 : last]]


async def pending(shard: Shard, destination: str) -> list[LogRecord]:
    """Return the entries after the cursor, with the destination's open deliveries."""
    page = await shard.unread(destination, 0, shard.position(), 100_000)
    numbers = {found.seq: found.numbers for found in page.items}
    entries = {item.seq: item.entry for item in await shard.entries(list(numbers))}
    return [
        LogRecord(seq, replace(entry, targets={**entry.targets, destination: numbers[seq]}))
        for seq, entry in entries.items()
    ]


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until *check* returns true, after the spool's maintenance."""
    async with asyncio.timeout(PATIENCE):
        while not await check():  # noqa: ASYNC110 - the contract has no event for housekeeping
            await asyncio.sleep(0.01)


class Notices:
    """Collects a spool's notices."""

    def __init__(self, shard: Shard) -> None:
        self._queue: asyncio.Queue[SpoolNotice] = asyncio.Queue()
        shard.subscribe(self._queue.put_nowait)

    async def next(self) -> SpoolNotice:
        """Return the next notice."""
        async with asyncio.timeout(PATIENCE):
            return await self._queue.get()


async def _missing(spool: ShardSpool) -> dict[str, int]:
    return {name: balance.unaccounted for name, balance in (await spool.balances()).items()}


class SpoolFactory(Protocol):
    """Returns an open spool with the destinations ``a`` and ``b``; it is closed after the test."""

    def __call__(self, limits: SpoolLimits = ..., **bounds: BacklogLimit) -> Awaitable[ShardSpool]:
        """Open the spool, with backlog limits by destination."""
        ...


class SpoolContract:
    """The methods that a suite must provide, and fixtures that use them."""

    def make(self, place: Path, limits: SpoolLimits, clock: Callable[[], float]) -> ShardSpool:
        """Return a spool, not yet open, that stores its data at ``place``."""
        raise NotImplementedError

    async def after_crash(
        self, spool: ShardSpool, place: Path, limits: SpoolLimits, clock: Callable[[], float]
    ) -> ShardSpool:
        """Return a spool, not yet open, with the data that a crash of ``spool`` would leave."""
        raise NotImplementedError

    async def reopened(self, spool: ShardSpool, place: Path, clock: ManualClock) -> ShardSpool:
        """Return an open spool with the data that a crash of ``spool`` would leave."""
        again = await self.after_crash(spool, place, SpoolLimits(), clock)
        await again.open()
        await again.register({"a": FREE, "b": FREE})
        return again

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the spools' clock."""
        return ManualClock()

    @pytest.fixture
    async def opened(self, tmp_path: Path, clock: ManualClock) -> AsyncIterator[SpoolFactory]:
        """Return a function that opens the test's spool."""
        spools: list[ShardSpool] = []

        async def opened(limits: SpoolLimits = SpoolLimits(), **bounds: BacklogLimit) -> ShardSpool:  # noqa: B008 - a frozen value
            spool = self.make(tmp_path / "spool", limits, clock)
            await spool.open()
            spools.append(spool)
            await spool.register({"a": FREE, "b": FREE} | bounds)
            return spool

        yield opened
        for spool in spools:
            counted: dict[str, int] = {}
            with contextlib.suppress(SpoolError):  # the test may have closed it
                counted = await _missing(spool)
            await spool.close()
            if counted:
                again = self.make(tmp_path / "spool", SpoolLimits(), clock)
                await again.open()
                try:
                    assert await _missing(again) == counted, "a restart counts something else"
                finally:
                    await again.close()

    @pytest.fixture
    async def spool(self, opened: SpoolFactory) -> ShardSpool:
        """Return an open spool without limits and with the destinations ``a`` and ``b``."""
        return await opened()
