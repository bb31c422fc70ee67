"""Who waits for a vendor's answer to a request."""

import asyncio
from collections.abc import Sequence
from functools import partial

from gateway.delivery.job import Job
from gateway.exchange import Response


class Answers:
    """Waiters by the request's id; each gets the answer, or None, once."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Response | None]] = {}

    def ask(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return what will be the answer; whoever stops waiting is forgotten."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = waiter
        waiter.add_done_callback(partial(self._forget, request_id))
        return waiter

    def _forget(self, request_id: str, waiter: "asyncio.Future[Response | None]") -> None:
        if self._waiting.get(request_id) is waiter:
            del self._waiting[request_id]

    def asked(self, job: Job) -> bool:
        """Tell whether somebody waits for the answer to the request of *job*."""
        return job.entry.id in self._waiting

    def give(self, jobs: Sequence[Job], answer: Response | None) -> None:
        """Tell those who wait for *jobs*, if any do; None says that there is no answer."""
        if not self._waiting:
            return
        for job in jobs:
            waiter = self._waiting.get(job.entry.id)
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)
