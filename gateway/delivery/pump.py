"""Begin a destination's jobs, as many at once as its concurrency allows."""

import asyncio
from collections.abc import Callable

import structlog

from gateway.delivery.job import Job

AT_ONCE = 16
"""Jobs that are begun before other callbacks of the event loop run."""
PAUSE = 1.0
"""Seconds before the next try after taking a job failed."""

Take = Callable[[], Job | None]
"""Returns the next job to begin, or None."""
Begin = Callable[[Job], None]
"""Begins a job; unless it raises, `Pump.ended` must be called once, at once or later."""

log = structlog.get_logger()


class Pump:
    """Takes jobs and begins them; it needs no task, so a job costs no switch between tasks.

    Args:
        name: name of the destination, for logs.
        count: most jobs under way.
        take: returns the next job.
        begin: begins it.
    """

    def __init__(self, name: str, count: int, take: Take, begin: Begin) -> None:
        self.name = name
        self.active = 0
        """Number of jobs under way."""
        self.running = False
        """Whether the ends of jobs still count."""
        self._count = count
        self._take = take
        self._begin = begin
        self._loop: asyncio.AbstractEventLoop
        self._is_scheduled = self._is_pumping = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ends = 0.0
        """The loop's time at which the timer ends; a timer of uvloop cannot tell it."""
        self._quiet = asyncio.Event()

    def serve(self, take: Take, begin: Begin) -> None:
        """Take jobs from elsewhere from now on."""
        self._take, self._begin = take, begin

    def limit(self, count: int) -> None:
        """Have at most *count* jobs under way from now on."""
        self._count = count
        self.wake()

    def start(self) -> None:
        """Start to take jobs."""
        self._loop = asyncio.get_running_loop()
        self.running = True
        self.wake()

    async def stop(self, grace: float) -> None:
        """Wait at most *grace* seconds for the jobs under way; later ends do not count.

        ``take`` must return None from now on.
        """
        self._quiet.clear()
        if self.active:
            try:
                await asyncio.wait_for(self._quiet.wait(), grace)
            except TimeoutError:
                log.warning("drain_timed_out", destination=self.name, in_flight=self.active)
        self.running = False
        if self._timer is not None:
            self._timer.cancel()

    def wake(self) -> None:
        """Take jobs soon, unless a `wake_after` is pending."""
        if self._is_scheduled or self._is_pumping or self._timer is not None or not self.running:
            return
        if self.active < self._count:
            self._is_scheduled = True
            self._loop.call_soon(self._pump)

    def wake_all(self) -> None:
        """Take jobs soon, even if a `wake_after` is pending."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wake()

    def wake_after(self, seconds: float) -> None:
        """Take no jobs for so many *seconds*, or fewer if that is already planned."""
        at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer_ends <= at:
                return
            self._timer.cancel()
        self._timer_ends = at
        self._timer = self._loop.call_at(at, self.wake_all)

    def ended(self) -> None:
        """Count a job as ended, and take the next, even if a `wake_after` is pending."""
        self.active -= 1
        if not self.active:
            self._quiet.set()
        if not (self._is_pumping or self._is_scheduled) and self.running:
            self._pump()

    def _pump(self) -> None:
        self._is_scheduled = False
        self._is_pumping = True
        begun = 0
        while self.active < self._count and self.running:
            if begun == AT_ONCE:
                self._is_scheduled = True
                self._loop.call_soon(self._pump)
                break
            job = None
            try:
                job = self._take()
                if job is None:
                    break
                begun += 1
                self.active += 1
                self._begin(job)
            except Exception:  # the other jobs must go on
                if job is None:
                    log.exception("pump_failed", destination=self.name)
                    self.wake_after(PAUSE)
                    break
                log.exception("delivery_failed", destination=self.name, delivery=job.event.id)
                self.active -= 1
        self._is_pumping = False
