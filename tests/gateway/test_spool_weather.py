"""The balance stays right under random evictions, failing commits, crashes and operators."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal

import apsw
import pytest

from gateway.errors import SpoolError
from gateway.spool import (
    BacklogLimit,
    DeadLetterFilter,
    DeliveryRef,
    Evicted,
    LogRecord,
    Progress,
    SpoolNotice,
)
from gateway.spool.sqlite import writer
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import entry, failed, later, pending
from tests.gateway.failing_disk import Disk

STEPS = 250
EVER = 1e12


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Return a disk that works until a test makes it fail."""
    disk = Disk()
    yield disk
    disk.unregister()


class Worker:
    """A simple worker: its jobs in flight, and its reports to the spool."""

    def __init__(self, spool: SqliteSpool, chance: random.Random, delivered: int) -> None:
        self.spool = spool
        self.chance = chance
        self.delivered = delivered
        self.fresh: set[DeliveryRef] = set()
        """In flight, read from the log."""
        self.waiting: set[DeliveryRef] = set()
        """In flight, for a further attempt."""
        self.lost: set[DeliveryRef] = set()
        """In flight, although the spool evicted them."""

    def offer(self, item: LogRecord) -> None:
        """Take an entry that was just accepted."""
        self.fresh |= {DeliveryRef(item.seq, number) for number in item.entry.targets.get("a", ())}

    def hear(self, notice: SpoolNotice) -> None:
        """Record an eviction."""
        if isinstance(notice, Evicted):
            taken = {mark for mark in self.fresh if mark.seq <= notice.cursor}
            taken |= self.waiting.intersection(notice.marks)
            self.fresh -= taken
            self.waiting -= taken
            self.lost |= taken

    async def work(self) -> None:
        """Deliver some jobs, retry some, fail some, and report until it is recorded."""
        done: list[DeliveryRef] = []
        waits: list[DeliveryRef] = []
        dead: list[DeliveryRef] = []
        lost = False
        for hand in (self.fresh, self.waiting, self.lost):
            for mark in sorted(hand, key=lambda mark: (mark.seq, mark.index)):
                ends = self.chance.choice([done, waits, dead, None, None])
                lost = hand is self.lost
                if ends is None or (lost and ends is waits):
                    continue
                hand.discard(mark)
                if not (lost and ends is dead):
                    ends.append(mark)
        self.delivered += len(done)
        self.waiting |= set(waits)
        while True:
            out = min((mark.seq for mark in self.fresh), default=self.spool.position() + 1) - 1
            out = min([out, *(mark.seq - 1 for mark in self.lost)])
            progress = Progress(
                cursor=out,
                later=[later(mark.seq, mark.index) for mark in waits],
                done=done,
                dead=[failed(mark.seq, mark.index) for mark in dead],
                delivered=self.delivered,
            )
            try:
                await self.spool.settle("a", progress)
            except SpoolError:
                continue
            return


class Weather:
    """A spool, a worker, and random actions on them."""

    def __init__(self, folder: Path, disk: Disk, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - nothing to guess
        self.folder, self.disk, self.lives, self.sent = folder, disk, 0, 0
        self.faults = 0

    async def start(self) -> None:
        """Open the spool, and give a worker its pending deliveries."""
        self.spool = SqliteSpool(self.folder / str(self.lives), vfs=self.disk.vfs)
        await self.spool.open()
        await self.bound()
        counted = (await self.spool.balances())["a"].delivered
        self.worker = Worker(self.spool, self.chance, counted)
        self.spool.subscribe(self.worker.hear)
        self.spool.follow(lambda item, _events: self.worker.offer(item))
        for item in await pending(self.spool, "a"):
            self.worker.offer(item)
        waits = await self.spool.retrying("a", EVER, 10_000)
        self.worker.waiting |= {one.mark for one in waits}

    async def bound(self) -> None:
        """Change the destination's limits."""
        overflow: Literal["dead_letter", "drop"] = self.chance.choice(["dead_letter", "drop"])
        await self.spool.register({"a": BacklogLimit(self.chance.choice([1, 3, 9]), overflow)})

    async def append(self) -> None:
        """Append some entries; the disk may fail."""
        names = [f"r{self.sent + i}" for i in range(self.chance.randint(1, 4))]
        self.sent += len(names)
        appends = [self.spool.append(entry(n, a=(0, 1))) for n in names]
        await asyncio.gather(*appends, return_exceptions=True)

    async def both(self) -> None:
        """Report during an append, so that either may finish first."""
        await asyncio.gather(self.append(), self.worker.work())

    async def operate(self) -> None:
        """Delete or replay dead letters; the worker gets a replay."""
        which = DeadLetterFilter(destination="a")
        if self.chance.random() < 0.5:
            await self.spool.delete_dead_letters(which)
        else:
            await self.spool.replay_dead_letters(which)
            waits = await self.spool.retrying("a", EVER, 10_000)
            known = self.worker.waiting | self.worker.lost
            self.worker.waiting |= {one.mark for one in waits} - known

    async def crash(self) -> None:
        """Continue with the files that a crash would leave."""
        self.lives += 1
        shutil.copytree(self.folder / str(self.lives - 1), self.folder / str(self.lives))
        await self.spool.close()
        await self.start()

    async def in_trouble(self, what: Coroutine[Any, Any, None]) -> None:
        """Run an action while the disk fails its next sync after all writes; then repair it."""
        error = self.chance.choice([apsw.IOError, apsw.FullError])
        failures = self.disk.failures
        self.disk.syncing = error
        going = asyncio.ensure_future(what)
        while self.disk.failures == failures and not going.done():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.001)
        self.disk.heal()
        await asyncio.gather(going, return_exceptions=True)
        self.faults += self.disk.failures > failures

    async def step(self) -> None:
        """Run one random action."""
        acts = [self.append, self.worker.work, self.both, self.both, self.operate, self.bound]
        act = self.chance.choice(acts)
        if self.chance.random() < 0.03:
            await self.crash()
        elif self.chance.random() < 0.2:
            await self.in_trouble(act())
        else:
            await act()


@pytest.fixture
async def weather(
    tmp_path: Path, disk: Disk, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Weather]:
    """Return the random actions of a seed, on a spool with continuous housekeeping."""
    monkeypatch.setattr(writer, "TICK", 0.002)
    weather = Weather(tmp_path, disk, request.param)
    await weather.start()
    yield weather
    disk.heal()
    await weather.spool.close()


@pytest.mark.parametrize("weather", range(6), indirect=True)
async def test_nothing_is_ever_missing(weather: Weather) -> None:
    """After every action each delivery is counted exactly once."""
    for _ in range(STEPS):
        await weather.step()
        balance = (await weather.spool.balances())["a"]
        assert balance.unaccounted == 0, balance
    while weather.worker.fresh or weather.worker.waiting or weather.worker.lost:
        await weather.worker.work()
    balance = (await weather.spool.balances())["a"]
    assert (balance.unaccounted, balance.pending) == (0, 0)
    assert weather.faults > STEPS // 20
    assert weather.lives
