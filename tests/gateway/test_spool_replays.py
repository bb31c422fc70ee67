"""What the SQLite spool retains, and the replays of it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.errors import GatewayError
from gateway.spool import DeliveryRef, Progress, SpoolLimits
from gateway.spool.replays import (
    ReplayCounts,
    ReplayJob,
    ReplaySelection,
    ReplayStep,
    RetainedEntry,
)
from gateway.spool.sqlite import writer
from gateway.spool.sqlite.replays import RetainedReader
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import ManualClock, append, entry, eventually
from tests.gateway.opened_spool import opened_spool
from tests.gateway.test_spool_erasure import ANNA, erase, sent

HOUR = 3600.0
RETAINED = SpoolLimits(retain=HOUR)
BOTH = ("a", "b")


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make housekeeping run more often than once a second."""
    monkeypatch.setattr(writer, "TICK", 0.05)


async def begun(spool: SqliteSpool, to: str = "b", since: float = 0.0) -> ReplayJob:
    """Begin a replay to a destination."""
    return await spool.begin_replay(ReplaySelection(to=to, since=since))


async def retained(spool: SqliteSpool) -> Sequence[RetainedEntry]:
    """Return what a replay of everything would read."""
    job = await spool.begin_replay(ReplaySelection(to="b", since=0.0, dry_run=True))
    return await spool.retained(job, 0, 10_000)


async def names(spool: SqliteSpool) -> list[str]:
    """Return the ids of all retained requests."""
    return [found.entry.id for found in await retained(spool)]


@pytest.mark.parametrize("down", [False, True])
async def test_delivered_entries_stay_for_the_time_to_retain(tmp_path: Path, *, down: bool) -> None:
    """A delivered entry stays for ``retain`` and goes then, even if a destination is down."""
    clock = ManualClock()
    async with opened_spool(tmp_path, RETAINED, clock=clock, destinations=BOTH) as spool:
        if down:
            await append(spool, entry("owed", b=(0,)))
        seqs = [await append(spool, entry(f"e{n}", a=(0,))) for n in range(3)]
        await spool.settle("a", Progress(cursor=seqs[-1], delivered=3))
        kept = ["owed"] if down else []
        assert await names(spool) == [*kept, "e0", "e1", "e2"]
        clock.now += HOUR - 1
        await append(spool, entry("new", a=(0,)))
        assert await names(spool) == [*kept, "e0", "e1", "e2", "new"]
        clock.now += 2

        async def is_gone() -> bool:
            return await names(spool) == [*kept, "new"]

        await eventually(is_gone)


async def test_a_full_spool_drops_what_it_retains_first(tmp_path: Path) -> None:
    """At half of ``max_bytes`` the oldest retained entries go, and no append is refused."""
    most = 2_000_000
    limits = SpoolLimits(max_bytes=most, retain=HOUR)
    async with opened_spool(tmp_path, limits, destinations=BOTH) as spool:
        for n in range(300):
            seq = await append(spool, entry(f"e{n:03}", body=b"x" * 20_000, a=(0,)))
            await spool.settle("a", Progress(cursor=seq, delivered=n + 1))
            assert spool.health() is None
        assert await spool.size() < most * 0.6
        left = await names(spool)
        assert left == [f"e{n:03}" for n in range(300 - len(left), 300)]
        assert len(left) > 20


async def test_a_copy_and_the_cursor_of_its_replay_move_together(tmp_path: Path) -> None:
    """A copy is appended only by a step from where a running replay stands, and is not retained."""
    async with opened_spool(tmp_path, RETAINED, destinations=BOTH) as spool:
        seq = await append(spool, entry("e", a=(0, 1)))
        await spool.settle("a", Progress(cursor=seq, delivered=2))
        job = await begun(spool)
        with pytest.raises(GatewayError, match=r"^replay 1 to 'b' is not finished"):
            await begun(spool)
        copy = replace(entry("e", b=(0,)), replay=job.id)
        step = ReplayStep(job.id, job.position, seq, ReplayCounts(requests=1, queued=1))
        await spool.set_replay(job.id, "paused")
        assert await spool.replay_entry(copy, (), step) is None
        await spool.set_replay(job.id, "running")
        assert await spool.replay_entry(copy, (), step) is not None
        assert await spool.replay_entry(copy, (), step) is None
        found = await spool.replay(job.id)
        assert found is not None
        assert (found.position, found.counts) == (seq, step.counts)
        (one,) = await retained(spool)
        assert (one.entry.id, set(one.replayed)) == ("e", {0})
        last = spool.position()
        await spool.settle("b", Progress(cursor=last, delivered=1))
        await append(spool, entry("f", a=(0,)))

        async def is_trimmed() -> bool:
            return not await spool.entries([last])

        await eventually(is_trimmed)
        assert await names(spool) == ["e", "f"]
        balances = await spool.balances()
        assert (balances["b"].accepted, balances["b"].unaccounted) == (1, 0)


async def test_a_replay_reads_the_time_that_it_is_given(tmp_path: Path) -> None:
    """A replay begins at the first entry of its time, and ends with the last one."""
    clock = ManualClock()
    async with opened_spool(tmp_path, RETAINED, clock=clock, destinations=BOTH) as spool:
        start = clock.now
        for n in range(5):
            await append(spool, entry(f"e{n}", a=(0,)))
            clock.now += 10
        since, until = start + 10, start + 30
        job = await spool.begin_replay(ReplaySelection(to="b", since=since, until=until))
        page = await spool.retained(job, job.position, 10)
        assert [found.entry.id for found in page] == ["e1", "e2"]


async def test_moved_entries_are_not_retained_and_hide_no_others(tmp_path: Path) -> None:
    """A time finds what was accepted here, whatever times moved entries between have."""
    clock = ManualClock()
    async with opened_spool(tmp_path, RETAINED, clock=clock, destinations=BOTH) as spool:
        start = clock.now
        for name, at in (("e0", None), ("old", start - 50), ("later", 1e300), ("e1", None)):
            await spool.append(entry(name, a=(0,)), accepted_at=at)
            clock.now += 10
        for since, until, expected in (
            (start, start + 40, ["e0", "e1"]),
            (start - 60, start - 40, []),
            (start + 20, None, ["e1"]),
        ):
            wanted = ReplaySelection(to="b", since=since, until=until, dry_run=True)
            job = await spool.begin_replay(wanted)
            page = await spool.retained(job, job.position, 10)
            assert [found.entry.id for found in page] == expected
            with RetainedReader(tmp_path) as reader:
                ids = [found.entry.id for found in reader.between(since, until)]
            assert ids == expected
        await spool.settle("a", Progress(cursor=spool.position(), delivered=4))
        clock.now += HOUR
        await append(spool, entry("new", a=(0,)))

        async def are_gone() -> bool:
            return await names(spool) == ["new"]

        await eventually(are_gone)


async def test_erasing_takes_what_is_retained(tmp_path: Path) -> None:
    """Erased events are in no retained request; one with others' events goes once delivered."""
    async with opened_spool(tmp_path, RETAINED, destinations=BOTH) as spool:
        seq = await append(spool, sent("alone", ANNA, a=(0,)))
        await spool.settle("a", Progress(cursor=seq, delivered=1))
        shared = await append(spool, sent("shared", ANNA, "ben", a=(0, 1)))
        await append(spool, sent("other", "ben", a=(0,)))
        await erase(spool)
        assert await names(spool) == ["other"]
        await spool.settle(
            "a", Progress(cursor=spool.position(), done=[DeliveryRef(shared, 1)], delivered=3)
        )
        await append(spool, sent("last", "ben", a=(0,)))

        async def is_overwritten() -> bool:
            await spool.overwrite_erased()
            return await asyncio.to_thread(_lacks, tmp_path, ANNA)

        await eventually(is_overwritten)


def _lacks(folder: Path, text: str) -> bool:
    return not any(text.encode() in path.read_bytes() for path in folder.iterdir())


async def test_replays_are_kept_across_restarts(tmp_path: Path) -> None:
    """After a restart a replay stands where it stood, and knows what it gave."""
    async with opened_spool(tmp_path, RETAINED, destinations=BOTH) as spool:
        seq = await append(spool, entry("e", a=(0,)))
        job = await begun(spool)
        step = ReplayStep(job.id, job.position, seq, ReplayCounts(1, 1))
        await spool.replay_entry(replace(entry("e", b=(0,)), replay=job.id), (), step)
    async with opened_spool(tmp_path, RETAINED, destinations=BOTH) as spool:
        (found,) = await spool.replays()
        assert found == replace(job, position=seq, counts=step.counts)
        (left,) = (await spool.unread("b", 0, spool.position(), 10)).items
        assert left.numbers == (0,)
