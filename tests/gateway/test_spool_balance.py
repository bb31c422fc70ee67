"""The spool checks its own balance: what it logs, when, and how older files start."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.spool import (
    Balance,
    DeadLetterFilter,
    DeliveryRef,
    Progress,
    delivery_number,
)
from gateway.spool.auditor import Auditor
from gateway.spool.rows import pack
from gateway.spool.sqlite import database, writer
from gateway.spool.sqlite.database import FILE, MIGRATIONS, connect, insert
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import append, entry, eventually, failed, later, pending
from tests.gateway.opened_spool import opened_spool

WELL = Balance(3, 3, 0, 0, 0, 0, 0)
LOST = msgspec.structs.replace(WELL, delivered=2)
WORSE = msgspec.structs.replace(WELL, delivered=1)
TWICE = msgspec.structs.replace(WELL, delivered=4)
BEFORE = 6
"""The schema before balances."""


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the spool check every few milliseconds."""
    monkeypatch.setattr(writer, "TICK", 0.02)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    """Return an open spool with one destination."""
    async with opened_spool(tmp_path) as spool:
        yield spool


def said(looks: list[Balance]) -> list[tuple[str, int]]:
    """Return what an auditor logs for one destination, with the missing number each time."""
    auditor = Auditor()
    with capture_logs() as logs:
        for balance in looks:
            auditor.look({"a": balance})
    return [(line["event"], line.get("unaccounted", 0)) for line in logs]


@pytest.mark.parametrize(
    ("looks", "lines"),
    [
        ([WELL, WELL], []),
        ([LOST], [("balance_wrong", 1)]),
        ([LOST, LOST, LOST], [("balance_wrong", 1)]),
        ([WELL, LOST, WELL, WORSE, WELL], []),
        ([WELL, LOST, LOST, LOST], [("balance_wrong", 1)]),
        ([WELL, TWICE, TWICE], [("balance_wrong", -1)]),
        ([LOST, WORSE, WORSE], [("balance_wrong", 1), ("balance_wrong", 2)]),
        ([LOST, WELL, WELL, WELL], [("balance_wrong", 1), ("balance_restored", 0)]),
        ([LOST, WELL, LOST], [("balance_wrong", 1)]),
    ],
)
def test_a_wrong_balance_is_logged_once_per_change(
    looks: list[Balance], lines: list[tuple[str, int]]
) -> None:
    """A wrong balance is logged at once at start, later after two checks; so is its correction."""
    assert said(looks) == lines


async def test_a_loss_at_run_time_is_logged(spool: SqliteSpool) -> None:
    """The log line has every number, and the spool reports the missing count until corrected."""
    for i in range(3):
        await spool.append(entry(f"r{i}", a=(0, 1)))
    with capture_logs() as logs:
        await spool.settle("a", Progress(cursor=2, delivered=3))

        async def noticed(missing: int) -> bool:
            return spool.unaccounted().get("a") == missing

        await eventually(lambda: noticed(1))
        await spool.settle("a", Progress(delivered=4))
        await eventually(lambda: noticed(0))
    wrong, right = [line for line in logs if line["event"].startswith("balance")]
    assert (wrong["event"], wrong["log_level"]) == ("balance_wrong", "error")
    counts = {"accepted": 6, "delivered": 3, "pending": 2, "unaccounted": 1}
    assert {name: wrong[name] for name in counts} == counts
    assert (right["event"], right["destination"]) == ("balance_restored", "a")


async def test_an_end_ahead_of_the_cursor_that_is_reported_twice_counts_once(
    spool: SqliteSpool,
) -> None:
    """A report ahead of the cursor that arrives twice counts once."""
    await spool.append(entry("r1", a=(0, 1)))
    for _ in range(2):
        await spool.settle("a", Progress(done=[DeliveryRef(1, 0)], delivered=1))
    balance = (await spool.balances())["a"]
    assert (balance.delivered, balance.pending, balance.unaccounted) == (1, 1, 0)


async def test_a_deleted_row_is_reported_at_start(spool: SqliteSpool, tmp_path: Path) -> None:
    """A row that was deleted from the file is reported when the spool opens."""
    for i in range(3):
        await spool.append(entry(f"r{i}", a=(0, 1)))
    await spool.close()
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("DELETE FROM log WHERE seq = 2")
    connection.close()
    with DeadLetterStore(tmp_path) as box:
        assert box.balances()["a"].unaccounted == 2
    with capture_logs() as logs:
        again = SqliteSpool(tmp_path)
        await again.open()

        async def noticed() -> bool:
            return any(line["event"] == "balance_wrong" for line in logs)

        await eventually(noticed)
        await again.close()
    assert [line["unaccounted"] for line in logs if line["event"] == "balance_wrong"] == [2]


async def test_there_are_no_false_alarms(spool: SqliteSpool, tmp_path: Path) -> None:
    """Concurrent appends, reports, deletes and replays cause no false alarm."""
    ended = 0

    def elsewhere() -> None:
        with DeadLetterStore(tmp_path) as box:
            while not over.is_set():
                box.drop([letter.id for letter in box.dead_letters(limit=3)])
                box.replay([letter.id for letter in box.dead_letters(limit=3)])
                assert box.balances()["a"].unaccounted == 0

    over = asyncio.Event()
    with capture_logs() as logs:
        beside = asyncio.get_running_loop().create_task(asyncio.to_thread(elsewhere))
        for i in range(150):
            sent = (append(spool, entry(f"r{i}-{n}", a=(0, 1, 2))) for n in range(4))
            seq = max(await asyncio.gather(*sent))
            waiting = await spool.retrying("a", 1e12, 5)
            done = [one.mark for one in waiting]
            ended += len(done) + 4 * 3 - 2
            read = await pending(spool, "a")
            first = read[0].seq
            progress = Progress(
                seq, later=[later(first)], dead=[failed(first, 1)], done=done, delivered=ended
            )
            await spool.settle("a", progress)
            assert (await spool.balances())["a"].unaccounted == 0
        over.set()
        await beside
    assert [line for line in logs if line["event"].startswith("balance")] == []


async def test_another_process_reads_the_same_balance(spool: SqliteSpool, tmp_path: Path) -> None:
    """Another process reads the same balance from the file as the running spool."""
    for i in range(4):
        await spool.append(entry(f"r{i}", a=(0, 1)))
    await spool.settle("a", Progress(2, later=[later(4, 1)], dead=[failed(3)], delivered=4))
    with DeadLetterStore(tmp_path) as box:
        beside = box.balances()
        assert beside == await spool.balances()
        assert box.drop(DeadLetterFilter()) == 1
        beside = box.balances()
        assert beside == await spool.balances()
    assert beside["a"] == Balance(8, 4, 0, 0, dead_letters=0, dropped=1, pending=3)


async def test_a_file_of_an_older_schema_starts_balanced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of an older schema counts its deliveries as accepted, and none is missing."""
    with monkeypatch.context() as earlier:
        earlier.setattr(database, "MIGRATIONS", MIGRATIONS[:BEFORE])
        connection = connect(tmp_path)
        connection.execute("INSERT INTO destination(name, cursor) VALUES ('a', 2), ('b', 0)")
        sent = [entry(f"r{n}", a=(0, 1, delivery_number(1, 1)), b=(0,)) for n in range(5)]
        rows = [(3, 1.7e9, one.id, pack(one), one.request.body) for one in sent]
        replay = entry("r0", a=(0, 1))
        rows.append((0, 1.7e9, replay.id, pack(replay), replay.request.body))
        insert(connection, rows)
        wait = "INSERT INTO waiting VALUES (1, ?, ?, 0, 0, '', '', '', x'')"
        connection.executemany(wait, [(1, 0), (4, 0), (6, 0)])
        letter = """
            INSERT INTO letter(destination, seq, idx, cause, reason, at, attempts, rendered,
                               event_name, user)
            VALUES (?, ?, ?, 'refused', '', 0, x'', x'', '', '')
        """
        connection.executemany(letter, [("a", 2, 0), ("a", 5, 1), ("a", 6, 1), ("gone", 1, 0)])
        connection.close()
    async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
        balances = await spool.balances()
        # Three entries of three deliveries are past the cursor; two deliveries wait or failed.
        assert balances["a"] == Balance(13, 0, 0, 0, dead_letters=3, dropped=0, pending=10)
        assert balances["b"] == Balance(5, 0, 0, 0, dead_letters=0, dropped=0, pending=5)
        assert {one.unaccounted for one in balances.values()} == {0}
        await spool.settle("a", Progress(6, delivered=7))
        await spool.settle("a", Progress(done=[DeliveryRef(1, 0)], delivered=8))
        assert (await spool.balances())["a"].unaccounted == 0
