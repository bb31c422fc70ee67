"""One HTTP try of a delivery: render, send, judge."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from gateway.delivery.job import Job
from gateway.errors import TransportError, Unrenderable
from gateway.exchange import Declined, Delivered, Refused, Request, Response, RetryLater, Verdict
from gateway.plugin import Output
from gateway.redact import Redactor
from gateway.spool import Attempt, Cause, Mark
from gateway.transport import Transport

SAID = 200
"""Bytes of an answer that an attempt keeps."""

log = structlog.get_logger()


class Outcome(NamedTuple):
    """How one try ended."""

    verdict: Verdict | Declined
    attempt: Attempt | None
    """None where nothing was sent."""
    cause: Cause = "refused"
    """Of the dead letter, if the verdict makes one."""
    covers: int = 1
    """How many of the jobs it is about, from the first on."""


class Sender:
    """Renders, sends and judges events for one destination.

    A plugin's mistake costs the one event that met it: it becomes a dead letter that says so.

    Args:
        output: the vendor's.
        transport: carries requests.
        passthrough: forward a request in the vendor's own format as it came, if all of its
            events go, with nothing but the credential exchanged. One that names nobody but by the
            client's cookie is rendered: its body does not say what the cookie says.
        max_age: seconds after which an event is given up instead of sent.
    """

    def __init__(
        self,
        output: Output,
        transport: Transport,
        *,
        passthrough: bool = False,
        max_age: float | None = None,
    ) -> None:
        self._max_age = max_age
        self._output = output
        self._transport = transport
        self._passthrough = passthrough
        self._redact = Redactor(output.config)

    def company(self, job: Job) -> int:
        """Return how many of the user's next jobs could go in one request with *job*."""
        if job.alone:
            return 0
        if self._forwards(job):
            return job.siblings - 1
        return self._output.batch_size - 1

    async def send(self, jobs: Sequence[Job]) -> Outcome:
        """Return how the try of the first of *jobs*, and of as many as go with it, ended."""
        prepared = self._prepare(jobs)
        if isinstance(prepared, Outcome):
            return prepared
        request, covers = prepared
        for job in jobs[:covers]:
            job.sent = request
        at = time.time()
        began = time.monotonic()
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            said = self._redact.text(str(error))
            attempt = Attempt(at, None, time.monotonic() - began, said)
            return Outcome(RetryLater(said, cause=error.cause), attempt, covers=covers)
        latency = time.monotonic() - began
        verdict = self._judge(response)
        said = "" if isinstance(verdict, Delivered) else self._said(response)
        return Outcome(verdict, Attempt(at, response.status, latency, said), covers=covers)

    def _prepare(self, jobs: Sequence[Job]) -> tuple[Request, int] | Outcome:
        first = jobs[0]
        if self._max_age is not None:
            age = time.time() - first.entry.request.received_at.timestamp()
            if age > self._max_age:
                reason = f"given up after {age:.0f} s; max_age is {self._max_age:g} s"
                return Outcome(Refused(reason), None, "expired")
        try:
            if self._forwards(first) and _complete(jobs):
                forwarded = self._output.forward(first.entry.request)
                if forwarded is not None:
                    return forwarded, first.siblings
            request = self._output.render(first.event)
        except Unrenderable as error:
            return Outcome(Refused(str(error)), None, "unrenderable")
        except Exception as error:
            log.exception("plugin_failed", vendor=self._output.name, step="render")
            return Outcome(Refused(f"render failed: {error!r}"), None, "unrenderable")
        if isinstance(request, Declined):
            return Outcome(request, None)
        if self._output.batch_size > 1 and len(jobs) > 1:
            return self._batch(request, jobs)
        return request, 1

    def _forwards(self, job: Job) -> bool:
        same = self._passthrough and job.entry.vendor == self._output.name
        named = not job.entry.request.client_id
        return same and named and not job.alone and job.mark.index == 0

    def _batch(self, request: Request, jobs: Sequence[Job]) -> tuple[Request, int]:
        """Return *request* with as many of the following jobs as fit into it."""
        covers = 1
        for job in jobs[1:]:
            if job.alone:
                break
            try:
                further = self._output.render(job.event)
            except Exception:  # noqa: BLE001 - it is met again, and reported, when its turn comes
                break
            merged = None
            if not isinstance(further, Declined):
                merged = self._output.merge(request, further)
            if merged is None:
                break
            request, covers = merged, covers + 1
        return request, covers

    def _judge(self, response: Response) -> Verdict:
        try:
            return self._output.verdict(response, datetime.now(UTC))
        except Exception as error:
            log.exception("plugin_failed", vendor=self._output.name, step="verdict")
            return Refused(f"HTTP {response.status}, and judging it failed: {error!r}")

    def _said(self, response: Response) -> str:
        return self._redact.text(response.body[:SAID].decode("utf-8", "replace"))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def _complete(jobs: Sequence[Job]) -> bool:
    """Tell whether *jobs* begin with all events of one request."""
    first = jobs[0]
    return len(jobs) >= first.siblings and all(
        job.mark == Mark(first.mark.seq, index) and not job.alone
        for index, job in enumerate(jobs[: first.siblings])
    )
