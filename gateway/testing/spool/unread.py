"""The contract of ``Shard.unread``: pending deliveries without their requests."""

from pathlib import Path

import msgspec

from gateway.spool import (
    BacklogLimit,
    Balance,
    DeadLetterFilter,
    DeliveryRef,
    Progress,
    SpoolLimits,
)
from gateway.testing.spool.contract import (
    ManualClock,
    Notices,
    Places,
    ShardSpool,
    SpoolContract,
    SpoolFactory,
    append,
    entry,
    failed,
    later,
    pending,
)


class UnreadSuite(SpoolContract):
    """``Shard.unread``."""

    async def test_unread_entries_are_listed_without_requests(self, spool: ShardSpool) -> None:
        """Each pending entry has its source, its deliveries and the hashes of their users."""
        at = Places(spool)
        users = tuple(spool.user_hash(key) for key in ("ann", "", "zoë\ud800"))
        assert users[1] == 0
        assert 0 not in {users[0], users[2]}
        one = msgspec.structs.replace(entry("r0", a=(0, 2), b=(1,)), users=users)
        await spool.append(one)
        await spool.append(msgspec.structs.replace(entry("r1", a=(0,)), source="app"))
        await spool.append(msgspec.structs.replace(one, id="r2", targets={"a": (0, 1, 2)}))
        await spool.settle("a", Progress(later=[later(at[3], 0)]))
        found = (await spool.unread("a", 0, at[3], 10)).items
        assert [(x.seq, x.lane, x.vendor, x.numbers, x.users) for x in found] == [
            (at[1], "shop", "chrts", (0, 2), (users[0], users[2])),
            (at[2], "app", "chrts", (0,), (0,)),
            (at[3], "shop", "chrts", (1, 2), (users[1], users[2])),
        ]
        assert [x.users for x in (await spool.unread("b", 0, at[3], 10)).items] == [(users[1],)]
        assert (await spool.entries([at[1]]))[0].entry == one

    async def test_users_are_hashed_with_a_secret_of_the_spools_own(
        self, spool: ShardSpool, clock: ManualClock, tmp_path: Path
    ) -> None:
        """A user's hash survives restarts, and cannot be computed outside the spool."""
        keys = ["", "ann", "bob", "zoë\ud800"]
        here = [spool.user_hash(key) for key in keys]
        assert here[0] == 0
        assert len(set(here)) == len(keys)
        other = self.make(tmp_path / "other", SpoolLimits(), clock)
        await other.open()
        try:
            there = [other.user_hash(key) for key in keys]
        finally:
            await other.close()
        assert set(here) & set(there) == {0}
        again = await self.reopened(spool, tmp_path, clock)
        try:
            assert [again.user_hash(key) for key in keys] == here
        finally:
            await again.close()

    async def test_settled_deliveries_are_left_out_of_pages(self, spool: ShardSpool) -> None:
        """A page without pending deliveries still has the last seq that was examined."""
        at = Places(spool)
        for i in range(6):
            await spool.append(entry(f"r{i}", a=(0,)))
        await spool.settle("a", Progress(later=[later(at[1])], done=[DeliveryRef(at[2], 0)]))
        page = await spool.unread("a", 0, at[6], 2)
        assert (page.items, page.scanned) == ([], at[2])
        page = await spool.unread("a", page.scanned, at[5], 10)
        assert ([x.seq for x in page.items], page.scanned) == (at(3, 5), at[5])

    async def test_what_is_over_ahead_of_the_cursor_is_not_read_again(
        self, spool: ShardSpool, clock: ManualClock, tmp_path: Path
    ) -> None:
        """A delivery that is finished ahead of the cursor is not read again."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0, 1, 2)))
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(later=[later(at[1], 0)], done=[DeliveryRef(at[1], 2)]))
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 0), DeliveryRef(at[2], 0)]))
        assert [(i.seq, i.entry.targets["a"]) for i in await pending(spool, "a")] == [(at[1], (1,))]
        again = await self.reopened(spool, tmp_path, clock)
        try:
            assert [(i.seq, i.entry.targets["a"]) for i in await pending(again, "a")] == [
                (at[1], (1,))
            ]
            found = await again.pending("r0")
            assert found is not None
            assert set(found.waits) == {("a", 1)}
        finally:
            await again.close()

    async def test_dead_letters_ahead_of_the_cursor_are_not_read_again(
        self, spool: ShardSpool
    ) -> None:
        """A dead letter that was deleted or replayed is not read at its old position."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0, 1, 2)))
        await spool.settle("a", Progress(dead=[failed(at[1], 0), failed(at[1], 1)]))
        first, second = await spool.dead_letters()
        await spool.delete_dead_letters([first.id])
        await spool.replay_dead_letters([second.id])
        assert [(i.seq, i.entry.targets["a"]) for i in await pending(spool, "a")] == [(at[1], (2,))]

    async def test_bounds_and_age_take_only_what_is_not_over(
        self, opened: SpoolFactory, clock: ManualClock
    ) -> None:
        """Only unfinished deliveries above the limits, or too old, become dead letters."""
        spool = await opened(
            SpoolLimits(max_age=60.0), a=BacklogLimit(max_backlog=3, overflow="dead_letter")
        )
        at = Places(spool)
        notices = Notices(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0, 1)))
        await spool.settle(
            "a",
            Progress(
                done=[DeliveryRef(at[1], 0), DeliveryRef(at[3], 0), DeliveryRef(at[3], 1)],
                delivered=3,
            ),
        )
        await spool.append(entry("r3", a=(0, 1)))
        await notices.next()
        assert [dead.mark for dead in await spool.dead_letters()] == [DeliveryRef(at[1], 1)]
        clock.now += 61
        await notices.next()
        assert [
            dead.mark for dead in await spool.dead_letters(DeadLetterFilter(cause="expired"))
        ] == [
            DeliveryRef(at[2], 0),
            DeliveryRef(at[2], 1),
            DeliveryRef(at[4], 0),
            DeliveryRef(at[4], 1),
        ]
        assert (await spool.balances())["a"] == Balance(8, 3, 0, 0, 5, 0, 0)

    async def test_forgotten_destination_begins_anew(self, spool: ShardSpool) -> None:
        """A forgotten destination that is registered again starts at the end of the log."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0,)))
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(done=[DeliveryRef(at[2], 0)]))
        await spool.register({"b": BacklogLimit()})
        await spool.forget("a")
        await spool.register({"a": BacklogLimit(), "b": BacklogLimit()})
        seq = await append(spool, entry("r2", a=(0,)))
        assert [item.seq for item in await pending(spool, "a")] == [seq]
