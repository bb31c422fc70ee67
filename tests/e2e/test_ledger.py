"""What was answered with success is delivered, or a dead letter, whatever happens meanwhile."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.delivery.worker import AHEAD
from tests.soak.chaos import PATIENT, Chaos, End, Weather
from tests.soak.faults import Clock, small_disk
from tests.soak.marks import DESTINATIONS
from tests.soak.memory import BOUND, outage
from tests.soak.operator import ACTS
from tests.soak.vendor import vendors

USERS = 24
EVENTS = 700
"""Acknowledged events per round, at most."""
WINDOW = 2 * AHEAD
"""Duplicates that one crash may make at one destination: what may be finished before an older one
is, what is on its way, and what is delivered in the time that progress is gathered for."""

DISK = 24
"""MiB of a disk that is soon full."""

GROWTH = 40
"""MiB that a gateway may grow by while it cannot deliver: the window of what it holds, and code."""

Record = Callable[[str, object], None]


async def test_nothing_is_lost_and_nothing_comes_twice_where_nothing_crashes(
    tmp_path: Path, record_property: Record
) -> None:
    """Whatever vendors do, and through restarts, every event ends once at each destination."""
    async with vendors(*DESTINATIONS, seed=1) as made:
        chaos = Chaos(tmp_path, made, USERS, seed=1)
        chaos.load.start()
        rounds = [await chaos.round("term", EVENTS) for _ in range(2)]
        verdict = await chaos.settle()
    record_property("table", f"{rounds}\n{verdict.table()}")
    assert not verdict.complaints, verdict.table()


@pytest.mark.parametrize("seed", [2])
async def test_nothing_is_lost_in_crashes(
    tmp_path: Path, record_property: Record, seed: int
) -> None:
    """Killed at any moment, the gateway loses nothing; duplicates are bounded per crash."""
    async with vendors(*DESTINATIONS, seed=seed) as made:
        chaos = Chaos(tmp_path, made, USERS, seed)
        chaos.load.start()
        ends: tuple[End, ...] = ("kill", "term", "kill")
        rounds = [await chaos.round(end, EVENTS) for end in ends]
        verdict = await chaos.settle()
    record_property("table", f"{rounds}\n{verdict.table()}")
    assert not verdict.complaints, verdict.table()
    for name, count in verdict.counts.items():
        assert count.duplicates <= WINDOW * chaos.crashes, name


async def test_nothing_is_lost_while_the_clock_jumps(
    tmp_path: Path, record_property: Record
) -> None:
    """Set forth and back by seconds to days, the clock loses, repeats and delays nothing."""
    clock = Clock(tmp_path / "offset")
    async with vendors(*DESTINATIONS, seed=4) as made:
        chaos = Chaos(tmp_path, made, USERS, seed=4, clock=clock)
        chaos.load.start()
        rounds = [await chaos.round("term", EVENTS) for _ in range(2)]
        verdict = await chaos.settle()
    record_property("table", f"the clock jumps: {clock.jumps}\n{rounds}\n{verdict.table()}")
    assert not verdict.complaints, verdict.table()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
async def test_nothing_is_lost_on_a_full_disk(tmp_path: Path, record_property: Record) -> None:
    """A full disk makes senders try again, however the gateway ends; then all goes on."""
    with small_disk(tmp_path / "disk", DISK) as disk:
        async with vendors(*DESTINATIONS, seed=5) as made:
            chaos = Chaos(tmp_path, made, USERS, seed=5, disk=disk)
            chaos.load.start()
            ends: tuple[End, ...] = ("kill", "term")
            rounds = [await chaos.round(end, EVENTS) for end in ends]
            verdict = await chaos.settle()
    record_property("table", f"{disk.fills} times a full disk\n{rounds}\n{verdict.table()}")
    assert chaos.load.turned_away >= disk.fills == len(ends)
    assert not verdict.complaints, verdict.table()


async def test_nothing_is_lost_in_all_weather(tmp_path: Path, record_property: Record) -> None:
    """All an operator does, disliked events, bursts, leaving clients and a crash cost nothing."""
    sky = Weather(
        acts=ACTS, dislikes=True, bursts=True, leaves=0.005, delivery=PATIENT, pause=0.1
    )  # fmt: skip
    async with vendors(*DESTINATIONS, seed=6) as made:
        chaos = Chaos(tmp_path, made, USERS, seed=6, weather=sky)
        chaos.load.start()
        ends: tuple[End, ...] = ("term", "kill")
        rounds = [await chaos.round(end, EVENTS) for end in ends]
        verdict = await chaos.settle()
    record_property("table", f"{rounds}, {chaos.reloads} reloads\n{verdict.table()}")
    assert not verdict.complaints, verdict.table()
    assert chaos.reloads >= 10
    for name, count in verdict.counts.items():
        assert count.duplicates <= WINDOW * chaos.crashes, name


async def test_an_outage_takes_little_memory(tmp_path: Path, record_property: Record) -> None:
    """What cannot be delivered waits on the disk, not in memory, and is all delivered later."""
    async with vendors("chrts") as made:
        found = await outage(tmp_path, made, events=20_000, users=2_000)
    record_property("table", found.table())
    assert not found.judgement.complaints, found.table()
    assert found.most < BOUND
    assert found.accepting.samples[-1] < found.accepting.samples[0] + GROWTH
