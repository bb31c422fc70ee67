"""Acknowledged data survives a power failure, on a disk that loses unsynced writes."""

import asyncio
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import apsw
import pytest

from gateway.errors import SpoolError
from gateway.spool import BacklogLimit, DeliveryRef, Progress
from gateway.spool.sqlite import database, session
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import append, entry, failed, later, pending
from tests.gateway.opened_spool import opened_spool
from tests.lossy_file import LossyFile, Write

EVER = 1e12


class Disk(apsw.VFS):
    """A VFS over the system's that records which part of each file is synced."""

    _numbers = count()

    def __init__(self) -> None:
        self.vfs = f"lossy-{next(self._numbers)}"
        self.files: dict[str, LossyFile] = {}
        super().__init__(self.vfs, base="")

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file whose writes are recorded."""
        assert name is not None
        path = name if isinstance(name, str) else name.filename()
        self.files.setdefault(path, LossyFile())
        return WatchedFile(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802, FBT001 - SQLite's
        """Delete a file; the directory counts as synced at once."""
        super().xDelete(filename, syncdir)
        self.files.pop(filename, None)

    def after_power_loss(self, chance: random.Random) -> dict[str, bytes]:
        """Return the files as a power failure now might leave them."""
        return {path: file.after_power_loss(chance) for path, file in self.files.items()}


class WatchedFile(apsw.VFSFile):
    """One open file of a ``Disk``."""

    def __init__(
        self, disk: Disk, path: str, name: str | apsw.URIFilename, flags: list[int]
    ) -> None:
        self.disk, self.path = disk, path
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write, and record the write as unsynced."""
        super().xWrite(data, offset)
        self.disk.files[self.path].unsynced.append(Write(offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        """Truncate, and record the change as unsynced."""
        super().xTruncate(newsize)
        self.disk.files[self.path].unsynced.append(Write(newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Sync."""
        super().xSync(flags)
        self.disk.files[self.path].sync()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Return a disk whose power can fail."""
    disk = Disk()
    yield disk
    disk.unregister()


async def run_until_power_fails(disk: Disk, tmp_path: Path, seed: int) -> list[Path]:
    """Run a spool, let the power fail at random moments, and return the folders left behind.

    A file ``told`` in each folder lists what was acknowledged by then.
    """
    chance = random.Random(seed)  # noqa: S311 - nothing to guess
    spool = SqliteSpool(tmp_path / "spool", vfs=disk.vfs)
    await spool.open()
    await spool.register({"a": BacklogLimit(), "b": BacklogLimit()})
    told: list[str] = []
    remains: list[Path] = []

    def fail() -> None:
        after = tmp_path / f"after-{len(remains)}"
        after.mkdir()
        for path, data in disk.after_power_loss(chance).items():
            (after / Path(path).name).write_bytes(data)
        (after / "told").write_text("\n".join(told))
        remains.append(after)

    excepted = 0

    async def send(sender: int) -> None:
        nonlocal excepted
        for n in range(40):
            name = f"{sender}-{n}"
            body = chance.randbytes(chance.choice([10, 700, 9000]))
            seq = await append(spool, entry(name, body=body, a=(0,), b=(0,)))
            told.append(f"appended {seq} {name}")
            if sender == 0:
                waits = [later(seq)] if n % 3 == 0 else []
                dead = [failed(seq)] if n % 3 == 1 else []
                excepted += n % 3 != 2
                ended = seq - excepted
                progress = Progress(cursor=seq, later=waits, dead=dead, delivered=ended)
                await spool.settle("a", progress)
                await spool.settle("b", Progress(done=[DeliveryRef(seq, 0)], delivered=n + 1))
                told.append(f"settled {seq} {['later', 'dead', 'done'][n % 3]}")
            if chance.random() < 0.1:
                fail()

    await asyncio.gather(*[send(sender) for sender in range(8)])
    fail()
    await spool.close()
    return remains


async def losses(after: Path) -> list[str]:
    """Return what was acknowledged and is missing after the power failure."""
    told = [line.split() for line in (after / "told").read_text().splitlines()]
    async with opened_spool(after, destinations=("a", "b")) as spool:
        waiting = {one.mark for one in await spool.retrying("a", EVER, 10_000)}
        dead = {one.mark for one in await spool.dead_letters(limit=10_000)}
        unread = {item.seq for item in await pending(spool, "b")}
        balances = await spool.balances()
        lost = [f"balance of {name}" for name, one in balances.items() if one.unaccounted]
        for what, number, more in told:
            seq = int(number)
            if what == "settled":
                gone = spool.cursor("a") < seq or seq in unread
                gone |= more == "later" and DeliveryRef(seq, 0) not in waiting
                gone |= more == "dead" and DeliveryRef(seq, 0) not in dead
            else:
                gone = [item.entry.id for item in await spool.entries([seq])] != [more]
            lost += [f"{what} {seq} {more}"] * gone
    connection = apsw.Connection(str(after / database.FILE))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()
    return lost


@pytest.mark.parametrize("seed", range(3))
async def test_acknowledged_survives_power_loss(
    disk: Disk, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledged appends and settlements survive a power failure at any moment."""
    monkeypatch.setattr(session, "WAL_PAGES", 40)  # so that checkpoints run as well
    remains = await run_until_power_fails(disk, tmp_path, seed)
    assert len(remains) > 5
    for after in remains:
        assert await losses(after) == []


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
async def test_less_synchronous_loses(
    disk: Disk, tmp_path: Path, synchronous: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less syncing acknowledged entries are lost, so the simulated disk can lose data."""
    monkeypatch.setattr(database, "SYNCHRONOUS", synchronous)
    remains = await run_until_power_fails(disk, tmp_path, 0)
    monkeypatch.undo()
    lost = []
    for after in remains:
        try:
            lost += await losses(after)
        except (SpoolError, apsw.Error, AssertionError) as e:
            lost.append(f"everything: {e}")
    assert lost
