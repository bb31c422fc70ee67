"""The worker of one destination and shard: takes jobs in order and settles them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from msgspec.structs import replace

from gateway.delivery.backlog import BacklogReader
from gateway.delivery.circuit_breaker import backoff
from gateway.delivery.dead_letters import DeadLetterWriter
from gateway.delivery.job import (
    ENDS,
    AttemptResult,
    Completion,
    EndedWell,
    Job,
    Shadowed,
    steady_time,
)
from gateway.delivery.progress import ProgressTracker
from gateway.delivery.queue import JobQueue
from gateway.delivery.sender import internal_error, internal_failure
from gateway.delivery.shared import SharedState
from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Response
from gateway.spool import Attempt, LogRecord, Shard
from gateway.verdict import Declined, Delivered, Refused, RetryLater

AHEAD = 256
"""Most finished deliveries after the cursor that an older delivery in flight holds back. Above it
the older one is recorded as waiting, so that a crash repeats no more than these."""

CONFIG_WAIT = 5.0
"""Seconds after which a job is made again that only another process has the configuration for."""

UNRECORDED = 1024
"""Most finished deliveries that the spool does not know; above it the worker waits."""

OUTAGE = 5
"""Failed probes in a row that count as an outage; after it all waiting deliveries are retried."""

ISOLATED_ATTEMPTS = {"credential": 5}
"""By cause: attempts before an event becomes a dead letter that fails while nearly all others
succeed. A firewall of the vendor that rejects an event answers 401 or 403 at once."""
MAX_ISOLATED_ATTEMPTS = 8
"""The same for other causes: one to two minutes with the default waits."""

log = structlog.get_logger()


class Worker:
    """Delivers one shard's entries to one destination.

    Args:
        team: what it shares with the destination's other workers.
        shard: its part of the log.
        on_fenced: called when another process has taken the shard over.

    Attributes:
        listening: the results of attempts still count.
        leaving: its shard is given up.
        active: number of its attempts under way.
    """

    def __init__(
        self, team: SharedState, shard: Shard, on_fenced: "Callable[[Worker], None]"
    ) -> None:
        self.shard = shard
        self.listening = True
        self.leaving = False
        self.active = 0
        self._quiet = asyncio.Event()
        self.name = team.name
        self.config = team.config
        self.sender = team.sender
        self._secrets = team.secrets
        self.breaker = team.breaker
        self.limiter = team.limiter
        self._pump = team.pump
        self._counts = team.counts
        self._observer = team.observer
        self.queue = JobQueue(self.config.concurrency, self._pump.wake, team.isolated)
        fenced = partial(on_fenced, self)
        self.backlog = BacklogReader(
            self.name,
            shard,
            self.queue,
            self.breaker,
            concurrency=self.config.concurrency,
            retry_max=self.config.retry_max,
            parse=team.parse,
            steps_of=team.steps_of,
            configs_differ=team.configs_differ,
            whole=self.sender.rendering.forwards_from,
            on_fenced=fenced,
        )
        self.tracker = ProgressTracker(
            self.name,
            shard,
            self.backlog.read_position,
            on_recorded=self._pump.wake,
            on_fenced=fenced,
        )
        self.dead_letters = DeadLetterWriter(
            self.name, self.tracker, self.sender, self._observer, self._counts
        )

    def start(self) -> None:
        """Start to read; from now on every new entry must be passed to `offer`."""
        self.backlog.start(self.tracker, self.dead_letters)

    async def quiet(self, grace: float) -> bool:
        """Wait at most *grace* seconds for its attempts; return whether all have ended.

        No more may begin: its queue is closed.
        """
        self._quiet.clear()
        if self.active:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._quiet.wait()
        return not self.active

    async def stop(self) -> None:
        """Record the outcomes so far, and end; the results of attempts must no longer count."""
        await self.backlog.stop()
        self._spill(1)
        with contextlib.suppress(SpoolError):  # already logged; a restart repeats the deliveries
            await self.tracker.flush()
        self.tracker.end()

    def abandon(self) -> None:
        """End at once, and record nothing: another process delivers the shard's entries now."""
        self.listening = False
        self.queue.closed = True
        self.tracker.end()
        self.backlog.abandon()

    @property
    def hurries(self) -> bool:
        """Return whether a delivery that a drain made due is not settled."""
        return self.backlog.waiting.hurries or self.queue.in_flight.waiting > 0

    # Upstream replies

    def forwards_from(self, vendor: str) -> bool:
        """Return whether requests in a vendor's format are forwarded unchanged."""
        return self.sender.rendering.forwards_from(vendor)

    def own_secrets(self) -> list[str]:
        """Return the credentials that the destination's requests are sent with."""
        return self._secrets

    def wait_for_reply(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return a future of the vendor's response to a request; its result may be None."""
        return self.sender.answers.register(request_id)

    # Input

    def offer(self, item: LogRecord, events: Sequence[Event]) -> None:
        """Accept a new entry; entries must come in the order of the log."""
        self.backlog.offer(item, events)

    def sends_now(self, user: str) -> bool:
        """Return whether a new event of *user* would be sent without waiting behind others."""
        if self.queue.users.blocked(user) or self.queue.room_for(self.shard.user_hash(user)) <= 0:
            return False
        return self.backlog.prompt()

    def _spill(self, most: int) -> None:
        """Record the oldest jobs as waiting, until they hold back fewer than *most* finished."""
        while self.tracker.completed_ahead >= most and (job := self.queue.in_flight.oldest()):
            close = self.tracker.close_ahead if job.ahead else self.tracker.close
            self.queue.in_flight.spill(job)
            self.tracker.waiting(job.to_waiting(steady_time(), parked=job.parked))
            close(job.mark.seq)

    # Attempts

    def take(self) -> Job | None:
        """Return the next job to begin; None if there is none, or none may begin now."""
        queue, tracker = self.queue, self.tracker
        while queue.ready and not queue.closed:
            if tracker.stalled or tracker.unrecorded >= UNRECORDED:
                return None  # the next record wakes the pump
            wait = self._wait()
            if wait:
                self._pump.wake_after(wait)
                return None
            job = queue.pop(probe=self.breaker.state == "half_open")
            if job is None:  # the limit of isolated attempts is reached
                self.breaker.cancel_probe()
                return None
            if not queue.ready:
                self.backlog.request_more()
            if not queue.in_flight.is_evicted(job):
                return job
            self.breaker.cancel_probe()
            queue.tried(job)
            self._finish(job)
        self.backlog.request_more()
        return None

    def _wait(self) -> float:
        """Return the seconds until the next attempt may start; 0 allows and counts one."""
        now, breaker = time.monotonic(), self.breaker
        wait = breaker.wait_time(now) or self.limiter.wait_time(now)
        if not wait and breaker.state != "closed":
            breaker.begin_attempt()
        return wait

    def begin(self, job: Job) -> None:
        """Begin an attempt of *job*, and of its user's next ones that go with it."""
        self.active += 1
        jobs = [job]
        try:
            if job.unbuildable:
                self._leave_to_others(job)
                return
            if self.queue.users.has_followers(job.user) and (most := self.sender.batch_room(job)):
                jobs += self.queue.users.followers(job.user, most)
            self.sender.send(jobs, partial(self._on_result, jobs))
        except Exception as error:  # neither this user nor others may get stuck
            log.exception("delivery_failed", destination=self.name, delivery=job.event.id)
            self._end(jobs, internal_failure(error))

    def _leave_to_others(self, job: Job) -> None:
        """Let a job wait that this process cannot make now: a reload may be under way."""
        self.breaker.cancel_probe()
        self._postpone(job, job.unbuildable, CONFIG_WAIT)
        self._observer.on_attempt(job, "retry", job.unbuildable, None)
        self._leave_waiting(job)
        self._ended()

    def _on_result(self, jobs: Sequence[Job], outcome: AttemptResult) -> None:
        """Settle *jobs*; if the vendor refuses a batch, send the first job again alone."""
        if not self.listening:
            self._ignore(jobs)
            return
        try:
            if type(outcome.verdict) is Refused and self._is_sent_again(jobs, outcome):
                return
        except Exception as error:  # neither this user nor others may get stuck
            log.exception("delivery_failed", destination=self.name, delivery=jobs[0].event.id)
            outcome = internal_failure(error)
        self._end(jobs, outcome)

    def _is_sent_again(self, jobs: Sequence[Job], refused: AttemptResult) -> bool:
        """Send the first of *jobs* alone, rendered by the gateway; return False if it is final.

        The vendor refused them as a batch, or as the client wrote them. If the rendered request is
        the same, or there is none, the refusal stands.
        """
        first = jobs[0]
        if refused.covers == 1 and (not first.forwarded or refused.told):
            return False
        for one in jobs[: refused.covers]:
            one.unbatched = True
        on_result = partial(self._on_final_result, jobs)
        if refused.covers > 1 or first.sent is None:
            self.sender.send(jobs[:1], on_result)
            return True
        if not self.sender.send_otherwise(first, first.sent, on_result):
            return False
        if refused.attempt is not None:
            first.tried(refused.attempt)
        return True

    def _on_final_result(self, jobs: Sequence[Job], outcome: AttemptResult) -> None:
        if self.listening:
            self._end(jobs, outcome)
        else:
            self._ignore(jobs)

    def _ignore(self, jobs: Sequence[Job]) -> None:
        """Free the place of an attempt whose result no longer counts."""
        self.queue.tried(jobs[0])
        self.breaker.cancel_probe()  # the destination's other workers may make the next one
        self._ended()

    def _ended(self) -> None:
        """Count an attempt as ended."""
        self.active -= 1
        if not self.active:
            self._quiet.set()
        self._pump.ended()

    def _end(self, jobs: Sequence[Job], outcome: AttemptResult) -> None:
        """Settle those of *jobs* that *outcome* covers, and put the others back."""
        covers = outcome.covers if type(outcome.verdict) is Delivered else 1
        job = jobs[0]
        try:
            if len(jobs) > 1:
                self.queue.users.put_back(job.user, jobs[covers:])
                for position in range(1, covers):
                    self._settle(jobs[position], outcome.of(position), leave=False)
            if job.attempts:
                self.queue.tried(job)
            self._settle(job, outcome.of(0))
        except Exception:  # the other jobs must go on
            log.exception("delivery_failed", destination=self.name, delivery=job.event.id)
        finally:
            self._ended()

    # Outcomes

    def _settle(self, job: Job, outcome: AttemptResult, *, leave: bool = True) -> None:
        """Record the outcome of *job*, and remove it; if recording fails, it is retried."""
        try:
            waits, ended = self._record(job, outcome)
        except Exception as error:  # neither this user nor others may get stuck
            log.exception("settle_failed", destination=self.name, delivery=job.event.id)
            self.breaker.cancel_probe()
            waits, ended = not self.queue.in_flight.is_evicted(job), None
            if waits:
                failed = internal_error(error)
                job.tried(failed)
                self._postpone(job, failed.response_excerpt)
        if waits:
            self._leave_waiting(job)
        else:
            self._finish(job, ended, leave=leave)

    def _record(self, job: Job, outcome: AttemptResult) -> tuple[bool, Completion | None]:
        """Record the outcome of *job*; return whether it waits, else the outcome for the cursor.

        All that can fail happens before anything is recorded.
        """
        verdict, attempt = outcome.verdict, outcome.attempt
        if type(verdict) is RetryLater:
            return self._retry(job, verdict, attempt), None
        if attempt is None:
            self.breaker.cancel_probe()
        else:
            job.tried(attempt)
            self._on_response(job)
        evicted = self.queue.in_flight.is_evicted(job)
        ended: Completion | None = None
        if type(verdict) is Refused:
            if not evicted:
                self.dead_letters.write(job, outcome.cause, verdict.reason, attempt)
        else:
            completion = ENDS[type(verdict)]
            if job.waiting or job.ahead or evicted:
                self.tracker.completed(job.mark, completion)
            else:  # the cursor alone records it
                self.tracker.delivered(job.mark)
                ended = completion
            self._count(job, verdict, completion, attempt)
        if type(verdict) is not Shadowed:
            self._observer.settled(job.event, self.name, verdict)
        return False, ended

    def _count(self, job: Job, how: EndedWell, ended: Completion, attempt: Attempt | None) -> None:
        counts, reason = self._counts, ""
        if type(how) is Delivered:
            counts.delivered += 1
        elif type(how) is Declined:
            counts.declined += 1
            reason = how.reason
        else:
            counts.shadowed += 1
        self._observer.on_attempt(job, ended, reason, attempt)

    def _on_response(self, job: Job) -> None:
        breaker = self.breaker
        opened, trouble = breaker.opened, breaker.reason
        breaker.record_success(time.monotonic())
        breaker.forget(job.mark)
        self.queue.passed(job)
        if trouble is None and not opened:
            return
        if opened:
            log.info("circuit_closed", destination=self.name, reason=trouble)
        if opened >= OUTAGE:
            self.backlog.waiting.recover()
        self._pump.wake_all()

    def _retry(self, job: Job, verdict: RetryLater, attempt: Attempt | None) -> bool:
        """Schedule a retry of *job*, or give it up; return whether it is retried."""
        self._counts.retried += 1
        before = self.breaker.opened
        isolated = self.breaker.record_failure(
            job.mark,
            job.user,
            cause=verdict.cause,
            reason=verdict.reason,
            after=verdict.after,
            now=time.monotonic(),
            isolated_before=job.isolated,
        )
        if before == 0 and self.breaker.opened:
            log.warning("circuit_open", destination=self.name, reason=self.breaker.reason)
        if attempt is not None:
            attempt = replace(attempt, isolated=isolated)
            job.tried(attempt)
        if self.queue.in_flight.is_evicted(job):
            return False
        why = self._exhausted(job, verdict)
        if why:
            self.breaker.forget(job.mark)
            self.dead_letters.write(job, "expired", f"{why}; last: {verdict.reason}", attempt)
            return False
        self._postpone(job, verdict.reason, verdict.after or 0.0)
        self._observer.on_attempt(job, "retry", verdict.reason, attempt)
        return True

    def _postpone(self, job: Job, reason: str, least: float = 0.0) -> None:
        """Record that *job* waits for its next attempt; it waits at *least* so many seconds."""
        wait = backoff(max(1, len(job.attempts)), self.config.retry_min, self.config.retry_max)
        due = steady_time() + max(wait, least)
        self.tracker.waiting(job.to_waiting(due, reason))
        self.backlog.waiting.due_at(due)

    def _leave_waiting(self, job: Job) -> None:
        """Remove *job*, which waits in the spool, and park its user's later jobs behind it."""
        self.queue.in_flight.retry_later(job)
        for behind in self.queue.users.waiting(job.user):
            self._park(behind)
            self._release(behind, leave=False)
        self._release(job)

    def _park(self, job: Job) -> None:
        """Park *job* in the spool behind an earlier event of its user."""
        self.sender.answers.resolve([job], None)
        if job.waiting:
            self.queue.in_flight.requeue(job)
            return
        self.queue.users.block(job.user)
        self.tracker.waiting(job.to_waiting(steady_time(), parked=True))

    def _exhausted(self, job: Job, verdict: RetryLater) -> str:
        """Return why *job* is not retried; empty if it is."""
        attempts, most = len(job.attempts), self.config.max_attempts
        if most:
            return f"given up after {attempts} attempts" if attempts >= most else ""
        isolated = sum(attempt.isolated for attempt in job.attempts)
        most = ISOLATED_ATTEMPTS.get(verdict.cause, MAX_ISOLATED_ATTEMPTS)
        if isolated + 1 >= most:
            return f"given up after {attempts} attempts while other users' events were accepted"
        return ""

    def _finish(self, job: Job, ended: Completion | None = None, *, leave: bool = True) -> None:
        """Remove *job*, which is settled, and continue with its user's next event."""
        queue = self.queue
        if job.waiting:
            queue.in_flight.settle(job.mark)
        self._release(job, ended, leave=leave)
        if self.tracker.completed_ahead >= AHEAD:
            self._spill(AHEAD)
        if queue.users.blocked(job.user):
            self.backlog.waiting.continue_user(job.user)

    def _release(self, job: Job, ended: Completion | None = None, *, leave: bool = True) -> None:
        """Remove *job*."""
        try:
            if job.ahead:
                self.tracker.close_ahead(job.mark.seq)
            elif not job.waiting:
                self.tracker.close(job.mark.seq, ended)
        finally:  # the user's next event must go on in any case
            self.queue.remove(job, leave=leave)
        self.backlog.freed(job.user_hash)
