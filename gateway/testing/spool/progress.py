"""The contract of progress, destinations, orphans and depths."""

import asyncio

import pytest

from gateway.errors import SpoolError
from gateway.spool import DeadLetterFilter, DeliveryRef, PendingRequest, Progress, QueueDepth
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
    later,
    pending,
)

EVER = 1e12


class ProgressSuite(SpoolContract):
    """Progress that workers report."""

    async def test_cursor_moves_forward_only(self, spool: ShardSpool) -> None:
        """A cursor takes the highest reported value; 0 does not change it."""
        at = Places(spool)
        for i in range(5):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        await spool.settle("a", Progress(cursor=at[3]))
        await spool.settle("a", Progress(cursor=at[2]))
        await spool.settle("a", Progress())
        assert spool.cursor("a") == at[3]
        assert spool.cursor("b") == 0

    async def test_waiting_deliveries_come_by_due_time(self, spool: ShardSpool) -> None:
        """Due deliveries are returned completely, the earliest first, then by position."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0, 1)))
        await spool.append(entry("r2", a=(0,)))
        first, second, third = (
            later(at[1], 1, due=50.0),
            later(at[2], due=70.0),
            later(at[1], 0, due=70.0),
        )
        await spool.settle("a", Progress(cursor=at[2], later=[first, second, third]))
        assert await spool.retrying("a", 60.0, 10) == [first]
        assert await spool.retrying("a", 70.0, 10) == [first, third, second]
        assert await spool.retrying("a", 70.0, 2) == [first, third]
        assert await spool.retrying("a", 70.0, 2, after=third) == [second]
        assert await spool.retrying("b", EVER, 10) == []

    async def test_waiting_delivery_is_replaced(self, spool: ShardSpool) -> None:
        """Reporting a waiting delivery again replaces its due time and whether it is parked."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1], parked=True)]))
        assert await spool.retrying("a", EVER, 10) == []
        again = later(at[1], due=900.0, attempts=(), reason="")
        await spool.settle("a", Progress(later=[again]))
        assert await spool.retrying("a", EVER, 10) == [again]
        assert (await spool.depths())["a"].parked == 0

    async def test_pending_deliveries_of_a_request_are_listed(self, spool: ShardSpool) -> None:
        """A request's unread and waiting deliveries are returned; finished ones are not."""
        at = Places(spool)
        sent = entry("r1", a=(0, 1, 2), b=(0,))
        await spool.append(sent)
        everything = {("a", 0): None, ("a", 1): None, ("a", 2): None, ("b", 0): None}
        assert await spool.pending("r1") == PendingRequest(sent, everything)
        again, behind = later(at[1], 0), later(at[1], 1, parked=True)
        await spool.settle("a", Progress(later=[again], dead=[failed(at[1], 2)]))
        found = await spool.pending("r1")
        assert found == PendingRequest(sent, {("a", 0): again, ("a", 1): None, ("b", 0): None})
        await spool.settle("a", Progress(cursor=at[1], later=[behind]))
        found = await spool.pending("r1")
        assert found == PendingRequest(sent, {("a", 0): again, ("a", 1): behind, ("b", 0): None})
        await spool.settle("b", Progress(cursor=at[1]))
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 0)]))
        found = await spool.pending("r1")
        assert found == PendingRequest(sent, {("a", 1): behind})

    async def test_pending_deliveries_are_found_by_id(self, spool: ShardSpool) -> None:
        """A request is found by its id anywhere in the log, replayed ones included."""
        places = {}
        for number in range(60):
            place = await append(spool, entry(f"r{number:02}", a=(0,), b=(0,)))
            places[number] = place
            if number % 3 == 0:
                await spool.settle("a", Progress(cursor=place, dead=[failed(place)]))
                await spool.replay_dead_letters(DeadLetterFilter(destination="a"))
        half = spool.position() // 2
        await spool.settle("a", Progress(cursor=spool.position()))
        await spool.settle("b", Progress(cursor=half))
        for number, place in places.items():
            found = await spool.pending(f"r{number:02}")
            waits = {("b", 0)} if place > half else set()
            waits |= {("a", 0)} if number % 3 == 0 else set()
            assert set(found.waits if found else ()) == waits
            assert found is None or found.entry.id == f"r{number:02}"
        assert await spool.pending("r100") is None
        assert await spool.pending("") is None

    async def test_parked_and_blocked_are_by_user(self, spool: ShardSpool) -> None:
        """A user's parked deliveries are returned in order; users with waiting ones are counted."""
        at = Places(spool)
        for i in range(5):
            await spool.append(entry(f"r{i}", a=(0,)))
        u1 = [later(at[3], parked=True), later(at[1]), later(at[2], parked=True)]
        others = [later(at[4], user="u2"), later(at[5], user="")]
        await spool.settle("a", Progress(cursor=at[5], later=u1 + others))
        assert await spool.parked("a", "u1", 10) == [u1[2], u1[0]]
        assert await spool.parked("a", "u1", 1) == [u1[2]]
        assert await spool.parked("a", "u2", 10) == []
        assert await spool.blocked("a") == {"u1": 3, "u2": 1}
        assert await spool.blocked("b") == {}

    async def test_done_ends_waiting(self, spool: ShardSpool) -> None:
        """A waiting delivery that succeeds is removed; others are not affected."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0, 1), b=(0,)))
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1], 0), later(at[1], 1)]))
        await spool.settle("b", Progress(cursor=at[1], later=[later(at[1], 0)]))
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 0)]))
        assert await spool.retrying("a", EVER, 10) == [later(at[1], 1)]
        assert await spool.retrying("b", EVER, 10) == [later(at[1], 0)]
        assert await spool.dead_letters() == []

    async def test_dead_ends_waiting_and_is_kept_whole(self, spool: ShardSpool) -> None:
        """A delivery that is given up becomes a dead letter with all details."""
        at = Places(spool)
        sent = entry("r1", a=(0, 1))
        await spool.append(sent)
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1], 1)]))
        gone = failed(at[1], 1, cause="unrenderable")
        await spool.settle("a", Progress(dead=[gone]))
        assert await spool.retrying("a", EVER, 10) == []
        (dead,) = await spool.dead_letters()
        assert (dead.destination, dead.mark, dead.index, dead.entry) == (
            "a",
            DeliveryRef(at[1], 1),
            1,
            sent,
        )
        assert (dead.cause, dead.reason, dead.at) == (gone.cause, gone.reason, gone.at)
        assert (dead.attempts, dead.rendered) == (gone.attempts, gone.rendered)
        assert (dead.event_name, dead.user) == (gone.event_name, gone.user)

    async def test_a_repeated_report_has_no_effect(self, spool: ShardSpool) -> None:
        """Reporting the same progress again has no effect."""
        at = Places(spool)
        for i in range(4):
            await spool.append(entry(f"r{i}", a=(0,)))
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1])]))
        progress = Progress(
            cursor=at[4], later=[later(at[2])], done=[DeliveryRef(at[1], 0)], dead=[failed(at[3])]
        )
        await spool.settle("a", progress)
        before = await spool.depths(), await spool.dead_letters()
        await spool.settle("a", progress)
        assert (await spool.depths(), await spool.dead_letters()) == before

    async def test_progress_is_all_or_nothing(self, spool: ShardSpool) -> None:
        """Progress that cannot be recorded moves no cursor, and does not affect others."""
        at, start = Places(spool), spool.cursor("a")
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        bad = Progress(
            cursor=at[3], later=[later(at[1]), later(at[2], reason="\ud800")], dead=[failed(at[3])]
        )
        results = await asyncio.gather(
            spool.settle("b", Progress(cursor=at[2])),
            spool.settle("a", bad),
            append(spool, entry("r4", a=(0,))),
            return_exceptions=True,
        )
        assert isinstance(results[1], SpoolError)
        assert (results[0], results[2]) == (None, at[4])
        assert (spool.cursor("a"), spool.cursor("b")) == (start, at[2])
        assert await spool.retrying("a", EVER, 10) == []
        assert await spool.dead_letters() == []

    async def test_read_omits_waiting_and_dead_deliveries(self, spool: ShardSpool) -> None:
        """Waiting and dead deliveries ahead of the cursor are not read again."""
        at = Places(spool)
        for name in ("r1", "r2", "r3"):
            await spool.append(entry(name, a=(0, 1, 2), b=(0,)))
        progress = Progress(
            later=[later(at[2], 0)], dead=[failed(at[2], 2), *[failed(at[3], i) for i in range(3)]]
        )
        await spool.settle("a", progress)
        page = await spool.unread("a", 0, at[3], 10)
        assert page.scanned == at[3]
        assert [(i.seq, i.numbers) for i in page.items] == [(at[1], (0, 1, 2)), (at[2], (1,))]
        assert len(await pending(spool, "b")) == 3

    async def test_settling_what_is_not_in_the_log_is_ignored(self, spool: ShardSpool) -> None:
        """Progress of an entry that does not exist is ignored."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(later=[later(at[1] + 77)], dead=[failed(at[1] + 78)]))
        depth = (await spool.depths())["a"]
        assert (depth.retrying, depth.dead_letters) == (0, 0)

    async def test_settling_after_close_is_refused(self, spool: ShardSpool) -> None:
        """A closed spool raises an error instead of waiting."""
        await spool.close()
        with pytest.raises(SpoolError, match="closed"):
            await spool.settle("a", Progress(cursor=1))
        with pytest.raises(SpoolError, match="closed"):
            await spool.unread("a", 0, 1, 1)


class DestinationsSuite(SpoolContract):
    """Registered and removed destinations."""

    async def test_new_destination_starts_at_the_end(self, opened: SpoolFactory) -> None:
        """A new destination gets only entries that are appended after it."""
        spool = await opened()
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.register({"a": FREE, "b": FREE, "c": FREE})
        assert spool.cursor("c") == at[1]
        assert await append(spool, entry("r2", c=(0,))) == at[2]
        assert [item.seq for item in await pending(spool, "c")] == [at[2]]
        await spool.close()
        assert (await opened(c=FREE)).cursor("c") == at[1]

    async def test_unknown_destination_is_an_error(self, spool: ShardSpool) -> None:
        """An operation on an unregistered destination raises an error."""
        with pytest.raises(SpoolError, match="stranger"):
            spool.cursor("stranger")
        with pytest.raises(SpoolError, match="stranger"):
            await spool.unread("stranger", 0, 1, 1)
        with pytest.raises(SpoolError, match="stranger"):
            await spool.settle("stranger", Progress(cursor=1))
        with pytest.raises(SpoolError, match="stranger"):
            await spool.retrying("stranger", 0, 1)

    async def test_orphan_keeps_everything(self, spool: ShardSpool, clock: ManualClock) -> None:
        """A removed destination keeps its cursor and backlog, and is reported."""
        at = Places(spool)
        for i in range(4):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        await spool.settle(
            "b", Progress(cursor=at[2], later=[later(at[1]), later(at[2], parked=True)])
        )
        await spool.settle("a", Progress(cursor=at[4]))
        await spool.register({"a": FREE})
        expected = QueueDepth(
            cursor=at[2], backlog=2, retrying=1, parked=1, dead_letters=0,
            oldest=clock.now, oldest_unread=clock.now,
        )  # fmt: skip
        assert await spool.orphans() == {"b": expected}
        with pytest.raises(SpoolError, match="'b'"):
            await spool.append(entry("r9", b=(0,)))
        await spool.register({"a": FREE, "b": FREE})
        assert await spool.orphans() == {}
        assert [item.seq for item in await pending(spool, "b")] == [at[3], at[4]]
        assert await spool.retrying("b", 1e12, 9) == [later(at[1])]

    async def test_forget_gives_an_orphan_up(self, spool: ShardSpool) -> None:
        """Forgetting a destination ends its deliveries, keeps its dead letters, frees the log."""
        at = Places(spool)
        for i in range(4):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        progress = Progress(cursor=at[2], later=[later(at[1])], dead=[failed(at[2])])
        await spool.settle("b", progress)
        await spool.settle("a", Progress(cursor=at[4]))
        with pytest.raises(SpoolError, match="registered"):
            await spool.forget("b")

        async def trimmed() -> bool:
            return [item.seq for item in await spool.entries(at(1, 3))] == [at[1], at[3]]

        await eventually(trimmed)
        await spool.register({"a": FREE})
        assert await spool.forget("b") == 3
        with pytest.raises(SpoolError, match="'b'"):
            await spool.forget("b")
        assert list(await spool.depths()) == ["a"]
        assert [dead.destination for dead in await spool.dead_letters()] == ["b"]

        async def freed() -> bool:
            return await spool.entries(at(1, 3)) == []

        await eventually(freed)
        await spool.register({"a": FREE, "b": FREE})
        assert spool.cursor("b") == at[4]

    async def test_a_pause_is_remembered(self, opened: SpoolFactory) -> None:
        """A pause survives restarts, as long as the destination is registered."""
        spool = await opened()
        assert await spool.paused() == frozenset()
        await spool.pause("b", paused=True)
        with pytest.raises(SpoolError, match="stranger"):
            await spool.pause("stranger", paused=True)
        await spool.close()
        spool = await opened()
        assert await spool.paused() == {"b"}
        await spool.register({"a": FREE})
        assert await spool.paused() == {"b"}
        await spool.forget("b")
        await spool.register({"a": FREE, "b": FREE})
        assert await spool.paused() == frozenset()
        await spool.pause("a", paused=True)
        await spool.pause("a", paused=False)
        assert await spool.paused() == frozenset()

    async def test_the_size_grows_with_what_is_kept(self, spool: ShardSpool) -> None:
        """The size includes entries."""
        before = await spool.size()
        for i in range(20):
            await spool.append(entry(f"r{i}", body=b"x" * 50_000, a=(0,)))
        assert await spool.size() >= before + 1_000_000

    async def test_depths_count_what_is_pending(
        self, spool: ShardSpool, clock: ManualClock
    ) -> None:
        """Depths count backlog, retrying, parked and dead deliveries, and have the oldest age."""
        at = Places(spool)
        for i in range(5):
            await spool.append(entry(f"r{i}", a=(0,)))
            clock.now += 10
        await spool.settle(
            "a",
            Progress(
                cursor=at[3],
                later=[later(at[2], parked=True), later(at[3]), later(at[5])],
                dead=[failed(at[1])],
            ),
        )
        depth = (await spool.depths())["a"]
        assert depth == QueueDepth(
            cursor=at[3], backlog=2, retrying=2, parked=1, dead_letters=1,
            oldest=clock.now - 40, oldest_unread=clock.now - 20,
        )  # fmt: skip
        await spool.settle(
            "a",
            Progress(
                cursor=at[5],
                done=[DeliveryRef(at[2], 0), DeliveryRef(at[3], 0), DeliveryRef(at[5], 0)],
            ),
        )
        depth = (await spool.depths())["a"]
        assert depth == QueueDepth(
            cursor=at[5], backlog=0, retrying=0, parked=0, dead_letters=1,
            oldest=None, oldest_unread=None,
        )  # fmt: skip
