"""The contract of the log: append, read, trim."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool import BacklogLimit, DeliveryRef, LogRecord, Progress, SpoolLimits
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
    later,
    pending,
)


class LogSuite(SpoolContract):
    """Append, read and trim."""

    async def test_seqs_rise(self, spool: ShardSpool) -> None:
        """Entries get rising seqs in the order in which they were appended."""
        at = Places(spool)
        assert spool.position() == 0
        seqs = await asyncio.gather(*[append(spool, entry(f"r{i}", a=(0,))) for i in range(50)])
        assert seqs == sorted(set(seqs)) == at(1, 50)
        assert seqs[0] > 0
        assert spool.position() == at[50]

    async def test_entry_comes_back_verbatim(self, spool: ShardSpool) -> None:
        """An entry is read back exactly, whatever bytes its body has."""
        sent = entry("r1", body=bytes(range(256)) * 40, a=(0, 2), b=(1,))
        seq = await append(spool, sent)
        assert await spool.entries([seq]) == [LogRecord(seq, sent)]
        assert await pending(spool, "a") == [LogRecord(seq, sent)]

    async def test_entries_leaves_out_what_is_not_there(self, spool: ShardSpool) -> None:
        """Reading seqs returns the entries that exist, in order."""
        at = Places(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)))
        found = await spool.entries([at[3], at[3] + 99, at[1], at[3]])
        assert [item.seq for item in found] == [at[1], at[3]]
        assert await spool.pending("unknown") is None

    async def test_read_gives_a_destination_its_own(self, spool: ShardSpool) -> None:
        """Reading returns only entries for the destination, and the last seq that was examined."""
        at = Places(spool)
        for i in range(6):
            await spool.append(entry(f"r{i}", a=(0,)) if i % 3 else entry(f"r{i}", b=(0,)))
        page = await spool.unread("b", 0, at[6], 10)
        assert [item.seq for item in page.items] == [at[1], at[4]]
        assert page.scanned == at[6]
        page = await spool.unread("b", at[4], at[5], 10)
        assert (page.items, page.scanned) == ([], at[5])

    async def test_read_goes_on_page_by_page(self, spool: ShardSpool) -> None:
        """Reading on after ``scanned`` visits every entry once."""
        at = Places(spool)
        for i in range(7):
            await spool.append(entry(f"r{i}", a=(0,)))
        seen, after = [], 0
        while (page := await spool.unread("a", after, at[7], 3)).items:
            assert len(page.items) <= 3
            seen += [item.seq for item in page.items]
            after = page.scanned
        assert seen == at(1, 7)

    async def test_followers_get_entries_in_order_before_the_waiter(
        self, spool: ShardSpool
    ) -> None:
        """Every follower gets every entry in order, before append returns."""
        told: list[str] = []
        other = follow(spool)
        spool.follow(lambda item, _events: told.append(item.entry.id))

        async def send(name: str) -> None:
            await append(spool, entry(name, a=(0,)))
            told.append(f"{name} returned")

        await asyncio.gather(*[send(f"r{i}") for i in range(1, 21)])
        assert [t for t in told if " " not in t] == [f"r{i}" for i in range(1, 21)]
        for i in range(1, 21):
            assert told.index(f"r{i}") < told.index(f"r{i} returned")
        assert other == await spool.entries([item.seq for item in other])

    async def test_events_pass_through_to_the_followers(self, spool: ShardSpool) -> None:
        """A follower gets the parsed events that an entry was appended with."""
        told: list[object] = []
        spool.follow(lambda _item, events: told.append(events))
        events = [Event(type="track", name="Product Viewed")]
        await spool.append(entry("r1", a=(0,)), events)
        await spool.append(entry("r2", a=(0,)))
        assert told == [events, None]

    async def test_position_does_not_run_ahead_of_the_followers(self, spool: ShardSpool) -> None:
        """Followers have got everything up to ``position``, at any moment."""
        handed = 0
        ahead: list[int] = []

        def offer(item: LogRecord, _events: object) -> None:
            nonlocal handed
            handed = item.seq
            ahead.append(spool.position() - handed)

        async def watch() -> None:
            while handed < 400:
                ahead.append(spool.position() - handed)
                await asyncio.sleep(0)

        async def send(sender: int) -> None:
            for n in range(50):
                await spool.append(entry(f"{sender}-{n}", a=(0,)))

        spool.follow(offer)
        await asyncio.gather(watch(), *[send(sender) for sender in range(8)])
        assert max(ahead) == 0

    async def test_followers_get_the_entry_of_a_cancelled_waiter(self, spool: ShardSpool) -> None:
        """If an append is cancelled, followers still get its entry, and those of others."""
        at = Places(spool)
        told = follow(spool)
        futures = [asyncio.ensure_future(spool.append(entry(f"r{i}", a=(0,)))) for i in range(3)]
        futures[1].cancel()
        assert [(await futures[i]).seq for i in (0, 2)] == [at[1], at[3]]
        assert [item.seq for item in told] == [at[1], at[2], at[3]]

    async def test_failing_follower_disturbs_no_other(self, spool: ShardSpool) -> None:
        """An exception of a follower goes to the event loop's exception handler only."""
        at = Places(spool)
        seen: list[BaseException] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: seen.append(context["exception"]))

        def fail(item: LogRecord, _events: object) -> None:
            if item.entry.id == "r1":
                raise KeyError("boom")

        spool.follow(fail)
        told = follow(spool)
        both = append(spool, entry("r1", a=(0,))), append(spool, entry("r2", a=(0,)))
        assert [await seq for seq in both] == at(1, 2)
        assert [type(e) for e in seen] == [KeyError]
        assert await append(spool, entry("r3", a=(0,))) == at[3]
        assert len(told) == 3

    async def test_unregistered_target_is_refused(self, spool: ShardSpool) -> None:
        """An entry with an unregistered destination is rejected; others are not affected."""
        at = Places(spool)
        results = await asyncio.gather(
            append(spool, entry("r1", a=(0,))),
            append(spool, entry("r2", a=(0,), stranger=(0,))),
            append(spool, entry("r3", a=(0,))),
            return_exceptions=True,
        )
        assert isinstance(results[1], SpoolError)
        assert "stranger" in str(results[1])
        assert [results[0], results[2]] == at(1, 2)
        assert await spool.pending("r2") is None

    async def test_unwritable_entry_is_refused_alone(self, spool: ShardSpool) -> None:
        """An entry that cannot be written fails alone; others in its batch are stored."""
        at = Places(spool)
        odd = msgspec.structs.replace(entry("odd", a=(0,)), source="\ud800")
        results = await asyncio.gather(
            append(spool, entry("r1", a=(0,))),
            append(spool, odd),
            append(spool, entry("r3", a=(0,))),
            return_exceptions=True,
        )
        assert isinstance(results[1], SpoolError)
        assert [results[0], results[2]] == at(1, 2)

    async def test_entry_without_targets_is_taken(self, spool: ShardSpool) -> None:
        """An entry without destinations is stored too, and is in nobody's backlog."""
        at = Places(spool)
        assert await append(spool, entry("r1")) == at[1]
        assert [depth.backlog for depth in (await spool.depths()).values()] == [0, 0]

    async def test_acknowledged_survives_a_crash(
        self, spool: ShardSpool, tmp_path: Path, clock: ManualClock
    ) -> None:
        """Acknowledged entries and settled deliveries survive a crash."""
        at = Places(spool)
        for i in range(5):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        await spool.settle("a", Progress(cursor=at[3], later=[later(at[2])], dead=[failed(at[3])]))
        again = await self.after_crash(spool, tmp_path, SpoolLimits(), clock)
        await again.open()
        try:
            await again.register({"a": FREE, "b": FREE})
            assert again.position() == at[5]
            assert again.cursor("a") == at[3]
            assert again.cursor("b") == 0
            assert [item.seq for item in await pending(again, "b")] == [
                at[1],
                at[2],
                at[3],
                at[4],
                at[5],
            ]
            assert await again.retrying("a", 1e12, 10) == [later(at[2])]
            assert [dead.mark for dead in await again.dead_letters()] == [DeliveryRef(at[3], 0)]
        finally:
            await again.close()

    async def test_passed_entries_are_trimmed(self, spool: ShardSpool) -> None:
        """An entry leaves the log when every one of its destinations has passed it, not before."""
        at = Places(spool)
        for i in range(10):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        await spool.settle("a", Progress(cursor=at[10]))
        await spool.settle("b", Progress(cursor=at[4]))

        async def trimmed() -> bool:
            return [item.seq for item in await spool.entries(at(1, 9))] == at(5, 9)

        await eventually(trimmed)
        assert [item.seq for item in await pending(spool, "b")] == at(5, 10)

    async def test_waiting_delivery_pins_its_entry(self, spool: ShardSpool) -> None:
        """An entry stays in the log while one of its deliveries waits."""
        at = Places(spool)
        for i in range(6):
            await spool.append(entry(f"r{i}", a=(0,)))
        waiting = [later(at[2]), later(at[4], parked=True)]
        await spool.settle("a", Progress(cursor=at[6], later=waiting))

        async def pinned() -> bool:
            return [item.seq for item in await spool.entries(at(1, 5))] == [at[2], at[4]]

        await eventually(pinned)
        await spool.settle("a", Progress(done=[DeliveryRef(at[2], 0)], dead=[failed(at[4])]))

        async def freed() -> bool:
            return await spool.entries(at(1, 5)) == []

        await eventually(freed)

    async def test_seqs_are_never_reused(self, opened: SpoolFactory) -> None:
        """Seqs increase even after everything was trimmed, and after a restart."""
        spool = await opened()
        at = Places(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)))
        await spool.settle("a", Progress(cursor=at[3]))

        async def freed() -> bool:
            return await spool.entries([at[1], at[2]]) == []

        await eventually(freed)
        await spool.close()
        spool = await opened()
        seq = await append(spool, entry("r4", a=(0,)))
        assert seq > at[3]
        assert [item.seq for item in await pending(spool, "a")] == [seq]

    async def test_close_finishes_what_is_queued(self, opened: SpoolFactory) -> None:
        """Appends that were queued before closing are durable; later ones are refused."""
        spool = await opened()
        at = Places(spool)
        queued = [asyncio.ensure_future(append(spool, entry(f"r{i}", a=(0,)))) for i in range(5)]
        await spool.close()
        assert await asyncio.gather(*queued) == at(1, 5)
        with pytest.raises(SpoolError, match="closed"):
            await spool.append(entry("late", a=(0,)))
        assert spool.health() is not None
        await spool.close()
        again = await opened(b=BacklogLimit(max_backlog=7))
        assert [item.seq for item in await pending(again, "a")] == at(1, 5)
        assert again.health() is None
