"""The task pool of a worker: how tasks wake, wait and stop."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from gateway.delivery import task_pool
from gateway.delivery.job import Job
from gateway.delivery.task_pool import TaskPool
from gateway.event import Event
from gateway.http import Request
from gateway.spool import DeliveryRef, Entry

PATIENCE = 10.0
ENTRY = Entry("r", "shop", Request(method="POST", url="/"), {"crm": (0,)})


class Work:
    """Jobs, and the task pool that runs them."""

    def __init__(self, count: int, does: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
        self.jobs: deque[Job] = deque()
        self.takes = 0
        self.before_take: Callable[[], object] = lambda: None
        self.pool = TaskPool("crm", count, self._take, does)

    def add(self, count: int) -> None:
        """Add so many jobs without waking a task."""
        for number in range(count):
            event = Event(type="track", name="e", id=f"e-{number}")
            self.jobs.append(Job(DeliveryRef(1, number), ENTRY, event))

    def _take(self) -> Job | None:
        self.takes += 1
        self.before_take()
        return self.jobs.popleft() if self.jobs else None


class Crowd:
    """Counts waiting tasks, and releases them together."""

    def __init__(self) -> None:
        self.here = 0
        self.go = asyncio.Event()
        self._changed = asyncio.Event()

    async def join(self, _: Job) -> None:
        """Wait until the crowd is released."""
        self.here += 1
        self._changed.set()
        try:
            await self.go.wait()
        finally:
            self.here -= 1

    async def reaches(self, count: int) -> None:
        """Wait until so many tasks wait."""
        async with asyncio.timeout(PATIENCE):
            while self.here < count:
                self._changed.clear()
                await self._changed.wait()


async def rested(work: Work) -> None:
    """Wait until every task has found no job."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.takes


async def test_a_task_survives_an_exception_of_its_job() -> None:
    """A task logs an exception of its job, and takes the next job."""
    done = asyncio.Event()

    async def does(job: Job) -> None:
        if job.mark.index == 0:
            raise ArithmeticError("injected")
        done.set()

    work = Work(1, does)
    work.add(2)
    with capture_logs() as logs:
        work.pool.start()
        await asyncio.wait_for(done.wait(), PATIENCE)
    await work.pool.stop(1)
    assert [(line["event"], line["delivery"]) for line in logs] == [("delivery_failed", "e-0")]


async def test_a_task_survives_an_exception_of_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task logs an exception of the search for a job, and searches again."""
    monkeypatch.setattr(task_pool, "PAUSE", 0.01)
    crowd = Crowd()
    work = Work(3, crowd.join)
    work.add(3)
    failures = [ArithmeticError("injected")] * 3

    def fails() -> None:
        if failures:
            raise failures.pop()

    work.before_take = fails
    with capture_logs() as logs:
        work.pool.start()
        await crowd.reaches(3)
    crowd.go.set()
    await work.pool.stop(PATIENCE)
    assert [line["event"] for line in logs] == ["task_failed"] * 3


async def after_a_wait(seconds: float) -> None:
    """Make all tasks wait for a time, then work."""
    crowd = Crowd()
    work = Work(4, crowd.join)
    waits = [seconds] * 4

    def wait() -> None:
        if waits:
            work.pool.wake_after(waits.pop())

    work.before_take = wait
    work.pool.start()
    await rested(work)
    work.add(4)
    work.pool.wake_after(seconds)
    await crowd.reaches(4)
    crowd.go.set()
    await work.pool.stop(PATIENCE)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.0001, 0.001, 0.01])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_all_tasks_work_after_any_wait(
    loop: Callable[[], asyncio.AbstractEventLoop], seconds: float
) -> None:
    """After a wait of any length all tasks work again, on each event loop."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(after_a_wait(seconds))


async def test_wake_wakes_one_task_and_wake_all_wakes_all() -> None:
    """``wake`` wakes one idle task, and ``wake_all`` wakes all."""
    crowd = Crowd()
    work = Work(4, crowd.join)
    work.pool.start()
    await rested(work)
    work.add(4)
    work.pool.wake()
    await crowd.reaches(1)
    assert (crowd.here, work.pool.active) == (1, 1)
    work.pool.wake_all()
    await crowd.reaches(4)
    crowd.go.set()
    await work.pool.stop(PATIENCE)
    assert work.pool.active == 0


async def test_during_wake_after_only_wake_all_wakes() -> None:
    """During ``wake_after`` a new job wakes no task, but ``wake_all`` does."""
    crowd = Crowd()
    work = Work(2, crowd.join)
    work.pool.start()
    await rested(work)
    work.add(2)
    work.pool.wake_after(3600)
    work.pool.wake()
    await rested(work)
    assert crowd.here == 0
    work.pool.wake_all()
    await crowd.reaches(2)
    crowd.go.set()
    await work.pool.stop(PATIENCE)


async def test_the_sooner_of_two_times_counts() -> None:
    """Of several ``wake_after`` calls the earliest time holds."""
    crowd = Crowd()
    work = Work(1, crowd.join)
    work.pool.start()
    await rested(work)
    work.add(1)
    work.pool.wake_after(3600)
    work.pool.wake_after(0.01)
    work.pool.wake_after(3600)
    await crowd.reaches(1)
    crowd.go.set()
    await work.pool.stop(PATIENCE)


async def test_stop_waits_for_running_jobs_up_to_the_grace() -> None:
    """``stop`` waits for running jobs up to the grace time, then cancels them."""
    crowd = Crowd()
    work = Work(2, crowd.join)
    work.add(2)
    work.pool.start()
    await crowd.reaches(2)
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, crowd.go.set)
    began = loop.time()
    with capture_logs() as logs:
        await work.pool.stop(3600)
    assert (crowd.here, logs) == (0, [])
    crowd.go.clear()
    stuck = Work(2, crowd.join)
    stuck.add(1)
    stuck.pool.start()
    await crowd.reaches(1)
    with capture_logs() as logs:
        await stuck.pool.stop(0.05)
    assert loop.time() - began < PATIENCE
    assert [(line["event"], line["in_flight"]) for line in logs] == [("drain_timed_out", 1)]
    assert crowd.here == 0
