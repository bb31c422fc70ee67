"""A destination's cursor: exact counts of a backlog of any length, in bounded memory."""

import tracemalloc
from pathlib import Path

import apsw
import pytest

from gateway.spool.rows import pack
from gateway.spool.sqlite.cursors import MAX_ENTRIES, PAGE, DestinationCursor, DestinationCursors
from gateway.spool.sqlite.database import connect, insert
from gateway.spool.values import Balance, Progress
from gateway.testing.spool.contract import entry, failed, later
from tests.gateway.opened_spool import opened_spool

BACKLOG = MAX_ENTRIES + 3 * PAGE


@pytest.fixture
def log(tmp_path: Path) -> apsw.Connection:
    """Return the file of a spool with a backlog of two destinations, longer than the memory."""
    connection = connect(tmp_path)
    connection.execute("INSERT INTO destination(name, cursor) VALUES ('a', 0), ('b', 0)")
    meta = pack(entry("r", a=(0, 1), b=(0,)))
    insert(connection, [(3, 1.7e9, "r", meta, b"{}")] * BACKLOG)
    return connection


def loaded(log: apsw.Connection) -> DestinationCursor:
    """Return the cursor of ``a`` as a start finds it."""
    cursors = DestinationCursors()
    cursors.load(log)
    return cursors["a"]


def counts(cursor: DestinationCursor) -> tuple[int, int, int]:
    """Return the counts of a cursor, and the seq of its first entry."""
    return cursor.backlog, cursor.pending, cursor.first() or 0


def test_a_backlog_of_any_length_costs_the_same_memory() -> None:
    """300,000 pending entries cost no more memory than fit the bound."""
    cursor = DestinationCursor("a", 1, 0)
    tracemalloc.start()
    try:
        for seq in range(1, 300_001):
            cursor.add(seq, 1, 1000)
            if not seq % 100:
                cursor.commit()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts(cursor) == (300_000, 300_000, 1)
    assert used < 32 * MAX_ENTRIES


def test_the_cursor_goes_on_past_what_was_in_memory(log: apsw.Connection) -> None:
    """Counts and the first entry stay exact while the cursor passes the whole backlog."""
    cursor = loaded(log)
    assert (cursor.in_memory, counts(cursor)) == (MAX_ENTRIES, (BACKLOG, 2 * BACKLOG, 1))
    for place in range(500, BACKLOG, 500):
        assert cursor.advance(log, place)
        assert cursor.commit() == list(range(place - 499, place + 1))
        left = BACKLOG - place
        assert counts(cursor) == (left, 2 * left, place + 1)
        assert cursor.in_memory <= MAX_ENTRIES
    cursor.advance(log, BACKLOG)
    cursor.commit()
    assert (counts(cursor), cursor.bytes) == ((0, 0, 0), 0)


def test_a_jump_over_all_of_it_is_exact(log: apsw.Connection) -> None:
    """A cursor that passes more than is in memory leaves nothing pending."""
    cursor = loaded(log)
    cursor.advance(log, BACKLOG - 1)
    cursor.commit()
    assert counts(cursor) == (1, 2, BACKLOG)


def test_a_failed_transaction_changes_nothing(log: apsw.Connection) -> None:
    """Pages that a transaction read are forgotten with it, and read again by the next."""
    cursor = loaded(log)
    before = counts(cursor), cursor.bytes
    cursor.leave(5)
    cursor.leave(BACKLOG)
    cursor.advance(log, MAX_ENTRIES + PAGE)
    cursor.leave(BACKLOG)
    cursor.rollback()
    assert (counts(cursor), cursor.bytes, cursor.in_memory) == (*before, MAX_ENTRIES)
    cursor.advance(log, BACKLOG)
    cursor.commit()
    assert (counts(cursor), cursor.bytes) == ((0, 0, 0), 0)


def test_the_oldest_are_found_past_what_is_in_memory(log: apsw.Connection) -> None:
    """The first entries after the cursor are known, however few of them are in memory."""
    cursor = loaded(log)
    cursor.advance(log, MAX_ENTRIES - 1)
    assert cursor.ahead(log, 3) == [MAX_ENTRIES, MAX_ENTRIES + 1, MAX_ENTRIES + 2]
    assert cursor.has(log, BACKLOG)
    assert not cursor.has(log, BACKLOG + 1)
    assert not cursor.has(log, MAX_ENTRIES - 1)


async def test_exceptions_past_what_is_in_memory_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries that end or wait past the entries in memory are counted right, then and later."""
    monkeypatch.setattr("gateway.spool.sqlite.cursors.MAX_ENTRIES", 1)
    monkeypatch.setattr("gateway.spool.sqlite.cursors.PAGE", 2)
    async with opened_spool(tmp_path) as spool:
        for number in range(8):
            await spool.append(entry(f"r{number}", a=(0, 1)))
        await spool.settle("a", Progress(later=[later(6)], dead=[failed(7)], delivered=1))
        await spool.settle("a", Progress(done=[later(8).mark]))
        assert (await spool.balances())["a"] == Balance(16, 1, 0, 0, 1, 0, 14)
        await spool.settle("a", Progress(cursor=8, delivered=14))
        assert (await spool.balances())["a"] == Balance(16, 14, 0, 0, 1, 0, 1)
        assert (await spool.depths())["a"].backlog == 0


async def test_a_vanished_row_shows_in_the_balance(tmp_path: Path) -> None:
    """An entry that vanished from the log is unaccounted once its place is reached."""
    async with opened_spool(tmp_path) as spool:
        for number in range(3):
            await spool.append(entry(f"r{number}", a=(0,)))
    cursors = DestinationCursors()
    connection = connect(tmp_path)
    with pytest.MonkeyPatch.context() as few:
        few.setattr("gateway.spool.sqlite.cursors.MAX_ENTRIES", 1)
        cursors.load(connection)
    connection.execute("DELETE FROM log WHERE seq = 2")
    cursors["a"].advance(connection, 1)
    cursors.commit()
    assert counts(cursors["a"]) == (1, 1, 3)
