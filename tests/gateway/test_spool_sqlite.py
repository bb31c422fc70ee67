"""The SQLite spool: the contract of all spools, and its file."""

import asyncio
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import apsw
import pytest

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Request
from gateway.spool import (
    Appended,
    DeadLettersReplayed,
    DedupWindow,
    DeliveryRef,
    Entry,
    LogRecord,
    Offer,
    Progress,
    SpoolLimits,
)
from gateway.spool.sqlite import cursors, writer
from gateway.spool.sqlite.database import FILE, MIGRATIONS
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool import SpoolSuite
from gateway.testing.spool.contract import (
    Notices,
    ShardSpool,
    append,
    entry,
    eventually,
    failed,
    pending,
)
from tests.gateway.opened_spool import opened_spool

GAP = "gap"
"""The id of entries that nobody sees."""


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make housekeeping run more often than once a second."""
    monkeypatch.setattr(writer, "TICK", 0.05)


class SpoolWithGaps(SqliteSpool):
    """A spool whose seqs have gaps: each entry comes after one that nobody sees."""

    def append(
        self,
        entry: Entry,
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
        accepted_at: float | None = None,
        reply_within: float = 0.0,
    ) -> Awaitable[Appended]:
        """Append an entry that nobody sees, then *entry*."""
        gap = asyncio.ensure_future(
            super().append(Entry(GAP, "", Request(method="POST", url="/"), {}))
        )
        gap.add_done_callback(asyncio.Future.exception)
        return super().append(entry, events, once, accepted_at, reply_within)

    def follow(self, offer: Offer) -> None:
        """Call *offer* with all other entries."""

        def seen(item: LogRecord, events: Sequence[Event] | None) -> None:
            if item.entry.id != GAP:
                offer(item, events)

        super().follow(seen)


class TestSqliteSpool(SpoolSuite):
    """``SqliteSpool`` keeps the contract of all spools, whatever its seqs are."""

    def make(self, place: Path, limits: SpoolLimits, clock: Callable[[], float]) -> SqliteSpool:
        """Return a spool in a folder."""
        return SpoolWithGaps(place, limits, clock=clock)

    async def after_crash(
        self, spool: ShardSpool, place: Path, limits: SpoolLimits, clock: Callable[[], float]
    ) -> SqliteSpool:
        """Copy the files of the open spool, as ``kill -9`` would leave them."""
        assert spool.health() is None
        shutil.copytree(place / "spool", place / "after")
        return SpoolWithGaps(place / "after", limits, clock=clock)


class TestCountedBacklog(TestSqliteSpool):
    """The contract holds where all but one entry of a destination are counted only."""

    @pytest.fixture(autouse=True)
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keep one entry in memory, and read one at a time from the log."""
        monkeypatch.setattr(cursors, "MAX_ENTRIES", 1)
        monkeypatch.setattr(cursors, "PAGE", 1)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    """Return an open spool with one destination."""
    async with opened_spool(tmp_path) as spool:
        yield spool


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    """The folder has mode 0700, and every file in it 0600."""
    folder = tmp_path / "deep" / "spool"
    async with opened_spool(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert {FILE, f"{FILE}-wal", "lock"} <= set(modes)
        assert set(modes.values()) == {0o600}


async def test_second_gateway_is_refused(spool: SqliteSpool, tmp_path: Path) -> None:
    """A second gateway on the same folder fails, and the first one continues."""
    with pytest.raises(SpoolError, match="another gateway process"):
        await SqliteSpool(tmp_path).open()
    assert await append(spool, entry("r1", a=(0,))) == 1
    await spool.close()
    second = SqliteSpool(tmp_path)
    await second.open()
    await second.close()


async def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A folder that cannot be created is an error that names it."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError, match="file/spool"):
        await SqliteSpool(tmp_path / "file" / "spool").open()


async def test_newer_schema_is_refused(spool: SqliteSpool, tmp_path: Path) -> None:
    """A file of a newer gateway is an error, and the lock is released."""
    await spool.close()
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.pragma("user_version", len(MIGRATIONS) + 1)
    connection.close()
    for _ in range(2):
        with pytest.raises(SpoolError, match="newer gateway"):
            await SqliteSpool(tmp_path).open()


async def test_unfinished_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """Opening a spool runs missing migrations; opening a dead letter store does not."""
    apsw.Connection(str(tmp_path / FILE)).pragma("user_version", 0)
    with pytest.raises(SpoolError, match="older gateway"), DeadLetterStore(tmp_path):
        pass
    spool = SqliteSpool(tmp_path)
    await spool.open()
    await spool.close()
    assert apsw.Connection(str(tmp_path / FILE)).pragma("user_version") == len(MIGRATIONS)


async def test_commits_are_synced_and_logged_ahead(spool: SqliteSpool, tmp_path: Path) -> None:
    """The file uses WAL and incremental vacuum, and closing checkpoints the WAL."""
    await spool.append(entry("r1", a=(0,)))
    assert (tmp_path / f"{FILE}-wal").stat().st_size > 0
    await spool.close()
    assert not (tmp_path / f"{FILE}-wal").exists()
    connection = apsw.Connection(str(tmp_path / FILE))
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("auto_vacuum") == 2
    assert connection.pragma("integrity_check") == "ok"
    connection.close()


async def test_write_ahead_log_stays_short(spool: SqliteSpool, tmp_path: Path) -> None:
    """Checkpoints keep the write-ahead log within a few MB."""
    for start in range(0, 3000, 100):
        sent = [entry(f"r{start + i}", body=b"x" * 4000, a=(0,)) for i in range(100)]
        await asyncio.gather(*[append(spool, one) for one in sent])
    assert (tmp_path / FILE).stat().st_size > 10_000_000
    assert (tmp_path / f"{FILE}-wal").stat().st_size < 4_000_000


async def test_log_stays_short_under_load(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later commits delete delivered entries, also without idle time."""
    monkeypatch.setattr(writer, "TICK", 60.0)
    for start in range(0, 4000, 100):
        sent = [entry(f"r{start + i}", a=(0,)) for i in range(100)]
        seqs = await asyncio.gather(*[append(spool, one) for one in sent])
        await spool.settle("a", Progress(cursor=seqs[-1]))
    assert len(await spool.entries(range(1, 4001))) < 1000


async def test_space_is_given_back(spool: SqliteSpool, tmp_path: Path) -> None:
    """After a backlog is delivered, the file shrinks while the spool is open."""
    for start in range(0, 2000, 100):
        sent = [entry(f"r{start + i}", body=b"x" * 4000, a=(0,)) for i in range(100)]
        await asyncio.gather(*[append(spool, one) for one in sent])
    for cursor in (*range(0, 2000, 50), 2000):
        await spool.settle("a", Progress(cursor=cursor))

    async def shrunk() -> bool:
        return (tmp_path / FILE).stat().st_size < 1_500_000

    await eventually(shrunk)


async def test_progress_of_an_unknown_destination_fails_alone(spool: SqliteSpool) -> None:
    """Progress of an unknown destination fails alone; the same commit keeps the rest."""
    await spool.append(entry("r0", a=(0,)))
    ahead = asyncio.ensure_future(append(spool, entry("r1", a=(0,))))
    await asyncio.sleep(0)  # the commit has started, so that the next two share one
    wrong, right = await asyncio.gather(
        spool.settle("nobody", Progress(cursor=1, delivered=1)),
        spool.settle("a", Progress(cursor=1, delivered=1)),
        return_exceptions=True,
    )
    await ahead
    assert isinstance(wrong, SpoolError)
    assert right is None
    assert spool.cursor("a") == 1


async def test_dead_letter_store_beside_a_running_gateway(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    """Another process lists, deletes and replays dead letters, and the gateway gets each replay."""
    for i in range(4):
        await spool.append(entry(f"r{i}", a=(0,)))
    dead = [failed(seq, user=f"u{seq}") for seq in range(1, 5)]
    await spool.settle("a", Progress(cursor=4, dead=dead))
    notices = Notices(spool)
    code = """
import sys; from pathlib import Path
from gateway.spool import *; from gateway.spool.sqlite import *
with DeadLetterStore(Path(sys.argv[1])) as box:
    first, second, *_ = box.dead_letters()
    assert box.dead_letter(first.id) == first
    print(box.drop([first.id]), box.replay([second.id]), box.replay(DeadLetterFilter(user="u3")))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.split() == [b"1", b"1", b"1"]
    # Before the gateway is notified, it appends entries and moves the cursor past the replays.
    seq = await append(spool, entry("r9", a=(0,)))
    await spool.settle("a", Progress(cursor=seq))
    assert await notices.next() == DeadLettersReplayed("a")
    waiting = await spool.retrying("a", 1e12, 9)
    assert [one.mark for one in waiting] == [DeliveryRef(5, 0), DeliveryRef(6, 0)]
    assert [item.entry.id for item in await spool.entries([5, 6])] == ["r1", "r2"]
    assert [one.mark.seq for one in await spool.dead_letters()] == [4]
    assert (await spool.depths())["a"].retrying == 2


def test_dead_letter_store_needs_a_spool(tmp_path: Path) -> None:
    """A dead letter store on a wrong folder is an error, and creates no spool."""
    with pytest.raises(SpoolError, match="no spool"), DeadLetterStore(tmp_path / "typo"):
        pass
    assert not (tmp_path / "typo").exists()


async def test_dead_letter_store_is_open_within_its_with_statement(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    """A dead letter store works only inside its ``with`` block, and closes its file after it."""
    box = DeadLetterStore(tmp_path)
    with pytest.raises(SpoolError, match="with statement"):
        box.balances()
    assert spool.health() is None
    with box:
        assert list(box.balances()) == ["a"]
    with pytest.raises(SpoolError):
        box.balances()


WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.spool import *; from gateway.spool.sqlite import *
from gateway.testing.spool.contract import append, entry, failed, later

async def main():
    spool = SqliteSpool(Path(sys.argv[1]))
    await spool.open()
    await spool.register({"a": BacklogLimit(), "b": BacklogLimit()})

    waits = []

    async def send(k):
        n = 0
        while True:
            n += 1
            seq = await append(spool, entry(f"{k}-{n}", body=b"x" * 700, a=(0,), b=(0,)))
            print("appended", seq, f"{k}-{n}", flush=True)
            if n % 10 == 0 and k == 0:
                waits.append(seq)
                upto = max(0, seq - 40)
                ended = upto - sum(one <= upto for one in waits)
                await spool.settle("a", Progress(upto, later=[later(seq)], delivered=ended))
                done = [DeliveryRef(one, 0) for one in waits]
                await spool.settle("b", Progress(done=done, delivered=len(waits)))
                print("settled", seq - 40, seq, flush=True)

    await asyncio.gather(*[send(k) for k in range(8)])

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [3, 200, 1500])
async def test_acknowledged_survives_kill_9(tmp_path: Path, lines: int) -> None:
    """Acknowledged data survives SIGKILL at any moment."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    said = [await writer.stdout.readline() for _ in range(lines)]
    assert all(said), "the writer ended by itself"
    writer.send_signal(signal.SIGKILL)
    said += (await writer.stdout.read()).splitlines(keepends=True)
    await writer.wait()
    told = [line.split() for line in said if line.endswith(b"\n")]
    async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
        appended = {int(seq): name.decode() for kind, seq, name in told if kind == b"appended"}
        kept = {item.seq: item.entry.id for item in await spool.entries(list(appended))}
        assert kept == appended
        settled = [(int(at), int(seq)) for kind, at, seq in told if kind == b"settled"]
        assert spool.cursor("a") >= max([at for at, _ in settled], default=0)
        waiting = {one.mark.seq for one in await spool.retrying("a", 1e12, 9999)}
        assert waiting >= {seq for _, seq in settled}
        assert spool.cursor("b") == 0
        ended = {seq for _, seq in settled}
        assert not ended & {item.seq for item in await pending(spool, "b")}
        assert {one.unaccounted for one in (await spool.balances()).values()} == {0}
