"""Between the loop and the writer: jobs go over in batches, answers come back in batches.

One batch is on its way at a time. The next one is whatever the loop has gathered when the
answer to the last one reaches it, so batches grow with the load and nobody waits for a timer.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from gateway.spool.jobs import Appending, Job, answer, guarded
from gateway.spool.values import Notice


class Batches:
    """Carries jobs to one thread; everything without a note to the contrary runs on the loop."""

    def __init__(self, listeners: Sequence[Callable[[Notice], None]]) -> None:
        self.queued = 0
        """Bytes of request bodies that wait to be written."""
        self.heard = 0
        """The number of the last notice that the spool took something."""
        self.position = 0
        """The last seq of which the loop knows: the log may be further in the file."""
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Job] = []
        self._away = False
        self._due = False
        self._queue: SimpleQueue[list[Job]] = SimpleQueue()

    def put(self, job: Job) -> None:
        """Queue a job for the next batch."""
        if isinstance(job, Appending):
            self.queued += len(job.entry.request.body)
        self._gathered.append(job)
        self._schedule()

    def _schedule(self) -> None:
        if self._gathered and not self._away and not self._due:
            self._due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._due, self._away = False, True
        gathered, self._gathered = self._gathered, []
        self._queue.put(gathered)

    def take(self, patience: float) -> list[Job]:
        """Return the next batch, empty if none comes within ``patience`` seconds (the thread)."""
        with contextlib.suppress(Empty):
            return self._queue.get(timeout=patience)
        return []

    def answer(
        self, jobs: Sequence[Job], notices: Sequence[Notice], position: int, number: int
    ) -> None:
        """Send answers, notices, the last one's number and the log's end to the loop."""
        with contextlib.suppress(RuntimeError):  # the loop is gone, and so is whoever waited
            self._loop.call_soon_threadsafe(self._arrived, jobs, notices, position, number)

    def _arrived(
        self, jobs: Sequence[Job], notices: Sequence[Notice], position: int, number: int
    ) -> None:
        for job in jobs:
            if isinstance(job, Appending):
                self.queued -= len(job.entry.request.body)
                if job.error is None and job.kept is not None:
                    self.position = job.result
            answer(job)
        self.position = position
        self.heard = number
        for notice in notices:
            for listener in self._listeners:
                guarded(listener, notice)
        if jobs:
            self._away = False
            self._schedule()
