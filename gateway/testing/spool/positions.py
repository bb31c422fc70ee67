"""The contract of positions per source: what is read, what is pending, what is over."""

from pathlib import Path

import msgspec

from gateway.spool import Bounds, Entry, Letters, Limits, Mark, Progress, Spool
from gateway.testing.spool.contract import (
    Clock,
    Maker,
    Notices,
    SpoolContract,
    entry,
    eventually,
    failed,
    later,
)


def sent(name: str, source: str, **targets: tuple[int, ...]) -> Entry:
    """Return an entry from a source."""
    return msgspec.structs.replace(entry(name), source=source, targets=targets)


async def fill(spool: Spool) -> None:
    """Append shop, app, shop, app, web and shop, all for ``a``."""
    for i, source in enumerate(("shop", "app", "shop", "app", "web", "shop")):
        await spool.append(sent(f"r{i}", source, a=(0,)))


async def places(spool: Spool, source: str | None = None, after: int = 0) -> list[int]:
    """Return the places that are read for ``a``."""
    return [item.seq for item in (await spool.read("a", after, 100, source)).items]


class PositionsSuite(SpoolContract):
    """What positions of single sources do."""

    async def test_one_source_is_read_alone(self, spool: Spool) -> None:
        """A reading of a source has its entries only, and says up to where it looked."""
        await fill(spool)
        assert await places(spool, "shop") == [1, 3, 6]
        assert await places(spool, "shop", after=1) == [3, 6]
        assert await places(spool, "nobody") == []
        page = await spool.read("a", 0, 2, "shop")
        assert ([item.seq for item in page.items], page.scanned) == ([1, 3], 3)
        page = await spool.read("a", 3, 2, "shop", upto=5)
        assert (page.items, page.scanned) == ([], 5)
        page = await spool.read("a", 5, 2, "app")
        assert (page.items, page.scanned) == ([], 6)

    async def test_position_leaves_other_sources_where_they_are(self, spool: Spool) -> None:
        """What a source's position has passed is read no more; the rest is, and counts."""
        await fill(spool)
        await spool.settle("a", Progress(positions={"shop": 3}))
        assert await places(spool) == [2, 4, 5, 6]
        assert await places(spool, "shop") == [6]
        assert await spool.sources("a") == {"shop": 3, "app": 0, "web": 0}
        assert spool.cursor("a") == 0
        depth = (await spool.depths())["a"]
        assert (depth.backlog, depth.cursor) == (4, 0)

    async def test_position_moves_forward_only(self, spool: Spool) -> None:
        """A position takes the highest value reported, and never falls behind the cursor."""
        await fill(spool)
        await spool.settle("a", Progress(positions={"shop": 3}))
        await spool.settle("a", Progress(positions={"shop": 1}))
        assert (await spool.sources("a"))["shop"] == 3
        await spool.settle("a", Progress(cursor=4))
        await spool.settle("a", Progress(positions={"shop": 2, "web": 3}))
        assert await spool.sources("a") == {"shop": 4, "web": 4}
        await spool.settle("a", Progress(positions={"shop": 6, "web": 5}))
        assert await spool.sources("a") == {}
        assert await places(spool) == []

    async def test_positions_survive_a_crash(
        self, opened: Maker, clock: Clock, tmp_path: Path
    ) -> None:
        """Where sources stand, and what is over ahead of that, is durable with the report."""
        spool = await opened()
        await fill(spool)
        await spool.settle("a", Progress(positions={"shop": 3, "web": 5}, done=[Mark(4, 0)]))
        again = await self.reopened(spool, tmp_path, clock)
        try:
            assert await again.sources("a") == {"shop": 3, "app": 0}
            assert await places(again) == [2, 6]
            assert (await again.depths())["a"].backlog == 3
        finally:
            await again.close()

    async def test_what_is_over_ahead_of_the_position_is_not_read_again(
        self, spool: Spool, clock: Clock, tmp_path: Path
    ) -> None:
        """A delivery that ended as a waiting one, or as a fresh one, ahead of it stays ended."""
        await spool.append(entry("r0", a=(0, 1, 2)))
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(later=[later(1, 0)], done=[Mark(1, 2)]))
        await spool.settle("a", Progress(done=[Mark(1, 0), Mark(2, 0)]))
        reading = await spool.read("a", 0, 10)
        assert [(i.seq, i.entry.targets["a"]) for i in reading.items] == [(1, (1,))]
        again = await self.reopened(spool, tmp_path, clock)
        try:
            reading = await again.read("a", 0, 10)
            assert [(i.seq, i.entry.targets["a"]) for i in reading.items] == [(1, (1,))]
            owing = await again.owing("r0")
            assert owing is not None
            assert set(owing.waits) == {("a", 1)}
        finally:
            await again.close()

    async def test_letters_that_go_ahead_of_the_position_do_not_come_again(
        self, spool: Spool
    ) -> None:
        """A dead letter that is dropped or replayed is not read from its old place."""
        await spool.append(entry("r0", a=(0, 1, 2)))
        await spool.settle("a", Progress(dead=[failed(1, 0), failed(1, 1)]))
        first, second = await spool.dead_letters()
        await spool.drop([first.id])
        await spool.replay([second.id])
        reading = await spool.read("a", 0, 10)
        assert [(i.seq, i.entry.targets["a"]) for i in reading.items] == [(1, (2,))]

    async def test_bounds_count_past_the_positions(self, opened: Maker) -> None:
        """What a position has passed leaves room, and what overflows is the oldest of the rest."""
        spool = await opened(a=Bounds(max_backlog=3, overflow="dead"))
        notices = Notices(spool)
        for i, source in enumerate(("app", "shop", "shop")):
            await spool.append(sent(f"r{i}", source, a=(0,)))
        await spool.settle("a", Progress(positions={"shop": 3}))
        for i in range(3, 6):
            await spool.append(sent(f"r{i}", "shop", a=(0,)))
        await notices.next()
        assert [dead.mark.seq for dead in await spool.dead_letters()] == [1]
        assert await places(spool) == [4, 5, 6]

    async def test_what_is_too_old_is_the_rest(self, opened: Maker, clock: Clock) -> None:
        """Expiry takes what no position has passed, once each."""
        spool = await opened(Limits(max_age=60.0))
        await fill(spool)
        await spool.settle("a", Progress(positions={"shop": 6}))
        clock.now += 61

        async def expired() -> bool:
            return len(await spool.dead_letters(Letters(cause="expired"))) == 3

        await eventually(expired)
        letters = await spool.dead_letters()
        assert [dead.mark.seq for dead in letters] == [2, 4, 5]
        assert (await spool.balances())["a"].dead == 3

    async def test_forgotten_destination_begins_anew(self, spool: Spool) -> None:
        """Positions and ends of a destination go with it; its name starts at the end again."""
        await fill(spool)
        await spool.settle("a", Progress(positions={"shop": 6}, done=[Mark(2, 0)]))
        await spool.register({"b": Bounds()})
        await spool.forget("a")
        await spool.register({"a": Bounds(), "b": Bounds()})
        seq = await spool.append(sent("r9", "shop", a=(0,)))
        assert await places(spool) == [seq]
        assert await spool.sources("a") == {"shop": 6}
