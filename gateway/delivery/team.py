"""The team of one destination: a worker for each shard, and what they share."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

import structlog

from gateway.config import DestinationConfig
from gateway.delivery.circuit_breaker import BreakerState
from gateway.delivery.file_uploads import FileUploads, UploadStatus
from gateway.delivery.job import DeliveryObserver, Job, OnSettled, StepsOf, steady_time
from gateway.delivery.job_builder import Parse
from gateway.delivery.sender import Sender
from gateway.delivery.shared import SharedState
from gateway.delivery.worker import Worker
from gateway.spool import Fenced, Shard, SpoolNotice

UNLEASED_WAIT = 0.1
"""Seconds between two looks whether attempts may begin again."""

_ROUNDING = 1e-9
"""What a part of a whole number may lack for want of precision."""

log = structlog.get_logger()


class TeamStatus(NamedTuple):
    """The state of a team; counts are since its start."""

    circuit: BreakerState
    reason: str
    """The reason of the last failed attempt."""
    paused: bool
    in_flight: int
    delivered: int
    declined: int
    dead: int
    retried: int
    shadowed: int
    """Events that a shadow handled; they count only here."""
    paused_for: float
    """Remaining seconds of a pause that the vendor asked for."""
    pause_length: float
    """Seconds that this pause lasts in all; 0 if there is none."""
    cause: str
    """The cause of the last failed attempt, as in `gateway.verdict.RetryLater`; empty if the last
    one did not fail."""
    opens_in: float
    """Seconds until an open circuit lets the next probe through; 0 if it does now."""
    uploads: UploadStatus | None
    """None if no files are uploaded."""


class Team(SharedState):
    """Delivers to one destination; it shares only the log with other teams.

    The workers of its shards take turns, so the destination's concurrency, rate and circuit breaker
    hold over all shards, and each worker has its part of the memory. Shards may come and go.

    Args:
        name: name of the destination.
        config: its configuration.
        sender: renders, sends and judges events.
        parse: returns the events of a stored request.
        steps_of: returns the steps of a route by its name.
        observer: observes every attempt.
        settled: called at the end of each delivery, if given.
        leased: returns whether attempts may begin now; without it, they always may.
        share: returns the part of all shards that the team has; without it, it has all. Concurrency
            and rate are divided alike, so that they hold over all processes that share a log.
        configs_differ: tells whether other processes that share the log have other configurations;
            without it, there are none.
        uploads: the uploads of the destination's files, if there are any.

    Attributes:
        workers: by the number of their shard.
        configured: the configuration as written, in case *config* was changed.
    """

    def __init__(  # noqa: PLR0913 - all dependencies of a destination
        self,
        name: str,
        config: DestinationConfig,
        *,
        sender: Sender,
        parse: Parse,
        steps_of: StepsOf,
        observer: DeliveryObserver,
        settled: OnSettled | None = None,
        leased: Callable[[], bool] | None = None,
        share: Callable[[], float] | None = None,
        configs_differ: Callable[[], bool] | None = None,
        uploads: FileUploads | None = None,
    ) -> None:
        super().__init__(
            name,
            config,
            sender=sender,
            take=self._take,
            begin=self._begin,
            parse=parse,
            steps_of=steps_of,
            configs_differ=configs_differ,
            observer=observer,
            settled=settled,
        )
        self.configured = config
        self._leased, self._share, self._uploads = leased, share, uploads
        self.workers: dict[int, Worker] = {}
        self._turns: deque[Worker] = deque()
        self._taker: Worker
        self._stopping = self._paused = self._drained = self._drained_late = False

    def start(self, shards: Iterable[Shard]) -> None:
        """Start to deliver; from now on each worker must get every new entry of its shard."""
        for shard in shards:
            self.add(shard)
        self.pump.start()

    def add(self, shard: Shard) -> None:
        """Start to deliver a shard, unless the team stops; its worker must get every new entry."""
        if self._stopping:
            return
        worker = Worker(self, shard, self._on_fenced)
        worker.queue.closed = self._paused
        self.workers[shard.number] = worker
        self._share_out()
        worker.start()

    async def give_up(self, shard: int, grace: float) -> None:
        """Wait at most *grace* seconds for a shard's attempts, record them, and end its worker.

        Deliveries that are not finished stay in the shard.
        """
        worker = self.workers.get(shard)
        if worker is None:
            return
        worker.leaving = True
        self._close()
        if worker.listening and not await worker.quiet(grace):
            log.warning(
                "drain_timed_out", destination=self.name, shard=shard, in_flight=worker.active
            )
        worker.listening = False
        await worker.stop()
        self._remove(worker)

    def abandon(self, shard: int) -> None:
        """End the worker of a shard at once, and record nothing."""
        worker = self.workers.get(shard)
        if worker is not None:
            self._remove(worker)
            worker.abandon()

    def _remove(self, worker: Worker) -> None:
        if self.workers.get(worker.shard.number) is worker:
            del self.workers[worker.shard.number]
            self._share_out()

    async def ready(self) -> None:
        """Wait until the pending deliveries are known."""
        await asyncio.gather(*(worker.backlog.ready() for worker in self.workers.values()))

    async def stop(self, grace: float) -> None:
        """Wait at most *grace* seconds for deliveries in flight, record their outcomes, and end.

        Finished deliveries are recorded even if an older one is not finished, so that the next
        start does not repeat them. Entries offered meanwhile stay in the spool.
        """
        self._stopping = True
        self._close()
        await self.pump.stop(grace)
        for worker in self.workers.values():
            worker.listening = False
        await self.sender.close()
        await asyncio.gather(*(worker.stop() for worker in list(self.workers.values())))

    def _on_fenced(self, worker: Worker) -> None:
        """Let a worker go whose shard another process has taken over."""
        if self.workers.get(worker.shard.number) is worker:
            log.warning("shard_fenced", destination=self.name, shard=worker.shard.number)
            self.abandon(worker.shard.number)

    # Turns of the workers

    def _share_out(self) -> None:
        """Divide memory and turns among the workers; a single one without a lease needs none."""
        self._turns = deque(self.workers.values())
        if self._share is not None and (part := self._share()):
            self.pump.limit(max(1, int(self.config.concurrency * part + _ROUNDING)))
            self.limiter.set_share(part)
        for worker in self._turns:
            worker.queue.in_flight.sharers = len(self._turns)
        if len(self._turns) == 1 and self._leased is None:
            self.pump.serve(self._turns[0].take, self._turns[0].begin)
        else:
            self.pump.serve(self._take, self._begin)

    def _take(self) -> Job | None:
        """Return the next job; workers without one are passed over, as most of many shards are."""
        if self._leased is not None and not self._leased():
            self.pump.wake_after(UNLEASED_WAIT)
            return None
        turns = self._turns
        for place, worker in enumerate(turns, 1):
            if worker.queue.ready and (job := worker.take()) is not None:
                self._taker = worker
                turns.rotate(-place)
                return job
        return None

    def _begin(self, job: Job) -> None:
        self._taker.begin(job)

    # Operators

    @property
    def paused(self) -> bool:
        """Return whether an operator paused the destination."""
        return self._paused

    @property
    def paused_for(self) -> float:
        """Return the remaining seconds of a pause that the vendor asked for; 0 if there is none."""
        now = time.monotonic()
        until = self.breaker.paused_until(now)
        return 0.0 if until is None else until - now

    @property
    def has_time(self) -> bool:
        """Return whether a new event would be sent soon: no older one is left in the log.

        The circuit is closed, too, and no operator paused the destination.
        """
        workers = self.workers.values()
        return bool(workers) and all(worker.backlog.prompt() for worker in workers)

    def pause(self, *, paused: bool = True) -> None:
        """Pause or resume; deliveries in flight continue, and new events wait in the spool."""
        self._paused = paused
        self._close()
        if not paused:
            self.wake()

    def _close(self) -> None:
        for worker in self.workers.values():
            worker.queue.closed = self._stopping or self._paused or worker.leaving

    def wake(self) -> None:
        """Check now for jobs to send."""
        self.pump.wake_all()
        for worker in self.workers.values():
            worker.backlog.request_more()

    @property
    def drains(self) -> bool:
        """Return whether a `drain` is not finished."""
        left = any(worker.hurries for worker in self.workers.values())
        return self._drained and (self._drained_late or left)

    async def drain(self) -> None:
        """Retry all pending deliveries now; only the rate limit still applies.

        Raises:
            SpoolError: the spool cannot be read.
        """
        self._drained, self._drained_late = True, self._stopping
        workers = list(self.workers.values())
        for worker in workers:
            await worker.tracker.flush()
        self.breaker.retry_now()
        for worker in workers:
            with suppress(Fenced):  # whoever has the shard now delivers it
                await worker.backlog.waiting.retry_by(steady_time())
        self.wake()

    def status(self) -> TeamStatus:
        """Return the state of the team."""
        counts, breaker, now = self.counts, self.breaker, time.monotonic()
        paused_for, probe_at = self.paused_for, breaker.open_until(now)
        return TeamStatus(
            breaker.state,
            breaker.reason or "",
            self.paused,
            sum(worker.tracker.open_entries for worker in self.workers.values()),
            counts.delivered,
            counts.declined,
            counts.dead_lettered,
            counts.retried,
            counts.shadowed,
            paused_for,
            breaker.pause_length if paused_for else 0.0,
            breaker.cause,
            0.0 if probe_at is None else probe_at - now,
            None if self._uploads is None else self._uploads.status(),
        )

    def on_notice(self, shard: int, notice: SpoolNotice) -> None:
        """Handle a notice of a shard about the destination."""
        if worker := self.workers.get(shard):
            worker.backlog.on_notice(notice)
