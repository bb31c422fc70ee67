"""Changes of the system clock expire nothing early, and displayed ages are soon right."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.spool import (
    BacklogLimit,
    ConsentRecord,
    DeadLetterFilter,
    DedupWindow,
    Progress,
    SpoolLimits,
)
from gateway.spool.clock import CONFIRM, SteadyClock
from gateway.spool.sqlite import writer
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import append, entry, eventually, later

HOUR, DAY = 3600.0, 86_400.0
START = 1_700_000_000.0


class Machine:
    """A simulated machine: time passes, and the system clock can be set."""

    def __init__(self) -> None:
        self.seconds, self.set_by = 5.0, START
        self.looks = 0

    def day(self) -> float:
        """Return the system time."""
        self.looks += 1
        return self.seconds + self.set_by

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds

    def sets(self, seconds: float) -> None:
        """Set the system clock forward or back."""
        self.set_by += seconds

    def clock(self) -> SteadyClock:
        """Return the clock of a gateway that starts on this machine."""
        return SteadyClock(self.day, lambda: self.seconds)

    async def looked_at(self) -> None:
        """Wait until the gateway has read the system time twice more."""
        until = self.looks + 2

        async def looked() -> bool:
            return self.looks >= until

        await eventually(looked)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make housekeeping run more often than once a second."""
    monkeypatch.setattr(writer, "TICK", 0.01)


@pytest.fixture
def machine() -> Machine:
    """Return the machine."""
    return Machine()


Starts = Callable[[], Awaitable[SqliteSpool]]


@pytest.fixture
async def starts(tmp_path: Path, machine: Machine) -> AsyncIterator[Starts]:
    """Return a function that restarts the gateway's spool on the machine."""
    running: list[SqliteSpool] = []

    async def start() -> SqliteSpool:
        for one in running:
            await one.close()
        spool = SqliteSpool(tmp_path / "spool", SpoolLimits(max_age=DAY), clock=machine.clock())
        await spool.open()
        await spool.register({"a": BacklogLimit()})
        running.append(spool)
        return spool

    yield start
    for one in running:
        await one.close()


async def fill(spool: SqliteSpool, machine: Machine) -> None:
    """Add one retrying and one unread delivery."""
    await spool.append(entry("r1", a=(0,)))
    await spool.append(entry("r2", a=(0,)))
    await spool.settle("a", Progress(cursor=1, later=[later(1)]))
    await machine.looked_at()


async def started_and_filled(starts: Starts, machine: Machine) -> SqliteSpool:
    """Return a spool with a confirmed clock and one delivery of each pending kind."""
    spool = await starts()
    machine.passes(CONFIRM)
    await fill(spool, machine)
    return spool


async def pending(spool: SqliteSpool) -> int:
    """Return how many deliveries are pending; all others must be dead letters."""
    depth = (await spool.depths())["a"]
    return depth.backlog + depth.retrying


@pytest.mark.parametrize("drift", [0.5, -0.5])
def test_a_clock_that_is_slewed_is_followed(machine: Machine, drift: float) -> None:
    """A system clock that drifts slowly is followed, however far it drifts."""
    clock = machine.clock()
    clock.begin(START, 0.0)
    clock.look()
    machine.passes(CONFIRM)
    clock.look()
    for _ in range(20):
        machine.sets(drift)
        machine.passes(1.0)
        assert clock.look() == 0.0
        assert abs(clock.of_day() - machine.day()) < 0.01


@pytest.mark.parametrize("seconds", [8 * DAY, -8 * DAY])
async def test_a_short_clock_change_expires_nothing(
    starts: Starts, machine: Machine, seconds: float
) -> None:
    """A clock that is wrong for seconds expires nothing, and shortens no retention."""
    spool = await started_and_filled(starts, machine)
    machine.sets(seconds)
    await machine.looked_at()
    await spool.append(entry("r3", a=(0,)))
    machine.passes(4)
    await machine.looked_at()
    machine.sets(-seconds)
    await machine.looked_at()
    assert await pending(spool) == 3
    machine.passes(DAY - 10)
    await machine.looked_at()
    assert await pending(spool) == 3
    machine.passes(20)

    async def all_expired() -> bool:
        return await pending(spool) == 0

    await eventually(all_expired)


@pytest.mark.parametrize("seconds", [8 * DAY, -8 * DAY])
async def test_a_permanent_clock_change_ages_nothing(
    starts: Starts, machine: Machine, seconds: float
) -> None:
    """A permanent clock change ages no delivery; after a while displayed times follow it."""
    spool = await started_and_filled(starts, machine)
    machine.sets(seconds)
    await machine.looked_at()
    with capture_logs() as logs:
        machine.passes(CONFIRM)
        await machine.looked_at()
    assert [one["seconds"] for one in logs if one["event"] == "clock_changed"] == [seconds]
    oldest = (await spool.depths())["a"].oldest
    assert oldest == pytest.approx(machine.day() - CONFIRM, abs=1)
    spool = await starts()
    machine.passes(2 * CONFIRM)
    await machine.looked_at()
    assert await pending(spool) == 2
    machine.passes(DAY)

    async def all_expired() -> bool:
        return await pending(spool) == 0

    await eventually(all_expired)


@pytest.mark.parametrize("ahead", [8 * DAY, -8 * DAY, -50 * 365 * DAY])
async def test_a_wrong_clock_at_start_expires_nothing(
    starts: Starts, machine: Machine, ahead: float
) -> None:
    """A wrong clock at start expires nothing, also after a correction and a restart."""
    spool = await started_and_filled(starts, machine)
    machine.sets(ahead)
    spool = await starts()
    await machine.looked_at()
    await spool.append(entry("r3", a=(0,)))
    machine.passes(CONFIRM / 2)
    await machine.looked_at()
    assert await pending(spool) == 3
    machine.sets(-ahead)
    await machine.looked_at()
    machine.passes(CONFIRM + 1)
    await machine.looked_at()
    assert await pending(spool) == 3
    spool = await starts()
    machine.passes(2 * CONFIRM)
    await machine.looked_at()
    assert await pending(spool) == 3


async def test_a_future_time_in_the_file_expires_nothing(starts: Starts, machine: Machine) -> None:
    """A future time in the file expires no other entry."""
    spool = await started_and_filled(starts, machine)
    machine.sets(8 * DAY)
    spool = await starts()
    await spool.append(entry("r3", a=(0,)))
    machine.sets(-8 * DAY)
    spool = await starts()
    for _ in range(3):
        machine.passes(CONFIRM)
        await machine.looked_at()
    assert await pending(spool) == 3


async def test_time_while_the_gateway_was_off_counts_after_a_while(
    starts: Starts, machine: Machine
) -> None:
    """Entries that aged while the gateway was off expire minutes after the start, with a log."""
    spool = await started_and_filled(starts, machine)
    await spool.close()
    machine.passes(3 * DAY)
    spool = await starts()
    await spool.append(entry("young", a=(0,)))
    machine.passes(CONFIRM / 2)
    await machine.looked_at()
    assert await pending(spool) == 3
    with capture_logs() as logs:
        machine.passes(CONFIRM)

        async def old_expired() -> bool:
            return await pending(spool) == 1 and "deliveries_evicted" in {
                one["event"] for one in logs
            }

        await eventually(old_expired)
    said = [one for one in logs if one["event"] == "deliveries_evicted"]
    assert sum(one["dead_letters"] for one in said) == 2
    assert {(one["destination"], one["cause"]) for one in said} == {("a", "expired")}
    assert spool.given_up()["a"].dead == 2


async def test_ids_are_remembered_for_their_window_whatever_the_clock_says(
    starts: Starts, machine: Machine
) -> None:
    """A wrong clock neither drops a dedup id early nor keeps one longer."""
    spool = await starts()
    machine.passes(CONFIRM)
    first, second = DedupWindow({0: "first"}, HOUR), DedupWindow({0: "second"}, HOUR)
    assert await append(spool, entry("r1", a=(0,)), first)
    machine.sets(8 * DAY)
    await machine.looked_at()
    assert not await append(spool, entry("r2", a=(0,)), first)
    assert await append(spool, entry("r3", a=(0,)), second)
    machine.sets(-8 * DAY)
    await machine.looked_at()
    assert not await append(spool, entry("r4", a=(0,)), second)
    machine.passes(HOUR + 1)
    await machine.looked_at()
    for once in (first, second):
        assert await append(spool, entry("again", a=(0,)), once)


async def test_consent_is_remembered_for_its_window_whatever_the_clock_says(
    starts: Starts, machine: Machine
) -> None:
    """A wrong clock does not drop recorded consent early."""
    spool = await starts()
    machine.passes(CONFIRM)
    await spool.save_consent({b"u": {"ads": ConsentRecord(granted=True, at=START)}}, HOUR)
    machine.sets(8 * DAY)
    await machine.looked_at()
    assert (await spool.load_consent([b"u"]))[b"u"]["ads"].granted
    machine.passes(HOUR + 1)

    async def forgotten() -> bool:
        return not await spool.load_consent([b"u"])

    await eventually(forgotten)


async def test_replays_from_another_process_go_by_the_files_time(
    starts: Starts, machine: Machine, tmp_path: Path
) -> None:
    """A replay from another process uses the file's time, not the changed system clock."""
    spool = await started_and_filled(starts, machine)
    machine.passes(DAY + 1)

    async def expired() -> bool:
        return await pending(spool) == 0

    await eventually(expired)
    machine.sets(-8 * DAY)
    await machine.looked_at()
    machine.passes(CONFIRM)
    await machine.looked_at()
    await asyncio.to_thread(_replay, tmp_path / "spool", machine)
    machine.passes(HOUR)
    await machine.looked_at()
    assert await pending(spool) == 2
    assert await spool.dead_letters(DeadLetterFilter()) == []


def _replay(folder: Path, machine: Machine) -> None:

    with DeadLetterStore(folder, machine.day) as box:
        assert box.replay(DeadLetterFilter()) == 2
