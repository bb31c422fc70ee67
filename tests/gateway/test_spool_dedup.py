"""Dedup ids in the SQLite spool: migration and expiry."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from gateway.spool import DedupWindow, SpoolFull, SpoolLimits
from gateway.spool.rows import pack
from gateway.spool.sqlite import database, vacuum, writer
from gateway.spool.sqlite.database import MIGRATIONS, connect, insert
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.sqlite import fetch
from gateway.testing.spool.contract import ManualClock, append, entry, eventually, pending
from tests.gateway.opened_spool import opened_spool

MANY = 2000
WINDOW = 60.0


async def test_spool_of_the_first_schema_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file from before dedup keeps its entries, and gets ids from then on."""
    old = entry("old", a=(0,))
    with monkeypatch.context() as before:
        before.setattr(database, "MIGRATIONS", MIGRATIONS[:1])
        connection = connect(tmp_path)
        connection.execute("INSERT INTO destination(name, cursor) VALUES ('a', 0)")
        insert(connection, [(1, 1.7e9, old.id, pack(old), old.request.body)])
        assert connection.pragma("user_version") == 1
        connection.close()
    async with opened_spool(tmp_path) as spool:
        assert [item.entry for item in await pending(spool, "a")] == [old]
        assert await append(spool, entry("r2", a=(0,)), DedupWindow({0: "m"}, WINDOW)) == 2
        assert await append(spool, entry("r3", a=(0,)), DedupWindow({0: "m"}, WINDOW)) == 0


@pytest.fixture
def clock() -> ManualClock:
    """Return the spool's clock."""
    return ManualClock()


@pytest.fixture
async def spool(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SqliteSpool]:
    """Return a spool in which most ids have expired."""
    monkeypatch.setattr(writer, "TICK", 0.05)
    async with opened_spool(tmp_path, clock=clock) as spool:
        many = DedupWindow({i: f"m{i}" for i in range(MANY)}, WINDOW)
        await spool.append(entry("r1", a=tuple(range(MANY))), None, many)
        await spool.append(entry("r2", a=(0,)), None, DedupWindow({0: "young"}, WINDOW + 1))
        assert remembered(tmp_path) == MANY + 1
        yield spool


def remembered(folder: Path) -> int:
    """Return how many ids are in the file."""
    connection = connect(folder, readonly=True)
    found: int = fetch(connection, "SELECT count(*) FROM seen")[0][0]
    connection.close()
    return found


async def noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until housekeeping has found expired ids, then stop it from looking again."""

    async def some_gone() -> bool:
        return remembered(folder) < MANY

    await eventually(some_gone)
    monkeypatch.setattr(writer, "TICK", 60.0)


async def test_idle_spool_forgets(
    spool: SqliteSpool, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle spool deletes expired ids step by step, and keeps the others."""
    clock.now += WINDOW
    await noticed(tmp_path, monkeypatch)

    async def forgotten() -> bool:
        assert spool.health() is None
        return remembered(tmp_path) == 1

    await eventually(forgotten)


async def test_busy_spool_forgets(
    spool: SqliteSpool, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After expired ids were found, each commit deletes some of them."""
    monkeypatch.setattr(writer, "_PAUSE", 60.0)
    clock.now += WINDOW
    await noticed(tmp_path, monkeypatch)
    before = remembered(tmp_path)
    await spool.append(entry("r", a=(0,)))
    assert 1 < remembered(tmp_path) < before
    for _ in range(MANY // vacuum.STEP):
        await spool.append(entry("r", a=(0,)))
    assert remembered(tmp_path) == 1


async def test_forgetting_keeps_pace_with_large_requests(
    spool: SqliteSpool, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that adds many ids deletes twice as many expired ones."""
    monkeypatch.setattr(writer, "_PAUSE", 60.0)
    clock.now += WINDOW
    await noticed(tmp_path, monkeypatch)
    names = DedupWindow({i: f"n{i}" for i in range(MANY)}, WINDOW)
    await spool.append(entry("r", a=tuple(range(MANY))), None, names)
    assert remembered(tmp_path) == MANY + 1


async def test_ids_stay_within_the_bound_between_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids count towards ``max_bytes`` as they are added."""
    for pause in ("TICK", "_PAUSE", "_SHRINK"):
        monkeypatch.setattr(writer, pause, 60.0)
    async with opened_spool(tmp_path, SpoolLimits(max_bytes=2_000_000)) as spool:
        with pytest.raises(SpoolFull):
            await flood(spool)
        assert 1_500_000 < used(tmp_path) <= 2_000_000


async def flood(spool: SqliteSpool) -> None:
    """Append entries of a hundred events with new ids, without end."""
    for number in count():
        names = DedupWindow({i: f"{number}-{i}" for i in range(100)}, WINDOW)
        await spool.append(entry("r", a=tuple(range(100))), None, names)


def used(folder: Path) -> int:
    """Return how many bytes of the file are in use."""
    connection = connect(folder, readonly=True)
    pages: int = connection.pragma("page_count") - connection.pragma("freelist_count")
    connection.close()
    return pages * 4096
