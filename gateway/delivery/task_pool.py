"""The lanes of a worker: tasks that take what may go and wait while nothing may."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.delivery.job import Job

PAUSE = 1.0
"""Seconds before it is tried again to take a job, where that failed."""

log = structlog.get_logger()


class TaskPool:
    """Several tasks that each work on one job at a time.

    Args:
        name: of the destination, for logs.
        count: how many jobs may be worked on at once.
        take: returns the next job that may go now, or None.
        work: does a job, to its end.
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
        """Jobs that are being worked on."""
        self._count = count
        self._take = take
        self._work = work
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ends = 0.0
        """When it does, by the loop's time: uvloop's cannot tell where that is now."""
        self._quiet = asyncio.Event()

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._lane(), name=f"{self.name}/{n}") for n in range(self._count)
        ]

    async def stop(self, grace: float) -> None:
        """Wait for what is being worked on, at most *grace* seconds, and end.

        ``take`` should return nothing any more.
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
        """Set an idle lane to work, unless all wait for a time to come."""
        if self._timer is not None:
            return
        while self._idle:
            lane = self._idle.pop()
            if not lane.done():
                lane.set_result(None)
                return

    def wake_all(self) -> None:
        """Set every idle lane to work, whatever they wait for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(len(self._idle)):
            self.wake()

    def wake_after(self, seconds: float) -> None:
        """Set every idle lane to work in some *seconds*, unless that happens sooner anyway."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._timer is not None:
            if self._timer_ends <= at:
                return
            self._timer.cancel()
        self._timer_ends = at
        self._timer = loop.call_at(at, self.wake_all)

    def _taken(self) -> Job | None:
        try:
            return self._take()
        except Exception:  # a lane outlives it, and tries again
            log.exception("not_taken", destination=self.name)
            self.wake_after(PAUSE)
            return None

    async def _lane(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            job = self._taken()
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
