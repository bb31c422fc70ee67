"""A reload at any moment under load loses and repeats no event."""

import time
from pathlib import Path

import pytest

from gateway.spool.sqlite.dead_letters import DeadLetterStore
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE
from tests.soak.marks import EventMark
from tests.soak.operator import Act
from tests.soak.process_harness import PROMPT, ProcessHarness, process_harness

DRAIN = 2.0
"""Seconds that a stop or a reload waits for attempts in flight."""
SERVER = f'drain_timeout = "{DRAIN:g}s"'
SLACK = 3.0
"""Extra seconds for a busy machine."""
SOON = 20.0
"""Seconds within which everything must arrive, far below the default longest wait."""
LONE = 100_003
"""A user who sends only one event."""
DEFAULTS = 'timeout = "5s"'
TIMES = 2
"""How often an act is done; the second time begins where the first one ended."""
PAUSE = 0.05
"""Seconds between two requests of a user, so that vendors keep up."""


async def all_of_it(on: ProcessHarness, *names: str) -> None:
    """Wait until all events have arrived, stop the gateway, and judge."""
    await on.load.stop()
    perhaps = on.operator.perhaps()
    for name in names:
        must = {mark for mark in on.load.acknowledged if name not in mark.declined_by}
        must -= perhaps.get(name, set())
        vendor = on.vendors[name]
        await vendor.until(
            lambda v, must=must: must <= v.accepted.keys() and not v.answering,  # type: ignore[misc]  # bound now
            SOON,
        )
    await on.ends()
    verdict = on.judged()
    assert not verdict.complaints, verdict.table()


@pytest.mark.parametrize("act", ["change", "remove", "unroute", "storm", "pause"])
async def test_operations_under_load_lose_and_repeat_nothing(tmp_path: Path, act: Act) -> None:
    """An operation that is done repeatedly under load loses no event and repeats none."""
    async with process_harness(
        tmp_path, "chrts", "tracardi", delivery=DEFAULTS, server=SERVER, pause=PAUSE
    ) as on:
        for vendor in on.vendors.values():
            vendor.weights = {"ok": 7, "slow": 1}
        on.load.aim(on.gateway.url)
        on.load.start()
        for _ in range(TIMES):
            await on.load.reaches(len(on.load.acknowledged) + 60)
            await on.operator.act(act, on.gateway)
        await on.load.reaches(len(on.load.acknowledged) + 60)
        await all_of_it(on, "chrts", "tracardi")
        assert on.operator.done[act] == TIMES
        assert all(vendor.answered["slow"] for vendor in on.vendors.values())


async def test_events_accepted_while_an_old_worker_drains_are_delivered(tmp_path: Path) -> None:
    """Events accepted while a changed destination ends its last attempt arrive once."""
    async with process_harness(tmp_path, "chrts", delivery=DEFAULTS, server=SERVER) as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda marks: "held" if marks[0].user == LONE else None
        on.load.aim(on.gateway.url)
        await on.load.burst(LONE, 1, 1)
        await on.load.reaches(1)
        on.load.start()
        await vendor.until(lambda v: v.answered["held"] > 0, PATIENCE)
        since = len(on.gateway.lines)
        on.setup.change("chrts")
        on.setup.write()
        on.gateway.hang_up()
        await on.load.reaches(len(on.load.acknowledged) + 100)
        vendor.release()
        await on.gateway.after(since, "reloaded", lambda line: bool(line["changed"]))
        await on.load.reaches(len(on.load.acknowledged) + 20)
        await all_of_it(on, "chrts")


async def test_the_backlog_of_a_removed_destination_waits_for_its_return(tmp_path: Path) -> None:
    """The backlog of a removed destination is logged, kept, and delivered when it returns."""
    async with process_harness(tmp_path, "chrts", "tracardi", delivery=PROMPT, server=SERVER) as on:
        vendor = on.vendors["tracardi"]
        vendor.weights = {"500": 1}
        await on.send(60)
        await on.arrived("chrts")
        before = time.monotonic()
        since = len(on.gateway.lines)
        on.setup.present.remove("tracardi")
        on.setup.write()
        on.gateway.hang_up()
        said = await on.gateway.after(since, "orphaned_backlog")
        assert said["destination"] == "tracardi"
        assert int(str(said["deliveries"])) > 0
        await on.gateway.after(since, "reloaded")
        vendor.weights = {"ok": 1}
        on.operator.absent["tracardi"] = [(before, time.monotonic())]
        on.setup.present.append("tracardi")
        on.setup.write()
        since = len(on.gateway.lines)
        on.gateway.hang_up()
        await on.gateway.after(since, "reloaded", lambda line: bool(line["added"]))
        await all_of_it(on, "chrts", "tracardi")


@pytest.mark.parametrize("how", ["change", "term"])
async def test_an_attempt_in_flight_is_not_repeated(tmp_path: Path, how: str) -> None:
    """A reload or stop waits for an attempt that the vendor accepted, and does not repeat it."""
    async with process_harness(tmp_path, "chrts", delivery='timeout = "20s"', users=4) as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda _: "held"
        on.load.aim(on.gateway.url)
        on.load.start()
        await vendor.until(lambda v: v.answering == 4, PATIENCE)
        await on.load.stop()
        sent = set(vendor.accepted)
        since = len(on.gateway.lines)
        if how == "term":
            on.gateway.process.terminate()
            await on.gateway.after(since, "stopping")
        else:
            on.setup.change("chrts")
            on.setup.write()
            on.gateway.hang_up()
        vendor.release()
        if how == "change":
            await on.gateway.after(since, "reloaded")
            await on.arrived("chrts")
            on.gateway.process.terminate()
        assert await on.gateway.ended() == 0
        async with gateway_process(on.path) as gateway:
            await on.arrived("chrts")
            gateway.process.terminate()
            assert await gateway.ended() == 0
        assert {mark: vendor.accepted[mark] for mark in sent} == dict.fromkeys(sent, 1)


@pytest.mark.parametrize("how", ["change", "term"])
async def test_an_end_takes_one_drain_timeout_whoever_hangs(tmp_path: Path, how: str) -> None:
    """With three destinations that hang, a reload or stop takes one ``drain_timeout``."""
    names = ("chrts", "growlytics", "tracardi")
    async with process_harness(tmp_path, *names, delivery='timeout = "60s"', server=SERVER) as on:
        for vendor in on.vendors.values():
            vendor.weights = {"hang": 1}
        await on.send(24)
        for vendor in on.vendors.values():
            await vendor.until(lambda v: v.answered["hang"] > 0, PATIENCE)
        began, since = time.monotonic(), len(on.gateway.lines)
        if how == "term":
            on.gateway.process.terminate()
            assert await on.gateway.ended() == 0
        else:
            for name in names:
                on.setup.change(name)
            on.setup.write()
            on.gateway.hang_up()
            await on.gateway.after(since, "reloaded")
        took = time.monotonic() - began
        assert took < DRAIN + SLACK, f"{took:.1f} s"
        said = [line for line in on.gateway.lines[since:] if line["event"] == "drain_timed_out"]
        assert {line["destination"] for line in said} == set(names)


async def test_a_replay_under_load_delivers_each_dead_letter_once(tmp_path: Path) -> None:
    """Dead letters replayed under load are delivered once, and leave the list."""
    async with process_harness(tmp_path, "chrts", delivery=PROMPT.replace("1s", "20s")) as on:
        vendor = on.vendors["chrts"]
        bad = {EventMark(user, 3) for user in (0, 1, 2)}
        vendor.dislikes = lambda mark: "400" if mark in bad else None
        on.load.aim(on.gateway.url)
        on.load.start()
        await vendor.until(lambda v: bad <= v.refused, PATIENCE)
        vendor.dislikes = lambda _: None
        await on.gateway.after(0, "dead_letter")
        while not bad <= vendor.accepted.keys():
            await on.operator.act("replay", on.gateway)
            await on.load.reaches(len(on.load.acknowledged) + 20)
        await all_of_it(on, "chrts")
        with DeadLetterStore(on.spool) as box:
            assert not box.dead_letters()


async def test_a_paused_destination_gets_nothing_new(tmp_path: Path) -> None:
    """After the call that pauses a destination returns, no attempt begins."""
    async with process_harness(tmp_path, "chrts", users=64, delivery='timeout = "30s"') as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda _: "held"
        await on.send(500)
        await vendor.until(lambda v: v.answering == 8, PATIENCE)
        await on.operator.call(on.gateway, "/destinations/chrts/pause")
        before = len(vendor.attempts)
        vendor.release()
        await vendor.until(lambda v: not v.answering, PATIENCE)
        with pytest.raises(TimeoutError):
            await vendor.until(lambda v: len(v.attempts) > before, 0.5)
        await on.operator.call(on.gateway, "/destinations/chrts/resume")
        await all_of_it(on, "chrts")
