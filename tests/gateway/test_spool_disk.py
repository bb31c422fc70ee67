"""A failing disk: nothing unsaved is acknowledged, nothing hangs, and the spool recovers."""

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import apsw
import pytest

from gateway.errors import SpoolError
from gateway.spool import (
    BacklogLimit,
    Balance,
    DedupWindow,
    DeliveryRef,
    DiskFull,
    Evicted,
    Progress,
    SpoolLimits,
)
from gateway.spool.sqlite import writer
from gateway.spool.sqlite.database import FILE
from gateway.spool.sqlite.disk_reserve import Reserve
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import (
    PATIENCE,
    ManualClock,
    Notices,
    append,
    entry,
    eventually,
    failed,
    later,
    pending,
)
from tests.gateway.failing_disk import Disk
from tests.gateway.opened_spool import opened_spool

EVER = 1e12


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make housekeeping run more often than once a second."""
    monkeypatch.setattr(writer, "TICK", 0.05)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Return a disk that works until a test makes it fail."""
    disk = Disk()
    yield disk
    disk.unregister()


@pytest.fixture
async def spool(disk: Disk, tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    """Return a spool on that disk with one entry and one destination."""
    async with opened_spool(tmp_path, vfs=disk.vfs) as spool:
        await spool.append(entry("r1", a=(0,)))
        yield spool
        disk.heal()


async def healthy(spool: SqliteSpool) -> None:
    """Wait until the spool reports no error any more."""

    async def is_healthy() -> bool:
        return spool.health() is None

    await eventually(is_healthy)


async def test_a_broken_disk_causes_no_busy_loop(
    spool: SqliteSpool, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk fails, the writer retries at intervals, and not in a busy loop."""
    looks, keep = [0], writer.Writer._maintain

    def counted(self: writer.Writer, *, idle: bool) -> bool:
        looks[0] += 1
        return keep(self, idle=idle)

    disk.writing = apsw.IOError
    with pytest.raises(SpoolError):
        await spool.append(entry("lost", a=(0,)))
    monkeypatch.setattr(writer.Writer, "_maintain", counted)

    async def some() -> bool:
        return looks[0] >= 3

    began = time.monotonic()
    await eventually(some)
    assert time.monotonic() - began > writer.TICK


@pytest.mark.parametrize(
    ("where", "error", "advice"),
    [
        ("writing", apsw.FullError, "free some space"),
        ("writing", apsw.ReadOnlyError, "the file is read-only"),
        ("writing", apsw.IOError, "check the disk"),
        ("syncing", apsw.IOError, "check the disk"),
        ("syncing", apsw.FullError, "free some space"),
    ],
)
async def test_a_failing_disk_acknowledges_nothing(  # noqa: PLR0917 - the cases' columns and two fixtures
    spool: SqliteSpool,
    disk: Disk,
    tmp_path: Path,
    where: str,
    error: type[apsw.Error],
    advice: str,
) -> None:
    """A failing disk fails appends with a reason and keeps nothing; later appends work."""
    setattr(disk, where, error)
    lost = [append(spool, entry(f"lost{i}", a=(0,))) for i in range(3)]
    results = await asyncio.gather(*lost, return_exceptions=True)
    for result in results:
        assert isinstance(result, SpoolError)
        assert str(tmp_path / FILE) in str(result)
        assert advice in str(result)
    with pytest.raises(SpoolError, match=advice):
        await spool.settle("a", Progress(cursor=1, dead=[failed(1)]))
    assert advice in (spool.health() or "")
    assert (spool.position(), spool.cursor("a")) == (1, 0)
    disk.heal()
    assert await append(spool, entry("r2", a=(0,))) == 2
    assert spool.health() is None
    assert (await spool.depths())["a"].backlog == 2
    await spool.settle("a", Progress(cursor=1, dead=[failed(1)]))
    assert (await spool.balances())["a"] == Balance(
        2, 0, 0, 0, dead_letters=1, dropped=0, pending=1
    )
    assert [item.entry.id for item in await pending(spool, "a")] == ["r2"]
    assert [dead.entry.id for dead in await spool.dead_letters()] == ["r1"]
    await spool.close()
    again = SqliteSpool(tmp_path)
    await again.open()
    await again.register({"a": BacklogLimit()})
    assert [item.entry.id for item in await again.entries(range(2, 9))] == ["r2"]
    await again.close()


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
async def test_a_failed_commits_dedup_id_is_not_remembered(
    spool: SqliteSpool, disk: Disk, tmp_path: Path, error: type[apsw.Error]
) -> None:
    """A dedup id of a failed commit is not remembered; ids of earlier commits are."""
    kept, lost = DedupWindow({0: "kept"}, 600.0), DedupWindow({0: "lost"}, 600.0)
    assert await append(spool, entry("r2", a=(0,)), kept) == 2
    disk.syncing = error
    for _ in range(2):
        with pytest.raises(SpoolError):
            await spool.append(entry("r3", a=(0,)), None, lost)
    disk.heal()
    assert await append(spool, entry("r3", a=(0,)), lost) == 3
    assert await append(spool, entry("r3", a=(0,)), lost) == 0
    assert await append(spool, entry("r2", a=(0,)), kept) == 0
    await spool.close()
    again = SqliteSpool(tmp_path)
    await again.open()
    await again.register({"a": BacklogLimit()})
    assert [item.entry.id for item in await again.entries(range(1, 9))] == ["r1", "r2", "r3"]
    await again.close()


async def test_health_recovers_without_traffic(spool: SqliteSpool, disk: Disk) -> None:
    """Health reports the disk's failure, and recovers without an append."""
    disk.syncing = apsw.IOError
    with pytest.raises(SpoolError):
        await spool.append(entry("lost", a=(0,)))
    failures = disk.failures

    async def tried_again() -> bool:
        assert spool.health() is not None
        return disk.failures > failures + 5

    await eventually(tried_again)
    disk.heal()
    await healthy(spool)


async def test_file_is_opened_again(spool: SqliteSpool, disk: Disk) -> None:
    """After a disk was removed and returned, the spool opens its file again."""
    disk.plugged += 1
    with pytest.raises(SpoolError, match="check the disk"):
        await spool.append(entry("lost", a=(0,)))
    assert await append(spool, entry("r2", a=(0,))) == 2


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
async def test_counts_are_right_after_a_failure(
    spool: SqliteSpool, disk: Disk, error: type[apsw.Error]
) -> None:
    """After failed commits, the counts in memory equal those of the file."""
    disk.syncing = error
    for progress in (Progress(cursor=1, later=[later(1)]), Progress(dead=[failed(1)])):
        with pytest.raises(SpoolError):
            await spool.settle("a", progress)
    disk.heal()
    await spool.settle("a", Progress(cursor=1, later=[later(1)]))
    depth = (await spool.depths())["a"]
    assert (depth.cursor, depth.backlog, depth.retrying, depth.dead_letters) == (1, 0, 1, 0)
    assert (await spool.balances())["a"] == Balance(
        1, 0, 0, 0, dead_letters=0, dropped=0, pending=1
    )
    await spool.register({"a": BacklogLimit(max_backlog=2)})
    assert await append(spool, entry("r2", a=(0,))) == 2
    with pytest.raises(SpoolError, match="max_backlog"):
        await spool.append(entry("r3", a=(0,)))


@pytest.mark.parametrize("overflow", ["dead_letter", "drop"])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
async def test_a_failed_append_takes_nothing_from_what_comes_after(
    spool: SqliteSpool,
    disk: Disk,
    error: type[apsw.Error],
    overflow: Literal["dead_letter", "drop"],
) -> None:
    """Evictions of a failed append's own entries are undone, and a repeated append is kept."""
    await spool.register({"a": BacklogLimit(max_backlog=1, overflow=overflow)})
    disk.syncing = error
    for result in await asyncio.gather(
        *[append(spool, entry(f"lost{i}", a=(0, 1))) for i in range(4)], return_exceptions=True
    ):
        assert isinstance(result, SpoolError)
    disk.heal()
    assert await append(spool, entry("r2", a=(0, 1))) == 2
    assert [(item.seq, item.entry.id) for item in await pending(spool, "a")] == [(2, "r2")]
    letters = [dead.entry.id for dead in await spool.dead_letters()]
    assert letters == (["r1"] if overflow == "dead_letter" else [])
    balance = (await spool.balances())["a"]
    assert (balance.accepted, balance.dead_letters + balance.dropped, balance.pending) == (3, 1, 2)
    assert balance.unaccounted == 0


@pytest.mark.parametrize("overflow", ["dead_letter", "drop"])
async def test_evictions_of_a_failed_commit_are_announced(
    spool: SqliteSpool, disk: Disk, overflow: Literal["dead_letter", "drop"]
) -> None:
    """A delivery claimed after an eviction counts once, though the claim's first commit fails."""
    await spool.register({"a": BacklogLimit(max_backlog=1, overflow=overflow)})
    notices = Notices(spool)
    disk.syncing = apsw.IOError
    with pytest.raises(SpoolError):
        await spool.append(entry("lost", a=(0,)))
    disk.heal()
    notice = await notices.next()
    assert (notice, (await spool.balances())["a"].pending) == (Evicted("a", 1, ()), 0)
    claim = Progress(done=[DeliveryRef(1, 0)], delivered=1)
    disk.syncing = apsw.IOError
    with pytest.raises(SpoolError):
        await spool.settle("a", claim)
    disk.heal()
    await settled(spool, claim)
    assert (await spool.balances())["a"] == Balance(
        1, 1, 0, 0, dead_letters=0, dropped=0, pending=0
    )


async def test_an_expiry_is_announced_though_the_next_commit_fails(
    disk: Disk, tmp_path: Path
) -> None:
    """A durable expiry is announced, even if the next destination's commit fails."""
    clock = ManualClock()
    spool = SqliteSpool(tmp_path, limits=SpoolLimits(max_age=60.0), clock=clock, vfs=disk.vfs)
    await spool.open()
    await spool.register({"a": BacklogLimit(), "b": BacklogLimit()})
    await spool.append(entry("r1", a=(0,), b=(0,)))
    heard: list[str] = []
    spool.subscribe(lambda notice: heard.append(notice.destination))
    disk.good_syncs = 1
    clock.now += 61

    async def failing() -> bool:
        return disk.failures > 0

    await eventually(failing)
    assert "a" in heard
    disk.heal()
    await healthy(spool)
    await spool.close()


async def test_failing_reads_are_errors(spool: SqliteSpool, disk: Disk) -> None:
    """A failing read is an error, and the next successful read clears the health report."""
    await spool.close()
    async with opened_spool(spool._folder, vfs=disk.vfs) as again:
        disk.reading = apsw.IOError
        with pytest.raises(SpoolError, match="check the disk"):
            await again.entries([1])
        assert "check the disk" in (again.health() or "")
        disk.heal()
        assert len(await pending(again, "a")) == 1
        await healthy(again)


async def test_locked_file_is_an_error_and_then_works(spool: SqliteSpool, tmp_path: Path) -> None:
    """While another process locks the file, appends fail within a bounded time, with the reason."""
    other = apsw.Connection(str(tmp_path / FILE))
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(10):
        with pytest.raises(SpoolError, match="locked"):
            await spool.append(entry("lost", a=(0,)))
    assert "locked" in (spool.health() or "")
    other.execute("COMMIT")
    other.close()
    assert await append(spool, entry("r2", a=(0,))) == 2
    assert spool.health() is None


async def test_damaged_pages_are_errors(spool: SqliteSpool, tmp_path: Path) -> None:
    """Overwritten pages are an error that names the file, and do not crash the process."""
    for i in range(200):
        await spool.append(entry(f"r{i}", body=b"x" * 3000, a=(0,)))
    await spool.close()
    path = tmp_path / FILE
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(size // 4096 // 2, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    spool = SqliteSpool(tmp_path)
    with pytest.raises(SpoolError, match=rf"{path}: the file is corrupt"):
        await spool.open()
    assert path.stat().st_size == size


async def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A file that is no spool is an error, and stays unchanged."""
    path = tmp_path / FILE
    path.write_bytes(b"not a database, by far" * 1000)
    with pytest.raises(SpoolError, match="the file is corrupt"):
        await SqliteSpool(tmp_path).open()
    assert path.read_bytes() == b"not a database, by far" * 1000


@contextlib.contextmanager
def mounted(place: Path, mebibytes: int) -> Iterator[Path]:
    """Yield a mounted file system of so many MB; skip if this user may not mount one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system takes rights that this user lacks")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S607 - likewise


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a real file system of one MB."""
    with mounted(tmp_path / "disk", 1) as place:
        yield place


@pytest.fixture
def roomy_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a real file system of some MB, with room for the reserve."""
    with mounted(tmp_path / "disk", 16) as place:
        yield place


def remount(place: Path, how: str) -> None:
    """Make a file system read-only or writable."""
    command = ["mount", "-o", f"remount,{how}", str(place)]
    subprocess.run(command, check=True)


async def test_really_full_disk(small_disk: Path) -> None:
    """On a full file system appends fail and health says so; freed space is used."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    async with opened_spool(small_disk / "spool") as spool:
        kept: list[int] = []
        with pytest.raises(SpoolError, match="free some space"):
            await fill(spool, kept)
        assert len(kept) > 10
        assert "free some space" in (spool.health() or "")
        ballast.unlink()
        kept.append(await append(spool, entry("after", body=b"x" * 9000, a=(0,))))
        assert [item.seq for item in await pending(spool, "a")] == kept


async def fill(spool: SqliteSpool, kept: list[int]) -> None:
    """Append until it fails."""
    while True:
        kept.append(await append(spool, entry("r", body=b"x" * 9000, a=(0,))))


async def test_really_read_only_disk(small_disk: Path) -> None:
    """On a read-only file system appends fail; once it is writable, they work."""
    spool = SqliteSpool(small_disk / "spool")
    await spool.open()
    await spool.register({"a": BacklogLimit()})
    await spool.append(entry("r1", a=(0,)))
    await spool.close()
    remount(small_disk, "ro")
    with pytest.raises(SpoolError, match=str(small_disk)):
        await SqliteSpool(small_disk / "spool").open()
    remount(small_disk, "rw")
    spool = SqliteSpool(small_disk / "spool")
    await spool.open()
    await spool.register({"a": BacklogLimit()})
    assert await append(spool, entry("r2", a=(0,))) == 2
    await spool.close()


async def crashed(small_disk: Path, tmp_path: Path, count: int) -> Path:
    """Return the spool's folder on a small disk as a crash leaves it."""
    spool = SqliteSpool(tmp_path / "before")
    await spool.open()
    await spool.register({"a": BacklogLimit()})
    for number in range(count):
        await spool.append(entry(f"r{number}", body=b"x" * 9000, a=(0,)))
    folder = small_disk / "spool"
    shutil.copytree(tmp_path / "before", folder, ignore=shutil.ignore_patterns("reserve"))
    await spool.close()
    assert Reserve(folder).set_aside()
    return folder


def fill_up(place: Path) -> None:
    """Fill a file system to its last byte."""
    with contextlib.suppress(OSError), (place / "filler").open("ab", buffering=0) as filler:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)):
                    pass


async def test_a_full_disk_after_a_crash_delivers_what_is_there(
    roomy_disk: Path, tmp_path: Path
) -> None:
    """After a crash a spool opens on a full disk, delivers its entries, then accepts new ones."""
    folder = await crashed(roomy_disk, tmp_path, 200)
    reserve = folder / "reserve"
    assert reserve.exists()
    fill_up(roomy_disk)
    assert shutil.disk_usage(roomy_disk).free == 0
    spool = SqliteSpool(folder)
    await spool.open()
    await spool.register({"a": BacklogLimit()})
    kept = list(range(1, 201))
    fill_up(roomy_disk)  # recovery of the file has freed some space
    with pytest.raises(DiskFull, match="free some space"):
        await fill(spool, kept)
    fill_up(roomy_disk)
    assert "free some space" in (spool.health() or "")
    items = await pending(spool, "a")
    assert [item.seq for item in items] == kept
    assert [item.entry.id for item in items[:200]] == [f"r{number}" for number in range(200)]
    for item in items:
        await settled(spool, Progress(cursor=item.seq, delivered=item.seq))
    await healthy(spool)
    assert await append(spool, entry("after", body=b"x" * 9000, a=(0,))) > kept[-1]
    assert reserve.exists()
    await spool.close()
    assert not reserve.exists()


async def settled(spool: SqliteSpool, progress: Progress) -> None:
    """Settle like a worker: repeat what could not be recorded."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await spool.settle("a", progress)
            except DiskFull:
                continue
            return


async def test_less_important_files_are_deleted_first(roomy_disk: Path, tmp_path: Path) -> None:
    """Without a reserve, less important files are deleted so that the spool can open."""
    folder = await crashed(roomy_disk, tmp_path, 10)
    (folder / "reserve").unlink()
    ballast = roomy_disk / "ballast"
    ballast.write_bytes(bytes(400_000))
    fill_up(roomy_disk)
    spool = SqliteSpool(folder)
    with pytest.raises(DiskFull, match="free some space"):
        await spool.open()
    spool.spares(lambda: ballast.unlink(missing_ok=True))
    await spool.open()
    await spool.register({"a": BacklogLimit()})
    assert len(await pending(spool, "a")) == 10
    await healthy(spool)
    assert await append(spool, entry("after", a=(0,))) == 11
    await spool.close()
