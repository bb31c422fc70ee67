"""The pump of a worker: how it takes, waits and stops."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import pytest
import uvloop
from structlog.testing import capture_logs

from gateway.delivery import pump
from gateway.delivery.job import Job
from gateway.delivery.pump import AT_ONCE, Pump
from gateway.event import Event
from gateway.http import Request
from gateway.spool import DeliveryRef, Entry

PATIENCE = 10.0
ENTRY = Entry("r", "shop", Request(method="POST", url="/"), {"crm": (0,)})


class Work:
    """Jobs, the pump that begins them, and those that have begun and not ended."""

    def __init__(self, count: int) -> None:
        self.jobs: deque[Job] = deque()
        self.takes = 0
        self.under_way: list[Job] = []
        self.before_take: Callable[[], object] = lambda: None
        self.on_begin: Callable[[Job], object] = self.under_way.append
        self.pump = Pump("crm", count, self._take, self._begin)
        self._changed = asyncio.Event()

    def add(self, count: int) -> None:
        """Add so many jobs without waking the pump."""
        for number in range(count):
            event = Event(type="track", name="e", id=f"e-{number}")
            self.jobs.append(Job(DeliveryRef(1, number), ENTRY, event))

    def end(self) -> None:
        """End every job that is under way."""
        for _ in range(len(self.under_way)):
            self.under_way.pop()
            self.pump.ended()

    async def reaches(self, count: int) -> None:
        """Wait until so many jobs are under way."""
        async with asyncio.timeout(PATIENCE):
            while len(self.under_way) < count:
                self._changed.clear()
                await self._changed.wait()

    def _take(self) -> Job | None:
        self.takes += 1
        self.before_take()
        return self.jobs.popleft() if self.jobs else None

    def _begin(self, job: Job) -> None:
        self.on_begin(job)
        self._changed.set()


async def rested(work: Work) -> None:
    """Wait until the pump has found no job."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.takes


async def test_the_pump_survives_an_exception_of_a_job() -> None:
    """The pump logs an exception of a job that begins, and begins the next one."""
    work = Work(1)
    work.add(2)

    def begin(job: Job) -> None:
        if job.mark.index == 0:
            raise ArithmeticError("injected")
        work.under_way.append(job)

    work.on_begin = begin
    with capture_logs() as logs:
        work.pump.start()
        await work.reaches(1)
    work.end()
    await work.pump.stop(1)
    assert [(line["event"], line["delivery"]) for line in logs] == [("delivery_failed", "e-0")]
    assert work.pump.active == 0


async def test_the_pump_survives_an_exception_of_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pump logs an exception of the search for a job, and searches again."""
    monkeypatch.setattr(pump, "PAUSE", 0.01)
    work = Work(3)
    work.add(3)
    failures = [ArithmeticError("injected")] * 3

    def fails() -> None:
        if failures:
            raise failures.pop()

    work.before_take = fails
    with capture_logs() as logs:
        work.pump.start()
        await work.reaches(3)
    work.end()
    await work.pump.stop(PATIENCE)
    assert [line["event"] for line in logs] == ["pump_failed"] * 3


async def after_a_wait(seconds: float) -> None:
    """Make the pump wait for a time, then work."""
    work = Work(4)
    waits = [seconds] * 4

    def wait() -> None:
        if waits:
            work.pump.wake_after(waits.pop())

    work.before_take = wait
    work.pump.start()
    await rested(work)
    work.add(4)
    work.pump.wake_after(seconds)
    await work.reaches(4)
    work.end()
    await work.pump.stop(PATIENCE)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.0001, 0.001, 0.01])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_all_jobs_begin_after_any_wait(
    loop: Callable[[], asyncio.AbstractEventLoop], seconds: float
) -> None:
    """After a wait of any length the pump begins jobs again, on each event loop."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(after_a_wait(seconds))


async def test_no_more_jobs_are_under_way_than_allowed() -> None:
    """The pump begins as many jobs as it may, and another one at each end."""
    work = Work(3)
    work.pump.start()
    await rested(work)
    work.add(5)
    work.pump.wake()
    await work.reaches(3)
    work.pump.wake_all()
    await rested(work)
    assert (len(work.under_way), work.pump.active) == (3, 3)
    work.under_way.pop(0)
    work.pump.ended()
    assert (len(work.under_way), work.pump.active) == (3, 3), "at once, without a turn of the loop"
    work.end()
    work.end()
    await work.pump.stop(PATIENCE)
    assert (work.jobs, work.pump.active) == (deque(), 0)


async def test_a_job_that_ends_at_once_needs_no_stack() -> None:
    """Jobs that end as they begin follow each other in a loop, however many there are."""
    work = Work(1)
    work.add(5_000)
    empty = asyncio.Event()

    def begin(_: Job) -> None:
        work.pump.ended()
        if not work.jobs:
            empty.set()

    work.on_begin = begin
    work.pump.start()
    await asyncio.wait_for(empty.wait(), PATIENCE)
    await work.pump.stop(PATIENCE)
    assert work.pump.active == 0


async def test_other_work_runs_between_many_jobs() -> None:
    """The pump lets other callbacks of the loop run after every few jobs."""
    work = Work(1)
    work.add(10 * AT_ONCE)
    work.on_begin = lambda _: work.pump.ended()
    work.pump.start()
    left = [len(work.jobs)]
    async with asyncio.timeout(PATIENCE):
        while work.jobs:
            await asyncio.sleep(0)
            left.append(len(work.jobs))
    assert max(before - after for before, after in pairwise(left)) == AT_ONCE
    await work.pump.stop(PATIENCE)


async def test_during_wake_after_only_wake_all_wakes() -> None:
    """During ``wake_after`` a new job does not wake the pump, but ``wake_all`` does."""
    work = Work(2)
    work.pump.start()
    await rested(work)
    work.add(2)
    work.pump.wake_after(3600)
    work.pump.wake()
    await rested(work)
    assert not work.under_way
    work.pump.wake_all()
    await work.reaches(2)
    work.end()
    await work.pump.stop(PATIENCE)


async def test_the_end_of_a_job_takes_the_next_even_during_wake_after() -> None:
    """The end of a job ends a wait as well: how long to wait may depend on how it ended."""
    work = Work(2)
    work.add(1)
    work.pump.start()
    await work.reaches(1)
    work.pump.wake_after(3600)
    work.add(1)
    work.end()
    assert len(work.under_way) == 1
    work.end()
    await work.pump.stop(PATIENCE)


async def test_the_sooner_of_two_times_counts() -> None:
    """Of several ``wake_after`` calls the earliest time holds."""
    work = Work(1)
    work.pump.start()
    await rested(work)
    work.add(1)
    work.pump.wake_after(3600)
    work.pump.wake_after(0.01)
    work.pump.wake_after(3600)
    await work.reaches(1)
    work.end()
    await work.pump.stop(PATIENCE)


async def test_stop_waits_for_running_jobs_up_to_the_grace() -> None:
    """``stop`` waits for jobs under way up to the grace time; later nothing begins."""
    work = Work(2)
    work.add(2)
    work.pump.start()
    await work.reaches(2)
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, work.end)
    began = loop.time()
    with capture_logs() as logs:
        await work.pump.stop(3600)
    assert (work.pump.active, logs) == (0, [])
    stuck = Work(2)
    stuck.add(1)
    stuck.pump.start()
    await stuck.reaches(1)
    with capture_logs() as logs:
        await stuck.pump.stop(0.05)
    assert loop.time() - began < PATIENCE
    assert [(line["event"], line["in_flight"]) for line in logs] == [("drain_timed_out", 1)]
    stuck.add(1)
    stuck.end()
    stuck.pump.wake_all()
    await rested(stuck)
    assert not stuck.under_way
