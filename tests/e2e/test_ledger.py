"""Every acknowledged event is delivered or a dead letter, whatever happens meanwhile."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.delivery.worker import AHEAD
from tests.soak.chaos import PATIENT, Chaos, End, FurtherFaults
from tests.soak.faults import Clock, small_disk
from tests.soak.marks import DESTINATIONS
from tests.soak.memory import BOUND, outage
from tests.soak.operator import ACTS
from tests.soak.replays import replay
from tests.soak.vendor import vendors

USERS = 24
EVENTS = 700
"""Acknowledged events per round, at most."""
WINDOW = 2 * AHEAD
"""Maximum duplicates per crash and destination: deliveries that ended behind an older one, those in
flight, and those not yet recorded."""

DISK = 24
"""Size of a disk that fills up, in MiB."""

GROWTH = 40
"""Maximum growth of the gateway's memory in an outage, in MiB: events in flight, and code."""

Record = Callable[[str, object], None]


async def test_nothing_is_lost_or_repeated_without_a_crash(
    tmp_path: Path, record_property: Record
) -> None:
    """With failing vendors and restarts, every event ends once at each destination."""
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
    """Killed at any moment, the gateway loses no event; duplicates per crash are bounded."""
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
    """With a clock set back and forth by seconds to days, no event is lost, repeated or delayed."""
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
    """On a full disk events are refused; afterwards every acknowledged event arrives."""
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


async def test_nothing_is_lost_under_all_faults(tmp_path: Path, record_property: Record) -> None:
    """Operator's acts, bad events, bursts, leaving clients and a crash lose no event."""
    all_faults = FurtherFaults(
        acts=ACTS, dislikes=True, bursts=True, leaves=0.005, delivery=PATIENT, pause=0.1
    )  # fmt: skip
    async with vendors(*DESTINATIONS, seed=6) as made:
        chaos = Chaos(tmp_path, made, USERS, seed=6, further=all_faults)
        chaos.load.start()
        ends: tuple[End, ...] = ("term", "kill")
        rounds = [await chaos.round(end, EVENTS) for end in ends]
        verdict = await chaos.settle()
    record_property("table", f"{rounds}, {chaos.reloads} reloads\n{verdict.table()}")
    assert not verdict.complaints, verdict.table()
    assert chaos.reloads >= 10
    for name, count in verdict.counts.items():
        assert count.duplicates <= WINDOW * chaos.crashes, name


async def test_a_replay_beside_live_traffic_loses_nothing(
    tmp_path: Path, record_property: Record
) -> None:
    """A replay gives each retained event once, in order, and the live ones go on meanwhile."""
    found = await replay(tmp_path, 3_000, 300, alone=0.5)
    record_property("table", found.table())
    assert not found.complaints, found.table()
    assert found.memory.most < BOUND


async def test_an_outage_takes_little_memory(tmp_path: Path, record_property: Record) -> None:
    """In an outage events wait on the disk, not in memory, and all arrive later."""
    async with vendors("chrts") as made:
        found = await outage(tmp_path, made, events=20_000, users=2_000)
    record_property("table", found.table())
    assert not found.judgement.complaints, found.table()
    assert found.most < BOUND
    assert found.accepting.samples[-1] < found.accepting.samples[0] + GROWTH
