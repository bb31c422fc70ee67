"""Render, send and judge events; pass the vendor's response to a waiting client."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import orjson
import structlog
from msgspec import Struct
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
        self.waiting: dict[str, asyncio.Future[Response | None]] = {}
        """By request id."""

    def register(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return a future of the response to a request; it is removed when done or cancelled."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiting[request_id] = waiter
        waiter.add_done_callback(partial(self._forget, request_id))
        return waiter

    def _forget(self, request_id: str, waiter: "asyncio.Future[Response | None]") -> None:
        if self.waiting.get(request_id) is waiter:
            del self.waiting[request_id]

    def asked(self, job: Job) -> bool:
        """Return whether a client waits for the response to the request of *job*."""
        return job.entry.id in self.waiting

    def resolve(self, jobs: Sequence[Job], answer: Response | None) -> None:
        """Pass the response to the clients that wait for *jobs*; None means no response."""
        for job in jobs:
            waiter = self.waiting.get(job.entry.id)
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)


OnResult = Callable[[AttemptResult], object]
"""Called once with the result of an attempt."""


class _Posted(Struct, frozen=True):
    """A request that was posted."""

    jobs: Sequence[Job]
    prepared: PreparedRequest
    on_result: OnResult
    asked: bool
    """Whether a client waits for the response."""
    at: float
    """Unix seconds."""
    began: float
    """Monotonic seconds."""


NOBODY: Mapping[int, str] = {}
"""No job is refused."""
HOUR = 3600.0
_WAITS = frozenset({"retry-after", "x-ratelimit-reset"})
"""Headers that may have a time, which only the present time makes a wait."""
_REDIRECTION = 300
"""The lowest status that is no success (RFC 9110, section 15)."""
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
        self._judges_whole_response = rendering.output.judges_whole_response

    def batch_room(self, job: Job) -> int:
        """Return how many of the user's next jobs fit into one request with *job*."""
        return self.rendering.batch_room(job)

    def send(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """Send the first of *jobs*, and those that fit in with it.

        *on_result* is called once with the result: before the return if nothing can be sent.
        """
        prepared = self.rendering.prepare(jobs)
        if type(prepared) is RenderFailure:
            self.answers.resolve(jobs[:1], None)
            on_result(_unsent(prepared))
        else:
            self._post(jobs, prepared, on_result)

    def send_otherwise(self, job: Job, than: Request, on_result: OnResult) -> bool:
        """Send *job* alone, and call *on_result* later with the result.

        Returns:
            False if nothing is sent: its request equals *than*, which was sent before, or there is
            none. Then *on_result* is not called.
        """
        prepared = self.rendering.prepare([job])
        if isinstance(prepared, RenderFailure) or _alike(prepared.request, than):
            return False
        self._post([job], prepared, on_result)
        return True

    def _post(self, jobs: Sequence[Job], prepared: PreparedRequest, on_result: OnResult) -> None:
        request, forwarded = prepared.request, prepared.forwarded
        for job in jobs if len(jobs) == 1 else jobs[: prepared.covers]:
            job.sent, job.forwarded = request, forwarded
        asked = forwarded and self.answers.asked(jobs[0])
        posted = _Posted(jobs, prepared, on_result, asked, time.time(), time.monotonic())
        whole = asked or self._judges_whole_response
        self._transport.post(request, partial(self._on_end, posted), whole=whole)

    def _on_end(self, posted: "_Posted", end: Response | TransportError) -> None:
        """Judge how a request ended; post the next one of the same delivery if any is left."""
        try:
            outcome = self._outcome(posted, end)
            also = posted.prepared.request.also
            if also and isinstance(outcome.verdict, Delivered) and not outcome.refused:
                request = replace(also[0], also=also[1:])
                following = replace(posted.prepared, request=request)
                self._post(posted.jobs, following, posted.on_result)
                return
        except Exception as error:  # neither this user nor others may get stuck
            log.exception("delivery_failed", delivery=posted.jobs[0].event.id)
            outcome = internal_failure(error)
        posted.on_result(outcome)

    def _outcome(self, posted: _Posted, end: Response | TransportError) -> AttemptResult:
        ended = time.monotonic()
        jobs, covers, latency = posted.jobs, posted.prepared.covers, ended - posted.began
        job = jobs[0]
        if type(end) is not Response:
            self.answers.resolve(jobs[:covers], None)
            said = self.rendering.redactor(job).text_short(str(end))
            attempt = Attempt(posted.at, None, latency, said)
            return AttemptResult(RetryLater(said, cause=end.cause), attempt, covers=covers)
        judged = end if end.status < _REDIRECTION else self._redacted(end, job)
        verdict = self._judge(judged)
        if type(verdict) is not Delivered and judged is end:  # its reason may quote half of a key
            judged = self._redacted(end, job)
            if type(again := self._judge(judged)) is type(verdict):
                verdict = again
        final = posted.asked and not end.truncated and type(verdict) is not RetryLater
        if self.answers.waiting:
            self.answers.resolve(jobs[:covers], end if final else None)
        said, refused = "", NOBODY
        if type(verdict) is Delivered:
            if not posted.prepared.forwarded:
                refused = self._refused(posted, judged)
            if refused:
                excerpt = self._redacted(end, job).body[:SAID].decode("utf-8", "replace")
                said = self.rendering.redactor(job).text_short(excerpt)
            elif not posted.prepared.forwarded and self.losses.is_due(ended):
                self.losses.offer(partial(getattr, job, "outgoing_event"))
        else:
            redactor = self.rendering.redactor(job)
            verdict = self._bounded(replace(verdict, reason=redactor.text_short(verdict.reason)))
            said = redactor.text_short(judged.body[:SAID].decode("utf-8", "replace"))
        if end.unread:
            unread = self.rendering.redactor(job).text_short(end.unread)
            said = f"{said} (unreadable: {unread})".lstrip()
        attempt = Attempt(posted.at, end.status, latency, said)
        return AttemptResult(verdict, attempt, covers=covers, told=final, refused=refused)

    def _refused(self, posted: _Posted, response: Response) -> Mapping[int, str]:
        """Return the reasons of the jobs that the vendor refused while it took the others."""
        jobs, output = posted.jobs[: posted.prepared.covers], self.rendering.output
        try:
            found = output.refused_events(posted.prepared.request, response)
            if found:  # their reasons may quote half of a key
                shown = self._redacted(response, jobs[0])
                again = output.refused_events(posted.prepared.request, shown)
                found = again if again.keys() == found.keys() else found
            if found and not found.keys() <= set(range(len(jobs))):
                raise IndexError(f"there are {len(jobs)} events, not {sorted(found)}")  # noqa: TRY301 - as if the plugin had raised it
        except Exception as error:
            log.exception("plugin_failed", vendor=output.name, step="refused_events")
            why = f"HTTP {response.status}, but the plugin failed to judge it: {error!r}"
            found = dict.fromkeys(range(len(jobs)), why)
        if not found:
            return NOBODY
        refused = {at: self.rendering.redactor(jobs[at]).text_short(found[at]) for at in found}
        for job in (jobs[at] for at in refused if len(jobs) > 1):
            alone = self.rendering.prepare([job])
            if type(alone) is PreparedRequest:
                job.sent = alone.request  # each dead letter with the whole batch would be too much
        return refused

    def _redacted(self, response: Response, job: Job) -> Response:
        """Return a refusal without the keys of *job*, since a reason may quote its body."""
        if not response.body:
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
        asks = response.status >= _REDIRECTION or not _WAITS.isdisjoint(response.headers)
        try:
            verdict = output.verdict(response, datetime.now(UTC) if asks else None)
        except Exception as error:
            log.exception("plugin_failed", vendor=output.name, step="verdict")
            return Refused(f"HTTP {response.status}, but the plugin failed to judge it: {error!r}")
        if self.rendering.client_input is None or not isinstance(verdict, RetryLater):
            return verdict
        if verdict.cause == "credential":
            return Refused(verdict.reason)  # the client's key: other clients must not wait for it
        return verdict

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def internal_failure(error: Exception) -> AttemptResult:
    """Return the result of an attempt that failed because of a bug of the gateway."""
    attempt = internal_error(error)
    return AttemptResult(RetryLater(attempt.response_excerpt, cause="internal"), attempt)


def internal_error(error: Exception) -> Attempt:
    """Return the attempt that failed because of a bug of the gateway."""
    return Attempt(time.time(), None, 0.0, f"internal error: {error!r}", isolated=1.0)


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
