"""A burst of one user or of one source does not delay others."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.e2e.running import PATIENCE
from tests.soak.load import pour
from tests.soak.marks import EventMark, batches
from tests.soak.process_harness import ProcessHarness, process_harness

LATENCY = 0.1
"""Seconds that the vendor takes to respond."""
BACKLOG = 4000
"""Events of the burst: this vendor needs minutes for them, with one attempt per user at a time."""
SOON = 5.0
"""Seconds within which another user's event must arrive; a busy machine needs more than one."""
DEFAULTS = 'timeout = "10s"'
GREEDY = 100_003
"""A user who sends many events per request."""


async def delays(on: ProcessHarness, users: set[int], events: int) -> list[float]:
    """Return the sorted seconds from acknowledgement to arrival of *events* events of *users*."""
    vendor, sent = on.vendors["chrts"], on.load.acknowledged
    on.load.start()
    await on.load.reaches(len(sent) + 3 * events)
    await on.load.stop()
    theirs = {mark for mark in sent if mark.user in users}
    await vendor.until(lambda v: theirs <= v.accepted.keys(), PATIENCE)
    return sorted(vendor.when[mark] - sent[mark] for mark in theirs)


async def burst_of_a_user(on: ProcessHarness) -> None:
    """Send a burst of one user."""
    await on.load.burst(GREEDY, BACKLOG, 200)


async def burst_of_a_source(on: ProcessHarness) -> None:
    """Send a burst of many users through the shop's source."""
    sent = await pour(on.gateway.url, BACKLOG, users=1000, first=200_000)
    on.load.acknowledged.update(dict.fromkeys(sent, time.monotonic()))


@pytest.mark.parametrize("burst", [burst_of_a_user, burst_of_a_source])
async def test_a_burst_delays_no_bystander(tmp_path: Path, burst) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - one of the two above
    """While a burst is delivered, other users' events arrive as soon as the vendor allows."""
    async with process_harness(tmp_path, "chrts", delivery=DEFAULTS, users=8, pause=0.5) as on:
        vendor = on.vendors["chrts"]
        vendor.weights, vendor.pace = {"slow": 1}, (LATENCY, LATENCY)
        on.load.aim(on.gateway.url)
        began = set(on.load.acknowledged)
        await burst(on)
        flood = set(on.load.acknowledged) - began
        bystanders = {user for user in range(8) if batches(user)}
        found = await delays(on, bystanders, events=8)
        assert len(flood - vendor.accepted.keys()) > BACKLOG // 2, "the burst is still worked off"
        assert found[-1] < SOON, found


async def test_a_burst_keeps_its_own_order(tmp_path: Path) -> None:
    """The events of a user's burst arrive in order, also beside other users' events."""
    async with process_harness(tmp_path, "chrts", delivery=DEFAULTS) as on:
        on.load.aim(on.gateway.url)
        on.load.start()
        await asyncio.gather(*(on.load.burst(GREEDY + 4 * n, 300, 100) for n in range(3)))
        await on.load.stop()
        await on.arrived("chrts")
        await on.ends()
        assert EventMark(GREEDY, 300) in on.vendors["chrts"].accepted
        verdict = on.judged()
        assert not verdict.complaints, verdict.table()
