"""A shard through takeovers, crashes, trimming and faults."""

import asyncio
import json
import sys
from collections.abc import Sequence

import pytest

from gateway.errors import SpoolError
from gateway.spool.dead_letters import ALL_DEAD_LETTERS
from gateway.spool.interface import Shard
from gateway.spool.jetstream import recorder
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.values import (
    BacklogLimit,
    DedupWindow,
    DeliveryRef,
    Evicted,
    Fenced,
    GivenUp,
    LogRecord,
    Outdated,
    Progress,
    SpoolNotice,
)
from gateway.testing.spool.contract import entry, eventually, failed, later
from tests.cluster.servers import NatsServers
from tests.gateway.spool.jetstream.conftest import ClaimShard, make_shard
from tests.gateway.spool.jetstream.faulty_connection import (
    FaultyConnection,
    lost_answer,
    lost_request,
)

EVER = 1e12


async def append(writer: FrameWriter, shard: JetStreamShard, *sent: object) -> list[int]:
    """Append entries, and wait until the shard handed them over."""
    seqs = list(await asyncio.gather(*[writer.append(0, one) for one in sent]))  # type: ignore[arg-type]

    async def handed_over() -> bool:
        return shard.position() >= max(seqs)

    await eventually(handed_over)
    return seqs


async def unread(shard: Shard, destination: str = "a") -> list[int]:
    """Return the seqs of a destination's unread entries."""
    page = await shard.unread(destination, 0, shard.position(), 10_000)
    return [item.seq for item in page.items]


async def test_a_new_owner_goes_on_where_the_old_one_was(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """Cursors, waiting and dead deliveries, balances and the log are the same after a takeover."""
    first = await claimed()
    seqs = await append(writer, first, *[entry(f"r{n}", a=(0, 1), b=(0,)) for n in range(6)])
    progress = Progress(
        cursor=seqs[1],
        later=[later(seqs[0]), later(seqs[4], parked=True)],
        dead=[failed(seqs[1]), failed(seqs[5], 1)],
        done=[DeliveryRef(seqs[3], 0)],
        delivered=4,
    )
    await first.settle("a", progress, soon=True)
    second = await claimed()
    for shard in (first, second):
        assert shard.state["a"].cursor == seqs[1]
    assert second.position() == first.position() == seqs[-1]
    assert await second.retrying("a", EVER, 10) == [later(seqs[0])]
    assert await second.parked("a", "u1", 10) == [later(seqs[4], parked=True)]
    assert await second.blocked("a") == {"u1": 2}
    page = await second.unread("a", 0, second.position(), 100)
    assert [(item.seq, item.numbers) for item in page.items] == [
        (seqs[2], (0, 1)), (seqs[3], (1,)), (seqs[4], (1,)), (seqs[5], (0,)),
    ]  # fmt: skip
    assert await unread(second, "b") == seqs
    balances = await second.balances()
    assert (balances["a"].accepted, balances["a"].delivered) == (12, 4)
    assert (balances["a"].dead_letters, balances["a"].pending) == (2, 7)
    assert balances["b"].pending == balances["b"].accepted == 6


async def test_a_killed_owner_loses_nothing(
    nats_cluster: NatsServers, connection: FaultyConnection, layout: Layout
) -> None:
    """After kill -9, what was recorded is settled and everything else is pending."""
    command = [sys.executable, "-m", "tests.gateway.spool.jetstream.killed_owner"]
    owner = await asyncio.create_subprocess_exec(
        *command, layout.name, *nats_cluster.urls, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    line = await asyncio.wait_for(owner.stdout.readline(), 30)
    owner.kill()
    await owner.wait()
    seqs = json.loads(line)
    heir = make_shard(connection, layout)
    assert await heir.claim()
    balance = (await heir.balances())["a"]
    assert balance.accepted == 100
    assert balance.unaccounted == 0
    assert balance.delivered in {48, 98}  # the second report may have been recorded just so
    if balance.delivered == 48:
        assert await unread(heir) == seqs[50:]
    assert await heir.retrying("a", EVER, 9) == [later(seqs[3])]
    (letter,) = await heir.dead_letters.find(ALL_DEAD_LETTERS, 0, 9)
    assert letter.mark == DeliveryRef(seqs[4], 0)
    await heir.abandon()


async def test_a_fenced_owner_records_and_reads_nothing(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """An owner that lost its shard gets Fenced from its report, and from all that it asks."""
    first = await claimed()
    (seq,) = await append(writer, first, entry("r0", a=(0,)))
    second = await claimed()
    with pytest.raises(Fenced):
        await first.settle("a", Progress(dead=[failed(seq)]), soon=True)
    assert first.fenced
    for ask in (first.retrying("a", EVER, 1), first.unread("a", 0, seq, 1), first.entries([seq])):
        with pytest.raises(Fenced):
            await ask
    with pytest.raises(Fenced):
        first.settle("a", Progress(cursor=seq))
    assert second.cursor("a") == 0
    assert (await second.balances())["a"].dead_letters == 0


async def test_entries_are_handed_over_with_their_events(
    claimed: ClaimShard, connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """An owner's own entries come with their parsed events, those of others without."""
    shard = await claimed()
    offered: list[tuple[LogRecord, Sequence[object] | None]] = []
    shard.follow(lambda record, events: offered.append((record, events)))
    own, other = entry("own", a=(0,)), entry("other", a=(0,))
    events: list[object] = ["an event"]
    connection.plan(layout.log(0), lost_answer)
    await append(shard._writer, shard, own)
    mine = shard._writer.append(0, own, events)  # type: ignore[arg-type]
    (seq,) = await append(writer, shard, other)
    records = {record.seq: events for record, events in offered}
    assert records[await mine] is events
    assert records[seq] is None
    assert [record.entry for record, _ in offered] in ([own, own, other], [own, other, own])
    assert [record.seq for record, _ in offered] == sorted(records)


async def test_a_frame_that_was_given_up_comes_once(
    claimed: ClaimShard, connection: FaultyConnection, layout: Layout
) -> None:
    """An entry whose sender was told to try again may be delivered, once and without events."""
    shard = await claimed()
    offered: list[LogRecord] = []
    shard.follow(lambda record, _: offered.append(record))
    connection.patience = 0.1
    connection.plan(layout.log(0), lost_answer, *[lost_request] * 100)
    with pytest.raises(SpoolError):
        await shard._writer.append(0, entry("r0", a=(0,)), [])
    connection.forget_plan()
    connection.patience = 10.0
    await append(shard._writer, shard, entry("r1", a=(0,)))
    assert [record.entry.id for record in offered] == ["r0", "r1"]


async def test_a_destination_begins_with_the_first_entry_for_it(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """What another gateway's newer configuration targets is kept, also after a takeover."""
    first = await claimed()
    await append(writer, first, entry("r0", a=(0,)))
    seqs = await append(writer, first, entry("r1", a=(0,), new=(0,)), entry("r2", new=(0,)))
    assert await unread(first, "new") == seqs
    await first.settle("a", Progress(cursor=first.position()), soon=True)
    second = await claimed()
    assert await unread(second, "new") == seqs
    assert (await second.balances())["new"].accepted == 2


async def test_a_forgotten_destination_stays_forgotten(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """Entries that are still in the log do not bring a forgotten destination back."""
    first = await claimed()
    await append(writer, first, entry("r0", a=(0,), b=(0, 1)))
    await first.register({"a": BacklogLimit()})
    assert await first.forget("b") == 2
    second = make_shard(first._connection, first._layout)
    assert await second.claim()
    assert list(await second.balances()) == ["a"]
    await second.register({"b": BacklogLimit()})
    assert await unread(second, "b") == []
    await second.abandon()


async def test_reports_share_records(
    claimed: ClaimShard, writer: FrameWriter, connection: FaultyConnection, layout: Layout
) -> None:
    """Reports that nobody waits for share a record; a report that is due soon waits for none."""
    shard = await claimed()
    seqs = await append(writer, shard, *[entry(f"r{n}", a=(0,), b=(0,)) for n in range(9)])
    connection.requests.clear()
    reports = [shard.settle(name, Progress(cursor=seqs[0])) for name in ("a", "b")]
    await asyncio.gather(*reports)
    assert connection.requests.count(layout.journal(0)) == 1
    slow = shard.settle("a", Progress(cursor=seqs[1]))
    await shard.settle("b", Progress(cursor=seqs[1]), soon=True)
    await slow
    assert shard.cursor("a") == shard.cursor("b") == seqs[1]


async def test_a_report_that_was_given_up_is_recorded_once_it_is_repeated(
    claimed: ClaimShard, writer: FrameWriter, connection: FaultyConnection, layout: Layout
) -> None:
    """A report whose record arrived although it failed changes nothing when it is repeated."""
    shard = await claimed()
    seqs = await append(writer, shard, entry("r0", a=(0,)), entry("r1", a=(0,)))
    report = Progress(cursor=seqs[1], later=[later(seqs[0])], dead=[failed(seqs[1])])
    connection.patience = 0.0
    connection.plan(layout.journal(0), lost_answer)
    with pytest.raises(SpoolError):
        await shard.settle("a", report, soon=True)
    assert shard.cursor("a") == 0
    connection.patience = 10.0
    await shard.settle("a", report, soon=True)
    again = await claimed()
    for one in (shard.state, again.state):
        assert one["a"].cursor == seqs[1]
        assert [waiting.mark.seq for waiting in one["a"].waiting] == [seqs[0]]
        assert one["a"].dead_letters == 1


async def test_large_reports_are_recorded_in_pieces(
    claimed: ClaimShard, writer: FrameWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that one record has no room for is recorded in several."""
    monkeypatch.setattr(recorder, "MAX_RECORD_BYTES", 3000)
    first = await claimed()
    seqs = await append(writer, first, *[entry(f"r{n}", a=(0, 1)) for n in range(40)])
    waits = [later(seq) for seq in seqs]
    dead = [failed(seq, 1) for seq in seqs]
    await first.settle("a", Progress(cursor=seqs[-1], later=waits, dead=dead), soon=True)
    second = await claimed()
    assert await second.retrying("a", EVER, 100) == waits
    balance = (await second.balances())["a"]
    assert (balance.dead_letters, balance.pending, balance.unaccounted) == (40, 40, 0)


async def test_snapshots_replace_records(
    claimed: ClaimShard,
    writer: FrameWriter,
    connection: FaultyConnection,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After some records the state is written whole, in parts, and what is before is deleted."""
    monkeypatch.setattr(recorder, "SNAPSHOT_INTERVAL", 10)
    monkeypatch.setattr(recorder, "MAX_RECORD_BYTES", 1000)
    first = await claimed()
    seqs = await append(writer, first, *[entry(f"r{n}", a=(0,), b=(0,)) for n in range(25)])
    for seq in seqs[:23]:
        await first.settle("a", Progress(cursor=seq, later=[later(seq)]), soon=True)
    await first.settle("b", Progress(done=[DeliveryRef(seqs[7], 0)], delivered=1), soon=True)
    records = await connection.read(layout.state_stream, layout.journal(0), 1, 1000)
    assert len(records) < 30
    second = await claimed()
    assert await second.retrying("a", EVER, 100) == [later(seq) for seq in seqs[:23]]
    assert second.cursor("a") == seqs[22]
    assert await unread(second, "b") == seqs[:7] + seqs[8:]
    assert await second.balances() == known_balances(first)


def known_balances(shard: JetStreamShard) -> dict[str, object]:
    """Return the balances of a shard that may be fenced."""
    return {name: found.balance() for name, found in shard.state.destinations.items()}


async def test_deleted_letters_do_not_come_back(
    claimed: ClaimShard, writer: FrameWriter, connection: FaultyConnection, layout: Layout
) -> None:
    """A deleted letter is gone for a new owner; its message is deleted with its last letter."""
    first = await claimed()
    seqs = await append(writer, first, entry("r0", a=(0, 1), b=(0,)))
    await first.settle("a", Progress(dead=[failed(seqs[0]), failed(seqs[0], 1)]), soon=True)
    one, other = await first.dead_letters.find(ALL_DEAD_LETTERS, 0, 10)
    assert await first.dead_letters.delete([one.id, one.id]) == 1
    second = await claimed()
    assert await second.dead_letters.find(ALL_DEAD_LETTERS, 0, 10) == [other]
    assert await second.dead_letters.delete([one.id]) == 0
    connection.plan("$JS.API.STREAM.MSG.DELETE", *[lost_request] * 1000)
    connection.patience = 0.0
    with pytest.raises(SpoolError):
        await second.dead_letters.delete(ALL_DEAD_LETTERS)
    connection.patience = 10.0
    connection.forget_plan()
    third = await claimed()
    assert await third.dead_letters.find(ALL_DEAD_LETTERS, 0, 10) == []
    balance = (await third.balances())["a"]
    assert (balance.dead_letters, balance.dropped, balance.unaccounted) == (0, 2, 0)
    await third.dead_letters.clean()
    assert await connection.subjects(layout.state_stream, layout.dead_letters(0)) == []


async def test_what_waits_outlives_its_log(
    claimed: ClaimShard, writer: FrameWriter, connection: FaultyConnection, layout: Layout
) -> None:
    """Passed frames are deleted; waiting entries are copied first, and deleted when they end."""
    first = await claimed()
    sent = [entry(f"r{n}", a=(0,), b=(0,)) for n in range(5)]
    seqs = [(await append(writer, first, one))[0] for one in sent]
    await first.settle("a", Progress(cursor=seqs[4], later=[later(seqs[1])]), soon=True)
    await first.trim()
    assert len(await first.entries(seqs)) == 5
    await first.settle("b", Progress(cursor=seqs[3]), soon=True)
    await first.trim()
    kept = [LogRecord(seqs[1], sent[1]), LogRecord(seqs[4], sent[4])]
    assert await first.entries(seqs) == kept
    second = await claimed()
    assert await second.entries(seqs) == kept
    await second.settle("a", Progress(done=[DeliveryRef(seqs[1], 0)]), soon=True)
    await second.trim()
    assert await connection.subjects(layout.state_stream, layout.waiting(0)) == []
    assert await second.entries(seqs) == kept[1:]


async def test_a_new_owner_finds_what_waits_in_the_log(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """A waiting entry that is not copied yet is found in the log, although all have passed it."""
    first = await claimed()
    first._trimmer._delay = 60.0
    seqs = [(await append(writer, first, entry(f"r{n}", a=(0,))))[0] for n in range(4)]
    await first.settle("a", Progress(cursor=seqs[3], later=[later(seqs[1])]), soon=True)
    await first.settle("b", Progress(cursor=seqs[3]), soon=True)
    second = make_shard(first._connection, first._layout)
    assert await second.claim()
    assert [record.seq for record in await second.entries([seqs[1]])] == [seqs[1]]
    await second.abandon()


async def test_recently_passed_frames_stay(
    connection: FaultyConnection, layout: Layout, writer: FrameWriter
) -> None:
    """A frame that may still be repeated is not deleted: the servers may forget its id."""
    shard = JetStreamShard(writer, 0, len)
    await shard.claim()
    shard.start()
    await shard.register({"a": BacklogLimit()})
    seqs = [(await append(writer, shard, entry(f"r{n}", a=(0,))))[0] for n in range(3)]
    await shard.settle("a", Progress(cursor=seqs[-1]), soon=True)
    await shard.trim()
    await shard.trim()
    assert len(await connection.read(layout.log_stream, layout.log(0), 1, 10)) == 3
    await shard.abandon()


async def test_a_replica_that_is_behind_hides_no_entry(
    claimed: ClaimShard, writer: FrameWriter, connection: FaultyConnection
) -> None:
    """An entry that a replica does not have is asked of the leader: it would be overtaken."""
    shard = await claimed()
    seqs = [(await append(writer, shard, entry(f"r{n}", a=(0,))))[0] for n in range(4)]
    connection.pages.extend([[]])
    assert [record.seq for record in await shard.entries(seqs)] == seqs
    (half,) = [await connection.read(shard._layout.log_stream, shard._layout.log(0), 1, 2)]
    connection.pages.extend([half])
    assert await unread(shard) == seqs


async def test_a_log_that_ends_too_early_is_told(
    claimed: ClaimShard, writer: FrameWriter, connection: FaultyConnection, layout: Layout
) -> None:
    """A shard whose log NATS lost is not taken for an empty one."""
    first = await claimed()
    seqs = await append(writer, first, entry("r0", a=(0,)))
    await first.settle("a", Progress(cursor=seqs[0]), soon=True)
    await connection.purge(layout.log_stream, layout.log(0))
    with pytest.raises(SpoolError, match="lost the end of the log"):
        await make_shard(connection, layout).claim()


async def test_a_released_shard_is_free(
    claimed: ClaimShard, writer: FrameWriter, connection: FaultyConnection, layout: Layout
) -> None:
    """Releasing records what was reported, and lets anybody claim the shard."""
    first = await claimed()
    seqs = await append(writer, first, entry("r0", a=(0,)))
    report = first.settle("a", Progress(cursor=seqs[0]))
    await first.release()
    await report
    with pytest.raises(SpoolError, match="released"):
        first.settle("a", Progress())
    second = make_shard(connection, layout)
    assert await second.claim(lambda _: False)
    assert second.cursor("a") == seqs[0]
    await second.abandon()


async def test_an_abandoned_shard_records_nothing(claimed: ClaimShard, writer: FrameWriter) -> None:
    """Giving up a shard fails the reports that are not written."""
    first = await claimed()
    seqs = await append(writer, first, entry("r0", a=(0,)))
    await first.settle("b", Progress(), soon=True)
    report = first.settle("a", Progress(cursor=seqs[0]))
    await first.abandon()
    with pytest.raises(SpoolError):
        await report
    assert (await claimed()).cursor("a") == 0


async def test_a_new_owner_knows_the_ids_and_replays_of_the_old_one(
    claimed: ClaimShard, writer: FrameWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates and replays are the same after a takeover, recorded or not."""
    monkeypatch.setattr(recorder, "_MAX_DECISION_BYTES", 200)
    first = await claimed()
    once = [DedupWindow({0: f"m{n}"}, 600.0) for n in range(20)]
    seqs = [await writer.append(0, entry(f"r{n}", a=(0,)), None, once[n]) for n in range(20)]
    await first.handed_over(await writer.append(0, entry("again", a=(0,)), None, once[3]))
    await first.settle("a", Progress(dead=[failed(seqs[0])]), soon=True)
    repeat = await writer.append(0, entry("later", a=(0,)), None, once[4])
    assert await first.handed_over(repeat) == {0}
    assert await first.replay(ALL_DEAD_LETTERS) == 1
    (waiting,) = await first.retrying("a", EVER, 9)
    for _ in range(2):
        shard = await claimed()
        assert await shard.handed_over(repeat) == {0}
        assert await unread(shard) == seqs[1:]
        assert await shard.retrying("a", EVER, 9) == [waiting]
        assert await shard.dead_letters.find(ALL_DEAD_LETTERS, 0, 9) == []
        assert (await shard.balances())["a"].unaccounted == 0
        more = await writer.append(0, entry("more", a=(0,)), None, once[5])
        assert await shard.handed_over(more) == {0}
        await shard.settle("a", Progress(), soon=True)


async def test_a_shard_with_a_frame_that_cannot_be_read_ends(
    claimed: ClaimShard,
    writer: FrameWriter,
    connection: FaultyConnection,
    layout: Layout,
) -> None:
    """Nothing overtakes a frame that NATS lost: its owner ends, and nobody claims it."""
    shard = await claimed()
    handed_over: list[LogRecord] = []
    shard.follow(lambda record, _: handed_over.append(record))
    await append(writer, shard, entry("r0", a=(0,)))
    number = await connection.store(layout.log(0), b"\xc1")
    await writer.append(0, entry("r1", a=(0,)))

    async def ended() -> bool:
        return shard.fenced

    await eventually(ended)
    with pytest.raises(Fenced, match=f"lost frame {number}"):
        await shard.settle("a", Progress(), soon=True)
    assert [one.entry.id for one in handed_over] == ["r0"]
    with pytest.raises(SpoolError, match=f"lost frame {number}"):
        await make_shard(connection, layout).claim()


async def test_a_report_from_before_an_eviction_is_made_anew(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """A report that waits when deliveries are evicted fails, and what succeeded is withdrawn."""
    shard = await claimed()
    notices: list[SpoolNotice] = []
    shard.subscribe(notices.append)
    seqs = await append(writer, shard, entry("r0", a=(0,)), entry("r1", a=(0,)))
    await shard.settle("a", Progress(), soon=True)
    report = shard.settle("a", Progress(cursor=seqs[0], delivered=1))
    shard.evictions.bounds = {"a": BacklogLimit(max_backlog=1, overflow="dead_letter")}
    await shard.evictions.run()
    with pytest.raises(Outdated, match="report again"):
        await report
    (letter,) = await shard.dead_letters.find(ALL_DEAD_LETTERS, 0, 9)
    assert notices == [Evicted("a", seqs[0], (), 0, (letter.id,), 1)]
    arrived = Progress(cursor=seqs[0], done=[DeliveryRef(seqs[0], 0)], delivered=1)
    await shard.settle("a", arrived, soon=True)
    for owner in (shard, await claimed()):
        assert await owner.dead_letters.find(ALL_DEAD_LETTERS, 0, 9) == []
        balance = (await owner.balances())["a"]
        assert (balance.delivered, balance.dead_letters, balance.pending) == (1, 0, 1)


async def test_a_shard_gives_up_its_part_of_what_is_above_the_bound(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """The backlog of all shards counts; each gives up as much of the excess as it has of it."""
    shard = await claimed()
    await append(writer, shard, *[entry(f"r{n}", a=(0,)) for n in range(10)])
    shard.evictions.bounds = {"a": BacklogLimit(max_backlog=20, overflow="drop")}
    shard.evictions.backlog_elsewhere = {"a": 20}.__getitem__
    await shard.evictions.run()
    assert shard.evictions.given_up["a"] == GivenUp(dropped=4)


async def test_another_record_forgets_no_new_destination(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """What begins with an entry is recorded with whatever is recorded first."""
    first = await claimed()
    seqs = await append(writer, first, entry("r0", a=(0,)))
    await first.settle("a", Progress(cursor=seqs[0], dead=[failed(seqs[0])]), soon=True)
    seqs = await append(writer, first, entry("r1", new=(0,)))
    assert await first.dead_letters.delete(ALL_DEAD_LETTERS) == 1
    assert await unread(await claimed(), "new") == seqs


async def test_a_request_is_found_although_clocks_differ(
    claimed: ClaimShard, writer: FrameWriter
) -> None:
    """Ids that do not quite rise are found, in the log and as a replay, by every owner."""
    shard = await claimed()
    names = ["r10", "r12", "r11", "r15", "r13", "r14"]
    seqs = []
    for name in names:
        seqs += await append(writer, shard, entry(name, a=(0,)))
    await shard.settle("a", Progress(dead=[failed(seqs[2])]), soon=True)
    assert await shard.replay(ALL_DEAD_LETTERS) == 1
    for owner in (shard, await claimed()):
        for name in names:
            found = await owner.pending(name)
            assert found is not None
            assert found.entry.id == name
            assert list(found.waits) == [("a", 0)]
        assert await owner.pending("r16") is None
