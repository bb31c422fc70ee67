"""Events of one user arrive in the order in which they were accepted."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.delivery.worker import AHEAD
from gateway.spool import ALL_DEAD_LETTERS
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE
from tests.soak.chaos import End
from tests.soak.ledger import disordered, judge, left_over
from tests.soak.marks import EventMark
from tests.soak.process_harness import PROMPT, ProcessHarness, process_harness
from tests.soak.vendor import Behaviour, Vendor

FIRST = EventMark(0, 1)
SLOW = range(4, 12)
"""Users whose events the recovered vendor handles slowly, so that others overtake them."""
PACE = (0.01, 0.06)
"""Minimum and maximum seconds of a slow response."""

SHORT_DRAIN = 'drain_timeout = "100ms"'

Record = Callable[[str, object], None]


async def end(on: ProcessHarness, how: End) -> None:
    """Kill the gateway, or stop it."""
    if how == "kill":
        on.gateway.kill()
        assert await on.gateway.ended() == -signal.SIGKILL
    else:
        await on.ends()


async def resume(on: ProcessHarness, vendor: Vendor) -> None:
    """Run the gateway again, with a vendor that refuses nothing, until everything has arrived."""
    vendor.pace = PACE
    vendor.decide = lambda marks: "slow" if marks[0].user in SLOW else None
    async with gateway_process(on.path) as gateway:
        on.load.aim(gateway.url)
        on.load.start()
        await on.load.everyone()  # each user's last event comes after all that is sent again
        await on.load.stop()
        await on.arrived(vendor.name)
        gateway.process.terminate()
        assert await gateway.ended() == 0
    assert not await left_over(on.spool)


async def test_order_holds_through_retries(tmp_path: Path) -> None:
    """While every third attempt fails, each user's events arrive in order, once."""
    async with process_harness(tmp_path, "chrts", "tracardi") as on:
        for vendor in on.vendors.values():
            vendor.weights = {"ok": 12, "500": 3, "reset": 2, "401": 0.1}
        await on.send(600)
        await on.arrived("chrts", "tracardi")
        await on.ends()
        verdict = on.judged()
        assert not verdict.complaints, verdict.table()
        assert all(vendor.answered["500"] for vendor in on.vendors.values())


@pytest.mark.parametrize("how", ["kill", "term"])
async def test_parked_events_go_on_after_a_restart(tmp_path: Path, how: End) -> None:
    """Events parked behind one that was delivered just before a stop arrive after a restart."""
    slow = PROMPT.replace("1s", "10s")
    async with process_harness(
        tmp_path, "chrts", users=1, delivery=slow, server='drain_timeout = "100ms"'
    ) as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda _: "500"
        await on.send(60)
        await vendor.until(lambda v: v.answered["500"] > 2, PATIENCE)
        # The retry succeeds; the next event, read back from the spool, is then in flight.
        vendor.decide = lambda marks: "ok" if FIRST in marks else "hang"
        await vendor.until(lambda v: v.answered["hang"] > 0, PATIENCE)
        await end(on, how)
        assert list(vendor.accepted) == [FIRST]
        await resume(on, vendor)
        verdict = on.judged(once=how == "term")
        assert not verdict.complaints, verdict.table()


@pytest.mark.parametrize("how", ["kill", "term"])
async def test_one_slow_user_makes_few_duplicates(
    tmp_path: Path, record_property: Record, how: End
) -> None:
    """A slow delivery delays the recording of at most `AHEAD` others."""
    slow = PROMPT.replace("1s", "20s")
    async with process_harness(
        tmp_path, "chrts", delivery=slow, server='drain_timeout = "100ms"'
    ) as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda marks: "hang" if any(m.user == FIRST.user for m in marks) else None
        await on.send(6 * AHEAD)
        others = {mark for mark in on.load.acknowledged if mark.user != FIRST.user}
        await vendor.until(lambda v: others <= v.accepted.keys(), PATIENCE)
        await end(on, how)
        await resume(on, vendor)
        verdict = on.judged(once=how == "term")
        record_property("table", f"one slow user, {how}: {verdict.duplicates} duplicates")
        assert not verdict.complaints, verdict.table()
        assert verdict.duplicates <= 2 * AHEAD


async def test_a_retry_ahead_of_the_cursor_arrives_once_after_a_crash(tmp_path: Path) -> None:
    """After a crash a retry ahead of the cursor is not also read from the log."""
    slow = PROMPT.replace("1s", "20s")
    async with process_harness(
        tmp_path, "chrts", delivery=slow, server='drain_timeout = "100ms"'
    ) as on:
        vendor = on.vendors["chrts"]
        failing = {1, 2}
        vendor.decide = lambda marks: (
            "hang" if marks[0] == FIRST else "500" if marks[0].user in failing else None
        )
        await on.send(AHEAD * 3 // 4)
        others = {m for m in on.load.acknowledged if m.user not in {FIRST.user, *failing}}
        await vendor.until(lambda v: others <= v.accepted.keys(), PATIENCE)
        await end(on, "kill")
        before = set(vendor.accepted)
        await resume(on, vendor)
        again = {mark for mark, times in vendor.accepted.items() if times > 1}
        assert again <= before
        verdict = on.judged(once=False)
        assert not verdict.complaints, verdict.table()


@pytest.mark.parametrize("how", ["kill", "term"])
async def test_order_holds_when_a_user_waits_in_memory_and_in_the_spool(
    tmp_path: Path, how: End
) -> None:
    """A user with a delivery that waits in the spool keeps the order of later events."""
    slow = PROMPT.replace("1s", "20s")
    async with process_harness(
        tmp_path, "chrts", delivery=slow, server='drain_timeout = "100ms"'
    ) as on:
        vendor = on.vendors["chrts"]
        hanging: list[Behaviour] = ["hang"]
        vendor.decide = lambda marks: hanging[0] if marks[0] == FIRST else None
        await on.send(3 * AHEAD)
        others = {mark for mark in on.load.acknowledged if mark.user != FIRST.user}
        await vendor.until(lambda v: others <= v.accepted.keys(), PATIENCE)
        await end(on, how)
        hanging[0] = "500"
        async with gateway_process(on.path) as gateway:
            before = vendor.answered["500"]
            await vendor.until(lambda v: v.answered["500"] > before + 1, PATIENCE)
            on.load.aim(gateway.url)
            on.load.start()
            await on.load.everyone()
            await on.load.stop()
            gateway.kill()
            await gateway.ended()
        assert not any(mark.user == FIRST.user for mark in vendor.accepted)
        await resume(on, vendor)
        verdict = on.judged(once=False)
        assert not verdict.complaints, verdict.table()


async def test_replayed_dead_letters_are_delivered(tmp_path: Path) -> None:
    """A replayed dead letter is delivered, while its user sends new events."""
    async with process_harness(tmp_path, "chrts") as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda marks: "400" if marks[0].number % 3 == 0 else None
        await on.send(300)
        await on.arrived("chrts")
        refused = set(vendor.refused)
        assert refused
        await on.ends()
        assert on.judged().counts["chrts"].dead == len(refused)
        vendor.decide = lambda _: None
        async with gateway_process(on.path) as gateway:
            on.load.aim(gateway.url)
            on.load.start()
            with DeadLetterStore(on.spool) as box:
                assert box.replay(ALL_DEAD_LETTERS) == len(refused)
            await on.load.everyone()
            await on.load.stop()
            must = set(on.load.acknowledged)
            await vendor.until(lambda v: must <= v.accepted.keys(), PATIENCE)
            gateway.process.terminate()
            assert await gateway.ended() == 0
        verdict = judge(on.load.acknowledged, on.load.unsure, [vendor], {}, once=True)
        assert not verdict.complaints, verdict.table()
        assert set(disordered(vendor.accepted)) <= refused
        assert not await left_over(on.spool)
