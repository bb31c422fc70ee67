"""The journal has one writer, and no record is lost or written twice."""

from base64 import b64encode
from uuid import uuid4

import msgspec
import pytest

from gateway.errors import SpoolError
from gateway.spool.jetstream.journal import Record, ShardJournal
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import StreamMessage, Unanswered
from gateway.spool.values import Fenced
from tests.gateway.spool.jetstream.faulty_connection import (
    FaultyConnection,
    instead,
    lost_answer,
    lost_request,
    refused,
)

LEADER = "$JS.API.STREAM.MSG.GET"


def anybody(_: str) -> bool:
    """Take a shard from anybody."""
    return True


def journal(connection: FaultyConnection, layout: Layout) -> ShardJournal:
    """Return the journal of shard 0 for a gateway of its own."""
    return ShardJournal(connection, layout.state_stream, layout.journal(0), uuid4().hex)


async def claimed(connection: FaultyConnection, layout: Layout) -> ShardJournal:
    """Return the journal of shard 0 for a gateway that has just claimed it."""
    one = journal(connection, layout)
    assert await one.claim(anybody)
    return one


async def bodies(one: ShardJournal) -> list[bytes]:
    """Return what the records say."""
    return [found.record.body for found in await one.records()]


async def test_records_come_back_in_order(connection: FaultyConnection, layout: Layout) -> None:
    """A new owner reads all records that were written before its claim."""
    first, second = journal(connection, layout), journal(connection, layout)
    assert await first.claim(anybody)
    for body in (b"one", b"two"):
        await first.write("settle", body)
    assert await second.claim(anybody)
    assert await bodies(second) == [b"", b"one", b"two", b""]
    assert (first.epoch, second.epoch) == (1, 2)


@pytest.mark.parametrize("beside", [0, 2])
async def test_a_second_claim_fences_the_first(
    connection: FaultyConnection, layout: Layout, beside: int
) -> None:
    """After another claim the first owner can write nothing, and leaves nothing behind."""
    first, second = journal(connection, layout), journal(connection, layout)
    assert await first.claim(anybody)
    assert await second.claim(anybody)
    letters = [StreamMessage(layout.dead_letters(0), b"letter")] * beside
    for _ in range(2):
        with pytest.raises(Fenced):
            await first.write("settle", b"stale", beside=letters)
    assert first.fenced
    await second.write("settle", b"new")
    assert await bodies(second) == [b"", b"", b"new"]
    assert await connection.last(layout.state_stream, layout.dead_letters(0)) is None


async def test_an_owner_that_lives_keeps_its_shard(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A claim asks whether the owner may be replaced; a released shard belongs to nobody."""
    first, second = journal(connection, layout), journal(connection, layout)
    await first.claim(anybody)
    assert not await second.claim(lambda _: False)
    await first.write("release", b"")
    assert await second.claim(lambda _: False)


async def test_of_two_claims_at_a_time_one_wins(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A claim made from an old last record, as a stale leader tells it, is refused."""
    first, second = journal(connection, layout), journal(connection, layout)
    await first.claim(anybody)
    stale = await connection.last(layout.state_stream, layout.journal(0))
    assert stale is not None
    await first.write("settle", b"still here")
    data = b64encode(stale.data).decode()
    told = {"message": {"seq": stale.seq, "data": data, "time": "2026-12-01T00:00:00Z"}}
    connection.plan(LEADER, instead(told))
    assert not await second.claim(anybody)
    await first.write("settle", b"and here")


@pytest.mark.parametrize("beside", [0, 2])
@pytest.mark.parametrize(
    "fault", [lost_answer, lost_request, refused(400, 10164)], ids=["answer", "request", "10164"]
)
async def test_a_record_is_written_once(
    connection: FaultyConnection, layout: Layout, fault: object, beside: int
) -> None:
    """A record whose request or answer is lost, or that must wait, is there once, and the next."""
    one = await claimed(connection, layout)
    connection.plan(layout.journal(0), fault)  # type: ignore[arg-type]
    letters = [StreamMessage(layout.dead_letters(0), b"letter")] * beside
    await one.write("settle", b"one", beside=letters)
    await one.write("settle", b"two")
    assert await bodies(await claimed(connection, layout)) == [b"", b"one", b"two", b""]
    found = await connection.read(layout.state_stream, layout.dead_letters(0), 1, 100)
    assert len(found) == beside


async def test_a_record_that_arrives_late_stays(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A record that was given up and arrived nevertheless is no reason to stop writing."""
    one = await claimed(connection, layout)
    connection.plan(layout.journal(0), lost_answer)
    connection.patience = 0.0
    with pytest.raises(Unanswered):
        await one.write("settle", b"one")
    connection.patience = 10.0
    await one.write("settle", b"one and two")
    assert await bodies(await claimed(connection, layout)) == [b"", b"one", b"one and two", b""]


async def test_a_leader_that_is_behind_fences_nobody(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A server that no longer leads and knows an older record only is asked again."""
    one = await claimed(connection, layout)
    claim = await connection.last(layout.state_stream, layout.journal(0))
    assert claim is not None
    await one.write("settle", b"one")
    connection.plan(layout.journal(0), lost_answer)
    data = b64encode(claim.data).decode()
    old = {"message": {"seq": claim.seq, "data": data, "time": "2026-12-01T00:00:00Z"}}
    connection.plan(LEADER, instead(old), instead({"error": {"code": 404, "err_code": 10037}}))
    await one.write("settle", b"two")
    assert not one.fenced
    assert await bodies(await claimed(connection, layout)) == [b"", b"one", b"two", b""]


async def test_a_replica_that_is_behind_is_asked_again(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A replica without the newest records does not shorten the journal."""
    first, second = journal(connection, layout), journal(connection, layout)
    await first.claim(anybody)
    await first.write("settle", b"one")
    behind = await connection.read(layout.state_stream, layout.journal(0), 1, 1)
    await second.claim(anybody)
    connection.pages.extend([[], behind, []])
    assert await bodies(second) == [b"", b"one", b""]


async def test_a_hole_is_noticed(connection: FaultyConnection, layout: Layout) -> None:
    """A journal from which NATS lost a record is not taken for the whole."""
    first, second = journal(connection, layout), journal(connection, layout)
    await first.claim(anybody)
    lost = await first.write("settle", b"one")
    await first.write("settle", b"two")
    await second.claim(anybody)
    await connection.api(f"STREAM.MSG.DELETE.{layout.state_stream}", {"seq": lost})
    with pytest.raises(SpoolError, match="hole"):
        await second.records()
    await connection.purge(layout.state_stream, layout.journal(0), before=lost + 1)
    with pytest.raises(SpoolError, match="hole"):
        await second.records()


async def test_a_whole_snapshot_replaces_what_is_before(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Records before a whole snapshot are not read, purged or not; half of one replaces none."""
    first, second = journal(connection, layout), journal(connection, layout)
    await first.claim(anybody)
    await first.write("settle", b"one")
    await first.write("snapshot", b"half", part=1, parts=2)
    start = await first.write("snapshot", b"s1", part=1, parts=2)
    await first.write("snapshot", b"s2", part=2, parts=2)
    await first.write("settle", b"two")
    await first.write("snapshot", b"half again", part=1, parts=2)
    expected = [b"s1", b"s2", b"two", b"half again"]
    await second.claim(anybody)
    assert await bodies(second) == [*expected, b""]
    await second.purge(start)
    assert await bodies(second) == [*expected, b""]
    third = await claimed(connection, layout)
    assert await bodies(third) == [*expected, b"", b""]


async def test_records_of_a_newer_gateway_are_read() -> None:
    """A record with more fields than this version knows is read, so that nodes can differ."""
    record = ["settle", 1, "owner", 2, 3, 1, 1, b"body", "a field of the future"]
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Record)
    assert (found.kind, found.body) == ("settle", b"body")
