"""Pauses in a cluster: several gateways change them at the same time."""

import asyncio

from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.pauses import PausedDestinations
from tests.gateway.spool.jetstream.faulty_connection import FaultyConnection, lost_answer


async def test_no_pause_is_lost(connection: FaultyConnection, layout: Layout) -> None:
    """Pauses that come at the same time are all stored, also if an answer is lost."""
    names = [f"d{number}" for number in range(8)]
    connection.plan(layout.paused, lost_answer)
    stores = [PausedDestinations(connection, layout) for _ in names]
    await asyncio.gather(*[
        store.pause(name, paused=True) for store, name in zip(stores, names, strict=True)
    ])  # fmt: skip
    assert await stores[0].names() == set(names)
    await stores[1].pause("d0", paused=False)
    await stores[1].pause("d0", paused=False)
    assert await stores[0].names() == set(names[1:])


async def test_pauses_are_told_to_all(connection: FaultyConnection, layout: Layout) -> None:
    """A gateway hears of each pause, also of those from before it listens."""
    store, heard = PausedDestinations(connection, layout), asyncio.Queue[frozenset[str]]()
    await store.pause("a", paused=True)
    follower = store.follow(heard.put_nowait)
    follower.start()
    async with asyncio.timeout(10.0):
        assert await heard.get() == {"a"}
        await PausedDestinations(connection, layout).pause("b", paused=True)
        assert await heard.get() == {"a", "b"}
        await store.pause("a", paused=False)
        assert await heard.get() == {"b"}
    await follower.stop()
