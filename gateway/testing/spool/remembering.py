"""The contract of what an entry says of routes, and of what users consented to."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.spool import Item, Limits, Mark, Once, Progress, Said, Spool, SpoolFull, numbered
from gateway.testing.spool.contract import FREE, Clock, Maker, SpoolContract, entry, failed, pending

DAY = 86400.0
ADA, BOB = b"a" * 16, b"b" * 16


class RememberingSuite(SpoolContract):
    """Routes of deliveries, deliveries of one event more than once, consent."""

    async def test_routes_come_back_with_the_entry(self, spool: Spool) -> None:
        """Which route gives which delivery is read again exactly, and outlives a replay."""
        again = numbered(0, 1)
        sent = msgspec.structs.replace(
            entry("r1", a=(0, 1, again), b=(0,)), routes={"a": {"hashed": (1,), "ads": (again,)}}
        )
        seq = await spool.append(sent)
        (found,) = await pending(spool, "a")
        assert found == Item(seq, sent)
        assert [found.entry.route("a", n) for n in (0, 1, again)] == ["", "hashed", "ads"]
        assert found.entry.route("b", 0) == ""
        await spool.settle("a", Progress(cursor=seq, dead=[failed(seq, again)]))
        (dead,) = await spool.dead_letters()
        assert (dead.mark, dead.index) == (Mark(seq, again), 0)
        await spool.replay([dead.id])
        (waiting,) = await spool.exceptions("a", 1e12, 10)
        (item,) = await spool.entries([waiting.mark.seq])
        assert item.entry.targets == {"a": (again,)}
        assert item.entry.route("a", again) == "ads"

    async def test_deliveries_of_one_event_are_settled_by_themselves(self, spool: Spool) -> None:
        """A second delivery of an event is excepted, and ends, apart from the first."""
        again = numbered(0, 1)
        seq = await spool.append(entry("r1", a=(0, again)))
        await spool.settle("a", Progress(dead=[failed(seq, 0)]))
        (item,) = await pending(spool, "a")
        assert item.entry.targets["a"] == (again,)

    async def test_a_repeat_loses_all_its_deliveries(self, spool: Spool) -> None:
        """An event that came before is delivered by no route, however many lead there."""
        both = (0, 1, numbered(0, 1), numbered(1, 1))
        await spool.append(entry("r1", a=both), None, Once({0: "x"}, DAY))
        seq = await spool.append(entry("r2", a=both), None, Once({0: "x", 1: "y"}, DAY))
        (item,) = await spool.entries([seq])
        assert item.entry.targets == {"a": (1, numbered(1, 1))}

    async def test_consent_is_remembered_by_its_last_word(self, spool: Spool) -> None:
        """Each category counts by itself; an earlier word changes nothing after a later one."""
        assert await spool.recall([ADA]) == {}
        await spool.remember({ADA: {"ads": Said(granted=True, at=5.0)}}, DAY)
        await spool.remember(
            {
                ADA: {"ads": Said(granted=False, at=4.0), "mail": Said(granted=True, at=4.0)},
                BOB: {"ads": Said(granted=False, at=6.0)},
            },
            DAY,
        )
        assert await spool.recall([ADA, BOB, b"c" * 16]) == {
            ADA: {"ads": Said(granted=True, at=5.0), "mail": Said(granted=True, at=4.0)},
            BOB: {"ads": Said(granted=False, at=6.0)},
        }
        await spool.remember({ADA: {"ads": Said(granted=False, at=5.0)}}, DAY)
        assert (await spool.recall([ADA]))[ADA]["ads"] == Said(granted=False, at=5.0)

    async def test_consent_is_forgotten_after_its_time(self, spool: Spool, clock: Clock) -> None:
        """What a user said is gone so long after their last word, and not before."""
        await spool.remember({ADA: {"ads": Said(granted=True, at=1.0)}}, DAY)
        clock.now += DAY - 1
        await spool.remember({BOB: {"ads": Said(granted=True, at=1.0)}}, DAY)
        assert set(await spool.recall([ADA, BOB])) == {ADA, BOB}
        clock.now += 2
        assert set(await spool.recall([ADA, BOB])) == {BOB}

    async def test_consent_survives_a_crash(
        self, spool: Spool, tmp_path: Path, clock: Clock
    ) -> None:
        """What was acknowledged is there after a sudden end."""
        await asyncio.gather(*[
            spool.remember({bytes([n]) * 16: {"ads": Said(granted=True, at=1.0)}}, DAY)
            for n in range(50)
        ])  # fmt: skip
        again = await self.after_crash(spool, tmp_path, Limits(), clock)
        await again.open()
        try:
            await again.register({"a": FREE, "b": FREE})
            assert len(await again.recall([bytes([n]) * 16 for n in range(60)])) == 50
        finally:
            await again.close()

    async def test_consent_counts_towards_the_bound(self, opened: Maker) -> None:
        """Past max_bytes it is refused, as events are, and what was there stays."""
        spool = await opened(Limits(max_bytes=400_000))
        words = {f"category-{n}": Said(granted=True, at=1.0) for n in range(50)}
        kept = 0

        async def fill() -> None:
            nonlocal kept
            while True:
                await spool.remember({kept.to_bytes(16, "big"): words}, DAY)
                kept += 1

        with pytest.raises(SpoolFull, match="max_bytes"):
            await fill()
        assert kept > 10
        assert len(await spool.recall([(0).to_bytes(16, "big")])) == 1
