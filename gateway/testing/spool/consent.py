"""The contract of routes in entries, and of stored consent."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.spool import (
    ConsentRecord,
    DedupWindow,
    DeliveryRef,
    LogRecord,
    Progress,
    SpoolFull,
    SpoolLimits,
    delivery_number,
)
from gateway.testing.spool.contract import (
    FREE,
    ManualClock,
    ShardSpool,
    SpoolContract,
    SpoolFactory,
    append,
    entry,
    failed,
    pending,
)

DAY = 86400.0
ADA, BOB = b"a" * 16, b"b" * 16


class ConsentSuite(SpoolContract):
    """Routes of deliveries, several deliveries of one event, and consent."""

    async def test_routes_come_back_with_the_entry(self, spool: ShardSpool) -> None:
        """The route of each delivery is read back exactly, and survives a replay."""
        again = delivery_number(0, 1)
        sent = msgspec.structs.replace(
            entry("r1", a=(0, 1, again), b=(0,)), routes={"a": {"hashed": (1,), "ads": (again,)}}
        )
        seq = await append(spool, sent)
        (found,) = await pending(spool, "a")
        assert found == LogRecord(seq, sent)
        assert [found.entry.route("a", n) for n in (0, 1, again)] == ["", "hashed", "ads"]
        assert found.entry.route("b", 0) == ""
        await spool.settle("a", Progress(cursor=seq, dead=[failed(seq, again)]))
        (dead,) = await spool.dead_letters()
        assert (dead.mark, dead.index) == (DeliveryRef(seq, again), 0)
        await spool.replay_dead_letters([dead.id])
        (waiting,) = await spool.retrying("a", 1e12, 10)
        (item,) = await spool.entries([waiting.mark.seq])
        assert item.entry.targets == {"a": (again,)}
        assert item.entry.route("a", again) == "ads"

    async def test_deliveries_of_one_event_are_settled_by_themselves(
        self, spool: ShardSpool
    ) -> None:
        """Two deliveries of one event wait and end independently."""
        again = delivery_number(0, 1)
        seq = await append(spool, entry("r1", a=(0, again)))
        await spool.settle("a", Progress(dead=[failed(seq, 0)]))
        (item,) = await pending(spool, "a")
        assert item.entry.targets["a"] == (again,)

    async def test_a_repeat_loses_all_its_deliveries(self, spool: ShardSpool) -> None:
        """No route delivers a duplicate event."""
        both = (0, 1, delivery_number(0, 1), delivery_number(1, 1))
        await spool.append(entry("r1", a=both), None, DedupWindow({0: "x"}, DAY))
        seq = await append(spool, entry("r2", a=both), DedupWindow({0: "x", 1: "y"}, DAY))
        (item,) = await spool.entries([seq])
        assert item.entry.targets == {"a": (1, delivery_number(1, 1))}

    async def test_consent_is_remembered_by_its_last_word(self, spool: ShardSpool) -> None:
        """The latest decision of each category is stored; an older one does not replace it."""
        assert await spool.load_consent([ADA]) == {}
        await spool.save_consent({ADA: {"ads": ConsentRecord(granted=True, at=5.0)}}, DAY)
        await spool.save_consent(
            {
                ADA: {
                    "ads": ConsentRecord(granted=False, at=4.0),
                    "mail": ConsentRecord(granted=True, at=4.0),
                },
                BOB: {"ads": ConsentRecord(granted=False, at=6.0)},
            },
            DAY,
        )
        assert await spool.load_consent([ADA, BOB, b"c" * 16]) == {
            ADA: {
                "ads": ConsentRecord(granted=True, at=5.0),
                "mail": ConsentRecord(granted=True, at=4.0),
            },
            BOB: {"ads": ConsentRecord(granted=False, at=6.0)},
        }
        await spool.save_consent({ADA: {"ads": ConsentRecord(granted=False, at=5.0)}}, DAY)
        assert (await spool.load_consent([ADA]))[ADA]["ads"] == ConsentRecord(granted=False, at=5.0)

    async def test_consent_is_forgotten_after_its_time(
        self, spool: ShardSpool, clock: ManualClock
    ) -> None:
        """A user's consent expires a fixed time after their last decision."""
        await spool.save_consent({ADA: {"ads": ConsentRecord(granted=True, at=1.0)}}, DAY)
        clock.now += DAY - 1
        await spool.save_consent({BOB: {"ads": ConsentRecord(granted=True, at=1.0)}}, DAY)
        assert set(await spool.load_consent([ADA, BOB])) == {ADA, BOB}
        clock.now += 2
        assert set(await spool.load_consent([ADA, BOB])) == {BOB}

    async def test_consent_survives_a_crash(
        self, spool: ShardSpool, tmp_path: Path, clock: ManualClock
    ) -> None:
        """Acknowledged consent survives a crash."""
        await asyncio.gather(*[
            spool.save_consent({bytes([n]) * 16: {"ads": ConsentRecord(granted=True, at=1.0)}}, DAY)
            for n in range(50)
        ])  # fmt: skip
        again = await self.after_crash(spool, tmp_path, SpoolLimits(), clock)
        await again.open()
        try:
            await again.register({"a": FREE, "b": FREE})
            assert len(await again.load_consent([bytes([n]) * 16 for n in range(60)])) == 50
        finally:
            await again.close()

    async def test_consent_counts_towards_the_bound(self, opened: SpoolFactory) -> None:
        """Above max_bytes new consent is rejected like events; stored consent is kept."""
        spool = await opened(SpoolLimits(max_bytes=400_000))
        words = {f"category-{n}": ConsentRecord(granted=True, at=1.0) for n in range(50)}
        kept = 0

        async def fill() -> None:
            nonlocal kept
            while True:
                await spool.save_consent({kept.to_bytes(16, "big"): words}, DAY)
                kept += 1

        with pytest.raises(SpoolFull, match="max_bytes"):
            await fill()
        assert kept > 10
        assert len(await spool.load_consent([(0).to_bytes(16, "big")])) == 1
