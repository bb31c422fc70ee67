"""The contract of balances: all deliveries that were accepted for a destination, by outcome."""

import asyncio
from pathlib import Path

import pytest

from gateway.spool import (
    BacklogLimit,
    Balance,
    DeadLetterFilter,
    DedupWindow,
    DeliveryRef,
    Outdated,
    Progress,
    SpoolLimits,
)
from gateway.testing.spool.contract import (
    FREE,
    ManualClock,
    Notices,
    Places,
    ShardSpool,
    SpoolContract,
    SpoolFactory,
    append,
    entry,
    eventually,
    failed,
    later,
)


async def of(spool: ShardSpool, destination: str = "a") -> dict[str, int]:
    """Return the numbers of a balance that are not 0; check that nothing is missing."""
    balance = (await spool.balances())[destination]
    assert balance.unaccounted == 0, balance
    return {
        name: count for name in Balance.__struct_fields__ if (count := getattr(balance, name)) != 0
    }


class BalancesSuite(SpoolContract):
    """Accepted = delivered + declined + shadowed + dead letters + dropped + pending."""

    async def test_every_end_is_counted_once(self, spool: ShardSpool) -> None:
        """Deliveries are counted, not entries; each under one outcome."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0, 1, 2), b=(0,)))
        await spool.append(entry("r1", a=(0, 1)))
        assert await of(spool) == {"accepted": 5, "pending": 5}
        await spool.settle(
            "a",
            Progress(
                cursor=at[1],
                later=[later(at[1], 0), later(at[2], 0)],
                dead=[failed(at[1], 1)],
                delivered=0,
                declined=1,
            ),
        )
        assert await of(spool) == {"accepted": 5, "declined": 1, "dead_letters": 1, "pending": 3}
        await spool.settle(
            "a", Progress(cursor=at[2], done=[DeliveryRef(at[1], 0)], delivered=2, declined=1)
        )
        expected = {"accepted": 5, "delivered": 2, "declined": 1, "dead_letters": 1, "pending": 1}
        assert await of(spool) == expected
        await spool.settle("a", Progress(done=[DeliveryRef(at[2], 0)], shadowed=1))
        del expected["pending"]
        assert await of(spool) == expected | {"shadowed": 1}
        assert await of(spool, "b") == {"accepted": 1, "pending": 1}

    async def test_what_nobody_accounts_for_is_missing(self, spool: ShardSpool) -> None:
        """A delivery with no outcome behind the cursor is unaccounted for; so is one with two."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0, 1)))
        await spool.settle("a", Progress(cursor=at[1], delivered=1))
        assert (await spool.balances())["a"].unaccounted == 1
        await spool.settle("a", Progress(delivered=3))
        assert (await spool.balances())["a"].unaccounted == -1

    async def test_counts_are_absolute(self, spool: ShardSpool) -> None:
        """Reporting a count again has no effect; counts never decrease, and None changes none."""
        at = Places(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)))
        report = Progress(cursor=at[2], delivered=2)
        await spool.settle("a", report)
        await spool.settle("a", report)
        await spool.settle("a", Progress(delivered=1))
        await spool.settle("a", Progress())
        assert await of(spool) == {"accepted": 3, "delivered": 2, "pending": 1}

    async def test_repeats_are_not_accepted(self, spool: ShardSpool) -> None:
        """A duplicate event is counted the first time only."""
        once = DedupWindow({0: "x", 1: "y"}, 60.0)
        await spool.append(entry("r0", a=(0,), b=(0, 1)), once=once)
        await spool.append(entry("r1", a=(0, 1), b=(0, 1)), once=once)
        assert await of(spool) == {"accepted": 1, "pending": 1}
        assert await of(spool, "b") == {"accepted": 2, "pending": 2}

    async def test_moved_dead_letters_are_counted_where_they_are(self, spool: ShardSpool) -> None:
        """A replayed dead letter is pending, a deleted one dropped, wherever the cursor is."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0, 1, 2)))
        await spool.append(entry("r1", a=(0, 1, 2)))
        dead = [failed(seq, index) for seq in at(1, 2) for index in (0, 1)]
        await spool.settle("a", Progress(cursor=at[1], dead=dead, delivered=1))
        assert await of(spool) == {"accepted": 6, "delivered": 1, "dead_letters": 4, "pending": 1}
        numbers = [letter.id for letter in await spool.dead_letters()]
        await spool.delete_dead_letters([numbers[0], numbers[2]])
        moved = {"accepted": 6, "delivered": 1, "dead_letters": 2, "dropped": 2, "pending": 1}
        assert await of(spool) == moved
        await spool.replay_dead_letters([numbers[1], numbers[3]])
        assert await of(spool) == {"accepted": 6, "delivered": 1, "dropped": 2, "pending": 3}
        await spool.settle("a", Progress(cursor=at[2], delivered=2))
        assert await of(spool) == {"accepted": 6, "delivered": 2, "dropped": 2, "pending": 2}

    async def test_balance_survives_a_crash(
        self, opened: SpoolFactory, clock: ManualClock, tmp_path: Path
    ) -> None:
        """Counts are as durable as the rows, and are computed again from the rows."""
        spool = await opened()
        at = Places(spool)
        for i in range(4):
            await spool.append(entry(f"r{i}", a=(0, 1)))
        await spool.settle(
            "a",
            Progress(
                cursor=at[2],
                later=[later(at[1], 0), later(at[3], 0)],
                dead=[failed(at[3], 1), failed(at[4], 0)],
                delivered=3,
            ),
        )
        await spool.delete_dead_letters(DeadLetterFilter(destination="a"))
        before = await spool.balances()
        assert before["a"] == Balance(8, 3, 0, 0, 0, 2, 3)
        again = await self.reopened(spool, tmp_path, clock)
        try:
            assert await again.balances() == before
        finally:
            await again.close()

    async def test_dead_letter_of_a_success_is_withdrawn(self, opened: SpoolFactory) -> None:
        """A delivery that was evicted in flight and succeeded is no longer a dead letter."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="dead_letter"))
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r0", a=(0,)))
        await spool.append(entry("r1", a=(0,)))
        await notices.next()
        assert await of(spool) == {"accepted": 2, "dead_letters": 1, "pending": 1}
        report = Progress(done=[DeliveryRef(at[1], 0)], delivered=1)
        await spool.settle("a", report)
        await spool.settle("a", report)
        assert await of(spool) == {"accepted": 2, "delivered": 1, "pending": 1}

    async def test_dead_letter_that_moved_before_its_success(self, opened: SpoolFactory) -> None:
        """If its dead letter was already replayed or deleted, the delivery counts once more."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="dead_letter"))
        at = Places(spool)
        notices = Notices(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)))
            if i:
                await notices.next()
        await spool.register({"a": BacklogLimit(max_backlog=9, overflow="dead_letter"), "b": FREE})
        first, second = await spool.dead_letters()
        await spool.delete_dead_letters([first.id])
        await spool.replay_dead_letters([second.id])
        assert await of(spool) == {"accepted": 3, "dropped": 1, "pending": 2}
        report = Progress(done=[DeliveryRef(at[1], 0), DeliveryRef(at[2], 0)], delivered=2)
        await spool.settle("a", report)
        await spool.settle("a", report)
        assert await of(spool) == {"accepted": 5, "delivered": 2, "dropped": 1, "pending": 2}

    async def test_what_was_forgotten_and_arrives_is_delivered(self, opened: SpoolFactory) -> None:
        """With ``drop``, a delivery in flight that succeeds is not counted as dropped."""
        spool = await opened(a=BacklogLimit(max_backlog=2, overflow="drop"))
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r0", a=(0,)))
        await spool.append(entry("r1", a=(0, 1)))
        await spool.settle("a", Progress(later=[later(at[2], 1)]))
        await spool.append(entry("r2", a=(0,)))
        await notices.next()
        while (found := await of(spool))["pending"] != 2:
            await notices.next()
        assert found == {"accepted": 4, "dropped": 2, "pending": 2}
        report = Progress(done=[DeliveryRef(at[1], 0)], delivered=1)
        await spool.settle("a", report)
        await spool.settle("a", report)
        assert await of(spool) == {"accepted": 4, "delivered": 1, "dropped": 1, "pending": 2}
        # What the spool forgot waits no more, and what ends badly of it is kept all the same.
        await spool.settle("a", Progress(later=[later(at[2], 0)], dead=[failed(at[2], 0)]))
        assert (await of(spool))["accepted"] == 4

    async def test_retry_that_was_forgotten_and_arrives_is_delivered(
        self, opened: SpoolFactory
    ) -> None:
        """With ``drop``, a retry that succeeds is not counted as dropped."""
        spool = await opened(a=BacklogLimit(max_backlog=2, overflow="drop"))
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r0", a=(0, 1)))
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1], 0), later(at[1], 1)]))
        await spool.append(entry("r1", a=(0,)))
        await notices.next()
        await spool.settle("a", Progress(cursor=at[2], delivered=1))
        await spool.settle("a", Progress(cursor=at[2], delivered=1))
        assert await of(spool) == {"accepted": 3, "delivered": 1, "dropped": 1, "pending": 1}
        report = Progress(cursor=at[2], done=[DeliveryRef(at[1], 0)], delivered=2)
        for _ in range(2):
            await spool.settle("a", report)
            assert await of(spool) == {"accepted": 3, "delivered": 2, "pending": 1}

    async def test_evicted_delivery_is_counted_by_its_outcome(self, opened: SpoolFactory) -> None:
        """A change of the overflow policy does not change what was evicted before it."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="drop"))
        at = Places(spool)
        notices = Notices(spool)
        for i in range(2):
            await spool.append(entry(f"r{i}", a=(0,)))
        await notices.next()
        await spool.register({"a": BacklogLimit(max_backlog=1, overflow="dead_letter"), "b": FREE})
        await spool.append(entry("r2", a=(0,)))
        await notices.next()
        await spool.register({"a": BacklogLimit(max_backlog=1, overflow="drop"), "b": FREE})
        await spool.delete_dead_letters(DeadLetterFilter(destination="a"))
        assert await of(spool) == {"accepted": 3, "dropped": 2, "pending": 1}
        await spool.settle(
            "a", Progress(done=[DeliveryRef(at[1], 0), DeliveryRef(at[2], 0)], delivered=2)
        )
        # The first was not dropped after all, the second was, and arrived beside that.
        assert await of(spool) == {"accepted": 4, "delivered": 2, "dropped": 1, "pending": 1}

    async def test_what_was_to_wait_and_was_taken_before_is_claimed(
        self, opened: SpoolFactory
    ) -> None:
        """A delivery that was evicted in flight and then waits can still succeed much later."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="drop"))
        at = Places(spool)
        notices = Notices(spool)
        for i in range(2):
            await spool.append(entry(f"r{i}", a=(0,)))
        await notices.next()
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1])]))
        await spool.settle("a", Progress(cursor=at[2], delivered=1))

        async def tidied() -> bool:
            return await spool.entries([at[1]]) == []

        await eventually(tidied)
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 0)], delivered=2))
        assert await of(spool) == {"accepted": 2, "delivered": 2}

    async def test_report_from_before_an_eviction_is_made_anew(self, opened: SpoolFactory) -> None:
        """Counts are recorded with the outcome, so a crash in between leaves them right."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="dead_letter"))
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r0", a=(0,)))
        second = append(spool, entry("r1", a=(0,)))
        await asyncio.sleep(0)  # it is on its way to the disk
        with pytest.raises(Outdated, match="report again"):
            await spool.settle("a", Progress(cursor=at[1], delivered=1))
        await second
        assert await of(spool) == {"accepted": 2, "dead_letters": 1, "pending": 1}
        await notices.next()
        await spool.settle("a", Progress(cursor=at[1], done=[DeliveryRef(at[1], 0)], delivered=1))
        assert await of(spool) == {"accepted": 2, "delivered": 1, "pending": 1}

    async def test_late_report_changes_nothing(self, spool: ShardSpool) -> None:
        """A repeated report does not give a finished delivery another outcome."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0, 1)))
        report = Progress(cursor=at[1], dead=[failed(at[1], 0)], later=[later(at[1], 1)])
        await spool.settle("a", report)
        await spool.delete_dead_letters(DeadLetterFilter(destination="a"))
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 1)], delivered=1))
        await spool.settle("a", report)
        assert await of(spool) == {"accepted": 2, "delivered": 1, "dropped": 1}

    async def test_claiming_what_was_not_taken_changes_nothing(self, opened: SpoolFactory) -> None:
        """Claiming deliveries that were not evicted has no effect."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="drop"))
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r0", a=(0,)))
        await spool.settle("a", Progress(cursor=at[1], delivered=1))
        await spool.append(entry("r1", a=(0,)))
        await spool.append(entry("r2", a=(0,)))
        await notices.next()
        await spool.settle(
            "a", Progress(done=[DeliveryRef(at[1], 0), DeliveryRef(at[2], 0)], delivered=2)
        )
        assert await of(spool) == {"accepted": 3, "delivered": 2, "pending": 1}

    async def test_expiry_keeps_the_balance(self, opened: SpoolFactory, clock: ManualClock) -> None:
        """A delivery that is too old becomes a dead letter, whatever its state was."""
        spool = await opened(SpoolLimits(max_age=60.0))
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r0", a=(0, 1)))
        await spool.append(entry("r1", a=(0, 1)))
        await spool.settle("a", Progress(later=[later(at[1], 0), later(at[2], 1)]))
        clock.now += 61
        await notices.next()
        while (await of(spool)).get("pending"):
            await notices.next()
        assert await of(spool) == {"accepted": 4, "dead_letters": 4}

    async def test_forgotten_destination_has_no_balance(self, spool: ShardSpool) -> None:
        """A destination that returns under its old name starts with its old dead letters."""
        at = Places(spool)
        await spool.append(entry("r0", a=(0, 1)))
        await spool.settle("a", Progress(dead=[failed(at[1], 0)]))
        await spool.register({"b": BacklogLimit()})
        await spool.forget("a")
        assert set(await spool.balances()) == {"b"}
        await spool.register({"a": BacklogLimit(), "b": BacklogLimit()})
        assert await of(spool) == {"accepted": 1, "dead_letters": 1}
        await spool.delete_dead_letters(DeadLetterFilter(destination="a"))
        assert await of(spool) == {"accepted": 1, "dropped": 1}
