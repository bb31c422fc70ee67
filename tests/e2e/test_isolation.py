"""What one destination, or one user's event, does to the others: nothing."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.exchange import Request
from gateway.spool import Bounds, Entry, LetterBox, SqliteSpool
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE
from tests.soak.ledger import dead_letters, judge
from tests.soak.load import Load
from tests.soak.marks import EventMark, config
from tests.soak.stage import PROMPT, USERS, Stage, stage
from tests.soak.vendor import RETRY_AFTER, Behaviour, vendors

EVENTS = 600
SLACK = 0.15
"""Seconds that the slowest hundredth may take longer beside a dead destination: a CI machine's
other guests are allowed for, a delivery that waits for another destination's time-out is not."""
SOON = 0.05
"""Seconds in which an attempt that was on its way may still arrive after a vendor's 429."""

Record = Callable[[str, object], None]


def delays(on: Stage, name: str) -> list[float]:
    """Return the seconds from each acknowledgement to the arrival, sorted."""
    when = on.vendors[name].when
    return sorted(when[mark] - at for mark, at in on.load.acknowledged.items() if mark in when)


async def p99s(folder: Path, dead: Behaviour | None) -> tuple[float, float]:
    """Return the 99th percentile of the delay at two destinations beside a third one."""
    await asyncio.to_thread(folder.mkdir)
    async with stage(folder, "chrts", "tracardi", "growlytics") as on:
        third = on.vendors["growlytics"]
        if dead == "reset":
            await third.down()
        elif dead:
            third.weights = {dead: 1}
        await on.send(EVENTS)
        await on.arrived("chrts", "tracardi")
        if dead:
            assert not third.accepted
        found = [delays(on, name) for name in ("chrts", "tracardi")]
        assert all(len(each) >= EVENTS * 0.8 for each in found)
        first, second = (each[int(len(each) * 0.99)] for each in found)
        return first, second


async def test_a_dead_destination_delays_no_other(tmp_path: Path, record_property: Record) -> None:
    """Beside a destination that refuses connections, or hangs, the others get all as promptly."""
    alone = await p99s(tmp_path / "alone", None)
    refusing = await p99s(tmp_path / "refusing", "reset")
    hanging = await p99s(tmp_path / "hanging", "hang")
    lines = ["p99 of the delay from acknowledgement to arrival, at two destinations, in ms:"]
    for what, found in (("alone", alone), ("a third refuses", refusing), ("it hangs", hanging)):
        ratio = max(found) / max(alone)
        lines.append(f"  {what:16}{found[0] * 1e3:8.1f}{found[1] * 1e3:8.1f}   x {ratio:.2f}")
    record_property("table", "\n".join(lines))
    assert max(refusing) <= max(alone) + SLACK
    assert max(hanging) <= max(alone) + SLACK


@pytest.mark.parametrize("behaviour", ["400", "500"])
async def test_one_users_failing_event_holds_up_nobody_else(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    """A refused event becomes one dead letter, a failing one is retried; others go on meanwhile."""
    bad = EventMark(user=4, number=5)
    async with stage(tmp_path, "chrts") as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda marks: behaviour if bad in marks else None
        await on.send(EVENTS)
        others = {mark for mark in on.load.acknowledged if mark.user != bad.user}
        await vendor.until(lambda told: others <= told.accepted.keys(), PATIENCE)
        assert bad not in vendor.accepted
        mine = {mark for mark in on.load.acknowledged if mark.user == bad.user}
        later = {mark for mark in mine if mark.number > bad.number}
        assert later
        if behaviour == "500":
            assert not later & vendor.accepted.keys()
            vendor.decide = lambda _: None
            await vendor.until(lambda told: mine <= told.accepted.keys(), PATIENCE)
        else:
            await vendor.until(lambda told: later <= told.accepted.keys(), PATIENCE)
        await on.ends()
        letters = dead_letters(on.spool)
        verdict = judge(on.load.acknowledged, on.load.unsure, [vendor], letters, once=True)
        assert not verdict.complaints, verdict.table()
        assert letters == ({"chrts": {bad: 1}} if behaviour == "400" else {})


async def test_a_refused_credential_pauses_and_buries_nothing(tmp_path: Path) -> None:
    """While a vendor answers 401 it is asked rarely and nothing dies; then everything arrives."""
    async with stage(tmp_path, "chrts", delivery='retry_min = "20ms"\nretry_max = "1s"\n') as on:
        vendor = on.vendors["chrts"]
        vendor.weights = {"401": 1}
        await on.send(EVENTS)
        await vendor.until(lambda told: len(told.attempts) > 4, PATIENCE)
        first = vendor.attempts[0].at
        probes = [attempt for attempt in vendor.attempts if attempt.at > first + 2 * SOON]
        assert all(b.at - a.at >= 0.4 for a, b in pairwise(probes))
        vendor.weights = {"ok": 1}
        await on.arrived("chrts")
        await on.ends()
        letters = dead_letters(on.spool)
        verdict = judge(on.load.acknowledged, on.load.unsure, [vendor], letters, once=True)
        assert not verdict.complaints, verdict.table()
        assert not letters


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    """After a 429 no attempt is made before its Retry-After is over, whatever others answered."""
    async with stage(tmp_path, "chrts") as on:
        vendor = on.vendors["chrts"]
        planned: list[Behaviour] = ["429", *["slow"] * 40]  # type: ignore[list-item]  # mypy widens what is multiplied
        vendor.decide = lambda _: planned.pop() if planned else None
        on.load.aim(on.gateway.url)
        on.load.start()
        await vendor.until(lambda told: told.answered["429"] == 1, PATIENCE)
        await on.load.reaches(len(on.load.acknowledged) + 2 * USERS)
        await on.load.stop()
        await on.arrived("chrts")
        asked = next(a.at for a in vendor.attempts if a.behaviour == "429")
        during = [a for a in vendor.attempts if asked + SOON < a.at < asked + RETRY_AFTER - SOON]
        after = [a for a in vendor.attempts if a.at >= asked + RETRY_AFTER - SOON]
        assert not during
        assert after


async def test_an_event_that_no_plugin_reads_any_more_holds_up_nobody(tmp_path: Path) -> None:
    """A stored request of a vendor whose plugin is gone becomes a dead letter; the rest goes on."""
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
            await vendor.until(lambda told: must <= told.accepted.keys(), PATIENCE)
            gateway.process.terminate()
            assert await gateway.ended() == 0
    with LetterBox(spool) as box:
        (letter,) = box.dead_letters()
    assert letter.cause == "unrenderable"
    assert "no longer parses" in letter.reason


async def _orphan(folder: Path) -> None:
    """Leave an entry in the spool whose vendor nobody knows."""
    spool = SqliteSpool(folder)
    await spool.open()
    await spool.register({"chrts": Bounds()})
    request = Request(method="POST", url="/", body=b"{}", id="r-1")
    await spool.append(Entry("r-1", "shop", request, {"chrts": (0,)}, "gone"))
    await spool.close()


async def test_time_limits_hold_in_every_lane(tmp_path: Path) -> None:
    """Attempts that hang end after their time-out and are made again, as often as it takes."""
    async with stage(tmp_path, "chrts", delivery=PROMPT.replace("1s", "200ms")) as on:
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


async def test_a_request_refused_in_company_costs_the_bad_event_only(tmp_path: Path) -> None:
    """Where a vendor refuses several events sent together, each gets a verdict of its own."""
    async with stage(tmp_path, "tracardi", users=4 * USERS) as on:
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
