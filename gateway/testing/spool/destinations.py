"""The contract of destinations: registering, orphans, forgetting, how things stand."""

import pytest

from gateway.errors import SpoolError
from gateway.spool import Depth, Mark, Progress, Spool
from gateway.testing.spool.contract import (
    FREE,
    Clock,
    Maker,
    SpoolContract,
    entry,
    eventually,
    failed,
    later,
    pending,
)


class DestinationsSuite(SpoolContract):
    """What a spool knows about its destinations."""

    async def test_new_destination_starts_at_the_end(self, opened: Maker) -> None:
        """A destination that appears later gets what is appended from then on."""
        spool = await opened()
        await spool.append(entry("r1", a=(0,)))
        await spool.register({"a": FREE, "b": FREE, "c": FREE})
        assert spool.cursor("c") == 1
        assert await spool.append(entry("r2", c=(0,))) == 2
        assert [item.seq for item in await pending(spool, "c")] == [2]
        await spool.close()
        assert (await opened(c=FREE)).cursor("c") == 1

    async def test_unknown_destination_is_an_error(self, spool: Spool) -> None:
        """Asking about a destination that was never registered says so."""
        with pytest.raises(SpoolError, match="stranger"):
            spool.cursor("stranger")
        with pytest.raises(SpoolError, match="stranger"):
            await spool.unread("stranger", 0, 1, 1)
        with pytest.raises(SpoolError, match="stranger"):
            await spool.settle("stranger", Progress(cursor=1))
        with pytest.raises(SpoolError, match="stranger"):
            await spool.exceptions("stranger", 0, 1)

    async def test_orphan_keeps_everything(self, spool: Spool, clock: Clock) -> None:
        """A destination that is no longer named keeps cursor and backlog, and is reported."""
        for i in range(4):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        await spool.settle("b", Progress(cursor=2, later=[later(1), later(2, parked=True)]))
        await spool.settle("a", Progress(cursor=4))
        await spool.register({"a": FREE})
        expected = Depth(cursor=2, backlog=2, retrying=1, parked=1, dead=0, oldest=clock.now)
        assert await spool.orphans() == {"b": expected}
        with pytest.raises(SpoolError, match="'b'"):
            await spool.append(entry("r9", b=(0,)))
        await spool.register({"a": FREE, "b": FREE})
        assert await spool.orphans() == {}
        assert [item.seq for item in await pending(spool, "b")] == [3, 4]
        assert await spool.exceptions("b", 1e12, 9) == [later(1)]

    async def test_forget_gives_an_orphan_up(self, spool: Spool) -> None:
        """Forgetting ends what is pending, keeps dead letters, and frees the log."""
        for i in range(4):
            await spool.append(entry(f"r{i}", a=(0,), b=(0,)))
        progress = Progress(cursor=2, later=[later(1)], dead=[failed(2)])
        await spool.settle("b", progress)
        await spool.settle("a", Progress(cursor=4))
        with pytest.raises(SpoolError, match="registered"):
            await spool.forget("b")

        async def trimmed() -> bool:
            return [item.seq for item in await spool.entries([1, 2, 3])] == [1, 3]

        await eventually(trimmed)
        await spool.register({"a": FREE})
        assert await spool.forget("b") == 3
        with pytest.raises(SpoolError, match="'b'"):
            await spool.forget("b")
        assert list(await spool.depths()) == ["a"]
        assert [dead.destination for dead in await spool.dead_letters()] == ["b"]

        async def freed() -> bool:
            return await spool.entries([1, 2, 3]) == []

        await eventually(freed)
        await spool.register({"a": FREE, "b": FREE})
        assert spool.cursor("b") == 4

    async def test_a_pause_is_remembered(self, opened: Maker) -> None:
        """A pause lasts over a restart, and as long as the destination is known."""
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

    async def test_the_size_grows_with_what_is_kept(self, spool: Spool) -> None:
        """The size counts what entries take."""
        before = await spool.size()
        for i in range(20):
            await spool.append(entry(f"r{i}", body=b"x" * 50_000, a=(0,)))
        assert await spool.size() >= before + 1_000_000

    async def test_depths_count_what_is_pending(self, spool: Spool, clock: Clock) -> None:
        """Depths tell backlog, retrying, parked, dead and the age of the oldest pending."""
        for i in range(5):
            await spool.append(entry(f"r{i}", a=(0,)))
            clock.now += 10
        await spool.settle(
            "a",
            Progress(
                cursor=3,
                later=[later(2, parked=True), later(3), later(5)],
                dead=[failed(1)],
            ),
        )
        depth = (await spool.depths())["a"]
        assert depth == Depth(
            cursor=3, backlog=2, retrying=2, parked=1, dead=1, oldest=clock.now - 40
        )
        await spool.settle("a", Progress(cursor=5, done=[Mark(2, 0), Mark(3, 0), Mark(5, 0)]))
        depth = (await spool.depths())["a"]
        assert depth == Depth(cursor=5, backlog=0, retrying=0, parked=0, dead=1, oldest=None)
