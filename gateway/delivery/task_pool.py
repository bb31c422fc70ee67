"""The tasks of a worker: each takes a job, works on it, and waits while there is none."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.delivery.job import Job

PAUSE = 1.0
"""Seconds before the next try after taking a job failed."""

log = structlog.get_logger()


class TaskPool:
    """Tasks that each work on one job at a time.

    Args:
        name: name of the destination, for logs.
        count: number of tasks.
        take: returns the next job to work on, or None.
        work: completes a job.
    """

    def __init__(
        self,
        name: str,
        count: int,
        take: Callable[[], Job | None],
        work: Callable[[Job], Awaitable[None]],
    ) -> None:
        self.name = name
        self.active = 0
        """Number of jobs being worked on."""
        self._count = count
        self._take = take
        self._work = work
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ends = 0.0
        """The loop's time at which the timer ends; a timer of uvloop cannot tell it."""
        self._quiet = asyncio.Event()

    def start(self) -> None:
        """Start the tasks."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run(), name=f"{self.name}/{n}") for n in range(self._count)
        ]

    async def stop(self, grace: float) -> None:
        """Wait at most *grace* seconds for running jobs, then end the tasks.

        ``take`` must return None from now on.
        """
        self._quiet.clear()
        if self.active:
            try:
                await asyncio.wait_for(self._quiet.wait(), grace)
            except TimeoutError:
                log.warning("drain_timed_out", destination=self.name, in_flight=self.active)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Wake an idle task, unless a `wake_after` is pending."""
        if self._timer is not None:
            return
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return

    def wake_all(self) -> None:
        """Wake all idle tasks now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(len(self._idle)):
            self.wake()

    def wake_after(self, seconds: float) -> None:
        """Wake all idle tasks in *seconds*, or earlier if that is already planned."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._timer is not None:
            if self._timer_ends <= at:
                return
            self._timer.cancel()
        self._timer_ends = at
        self._timer = loop.call_at(at, self.wake_all)

    def _next_job(self) -> Job | None:
        try:
            return self._take()
        except Exception:  # the task must survive it and try again
            log.exception("task_failed", destination=self.name)
            self.wake_after(PAUSE)
            return None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            job = self._next_job()
            if job is None:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                continue
            self.active += 1
            try:
                await self._work(job)
            except Exception:
                log.exception("delivery_failed", destination=self.name, delivery=job.event.id)
            finally:
                self.active -= 1
                if not self.active:
                    self._quiet.set()
