"""One destination's worker: it takes what is owed, in order, and settles it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from gateway.config import DestinationConfig
from gateway.delivery.attempt import Outcome, Sender, Shadowed
from gateway.delivery.backlog import Backlog
from gateway.delivery.burial import Burials
from gateway.delivery.clock import steady
from gateway.delivery.gate import Gate, backoff
from gateway.delivery.hand import Hand
from gateway.delivery.job import Job, StepsOf
from gateway.delivery.lanes import Lanes
from gateway.delivery.ledger import GATHERING, Ledger
from gateway.delivery.users import Users
from gateway.delivery.witness import ENDS, EndedWell, Settled, Witness
from gateway.errors import SpoolError
from gateway.event import Event
from gateway.exchange import Declined, Delivered, Refused, RetryLater
from gateway.spool import Attempt, Entry, Item, Mark, Spool

AHEAD = 256
"""Finished deliveries that may lie before the cursor because an older delivery is still in hand.
Past that the older one is recorded as waiting, so that a crash repeats no more than these."""

UNRECORDED = 1024
"""Deliveries that may have ended without the spool knowing; past that it is waited for."""

log = structlog.get_logger()

Parse = Callable[[Entry], Sequence[Event]]


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
        witness: Witness,
        settled: Settled | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.sender = sender
        self.spool = spool
        self.gate = Gate(
            low=config.retry_min, high=config.retry_max, rate=config.rate, burst=config.burst
        )
        self.users = Users()
        self.hand = Hand(self.users)
        self.backlog = Backlog(self, parse, steps_of)
        self.ledger = Ledger(name, spool, self.backlog.reached)
        self.burials = Burials(name, self.ledger, sender, witness)
        self._witness = witness
        self._settled = settled
        self._stopping = self.paused = False
        self._ready: deque[Job] = deque()
        self._lanes = Lanes(name, config.concurrency, self._take, self._deliver)
        self.delivered = self.declined = self.retried = self.shadowed = 0

    async def start(self) -> None:
        """Take up what is owed, and begin.

        Raises:
            SpoolError: the spool cannot tell what is owed.
        """
        await self.backlog.start()
        self._lanes.start()

    async def stop(self, grace: float) -> None:
        """Let what is on its way arrive for *grace* seconds, record it, and end.

        What is finished is recorded even where an older delivery is not, so that it is not
        repeated after the next start.
        """
        self._stopping = True
        await self._lanes.stop(grace)
        await self.backlog.stop()
        self._hold_while_ahead(1)
        with contextlib.suppress(SpoolError):  # it has been said; a restart repeats it
            await self.ledger.flush()
        await self.sender.close()

    # What comes in

    def offer(self, item: Item, events: Sequence[Event]) -> None:
        """Take an entry that was just accepted, in the order of the log."""
        if self.backlog.takes_live(item.seq):
            self.admit(item, events)

    def prompt(self, user: str) -> bool:
        """Tell whether an event of *user* that is offered now would go as soon as it may."""
        behind = self.backlog.behind or self.users.blocked(user)
        return not (behind or self.full or self.gate.opened)

    @property
    def full(self) -> bool:
        """Tell whether the worker takes nothing more: it holds as much as it may, or is paused."""
        return self._stopping or self.paused or self.hand.full

    @property
    def ready(self) -> int:
        """Return how many jobs could go at once."""
        return len(self._ready)

    def go(self) -> None:
        """Look at once for what may go."""
        self._lanes.wake_all()
        self.backlog.hungry()

    def admit(self, item: Item, events: Sequence[Event]) -> None:
        """Take the deliveries of *item* that are this destination's."""
        indexes = self.hand.left(item, self.name)
        if not indexes:
            return
        self.ledger.open(item.seq, len(indexes))
        for index in indexes:
            job = self.backlog.job(Mark(item.seq, index), item.entry, events)
            if job is None:
                self.ledger.close(item.seq)
            else:
                self._enter(job)

    def _enter(self, job: Job) -> None:
        if job.user and self.users.blocked(job.user):
            self._park(job)
            self.ledger.close(job.mark.seq)
            return
        self.push(job)

    def push(self, job: Job) -> None:
        """Let *job* go as soon as its user's turn and the gate allow."""
        self.hand.take(job)
        if self.users.enter(job):
            self._ready.append(job)
            self._lanes.wake()

    def _park(self, job: Job) -> None:
        self.sender.answers.give([job], None)
        self.users.block(job.user)
        self.ledger.later(job.later(steady(), parked=True))

    def _hold_while_ahead(self, most: int) -> None:
        """Record the oldest in hand as waiting, until fewer than *most* finished are ahead."""
        while self.ledger.ahead >= most and (job := self.hand.oldest()):
            self.hand.hold(job)
            self.ledger.later(job.later(steady(), parked=job.parked))
            self.ledger.close(job.mark.seq)

    # What goes out

    def _take(self) -> Job | None:
        if self.ledger.stuck or self.ledger.unrecorded >= UNRECORDED:
            self._lanes.wake_in(1.0 if self.ledger.stuck else GATHERING)
            return None
        while self._ready and self.hand.was_taken(self._ready[0]):
            self._finish(self._ready.popleft())
        if self._stopping or self.paused or not self._ready:
            self.backlog.hungry()
            return None
        wait = self.gate.wait(asyncio.get_running_loop().time())
        if wait:
            self._lanes.wake_in(wait)
            return None
        return self._ready.popleft()

    async def _deliver(self, job: Job) -> None:
        most = self.sender.company(job) if job.user else 0
        jobs = [job, *(self.users.followers(job.user, most) if most else ())]
        outcome = await self.sender.send(jobs)
        covers = outcome.covers
        if isinstance(outcome.verdict, Refused) and (
            covers > 1 or (job.forwarded and not outcome.told)
        ):
            outcome = await self._translated(jobs[:covers], outcome)
            covers = 1
        if not isinstance(outcome.verdict, Delivered):
            covers = 1
        self.users.put_back(job.user, jobs[covers:])
        for companion in jobs[1:covers]:
            self._settle(companion, outcome, leave=False)
        self._settle(job, outcome)

    async def _translated(self, jobs: Sequence[Job], refused: Outcome) -> Outcome:
        """Return how the first of *jobs* ends when it is sent alone, as the gateway writes it.

        The vendor refused them together, or as the client wrote them. Where the gateway writes the
        same, or cannot write it at all, the refusal stands.
        """
        for one in jobs:
            one.alone = True
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

    def _settle(self, job: Job, outcome: Outcome, *, leave: bool = True) -> None:
        verdict = outcome.verdict
        if outcome.attempt is None:
            self.gate.abandoned()
        else:
            job.tried(outcome.attempt)
        given_up = self.hand.was_taken(job)
        if isinstance(verdict, RetryLater):
            self._again(job, verdict, outcome.attempt, given_up=given_up)
            return
        if outcome.attempt is not None:
            self._passed()
        if isinstance(verdict, Refused):
            if not given_up:
                self.burials.bury(job, outcome.cause, verdict.reason, outcome.attempt)
        else:
            self._ended_well(job, verdict, outcome.attempt)
            settle = self.ledger.done if job.waiting or given_up else self.ledger.arrived
            settle(job.mark)
        if self._settled is not None and not isinstance(verdict, Shadowed):
            self._settled(job.event, self.name, verdict)
        self._finish(job, leave=leave)

    def _ended_well(self, job: Job, how: EndedWell, attempt: Attempt | None) -> None:
        self.delivered += isinstance(how, Delivered)
        self.declined += isinstance(how, Declined)
        self.shadowed += isinstance(how, Shadowed)
        self._witness.ended(job, ENDS[type(how)], getattr(how, "reason", ""), attempt)

    def _passed(self) -> None:
        opened, trouble = self.gate.opened, self.gate.reason
        self.gate.passed()
        if opened:
            log.info("circuit_closed", destination=self.name, was=trouble)
        if trouble:
            self._lanes.wake_all()

    def _again(
        self, job: Job, verdict: RetryLater, attempt: Attempt | None, *, given_up: bool
    ) -> None:
        self.retried += 1
        before, now = self.gate.opened, asyncio.get_running_loop().time()
        self.gate.failed(verdict.cause, verdict.reason, verdict.after, now)
        if before == 0 and self.gate.opened:
            log.warning("circuit_open", destination=self.name, reason=self.gate.reason)
        if given_up:
            self._finish(job)
            return
        most = self.config.max_attempts
        if most and len(job.attempts) >= most:
            why = f"given up after {most} attempts; last: {verdict.reason}"
            self.burials.bury(job, "expired", why, attempt)
            self._finish(job)
            return
        self._witness.ended(job, "later", verdict.reason, attempt)
        wait = backoff(len(job.attempts), self.config.retry_min, self.config.retry_max)
        due = steady() + max(wait, verdict.after or 0.0)
        self.ledger.later(job.later(due, verdict.reason))
        self.hand.retry_later(job)
        self.backlog.due_at(due)
        for behind in self.users.waiting(job.user):
            if behind.waiting:
                self.hand.put_back(behind)
            else:
                self._park(behind)
            self._release(behind, leave=False)
        self._release(job)

    def _finish(self, job: Job, *, leave: bool = True) -> None:
        """Let the user's next event go, now that *job* is settled."""
        if job.waiting:
            self.hand.ended(job.mark)
        self._release(job, leave=leave)
        self._hold_while_ahead(AHEAD)
        self.go_on(job.user)

    def go_on(self, user: str) -> None:
        """Bring what waits in the spool behind the user's last delivery in hand."""
        if user and self.users.blocked(user) and not self.users.busy(user):
            self.backlog.follow(user)

    def _release(self, job: Job, *, leave: bool = True) -> None:
        """Let go of *job*, whatever became of it."""
        self.hand.release(job)
        if not job.waiting:
            self.ledger.close(job.mark.seq)
        if leave:
            following = self.users.leave(job.user)
            if following is not None:
                self._ready.append(following)
                self._lanes.wake()
        if not self.full:
            self.backlog.hungry()
