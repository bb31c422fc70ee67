"""One destination, or one user's event, does not affect the others."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from gateway.http import Request
from gateway.spool import BacklogLimit, Entry
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.sqlite.spool import SqliteSpool
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE
from tests.soak.faults import Clock
from tests.soak.ledger import dead_letters, judge
from tests.soak.load import Load
from tests.soak.marks import EventMark, config
from tests.soak.process_harness import PROMPT, USERS, process_harness
from tests.soak.vendor import RETRY_AFTER, Behaviour, vendors

EVENTS = 600
WARM = 300
"""Events before the ones that are measured."""
LATER = 1.2
"""Maximum ratio of the 99th percentile beside a dead destination to the one without."""
MOST_RUNS = 6
"""Maximum runs of each kind: other processes on the machine can only increase a delay."""
AT_ONCE, PROBES = 8, 9
"""Maximum attempts before the circuit opens, and probes until the wait is the longest."""
SOON = 0.05
"""Seconds after a vendor's 429 in which an attempt already sent may still arrive."""

Record = Callable[[str, object], None]


async def p99(folder: Path, dead: Behaviour | None) -> float:
    """Return the 99th percentile of the delays at two destinations beside a third one, in ms.

    A delay is from the acknowledgement to the arrival, measured after a warm-up.
    """
    await asyncio.to_thread(folder.mkdir)
    async with process_harness(folder, "chrts", "tracardi", "growlytics") as on:
        third = on.vendors["growlytics"]
        if dead == "reset":
            await third.down()
        elif dead:
            third.weights = {dead: 1}
        await on.send(WARM)
        first = set(on.load.acknowledged)
        await on.send(len(first) + EVENTS)
        await on.arrived("chrts", "tracardi")
        if dead:
            assert not third.accepted
        found: list[float] = []
        for name in ("chrts", "tracardi"):
            when = on.vendors[name].when
            counted = on.load.acknowledged.keys() & when.keys() - first
            assert len(counted) >= EVENTS * 0.8
            found += [when[mark] - on.load.acknowledged[mark] for mark in counted]
    return 1000 * sorted(found)[int(len(found) * 0.99)]


async def test_a_dead_destination_delays_no_other(tmp_path: Path, record_property: Record) -> None:
    """A destination that refuses connections, or hangs, does not delay the others."""
    found: dict[Behaviour | None, list[float]] = {None: [], "reset": [], "hang": []}
    for number in range(MOST_RUNS):
        for dead, each in found.items():
            each.append(await p99(tmp_path / f"{dead}-{number}", dead))
        alone, refusing, hanging = (median(each) for each in found.values())
        if number and max(refusing, hanging) <= LATER * alone:
            break
    lines = ["p99 from acknowledgement to arrival at two destinations, in ms, median of the runs:"]
    for what, its in (("alone", alone), ("a third refuses", refusing), ("it hangs", hanging)):
        lines.append(f"  {what:16}{its:8.1f}   x {its / alone:.2f}")
    record_property("table", "\n".join(lines))
    assert max(refusing, hanging) <= LATER * alone


@pytest.mark.parametrize("behaviour", ["400", "500"])
async def test_one_users_failing_event_delays_no_other_user(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    """A rejected event becomes one dead letter, a failing one is retried; other users go on."""
    bad = EventMark(user=4, number=5)
    async with process_harness(tmp_path, "chrts", delivery=f"{PROMPT}max_attempts = 10000\n") as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda marks: behaviour if bad in marks else None
        await on.send(EVENTS)
        others = {mark for mark in on.load.acknowledged if mark.user != bad.user}
        await vendor.until(lambda v: others <= v.accepted.keys(), PATIENCE)
        assert bad not in vendor.accepted
        mine = {mark for mark in on.load.acknowledged if mark.user == bad.user}
        later = {mark for mark in mine if mark.number > bad.number}
        assert later
        if behaviour == "500":
            assert not later & vendor.accepted.keys()
            vendor.decide = lambda _: None
            await vendor.until(lambda v: mine <= v.accepted.keys(), PATIENCE)
        else:
            await vendor.until(lambda v: later <= v.accepted.keys(), PATIENCE)
        await on.ends()
        letters = dead_letters(on.spool)
        verdict = judge(on.load.acknowledged, on.load.unsure, [vendor], letters, once=True)
        assert not verdict.complaints, verdict.table()
        assert letters == ({"chrts": {bad: 1}} if behaviour == "400" else {})


async def test_a_refused_credential_makes_no_dead_letter(tmp_path: Path) -> None:
    """After a 401 attempts become rare, no event becomes a dead letter, and all arrive later."""
    async with process_harness(
        tmp_path, "chrts", delivery='retry_min = "20ms"\nretry_max = "1s"\n'
    ) as on:
        vendor = on.vendors["chrts"]
        vendor.weights = {"401": 1}
        await on.send(EVENTS)
        await vendor.until(lambda v: len(v.attempts) > AT_ONCE + PROBES, PATIENCE)
        probes = vendor.attempts[AT_ONCE + PROBES - 2 :]
        assert all(b.at - a.at >= 0.4 for a, b in pairwise(probes))
        vendor.weights = {"ok": 1}
        await on.arrived("chrts")
        await on.ends()
        letters = dead_letters(on.spool)
        verdict = judge(on.load.acknowledged, on.load.unsure, [vendor], letters, once=True)
        assert not verdict.complaints, verdict.table()
        assert not letters


async def test_a_clock_set_back_delays_no_retry(tmp_path: Path) -> None:
    """A clock that is set back by a day does not delay a retry that is due soon."""
    clock = Clock(tmp_path / "offset")
    async with process_harness(tmp_path, "chrts", launcher=clock.launcher) as on:
        vendor = on.vendors["chrts"]
        vendor.weights = {"500": 1}
        await on.send(USERS)
        clock.jump(-86_400)
        vendor.weights = {"ok": 1}
        await on.arrived("chrts")


async def test_a_clock_set_back_before_a_start_delays_no_retry(tmp_path: Path) -> None:
    """After a start with a clock set back, no retry waits longer than the longest wait."""
    clock = Clock(tmp_path / "offset")
    clock.jump(86_400)
    async with process_harness(tmp_path, "chrts", launcher=clock.launcher) as on:
        vendor = on.vendors["chrts"]
        vendor.weights = {"500": 1}
        await on.send(USERS)
        await on.ends()
        clock.jump(0)
        vendor.weights = {"ok": 1}
        async with gateway_process(on.path, launcher=clock.launcher):
            await on.arrived("chrts")


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    """After a 429 no attempt begins before its Retry-After is over, despite other responses."""
    async with process_harness(tmp_path, "chrts") as on:
        vendor = on.vendors["chrts"]
        planned: list[Behaviour] = ["429", *["slow"] * 40]  # type: ignore[list-item]  # mypy widens what is multiplied
        vendor.decide = lambda _: planned.pop() if planned else None
        on.load.aim(on.gateway.url)
        on.load.start()
        await vendor.until(lambda v: v.answered["429"] == 1, PATIENCE)
        await on.load.reaches(len(on.load.acknowledged) + 2 * USERS)
        await on.load.stop()
        await on.arrived("chrts")
        asked = next(a.at for a in vendor.attempts if a.behaviour == "429")
        during = [a for a in vendor.attempts if asked + SOON < a.at < asked + RETRY_AFTER - SOON]
        after = [a for a in vendor.attempts if a.at >= asked + RETRY_AFTER - SOON]
        assert not during
        assert after


async def test_an_event_without_a_plugin_delays_no_other(tmp_path: Path) -> None:
    """A stored request whose plugin is gone becomes a dead letter; other events are delivered."""
    path = tmp_path / "gateway.toml"
    spool = tmp_path / "spool"
    async with vendors("chrts") as (vendor,):
        path.write_text(config(str(spool), {"chrts": vendor.port}, PROMPT))
        await _orphan(spool)
        async with gateway_process(path) as gateway:
            load = Load(USERS)
            load.aim(gateway.url)
            load.start()
            await load.reaches(USERS)
            await load.stop()
            must = set(load.acknowledged)
            await vendor.until(lambda v: must <= v.accepted.keys(), PATIENCE)
            gateway.process.terminate()
            assert await gateway.ended() == 0
    with DeadLetterStore(spool) as box:
        (letter,) = box.dead_letters()
    assert letter.cause == "unrenderable"
    assert "no longer contains this event" in letter.reason


async def _orphan(folder: Path) -> None:
    """Append an entry whose vendor has no plugin."""
    spool = SqliteSpool(folder)
    await spool.open()
    await spool.register({"chrts": BacklogLimit()})
    request = Request(method="POST", url="/", body=b"{}", id="r-1")
    await spool.append(Entry("r-1", "shop", request, {"chrts": (0,)}, "gone"))
    await spool.close()


async def test_the_timeout_holds_for_every_attempt(tmp_path: Path) -> None:
    """An attempt that hangs ends after its timeout and is repeated until it succeeds."""
    async with process_harness(tmp_path, "chrts", delivery=PROMPT.replace("1s", "200ms")) as on:
        vendor = on.vendors["chrts"]
        vendor.weights = {"hang": 1, "ok": 4}
        await on.send(EVENTS // 4)
        await asyncio.wait_for(on.arrived("chrts"), PATIENCE)
        assert vendor.answered["hang"]
        await on.ends()
        verdict = judge(
            on.load.acknowledged, on.load.unsure, [vendor], dead_letters(on.spool), once=True
        )
        assert not verdict.complaints, verdict.table()


async def test_a_rejected_request_costs_only_the_bad_event(tmp_path: Path) -> None:
    """When a vendor rejects several events in one request, each gets its own verdict."""
    async with process_harness(tmp_path, "tracardi", users=4 * USERS) as on:
        vendor = on.vendors["tracardi"]
        together: list[int] = []

        def picky(marks: list[EventMark]) -> Behaviour | None:
            together.append(len(marks))
            return "400" if len(marks) > 1 or marks[0].number % 5 == 0 else None

        vendor.decide = picky
        await on.send(EVENTS)
        await on.arrived("tracardi")
        await on.ends()
        letters = dead_letters(on.spool)
        verdict = judge(on.load.acknowledged, on.load.unsure, [vendor], letters, once=True)
        assert not verdict.complaints, verdict.table()
        assert max(together) > 1
        assert {mark.number % 5 for mark in letters["tracardi"]} == {0}
        assert not letters["tracardi"].keys() & vendor.accepted.keys()
