"""One HTTP try of a delivery: render, send, judge."""

import time
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from gateway.delivery.job import Job
from gateway.errors import TransportError, Unrenderable
from gateway.exchange import Declined, Refused, Response, RetryLater, Verdict
from gateway.plugin import Output
from gateway.redact import Redactor
from gateway.spool import Attempt, Cause
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


class Sender:
    """Renders, sends and judges one event for one destination.

    A plugin's mistake costs the one event that met it: it becomes a dead letter that says so.
    """

    def __init__(self, output: Output, transport: Transport) -> None:
        self._output = output
        self._transport = transport
        self._redact = Redactor(output.config)

    async def send(self, job: Job) -> Outcome:
        """Return how the try of *job* ended."""
        try:
            request = self._output.render(job.event)
        except Unrenderable as error:
            return Outcome(Refused(str(error)), None, "unrenderable")
        except Exception as error:
            log.exception("plugin_failed", vendor=self._output.name, step="render")
            return Outcome(Refused(f"render failed: {error!r}"), None, "unrenderable")
        if isinstance(request, Declined):
            return Outcome(request, None)
        job.sent = request
        at = time.time()
        began = time.monotonic()
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            said = self._redact.text(str(error))
            attempt = Attempt(at, None, time.monotonic() - began, said)
            return Outcome(RetryLater(said, cause=error.cause), attempt)
        attempt = Attempt(at, response.status, time.monotonic() - began, self._said(response))
        return Outcome(self._judge(response), attempt)

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
