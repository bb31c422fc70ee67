"""Frames: what is appended together is stored together, in the order of the calls."""

import asyncio
import time

import msgspec
import pytest
from nats.aio.msg import Msg

from gateway.errors import SpoolError
from gateway.spool.jetstream import frames
from gateway.spool.jetstream.frames import FrameWriter, read_frame
from gateway.spool.jetstream.layout import MAX_ROWS, Layout, message_of
from gateway.spool.jetstream.messages import Unanswered
from gateway.spool.values import SpoolFull
from gateway.testing.spool.contract import entry
from tests.gateway.spool.jetstream.faulty_connection import (
    Call,
    FaultyConnection,
    lost_answer,
    lost_request,
    refused,
)


async def stored(connection: FaultyConnection, layout: Layout, shard: int = 0) -> list[list[str]]:
    """Return the ids of the entries of each frame."""
    last = await connection.last(layout.log_stream, layout.log(shard))
    assert last is not None
    messages = connection.read_all(layout.log_stream, layout.log(shard), 1, last.seq)
    return [[row.id for row in read_frame(one.data, one.seq).rows] async for one in messages]


async def test_entries_share_frames_and_keep_their_order(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """Entries that come while a frame is on its way share the next, up to its bounds."""
    count = 2 * MAX_ROWS + 10
    seqs = await asyncio.gather(*[writer.append(0, entry(f"r{n}", a=(0,))) for n in range(count)])
    assert seqs == sorted(set(seqs))
    found = await stored(connection, layout)
    assert [name for ids in found for name in ids] == [f"r{n}" for n in range(count)]
    assert [len(ids) for ids in found] == [MAX_ROWS, MAX_ROWS, 10]
    assert len({message_of(seq) for seq in seqs}) == 3


async def test_large_entries_do_not_share_a_frame(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """A frame ends before it exceeds its bytes; one larger entry is alone."""
    body = b"x" * (frames.MAX_FRAME_BYTES // 2 - 1000)
    bodies = [body, body, body, b"x" * (2 * frames.MAX_FRAME_BYTES), b"y"]
    entries = [entry(f"r{n}", body=one) for n, one in enumerate(bodies)]
    await asyncio.gather(*[writer.append(0, one) for one in entries])
    assert await stored(connection, layout) == [["r0", "r1"], ["r2"], ["r3"], ["r4"]]


async def test_a_frame_is_stored_once_whatever_is_lost(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """A frame whose request or answer is lost is repeated, and keeps its place before the next."""
    connection.plan(layout.log(0), lost_request, lost_answer, lost_answer)
    both = writer.append(0, entry("r0")), writer.append(0, entry("r1"))
    first, second = [await seq for seq in both]
    assert second == first + 1
    assert message_of(await writer.append(0, entry("r2"))) > message_of(second)
    assert await stored(connection, layout) == [["r0", "r1"], ["r2"]]


async def test_no_entry_waits_longer_than_patience_behind_others(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """While no server answers, an entry's patience does not begin anew with its turn."""
    connection.patience = 0.2
    connection.plan(layout.log(0), *[lost_request] * 20)
    parts = {0: entry("both"), 1: entry("both")}
    began = time.monotonic()
    appended = [writer.append(0, entry("r0"))]
    for n in range(5):
        appended += [writer.append_together(parts), writer.append(0, entry(f"r{n + 1}"))]
    await writer.close()
    assert time.monotonic() - began < 1.0
    assert {type(one.exception()) for one in appended} == {Unanswered}
    connection.forget_plan()
    await writer.append(0, entry("after"))
    assert await stored(connection, layout) == [["after"]]


async def test_an_entry_that_cannot_be_written_fails_alone(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """An entry that cannot be packed fails, and those beside it are stored."""
    odd = msgspec.structs.replace(entry("odd"), source="\ud800")
    results = await asyncio.gather(
        writer.append(0, entry("r0")), writer.append(0, odd), writer.append(0, entry("r2")),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(results[1], SpoolError)
    assert await stored(connection, layout) == [["r0", "r2"]]


async def test_no_sender_waits_for_ever(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """Whatever fails on the way to the servers reaches the senders as SpoolError."""

    async def odd(_: Call) -> Msg:
        raise KeyError("a bug")

    connection.plan(layout.log(0), odd)
    with pytest.raises(SpoolError, match="a bug"):
        await writer.append(0, entry("r0"))
    await writer.append(0, entry("r1"))
    assert await stored(connection, layout) == [["r1"]]


async def test_a_cancelled_waiter_loses_nothing(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """An entry whose waiter leaves is stored with the others."""
    futures = [writer.append(0, entry(f"r{n}")) for n in range(3)]
    futures[1].cancel()
    assert await futures[2] == await futures[0] + 2
    assert await stored(connection, layout) == [["r0", "r1", "r2"]]


async def test_what_waits_is_bounded(writer: FrameWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bytes that may wait, an entry is refused with SpoolFull, until some are stored."""
    monkeypatch.setattr(frames, "MAX_GATHERED", 3000)
    first = [writer.append(0, entry(f"r{n}", body=b"x" * 1000)) for n in range(2)]
    with pytest.raises(SpoolFull):
        writer.append(1, entry("r2", body=b"x" * 1000))
    await asyncio.gather(*first)
    await writer.append(1, entry("r2", body=b"x" * 1000))


async def test_few_frames_are_on_their_way(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """At most four frames are on their way; entries of a shard that waits gather meanwhile."""
    going = most = 0
    request = connection.request

    async def counted(*args: object) -> object:
        nonlocal going, most
        going += 1
        most = max(most, going)
        try:
            return await request(*args)  # type: ignore[arg-type]
        finally:
            going -= 1

    connection.request = counted  # type: ignore[assignment, method-assign]
    await asyncio.gather(*[writer.append(n % 8, entry(f"r{n}")) for n in range(80)])
    assert most == frames.MAX_FRAMES
    ids = [f"r{n}" for n in range(7, 80, 8)]
    assert await stored(connection, layout, 7) == [ids]


async def test_closing_stores_what_is_gathered(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """Closing waits for the frames on their way and for what is gathered behind them."""
    futures = [writer.append(0, entry(f"r{n}")) for n in range(MAX_ROWS + 1)]
    await writer.close()
    assert all(future.done() for future in futures)
    assert len(await stored(connection, layout)) == 2


async def test_an_entry_of_several_shards_is_stored_in_all_of_them(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """Each shard gets its part, in its place among the entries before and after it."""
    parts = {shard: entry("both", a=(shard,)) for shard in range(6)}
    waits = [writer.append(n % 6, entry(f"r{n}")) for n in range(12)]
    waits.append(writer.append_together(parts))
    waits += [writer.append(n % 6, entry(f"s{n}")) for n in range(6)]
    waits.append(writer.append_together({5: entry("again"), 0: entry("again")}))
    await asyncio.gather(*waits)
    for shard in range(6):
        found = [row for rows in await stored(connection, layout, shard) for row in rows]
        last = ["again"] if shard in {0, 5} else []
        assert found == [f"r{shard}", f"r{shard + 6}", "both", f"s{shard}", *last]


async def test_an_entry_of_several_shards_is_stored_once_or_not_at_all(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """A lost request stores no part, a lost answer no part twice; a refusal stores nothing."""
    parts = {0: entry("r0"), 1: entry("r0")}
    connection.plan(layout.log(1), lost_request, lost_answer, lost_answer)
    await writer.append_together(parts)
    connection.plan(layout.log(1), refused(400, 10077))
    with pytest.raises(SpoolFull):
        await writer.append_together(parts)
    for shard in range(2):
        await writer.append(shard, entry("r1"))
        assert await stored(connection, layout, shard) == [["r0"], ["r1"]]


async def test_an_entry_of_several_shards_counts_towards_what_waits(
    writer: FrameWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused as a whole if its parts have no room, and is gone from it once stored."""
    monkeypatch.setattr(frames, "MAX_GATHERED", 3000)
    both = {shard: entry("r", body=b"x" * 1000) for shard in range(2)}
    first = writer.append_together(both)
    with pytest.raises(SpoolFull):
        writer.append_together(both)
    await first
    await writer.append_together(both)


async def test_an_entry_of_several_shards_that_cannot_be_written_fails_alone(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """If a part cannot be packed, no shard waits for it."""
    odd = msgspec.structs.replace(entry("odd"), source="\ud800")
    with pytest.raises(SpoolError):
        await writer.append_together({0: entry("odd"), 1: odd})
    await writer.append(0, entry("r0"))
    assert await stored(connection, layout) == [["r0"]]
