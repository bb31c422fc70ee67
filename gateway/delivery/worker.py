"""The worker of one destination: takes jobs in order and settles them."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from gateway.config import DestinationConfig
from gateway.delivery.backlog import BacklogReader
from gateway.delivery.circuit_breaker import BreakerState, CircuitBreaker, backoff
from gateway.delivery.dead_letters import DeadLetterWriter
from gateway.delivery.job import (
    ENDS,
    AttemptResult,
    Completion,
    DeliveryObserver,
    EndedWell,
    Guarded,
    Job,
    OnSettled,
    Shadowed,
    StepsOf,
    steady_time,
)
from gateway.delivery.job_builder import Parse
from gateway.delivery.progress import INTERVAL, ProgressTracker
from gateway.delivery.queue import JobQueue
from gateway.delivery.rate_limiter import RateLimiter
from gateway.delivery.sender import Sender
from gateway.delivery.task_pool import TaskPool
from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Response
from gateway.redact import find_secrets
from gateway.spool import Attempt, LogRecord, Spool
from gateway.verdict import Declined, Delivered, Refused, RetryLater

AHEAD = 256
"""Finished deliveries that may lie before the cursor because an older delivery is still in flight.
Past that the older one is recorded as waiting, so that a crash repeats no more than these."""

UNRECORDED = 1024
"""Deliveries that may have ended without the spool knowing; past that it is waited for."""

OUTAGE = 5
"""Probes in vain, one after the other, that are an outage; at its end all is tried that waits."""

ISOLATED_ATTEMPTS = {"credential": 5}
"""By cause: after how many attempts an event is given up that fails while nearly all others are
taken. A vendor's firewall that dislikes an event says so at once."""
MAX_ISOLATED_ATTEMPTS = 8
"""For the other causes: one to two minutes with the default waits."""

log = structlog.get_logger()


class WorkerStatus(NamedTuple):
    """How a worker is doing; the counts are since it began."""

    circuit: BreakerState
    reason: str
    """What the last attempt in vain said."""
    paused: bool
    in_hand: int
    delivered: int
    declined: int
    dead: int
    retried: int
    shadowed: int
    """Events that a shadow has looked at; they count as nothing else."""
    paused_for: float = 0.0
    """Seconds for which the vendor asked for no attempts."""


class Worker:
    """Delivers to one destination, sharing nothing with the others but the spool.

    Args:
        name: the destination's name.
        config: how delivery behaves.
        sender: renders, sends and judges one event.
        spool: the log.
        parse: a stored request to its events.
        steps_of: a route's name to its steps.
        witness: sees every try.
        settled: called at each delivery's end, where someone listens.
    """

    def __init__(  # noqa: PLR0913 - what a worker needs of the world, each once
        self,
        name: str,
        config: DestinationConfig,
        *,
        sender: Sender,
        spool: Spool,
        parse: Parse,
        steps_of: StepsOf,
        witness: DeliveryObserver,
        settled: OnSettled | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.configured = config
        """The destination as it is configured, where *config* differs from it."""
        self.sender = sender
        self.breaker = CircuitBreaker(low=config.retry_min, high=config.retry_max)
        self.limiter = RateLimiter(config.rate, config.burst)
        self._lanes = TaskPool(name, config.concurrency, self._take, self._deliver)
        self.queue = JobQueue(config.concurrency, self._lanes.wake)
        self.backlog = BacklogReader(
            name,
            spool,
            self.queue,
            self.breaker,
            concurrency=config.concurrency,
            retry_max=config.retry_max,
            parse=parse,
            steps_of=steps_of,
            whole=sender.rendering.forwards_from,
        )
        self.tracker = ProgressTracker(name, spool, self.backlog.read_position)
        self._witness = Guarded(witness, settled)
        self.burials = DeadLetterWriter(name, self.tracker, sender, self._witness)
        self._spool = spool
        self._stopping = self._paused = self._drained = self._drained_late = False
        self.delivered = self.declined = self.retried = self.shadowed = 0

    def start(self) -> None:
        """Take up what is owed, and begin; from now on every new entry has to be offered."""
        self.backlog.start(self.tracker, self.burials)
        self._lanes.start()

    async def stop(self, grace: float) -> None:
        """Let what is on its way arrive for *grace* seconds, record it, and end.

        What is finished is recorded even where an older delivery is not, so that it is not
        repeated after the next start. What is offered meanwhile stays in the spool.
        """
        self._stopping = self.queue.closed = True
        await self._lanes.stop(grace)
        await self.backlog.stop()
        self._spill(1)
        with contextlib.suppress(SpoolError):  # it has been said; a restart repeats it
            await self.tracker.flush()
        self.tracker.end()
        await self.sender.close()

    @property
    def paused(self) -> bool:
        """Tell whether an operator lets nothing new go."""
        return self._paused

    @property
    def paused_for(self) -> float:
        """Return the seconds for which the vendor asked for no attempts; 0 where it did not."""
        now = time.monotonic()
        until = self.breaker.paused_until(now)
        return 0.0 if until is None else until - now

    def pause(self, *, paused: bool = True) -> None:
        """Let nothing new go, or go on; what is on its way arrives, what comes in stays."""
        self._paused = paused
        self.queue.closed = self._stopping or paused
        if not paused:
            self.wake()

    @property
    def drains(self) -> bool:
        """Tell whether it ends before what it was to let go at once has gone."""
        left = self.backlog.waiting.hurries or self.queue.in_flight.waiting > 0
        return self._drained and (self._drained_late or left)

    async def drain(self) -> None:
        """Let all that is owed go at once, whatever it waited for; the rate limit stays.

        Raises:
            SpoolError: the spool cannot tell what waits.
        """
        self._drained, self._drained_late = True, self._stopping
        await self.tracker.flush()
        self.breaker.retry_now()
        await self.backlog.waiting.retry_by(steady_time())
        self.wake()

    def status(self) -> WorkerStatus:
        """Return how the worker is doing."""
        return WorkerStatus(
            self.breaker.state,
            self.breaker.reason or "",
            self.paused,
            self.tracker.open_entries,
            self.delivered,
            self.declined,
            self.burials.count,
            self.retried,
            self.shadowed,
            self.paused_for,
        )

    # Replies that a sender waits for

    def forwards_from(self, vendor: str) -> bool:
        """Tell whether requests in a vendor's format go on as they came."""
        return self.sender.rendering.forwards_from(vendor)

    def own_secrets(self) -> tuple[str, ...]:
        """Return the destination's own credentials."""
        return find_secrets(self.sender.rendering.output.config)

    def wait_for_reply(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return what will be the response to a request; None where there is none."""
        return self.sender.answers.register(request_id)

    # What comes in

    def offer(self, item: LogRecord, events: Sequence[Event]) -> None:
        """Take an entry that was just accepted, in the order of the log."""
        self.backlog.offer(item, events)

    def sends_now(self, user: str) -> bool:
        """Tell whether an event of *user* that is offered now would go as soon as it may."""
        if self.queue.users.blocked(user) or self.queue.room_for(self._spool.user_hash(user)) <= 0:
            return False
        return self.backlog.prompt()

    def wake(self) -> None:
        """Look at once for what may go."""
        self._lanes.wake_all()
        self.backlog.request_more()

    def _spill(self, most: int) -> None:
        """Record the oldest in flight as waiting, until fewer than *most* finished are ahead."""
        while self.tracker.completed_ahead >= most and (job := self.queue.in_flight.oldest()):
            close = self.tracker.close_ahead if job.ahead else self.tracker.close
            self.queue.in_flight.spill(job)
            self.tracker.waiting(job.to_waiting(steady_time(), parked=job.parked))
            close(job.mark.seq)

    # What goes out

    def _take(self) -> Job | None:
        if self.tracker.stalled or self.tracker.unrecorded >= UNRECORDED:
            self._lanes.wake_after(1.0 if self.tracker.stalled else INTERVAL)
            return None
        while not self.queue.closed and len(self.queue):
            wait = self._wait()
            if wait:
                self._lanes.wake_after(wait)
                return None
            job = self.queue.pop(probe=self.breaker.state == "probing")
            if job is None:  # what may go is as much as may be on its way of its kind
                self.breaker.cancel_probe()
                return None
            if not self.queue.in_flight.is_evicted(job):
                return job
            self.breaker.cancel_probe()
            self.queue.tried(job)
            self._finish(job)
        self.backlog.request_more()
        return None

    def _wait(self) -> float:
        """Return the seconds until the next attempt may start; 0 lets one through."""
        now = time.monotonic()
        wait = self.breaker.wait_time(now) or self.limiter.wait_time(now)
        if not wait:
            self.breaker.begin_attempt()
        return wait

    async def _deliver(self, job: Job) -> None:
        jobs, covers = [job], 1
        try:
            if job.user and (most := self.sender.batch_room(job)):
                jobs += self.queue.users.followers(job.user, most)
            outcome = await self._send(jobs)
            if isinstance(outcome.verdict, Delivered):
                covers = outcome.covers
        except Exception as error:  # whatever it was, it may cost neither the user nor the others
            log.exception("delivery_failed", destination=self.name, delivery=job.event.id)
            attempt = _failed(error)
            outcome = AttemptResult(RetryLater(attempt.response_excerpt, cause="internal"), attempt)
        self.queue.users.put_back(job.user, jobs[covers:])
        for companion in jobs[1:covers]:
            self._settle(companion, outcome, leave=False)
        self.queue.tried(job)
        self._settle(job, outcome)

    async def _send(self, jobs: Sequence[Job]) -> AttemptResult:
        """Return how the attempt ended; what is refused together is sent once more, alone."""
        outcome = await self.sender.send(jobs)
        if isinstance(outcome.verdict, Refused) and (
            outcome.covers > 1 or (jobs[0].forwarded and not outcome.told)
        ):
            return await self._translated(jobs[: outcome.covers], outcome)
        return outcome

    async def _translated(self, jobs: Sequence[Job], refused: AttemptResult) -> AttemptResult:
        """Return how the first of *jobs* ends when it is sent alone, as the gateway writes it.

        The vendor refused them together, or as the client wrote them. Where the gateway writes the
        same, or cannot write it at all, the refusal stands.
        """
        for one in jobs:
            one.unbatched = True
        first = jobs[0]
        if len(jobs) > 1 or first.sent is None:
            return await self.sender.send(jobs[:1])
        again = await self.sender.send_otherwise(first, first.sent)
        if again is None:
            return refused
        if refused.attempt is not None:
            first.tried(refused.attempt)
        return again

    # How it ends

    def _settle(self, job: Job, outcome: AttemptResult, *, leave: bool = True) -> None:
        """Record how *job* ended, and let go of it; what cannot be recorded so is tried again."""
        try:
            waits, ended = self._recorded(job, outcome)
        except Exception as error:  # it may cost neither the user nor the others either
            log.exception("not_settled", destination=self.name, delivery=job.event.id)
            self.breaker.cancel_probe()
            waits, ended = not self.queue.in_flight.is_evicted(job), None
            if waits:
                attempt = _failed(error)
                job.tried(replace(attempt, isolated=1.0))
                self._postpone(job, attempt.response_excerpt)
        if waits:
            self._leave_waiting(job)
        else:
            self._finish(job, ended, leave=leave)

    def _recorded(self, job: Job, outcome: AttemptResult) -> tuple[bool, Completion | None]:
        """Record how *job* ended; tell whether it waits, else what the cursor will say of it.

        Whatever may fail comes before what is recorded, which then stands.
        """
        verdict, attempt = outcome.verdict, outcome.attempt
        if isinstance(verdict, RetryLater):
            return self._again(job, verdict, attempt), None
        if attempt is None:
            self.breaker.cancel_probe()
        else:
            job.tried(attempt)
            self._passed(job)
        evicted = self.queue.in_flight.is_evicted(job)
        ended: Completion | None = None
        if isinstance(verdict, Refused):
            if not evicted:
                self.burials.write(job, outcome.cause, verdict.reason, attempt)
        else:
            ended = ENDS[type(verdict)]
            if job.in_order and not evicted:
                self.tracker.delivered(job.mark)
            else:
                self.tracker.completed(job.mark, ended)
            self._ended_well(job, verdict, ended, attempt)
            if evicted or not job.in_order:
                ended = None
        if not isinstance(verdict, Shadowed):
            self._witness.settled(job.event, self.name, verdict)
        return False, ended

    def _ended_well(
        self, job: Job, how: EndedWell, ended: Completion, attempt: Attempt | None
    ) -> None:
        self.delivered += isinstance(how, Delivered)
        self.declined += isinstance(how, Declined)
        self.shadowed += isinstance(how, Shadowed)
        self._witness.on_attempt(job, ended, getattr(how, "reason", ""), attempt)

    def _passed(self, job: Job) -> None:
        opened, trouble = self.breaker.opened, self.breaker.reason
        self.breaker.record_success(time.monotonic())
        self.breaker.forget(job.mark)
        self.queue.passed(job)
        if opened:
            log.info("circuit_closed", destination=self.name, reason=trouble)
        if opened >= OUTAGE:
            self.backlog.waiting.recover()
        if trouble is not None:
            self._lanes.wake_all()

    def _again(self, job: Job, verdict: RetryLater, attempt: Attempt | None) -> bool:
        """Record that *job* is tried again; tell whether it is: it may have to be given up."""
        self.retried += 1
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
            self.burials.write(job, "expired", f"{why}; last: {verdict.reason}", attempt)
            return False
        self._postpone(job, verdict.reason, verdict.after or 0.0)
        self._witness.on_attempt(job, "later", verdict.reason, attempt)
        return True

    def _postpone(self, job: Job, reason: str, least: float = 0.0) -> None:
        """Record that *job* waits for its next attempt, at *least* so many seconds."""
        wait = backoff(max(1, len(job.attempts)), self.config.retry_min, self.config.retry_max)
        due = steady_time() + max(wait, least)
        self.tracker.waiting(job.to_waiting(due, reason))
        self.backlog.waiting.due_at(due)

    def _leave_waiting(self, job: Job) -> None:
        """Let go of *job*, which waits in the spool, and let its user's others wait behind it."""
        self.queue.in_flight.retry_later(job)
        for behind in self.queue.users.waiting(job.user):
            self._rest(behind)
            self._release(behind, leave=False)
        self._release(job)

    def _rest(self, job: Job) -> None:
        """Let *job* wait in the spool behind its user's, which is tried again later."""
        self.sender.answers.resolve([job], None)
        if job.waiting:
            self.queue.in_flight.requeue(job)
            return
        self.queue.users.block(job.user)
        self.tracker.waiting(job.to_waiting(steady_time(), parked=True))

    def _exhausted(self, job: Job, verdict: RetryLater) -> str:
        """Return why *job* is not tried again; empty where it is."""
        attempts, most = len(job.attempts), self.config.max_attempts
        if most:
            return f"given up after {attempts} attempts" if attempts >= most else ""
        isolated = sum(attempt.isolated for attempt in job.attempts)
        most = ISOLATED_ATTEMPTS.get(verdict.cause, MAX_ISOLATED_ATTEMPTS)
        if isolated + 1 >= most:
            return f"given up after {attempts} attempts while other users' events were taken"
        return ""

    def _finish(self, job: Job, ended: Completion | None = None, *, leave: bool = True) -> None:
        """Let the user's next event go, now that *job* is settled."""
        if job.waiting:
            self.queue.in_flight.settle(job.mark)
        self._release(job, ended, leave=leave)
        self._spill(AHEAD)
        self.backlog.waiting.continue_user(job.user)

    def _release(self, job: Job, ended: Completion | None = None, *, leave: bool = True) -> None:
        """Let go of *job*, whatever became of it."""
        try:
            self.queue.in_flight.release(job)
            if job.in_order:
                self.tracker.close(job.mark.seq, ended)
            elif job.ahead:
                self.tracker.close_ahead(job.mark.seq)
        finally:  # its user goes on, whatever happens
            if leave:
                self.queue.release(job)
        self.backlog.freed(job.user_hash)
        self.backlog.request_more()


def _failed(error: Exception) -> Attempt:
    """Return the attempt that met a mistake of the gateway's own."""
    return Attempt(time.time(), None, 0.0, f"the gateway failed: {error!r}")
