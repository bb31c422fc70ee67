"""The contract of deduplication: duplicates, windows, rejections, crashes."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.errors import SpoolError
from gateway.spool import (
    Appended,
    BacklogLimit,
    DeadLetterFilter,
    DedupWindow,
    DeliveryRef,
    LogRecord,
    Progress,
    SpoolFull,
    SpoolLimits,
)
from gateway.testing.spool.contract import (
    FREE,
    ManualClock,
    Places,
    ShardSpool,
    SpoolContract,
    SpoolFactory,
    append,
    entry,
    eventually,
    failed,
    follow,
    pending,
)

WINDOW = 600.0


def once(*names: str, window: float = WINDOW, **more: str) -> DedupWindow:
    """Return the ids of events 0, 1 and so on; ``_5="x"`` is event 5's."""
    ids = dict(enumerate(names)) | {int(key[1:]): name for key, name in more.items()}
    return DedupWindow(ids, window)


async def flood(spool: ShardSpool, sent: list[DedupWindow]) -> None:
    """Append requests of fifty events with new ids without end; record the accepted ones."""
    while True:
        names = once(*[f"{len(sent)}-{i}" for i in range(50)])
        seq = await append(spool, entry("r", body=b"", a=tuple(range(50))), names)
        sent.append(names)
        await spool.settle("a", Progress(cursor=seq))


class DedupSuite(SpoolContract):
    """Deduplication of events."""

    async def test_repeat_is_not_stored(self, spool: ShardSpool) -> None:
        """An entry with duplicates only returns 0 and is not stored."""
        at = Places(spool)
        told = follow(spool)
        assert await append(spool, entry("r1", a=(0,)), once("m1")) == at[1]
        assert await spool.append(entry("r2", a=(0,)), None, once("m1")) == Appended(
            0, frozenset({0})
        )
        assert [item.seq for item in await pending(spool, "a")] == [at[1]]
        assert await append(spool, entry("r3", a=(0,)), once("m2")) == at[2]
        assert [item.entry.id for item in told] == ["r1", "r3"]
        assert (await spool.depths())["a"].backlog == 2
        assert await spool.pending("r2") is None

    async def test_only_repeats_leave_an_entry(self, spool: ShardSpool) -> None:
        """Only the duplicates are removed from an entry, for workers and in the log."""
        await spool.append(entry("r1", a=(0, 1)), None, once("m1", "m2"))
        told = follow(spool)
        sent = entry("r2", a=(0, 1, 2, 3), b=(1,))
        appended = await spool.append(sent, None, once("new", "m1", "m2"))
        seq = appended.seq
        assert appended.repeats == {1, 2}
        left = LogRecord(seq, msgspec.structs.replace(sent, targets={"a": (0, 3)}))
        assert told == [left]
        assert await spool.entries([seq]) == [left]
        depths = await spool.depths()
        assert (depths["a"].backlog, depths["b"].backlog) == (2, 0)

    async def test_first_of_two_in_one_entry_counts(self, spool: ShardSpool) -> None:
        """If two events of one request have the same id, the first one is delivered."""
        seq = await append(spool, entry("r1", a=(0, 1), b=(1,)), once("m1", "m1"))
        (item,) = await spool.entries([seq])
        assert item.entry.targets == {"a": (0,)}

    async def test_event_that_goes_nowhere_does_not_count(self, spool: ShardSpool) -> None:
        """An id is stored only if its event goes to a destination."""
        at = Places(spool)
        await spool.append(entry("r1", a=(1,)), None, once("m1", "m2"))
        assert await append(spool, entry("r2", a=(0,)), once("m1")) == at[2]

    async def test_events_without_an_id_always_count(self, spool: ShardSpool) -> None:
        """An event without an id is never a duplicate."""
        at = Places(spool)
        assert await append(spool, entry("r1", a=(0, 1)), once("m1")) == at[1]
        assert await append(spool, entry("r1", a=(0, 1)), once("m1")) == at[2]
        assert await append(spool, entry("r1", a=(0,)), once()) == at[3]
        assert await append(spool, entry("r1", a=(0,)), once()) == at[4]
        (item,) = await spool.entries([at[2]])
        assert item.entry.targets == {"a": (1,)}

    async def test_each_source_has_its_own_ids(self, spool: ShardSpool) -> None:
        """Each source has its own ids; without ``once`` ids are not checked."""
        at = Places(spool)
        other = msgspec.structs.replace(entry("r2", a=(0,)), source="app")
        assert await append(spool, entry("r1", a=(0,)), once("m1")) == at[1]
        assert await append(spool, other, once("m1")) == at[2]
        assert await append(spool, entry("r3", a=(0,))) == at[3]
        assert await append(spool, other, once("m1")) == 0

    @pytest.mark.parametrize("name", ["", "\0", "\ud800", "x" * 100_000, "é"])
    async def test_any_text_is_an_id(self, spool: ShardSpool, name: str) -> None:
        """An id may be of any length and of any characters."""
        at = Places(spool)
        assert await append(spool, entry("r1", a=(0,)), once(name)) == at[1]
        assert await append(spool, entry("r2", a=(0,)), once(name)) == 0
        assert await append(spool, entry("r3", a=(0,)), once(name + "x")) == at[2]

    async def test_repeat_waits_for_what_it_repeats(self, spool: ShardSpool) -> None:
        """Of equal entries in flight one is stored; the others return after it."""
        at, order = Places(spool), list[str]()
        spool.follow(lambda _item, _events: order.append("stored"))

        async def send(name: str) -> int:
            seq = await append(spool, entry(name, a=(0,)), once("m1"))
            order.append("answered")
            return seq

        *others, one = sorted(await asyncio.gather(*[send(f"r{i}") for i in range(20)]))
        assert (others, one) == ([0] * 19, at[1])
        assert order == ["stored"] + ["answered"] * 20

    async def test_many_ids_at_once(self, spool: ShardSpool) -> None:
        """Any number of ids can be stored at once, and each is found again."""
        names = [f"m{i}" for i in range(333)]
        everything = tuple(range(len(names)))
        await spool.append(entry("r1", a=everything), None, once(*names))
        assert await append(spool, entry("r2", a=everything), once(*reversed(names))) == 0
        seq = await append(spool, entry("r3", a=(*everything, 333)), once(*names, _333="n"))
        (item,) = await spool.entries([seq])
        assert item.entry.targets == {"a": (333,)}

    async def test_refused_entry_leaves_no_id(self, opened: SpoolFactory) -> None:
        """A rejected entry is no duplicate when it is sent again, even in the same batch."""
        spool = await opened(a=BacklogLimit(max_backlog=1))
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        refused = append(spool, entry("r2", a=(0,)), once("m2"))
        elsewhere = append(spool, entry("r3", b=(0,)), once("m2"))
        results = await asyncio.gather(refused, elsewhere, return_exceptions=True)
        assert [type(result) for result in results] == [SpoolFull, int]
        with pytest.raises(SpoolFull):
            await spool.append(entry("r4", a=(0,)), None, once("m4"))
        await spool.settle("a", Progress(cursor=at[1]))
        assert await append(spool, entry("r4", a=(0,)), once("m4")) == at[3]

    async def test_unwritable_entry_leaves_no_id(self, spool: ShardSpool) -> None:
        """An entry that cannot be written stores no id."""
        at = Places(spool)
        odd = msgspec.structs.replace(entry("r1", a=(0,)), vendor="\ud800")
        with pytest.raises(SpoolError):
            await spool.append(odd, None, once("m1"))
        assert await append(spool, entry("r2", a=(0,)), once("m1")) == at[1]

    async def test_full_backlog_takes_a_repeat(self, opened: SpoolFactory) -> None:
        """A duplicate adds nothing, so a full backlog does not reject it."""
        spool = await opened(a=BacklogLimit(max_backlog=1))
        await spool.append(entry("r1", a=(0,)), None, once("m1"))
        assert await append(spool, entry("r2", a=(0,)), once("m1")) == 0

    async def test_window_begins_with_the_first(
        self, spool: ShardSpool, clock: ManualClock
    ) -> None:
        """An id expires at the end of its window; duplicates do not prolong it."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)), None, once("m1"))
        clock.now += WINDOW - 1
        assert await append(spool, entry("r2", a=(0,)), once("m1")) == 0
        clock.now += 1
        assert await append(spool, entry("r3", a=(0,)), once("m1")) == at[2]
        clock.now += WINDOW - 1
        assert await append(spool, entry("r4", a=(0,)), once("m1", window=1)) == 0

    async def test_ids_outlive_their_entries(self, spool: ShardSpool) -> None:
        """An id is remembered when its entry has left the log."""
        at = Places(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)), None, once(f"m{i}"))
        await spool.settle("a", Progress(cursor=at[3]))

        async def trimmed() -> bool:
            return await spool.entries([at[1], at[2]]) == []

        await eventually(trimmed)
        assert await append(spool, entry("again", a=(0,)), once("m0")) == 0

    async def test_ids_survive_a_crash(
        self, spool: ShardSpool, tmp_path: Path, clock: ManualClock
    ) -> None:
        """Ids that were acknowledged before a crash are duplicates after it until they expire."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)), None, once("m1"))
        again = await self.after_crash(spool, tmp_path, SpoolLimits(), clock)
        await again.open()
        try:
            await again.register({"a": FREE})
            clock.now += WINDOW - 1
            assert await append(again, entry("r2", a=(0,)), once("m1")) == 0
            clock.now += 1
            assert await append(again, entry("r3", a=(0,)), once("m1")) > at[1]
        finally:
            await again.close()

    async def test_ids_survive_a_restart(self, opened: SpoolFactory) -> None:
        """A restart loses no id."""
        spool = await opened()
        await spool.append(entry("r1", a=(0,)), None, once("m1"))
        await spool.close()
        spool = await opened()
        assert await append(spool, entry("r2", a=(0,)), once("m1")) == 0

    async def test_replay_is_no_repeat(self, spool: ShardSpool) -> None:
        """A replayed dead letter is not a duplicate, although its id is stored."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)), None, once("m1"))
        await spool.settle("a", Progress(cursor=at[1], dead=[failed(at[1])]))
        assert await append(spool, entry("r2", a=(0,)), once("m1")) == 0
        assert await spool.replay_dead_letters(DeadLetterFilter()) == 1
        (waiting,) = await spool.retrying("a", 1e12, 9)
        assert waiting.mark == DeliveryRef(spool.position(), 0)

    async def test_ids_fill_the_store_until_their_time_is_over(
        self, opened: SpoolFactory, clock: ManualClock
    ) -> None:
        """Ids count towards ``max_bytes``; none is deleted early, all are deleted in the end."""
        spool = await opened(SpoolLimits(max_bytes=400_000))
        sent: list[DedupWindow] = []
        with pytest.raises(SpoolFull, match="max_bytes"):
            await flood(spool, sent)
        assert 400_000 / 200 < 50 * len(sent) < 400_000 / 30
        for names in sent:
            assert await append(spool, entry("r", a=tuple(range(50))), names) == 0
        clock.now += WINDOW

        async def has_room_for_half() -> bool:
            try:
                await spool.append(entry("big", body=b"x" * 100_000, a=(0,)))
            except SpoolFull:
                return False
            return True

        await eventually(has_room_for_half)
        assert await append(spool, entry("r", a=tuple(range(50))), sent[0]) > 0
