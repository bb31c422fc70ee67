"""One HTTP try of a delivery: render, send, judge."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from gateway.credentials import as_sent, check_lent, lent, secrets_in
from gateway.delivery.answers import Answers
from gateway.delivery.job import Job
from gateway.errors import TransportError, Unrenderable
from gateway.exchange import Declined, Delivered, Refused, Request, Response, RetryLater, Verdict
from gateway.losses.meter import LossMeter
from gateway.plugin import Input, Output
from gateway.redact import Redactor
from gateway.spool import Attempt, Cause, Mark
from gateway.transport import Transport

SAID = 200
"""Bytes of an answer that an attempt keeps."""

log = structlog.get_logger()


class Shadowed(NamedTuple):
    """A shadow has looked at it: it is neither delivered nor refused."""


class Outcome(NamedTuple):
    """How one try ended."""

    verdict: Verdict | Declined | Shadowed
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
            events go and no step changes them, with nothing but the credential exchanged. One that
            names nobody but by the client's cookie is rendered: its body does not say what the
            cookie says. So is one of which a tracking plan left something out.
        max_age: seconds after which an event is given up instead of sent.
        lends: the same vendor's input, where the client's own credential goes out; None where
            the destination's does.
    """

    def __init__(
        self,
        output: Output,
        transport: Transport,
        *,
        passthrough: bool = False,
        max_age: float | None = None,
        lends: Input | None = None,
    ) -> None:
        self.buries = True
        """What cannot be sent becomes a dead letter."""
        self.answers = Answers()
        self.losses = LossMeter(output)
        self._max_age = max_age
        self._lends = lends
        self._output = output
        self._transport = transport
        self._passthrough = passthrough
        self._redact = Redactor(output.config)

    def passes_on(self, vendor: str) -> bool:
        """Tell whether whole requests in *vendor*'s format are forwarded as they came."""
        return self._passthrough and vendor == self._output.name

    def redactor(self, job: Job) -> Redactor:
        """Return what keeps the credentials out of whatever is said of *job*."""
        if self._lends is None or job.entry.vendor != self._lends.name:
            return self._redact
        return Redactor(self._output.config, secrets_in(job.entry.request, self._lends))

    def company(self, job: Job) -> int:
        """Return how many of the user's next jobs could go in one request with *job*."""
        if job.alone:
            return 0
        if self._forwards(job):
            return job.siblings - 1
        return 0 if self._lends else self._output.batch_size - 1

    async def send(self, jobs: Sequence[Job]) -> Outcome:
        """Return how the try of the first of *jobs*, and of as many as go with it, ended."""
        prepared = self._prepare(jobs)
        if isinstance(prepared, Outcome):
            self.answers.give(jobs[:1], None)
            return prepared
        request, covers, forwarded = prepared
        for job in jobs[:covers]:
            job.sent = request
        asked = forwarded and self.answers.asked(jobs[0])
        at = time.time()
        began = time.monotonic()
        try:
            response = await self._transport.send(request, whole=asked)
        except TransportError as error:
            self.answers.give(jobs[:covers], None)
            said = self.redactor(jobs[0]).text(str(error))
            attempt = Attempt(at, None, time.monotonic() - began, said)
            return Outcome(RetryLater(said, cause=error.cause), attempt, covers=covers)
        latency = time.monotonic() - began
        verdict = self._judge(response)
        final = asked and not response.cut and not isinstance(verdict, RetryLater)
        self.answers.give(jobs[:covers], response if final else None)
        said = ""
        if isinstance(verdict, Delivered):
            if not forwarded:
                self.losses.offer(lambda: jobs[0].outgoing)
        else:
            said = self.redactor(jobs[0]).text(response.body[:SAID].decode("utf-8", "replace"))
        return Outcome(verdict, Attempt(at, response.status, latency, said), covers=covers)

    def _prepare(self, jobs: Sequence[Job]) -> tuple[Request, int, bool] | Outcome:
        """Return the request that goes out, how many of *jobs* it has, and if it is as it came."""
        first = jobs[0]
        if (late := self._expired(first)) is not None:
            return Outcome(Refused(late), None, "expired")
        try:
            if self._lends is not None:
                check_lent(first.entry, self._lends)
            if self._forwards(first) and _complete(jobs):
                forwarded = self._forwarded(first.entry.request)
                if forwarded is not None:
                    return forwarded, first.siblings, True
            request = self._output.render(first.outgoing)
        except Unrenderable as error:
            return Outcome(Refused(str(error)), None, "unrenderable")
        except Exception as error:
            log.exception("plugin_failed", vendor=self._output.name, step="render")
            return Outcome(Refused(f"render failed: {error!r}"), None, "unrenderable")
        if isinstance(request, Declined):
            return Outcome(request, None)
        if self._lends is not None:
            return lent(request, first.entry.request, self._lends), 1, False
        if self._output.batch_size > 1 and len(jobs) > 1:
            return *self._batch(request, jobs), False
        return request, 1, False

    def _expired(self, job: Job) -> str | None:
        """Return why *job* is too old to be sent, if it is."""
        age = _age(job)
        if self._max_age is None or age <= self._max_age:
            return None
        return f"given up after {age:.0f} s; max_age is {self._max_age:g} s"

    def _forwarded(self, request: Request) -> Request | None:
        if self._lends is not None:
            return as_sent(request, self._output.config.url)
        return self._output.forward(request)

    def _forwards(self, job: Job) -> bool:
        same = self._passthrough and job.entry.vendor == self._output.name
        as_it_came = not (job.entry.request.client_id or job.entry.dropped) and job.steps is None
        if not (same and as_it_came and not job.alone and job.mark.index == 0):
            return False
        within = self._output.forwarded_within
        return within is None or self._lends is not None or _age(job) <= within

    def _batch(self, request: Request, jobs: Sequence[Job]) -> tuple[Request, int]:
        """Return *request* with as many of the following jobs as fit into it."""
        covers = 1
        for job in jobs[1:]:
            if job.alone:
                break
            try:
                further = self._output.render(job.outgoing)
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
            verdict = self._output.verdict(response, datetime.now(UTC))
        except Exception as error:
            log.exception("plugin_failed", vendor=self._output.name, step="verdict")
            return Refused(f"HTTP {response.status}, and judging it failed: {error!r}")
        if self._lends and isinstance(verdict, RetryLater) and verdict.cause == "credential":
            return Refused(verdict.reason)  # it is this client's; nobody else's events wait for it
        return verdict

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def _age(job: Job) -> float:
    """Return the seconds since the request arrived."""
    return time.time() - job.entry.request.received_at.timestamp()


def _complete(jobs: Sequence[Job]) -> bool:
    """Tell whether *jobs* begin with all events of one request."""
    first = jobs[0]
    return len(jobs) >= first.siblings and all(
        job.mark == Mark(first.mark.seq, index) and not job.alone and job.steps is None
        for index, job in enumerate(jobs[: first.siblings])
    )
