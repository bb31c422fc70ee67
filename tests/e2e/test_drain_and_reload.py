"""A drain that an operator asks for holds, whatever reloads the destination goes through."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.running import PATIENCE
from tests.soak.in_process_harness import InProcessHarness, in_process_harness

EVENTS = 12
HOUR = 'retry_min = "1h"\nretry_max = "1h"\ntimeout = "20s"\n'
"""Nothing that failed is tried again but by a drain."""
SLOWLY = f"{HOUR}rate = 20\nconcurrency = 1\n"


async def failed(sky: InProcessHarness) -> None:
    """Send events, of which each waits for an hour."""
    vendor = sky.vendors["chrts"]
    vendor.weights = {"500": 1}
    await sky.send(EVENTS)
    async with asyncio.timeout(PATIENCE):
        while (await sky.gateway.spool.depths())["chrts"].retrying < EVENTS:
            await sky.gateway.workers["chrts"].drain()
    vendor.weights = {"ok": 1}


async def test_a_drain_during_a_reload_holds_for_the_new_worker(tmp_path: Path) -> None:
    """Asked for while the old worker waits for its last answer, it is done by the one after it."""
    async with in_process_harness(
        tmp_path, "chrts", users=EVENTS, delivery=HOUR, server='drain_timeout = "20s"'
    ) as sky:
        await failed(sky)
        vendor, before = sky.vendors["chrts"], sky.gateway.config
        vendor.decide = lambda _: "held"
        await sky.gateway.workers["chrts"].drain()
        await vendor.until(lambda told: told.answering > 0, PATIENCE)
        sky.setup.change("chrts")
        reload = asyncio.get_running_loop().create_task(sky.reload())
        async with asyncio.timeout(PATIENCE):
            while sky.gateway.config is before:  # noqa: ASYNC110 - nobody tells of that moment
                await asyncio.sleep(0)
        old = sky.gateway.workers["chrts"]
        vendor.decide = lambda _: None
        await old.drain()
        vendor.release()
        await reload
        assert sky.gateway.workers["chrts"] is not old
        await sky.arrived("chrts")


@pytest.mark.parametrize("tried", [0, 3])
async def test_a_reload_does_not_end_a_drain(tmp_path: Path, tried: int) -> None:
    """What is still to go when the destination changes goes at once all the same."""
    async with in_process_harness(tmp_path, "chrts", users=EVENTS, delivery=SLOWLY) as sky:
        await failed(sky)
        vendor = sky.vendors["chrts"]
        await sky.gateway.workers["chrts"].drain()
        await vendor.until(lambda told: len(told.accepted) >= tried, PATIENCE)
        sky.setup.change("chrts")
        await sky.reload()
        assert len(vendor.accepted) < EVENTS
        await sky.arrived("chrts")
