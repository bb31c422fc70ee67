"""Rows of older schemas, indexes, and deletion of expired rows."""

from pathlib import Path

import msgspec
import pytest

from gateway.spool import ConsentRecord, DeadLetterFilter
from gateway.spool.rows import pack, pack_attempts, unpack, unpack_attempts
from gateway.spool.sqlite import database, writer
from gateway.spool.sqlite.database import MIGRATIONS, connect, insert
from gateway.spool.sqlite.dead_letters import listing
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.sqlite import fetch
from gateway.testing.spool.contract import ManualClock, entry, eventually, pending
from tests.gateway.opened_spool import opened_spool


async def test_rows_that_know_of_no_routes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the second schema are read as deliveries without steps."""
    old = entry("old", a=(0, 1))
    *before, routes, _dropped, _unkeyed, _users = msgspec.msgpack.decode(pack(old))
    assert routes == {}
    with monkeypatch.context() as earlier:
        earlier.setattr(database, "MIGRATIONS", MIGRATIONS[:2])
        connection = connect(tmp_path)
        connection.execute("INSERT INTO destination(name, cursor) VALUES ('a', 0)")
        insert(connection, [(1, 1.7e9, old.id, msgspec.msgpack.encode(before), old.request.body)])
        connection.close()
    async with opened_spool(tmp_path) as spool:
        assert [item.entry for item in await pending(spool, "a")] == [old]
        assert old.route("a", 0) == ""


def test_unkeyed_user_hashes_are_ignored() -> None:
    """Unkeyed user hashes of an earlier version are ignored."""
    known = msgspec.structs.replace(entry("r", a=(0, 1)), users=(7, 8))
    *before, _unkeyed, users, _replay = msgspec.msgpack.decode(pack(known))
    assert users == [7, 8]
    old = msgspec.msgpack.encode([*before, [7, 8]])
    assert unpack("r", old, known.request.body) == msgspec.structs.replace(known, users=())


def test_attempts_of_earlier_versions_are_read() -> None:
    """A boolean `isolated` of an earlier version is read as 1.0 or 0.0."""
    old = msgspec.msgpack.encode([(1.0, 500, 0.5, "no", True), (2.0, None, 0.5, "no", False)])
    assert [attempt.isolated for attempt in unpack_attempts(old)] == [1.0, 0.0]
    assert unpack_attempts(pack_attempts(unpack_attempts(old))) == unpack_attempts(old)


def test_dead_letters_of_a_request_are_found_by_an_index(tmp_path: Path) -> None:
    """The dead letters of a request are found through an index."""
    connection = connect(tmp_path)
    asked: list[str] = []

    def note(_: object, query: str, __: object) -> bool:
        asked.append(query)
        return True

    connection.set_exec_trace(note)
    listing(connection, DeadLetterFilter(request="r1"), 0, 10)
    connection.set_exec_trace(None)
    plan = fetch(connection, f"EXPLAIN QUERY PLAN {asked[0]}", ("r1", 0, 10))
    connection.close()
    assert any("INDEX kept_id (id=?)" in step[-1] for step in plan), plan
    assert not any(step[-1].startswith("SCAN") for step in plan), plan


async def test_forgotten_consent_leaves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expired consent is deleted from the file while the spool is idle."""
    monkeypatch.setattr(writer, "TICK", 0.05)
    clock = ManualClock()
    spool = SqliteSpool(tmp_path, clock=clock)
    await spool.open()
    try:
        said = {
            n.to_bytes(16, "big"): {"ads": ConsentRecord(granted=True, at=1.0)} for n in range(2000)
        }
        await spool.save_consent(said, 10.0)
        clock.now += 11

        async def gone() -> bool:
            connection = connect(tmp_path, readonly=True)
            try:
                return fetch(connection, "SELECT count(*) FROM consent") == [(0,)]
            finally:
                connection.close()

        await eventually(gone)
    finally:
        await spool.close()
