"""A drain that an operator requests also holds across a reload of the destination."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.running import PATIENCE
from tests.soak.in_process_harness import InProcessHarness, in_process_harness

EVENTS = 12
HOUR = 'retry_min = "1h"\nretry_max = "1h"\ntimeout = "20s"\n'
"""Only a drain retries what has failed."""
SLOWLY = f"{HOUR}rate = 20\nconcurrency = 1\n"


async def failed(harness: InProcessHarness) -> None:
    """Send events that each fail and wait for an hour."""
    vendor = harness.vendors["chrts"]
    vendor.weights = {"500": 1}
    await harness.send(EVENTS)
    async with asyncio.timeout(PATIENCE):
        while (await harness.gateway.spool.depths())["chrts"].retrying < EVENTS:
            await harness.gateway.teams["chrts"].drain()
    vendor.weights = {"ok": 1}


async def test_a_drain_during_a_reload_holds_for_the_new_worker(tmp_path: Path) -> None:
    """A drain requested while a reload stops the old worker is done by the new one."""
    async with in_process_harness(
        tmp_path, "chrts", users=EVENTS, delivery=HOUR, server='drain_timeout = "20s"'
    ) as harness:
        await failed(harness)
        vendor, before = harness.vendors["chrts"], harness.gateway.config
        vendor.decide = lambda _: "held"
        await harness.gateway.teams["chrts"].drain()
        await vendor.until(lambda v: v.answering > 0, PATIENCE)
        harness.setup.change("chrts")
        reload = asyncio.get_running_loop().create_task(harness.reload())
        async with asyncio.timeout(PATIENCE):
            while harness.gateway.config is before:  # noqa: ASYNC110 - nothing signals it
                await asyncio.sleep(0)
        old = harness.gateway.teams["chrts"]
        vendor.decide = lambda _: None
        await old.drain()
        vendor.release()
        await reload
        assert harness.gateway.teams["chrts"] is not old
        await harness.arrived("chrts")


@pytest.mark.parametrize("tried", [0, 3])
async def test_a_reload_does_not_end_a_drain(tmp_path: Path, tried: int) -> None:
    """A destination that changes during a drain sends the rest at once too."""
    async with in_process_harness(tmp_path, "chrts", users=EVENTS, delivery=SLOWLY) as harness:
        await failed(harness)
        vendor = harness.vendors["chrts"]
        await harness.gateway.teams["chrts"].drain()
        await vendor.until(lambda v: len(v.accepted) >= tried, PATIENCE)
        harness.setup.change("chrts")
        await harness.reload()
        assert len(vendor.accepted) < EVENTS
        await harness.arrived("chrts")
