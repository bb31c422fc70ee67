"""Render, send and judge events; pass the vendor's response to a waiting client."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import orjson
import structlog
from msgspec.structs import replace

from gateway.delivery.job import AttemptResult, Job
from gateway.delivery.renderer import PreparedRequest, Renderer, RenderFailure
from gateway.delivery.transport import Transport
from gateway.errors import TransportError
from gateway.http import Request, Response
from gateway.losses.field_outcomes import LossCounter
from gateway.spool import Attempt
from gateway.verdict import Declined, Delivered, Refused, RetryLater, Verdict


class ReplyWaiters:
    """Waiting clients by request id; each gets the vendor's response, or None, once."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Response | None]] = {}

    def register(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return a future of the response to a request; it is removed when done or cancelled."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = waiter
        waiter.add_done_callback(partial(self._forget, request_id))
        return waiter

    def _forget(self, request_id: str, waiter: "asyncio.Future[Response | None]") -> None:
        if self._waiting.get(request_id) is waiter:
            del self._waiting[request_id]

    def asked(self, job: Job) -> bool:
        """Return whether a client waits for the response to the request of *job*."""
        return job.entry.id in self._waiting

    def resolve(self, jobs: Sequence[Job], answer: Response | None) -> None:
        """Pass the response to the clients that wait for *jobs*; None means no response."""
        if not self._waiting:
            return
        for job in jobs:
            waiter = self._waiting.get(job.entry.id)
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)


HOUR = 3600.0
SAID = 200
"""Bytes of a response that an attempt keeps."""

log = structlog.get_logger()


class Sender:
    """Sends the requests of one destination, and judges the responses.

    Args:
        rendering: makes the requests.
        transport: sends them.
        longest_pause: longest wait in seconds that a vendor may ask for; more is shortened to it.
    """

    def __init__(
        self, rendering: Renderer, transport: Transport, *, longest_pause: float = HOUR
    ) -> None:
        self.keeps_dead_letters = True
        """Whether failed deliveries become dead letters."""
        self.answers = ReplyWaiters()
        self.losses = LossCounter(rendering.output)
        self.rendering = rendering
        self._transport = transport
        self._longest_pause = longest_pause

    def batch_room(self, job: Job) -> int:
        """Return how many of the user's next jobs fit into one request with *job*."""
        return self.rendering.batch_room(job)

    async def send(self, jobs: Sequence[Job]) -> AttemptResult:
        """Send the first of *jobs*, and those that fit in with it; return the result."""
        prepared = self.rendering.prepare(jobs)
        if isinstance(prepared, RenderFailure):
            self.answers.resolve(jobs[:1], None)
            return _unsent(prepared)
        return await self._sent(jobs, prepared)

    async def send_otherwise(self, job: Job, than: Request) -> AttemptResult | None:
        """Send *job* alone; return the result, or None if nothing is sent.

        Nothing is sent if its request equals *than*, which was sent before, or if there is none.
        """
        prepared = self.rendering.prepare([job])
        if isinstance(prepared, RenderFailure) or _alike(prepared.request, than):
            return None
        return await self._sent([job], prepared)

    async def _sent(self, jobs: Sequence[Job], prepared: PreparedRequest) -> AttemptResult:
        """Send all requests of *jobs* until one fails; return the last result."""
        outcome = await self._attempt(jobs, prepared)
        for further in prepared.request.also:
            if not isinstance(outcome.verdict, Delivered):
                break
            outcome = await self._attempt(jobs, prepared._replace(request=further))
        return outcome

    async def _attempt(self, jobs: Sequence[Job], prepared: PreparedRequest) -> AttemptResult:
        request, covers, forwarded = prepared
        for job in jobs[:covers]:
            job.sent, job.forwarded = request, forwarded
        asked = forwarded and self.answers.asked(jobs[0])
        redactor = self.rendering.redactor
        at = time.time()
        began = time.monotonic()
        try:
            response = await self._transport.send(request, whole=asked)
        except TransportError as error:
            self.answers.resolve(jobs[:covers], None)
            said = redactor(jobs[0]).text_short(str(error))
            attempt = Attempt(at, None, time.monotonic() - began, said)
            return AttemptResult(RetryLater(said, cause=error.cause), attempt, covers=covers)
        latency = time.monotonic() - began
        verdict = self._judge(self._redacted(response, jobs[0]))
        final = asked and not response.truncated and not isinstance(verdict, RetryLater)
        self.answers.resolve(jobs[:covers], response if final else None)
        said = ""
        if isinstance(verdict, Delivered):
            if not forwarded:
                self.losses.offer(lambda: jobs[0].outgoing_event)
        else:
            hides = redactor(jobs[0])
            verdict = self._bounded(replace(verdict, reason=hides.text_short(verdict.reason)))
            said = hides.text_short(response.body[:SAID].decode("utf-8", "replace"))
        if response.unread:
            said = f"{said} (unreadable: {redactor(jobs[0]).text_short(response.unread)})".lstrip()
        attempt = Attempt(at, response.status, latency, said)
        return AttemptResult(verdict, attempt, covers=covers, told=final)

    def _redacted(self, response: Response, job: Job) -> Response:
        """Return the response without the keys of *job*, since a reason may quote its body."""
        if not response.body or response.status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
            return response
        # Other secrets stay for now: redacting them could change the plugin's verdict.
        said = self.rendering.own(job).text_short(response.body.decode("utf-8", "replace"))
        return Response(response.status, response.headers, said.encode(), response.truncated)

    def _bounded(self, verdict: RetryLater | Refused) -> RetryLater | Refused:
        """Return *verdict* with its wait limited to the longest pause, and say so in its reason."""
        if isinstance(verdict, Refused) or verdict.after is None:
            return verdict
        if verdict.after <= self._longest_pause:
            return verdict if verdict.after > 0 else replace(verdict, after=None)
        most = f"limited to {self._longest_pause:g} s by retry_after_max"
        reason = f"{verdict.reason} (requested wait {verdict.after:.0f} s, {most})"
        return replace(verdict, reason=reason, after=self._longest_pause)

    def _judge(self, response: Response) -> Verdict:
        output = self.rendering.output
        try:
            verdict = output.verdict(response, datetime.now(UTC))
        except Exception as error:
            log.exception("plugin_failed", vendor=output.name, step="verdict")
            return Refused(f"HTTP {response.status}, but the plugin failed to judge it: {error!r}")
        client_key = self.rendering.client_input is not None
        if client_key and isinstance(verdict, RetryLater) and verdict.cause == "credential":
            return Refused(verdict.reason)  # the client's key: other clients must not wait for it
        return verdict

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def _unsent(why: RenderFailure) -> AttemptResult:
    if why.cause is None:
        return AttemptResult(Declined(why.reason), None)
    return AttemptResult(Refused(why.reason), None, why.cause)


def _alike(one: Request, other: Request) -> bool:
    """Return whether both requests have the same method, URL and body; JSON bodies by value."""
    if (one.method, one.url) != (other.method, other.url):
        return False
    try:
        return bool(orjson.loads(one.body) == orjson.loads(other.body))
    except orjson.JSONDecodeError:
        return one.body == other.body
