"""A backlog longer than the index of a worker: order, fairness and balance stay as they are."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.delivery import backlog
from tests.e2e.running import PATIENCE
from tests.e2e.test_injected_faults import filled
from tests.soak.in_process_harness import InProcessHarness, in_process_harness
from tests.soak.ledger import dead_letters, disordered, judge, left_over, unbalanced
from tests.soak.marks import EventMark, request
from tests.soak.process_harness import PROMPT
from tests.soak.raw_http import read_message, status_of

SLOW = PROMPT.replace("1s", "20s")
GREEDY, BYSTANDER = 103, 8
"""A user who sends several events per request, and one who sends single events."""


@pytest.fixture(autouse=True)
def few_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker index four deliveries, so that nearly every backlog is longer."""
    monkeypatch.setattr(backlog, "MAX_INDEXED", 4)
    monkeypatch.setattr(backlog, "SCANNED", 3)


def pause(on: InProcessHarness, name: str, *, paused: bool) -> None:
    """Pause or resume a destination."""
    on.gateway.teams[name].pause(paused=paused)


async def send(on: InProcessHarness, mark: EventMark) -> None:
    """Send one event."""
    address = urlsplit(on.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request(mark.user, mark.number)[0])
    head, _ = await read_message(reader)
    assert status_of(head) == 200
    writer.transport.abort()


async def settled(on: InProcessHarness, name: str) -> None:
    """Wait until the destination has nothing pending, and check its balance."""
    spool = on.gateway.spool
    async with asyncio.timeout(PATIENCE):
        while (found := (await spool.balances())[name]).pending:
            await on.gateway.teams[name].workers[0].tracker.flush()
            await asyncio.sleep(0)
    assert not found.unaccounted


def complaints(on: InProcessHarness, folder: Path, dead: Sequence[str] = ()) -> list[str]:
    """Return what the ledger has to say, once the gateway is stopped."""
    letters = dead_letters(folder / "spool")
    assert sorted(letters) == sorted(dead)
    found = judge(on.load.acknowledged, on.load.unsure, on.vendors.values(), letters, once=True)
    return found.complaints + unbalanced(folder / "spool")


async def test_each_event_arrives_once_and_in_order(tmp_path: Path) -> None:
    """Events arrive once and in order through failures, pauses and a changed destination."""
    async with in_process_harness(tmp_path, "chrts", "tracardi") as on:
        for vendor in on.vendors.values():
            vendor.weights = {"ok": 12, "500": 3, "reset": 2}
        await on.send(200)
        pause(on, "chrts", paused=True)
        on.setup.change("tracardi")
        await asyncio.gather(on.send(300), on.reload())
        pause(on, "chrts", paused=False)
        await on.send(200)
        for name in on.vendors:
            await on.arrived(name)
            await settled(on, name)
    assert complaints(on, tmp_path) == []
    assert not await left_over(tmp_path / "spool")


async def test_a_start_goes_on_with_all_of_it(tmp_path: Path) -> None:
    """After a start, old and new events of a user arrive in order, once."""
    marks = [EventMark(4 * user, number) for number in range(1, 21) for user in range(10)]
    await filled(tmp_path / "spool", marks, {})
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda _: "held"
        newer = [EventMark(4 * user, 21) for user in range(10)]
        for mark in newer:
            await send(on, mark)
        vendor.decide = lambda _: None
        vendor.release()
        await vendor.until(lambda v: {*marks, *newer} <= v.accepted.keys(), PATIENCE)
        await settled(on, "chrts")
        assert not disordered(vendor.accepted)
        assert set(vendor.accepted.values()) == {1}
    assert not unbalanced(tmp_path / "spool")


async def test_a_burst_delays_nobody_who_sends_little(tmp_path: Path) -> None:
    """An event of a user without older ones overtakes the tail, and is delivered once."""
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda marks: "held" if marks[0].user == GREEDY else None
        on.load.aim(on.url)
        await on.load.burst(GREEDY, 200, 5)
        await on.load.burst(BYSTANDER, 1, 1)
        await vendor.until(lambda v: EventMark(BYSTANDER, 1) in v.accepted, PATIENCE)
        vendor.release()
        await on.arrived("chrts")
        await settled(on, "chrts")
    assert complaints(on, tmp_path) == []


async def test_what_overtakes_and_is_in_flight_is_not_read_again(tmp_path: Path) -> None:
    """An event in flight that overtook the tail is not taken from the log as well."""
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor = on.vendors["chrts"]
        vendor.pace = (0.01, 0.01)
        vendor.decide = lambda marks: "held" if marks[0].user == BYSTANDER else "slow"
        on.load.aim(on.url)
        await on.load.burst(GREEDY, 60, 5)
        await on.load.burst(BYSTANDER, 1, 1)
        await on.load.burst(GREEDY + 4, 60, 5)
        await on.arrived("chrts")
        vendor.release()
        await settled(on, "chrts")
    assert complaints(on, tmp_path) == []


async def test_a_users_event_waits_behind_older_ones_in_the_tail(tmp_path: Path) -> None:
    """An event of a user with events in the tail does not overtake them."""
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor = on.vendors["chrts"]
        pause(on, "chrts", paused=True)
        on.load.aim(on.url)
        await on.load.burst(GREEDY, 10, 5)
        await on.load.burst(BYSTANDER, 3, 1)
        vendor.decide = lambda marks: "held" if marks[0].user == GREEDY else None
        pause(on, "chrts", paused=False)
        on.load.start()
        await on.load.everyone()
        await on.load.stop()
        vendor.release()
        await on.arrived("chrts")
        await settled(on, "chrts")
    assert complaints(on, tmp_path) == []


async def test_evicted_events_of_the_tail_are_dead_letters_that_can_be_replayed(
    tmp_path: Path,
) -> None:
    """Past `max_backlog` the oldest become dead letters; the rest arrives, then the replayed."""
    bounded = SLOW + 'max_backlog = 30\non_full = "dead_letter"\n'
    async with in_process_harness(tmp_path, "chrts", delivery=bounded) as on:
        vendor, spool = on.vendors["chrts"], on.gateway.spool
        pause(on, "chrts", paused=True)
        await on.send(200)
        evicted = {mark for mark in on.load.acknowledged if mark not in vendor.accepted}
        letters = (await spool.balances())["chrts"].dead_letters
        assert letters > 100
        pause(on, "chrts", paused=False)
        await settled(on, "chrts")
        arrived = set(vendor.accepted)
        assert len(evicted) == letters + len(arrived)
        assert not disordered(vendor.accepted)
        while found := await spool.dead_letters(limit=20):
            await spool.replay_dead_letters([letter.id for letter in found])
            await settled(on, "chrts")
        assert evicted <= vendor.accepted.keys()
        assert set(vendor.accepted.values()) == {1}
    assert not unbalanced(tmp_path / "spool")


async def test_the_workers_of_a_destination_share_its_index(tmp_path: Path) -> None:
    """Each of two workers indexes half of what a destination may have in memory."""
    async with in_process_harness(tmp_path, "chrts") as on:
        pause(on, "chrts", paused=True)
        worker = on.gateway.teams["chrts"].workers[0]
        worker.queue.in_flight.sharers = 2
        on.load.aim(on.url)
        await on.load.burst(BYSTANDER, 10, 1)
        assert worker.backlog.unread == 2
        pause(on, "chrts", paused=False)
        await on.arrived("chrts")
        await settled(on, "chrts")
    assert complaints(on, tmp_path) == []
