"""Run replays: read what is retained, and give it to a destination while that has time.

A replay is a cursor over the log. For each request that it takes it appends a copy for its
destination alone, and moves the cursor in the same transaction, so that a crash neither loses nor
repeats one. The copies are delivered like all other entries, in the order of each user; their jobs
take turns after all others (`gateway.spool.REPLAYS`).
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import structlog

from gateway.errors import GatewayError, SpoolError
from gateway.event import Event
from gateway.ingest.events import parse_if_possible
from gateway.ingest.suppression import Suppression
from gateway.log_limit import LogLimit
from gateway.replay.refusals import NoDestination, ReplayRefused, ReplayTargets, find_refusal
from gateway.replay.selector import EventFilter, Selected, select
from gateway.routing.consent import ConsentMemory
from gateway.routing.router import Router
from gateway.spool import Entry, Spool
from gateway.spool.replays import (
    ReplayableStore,
    ReplayCounts,
    ReplayJob,
    ReplaySelection,
    ReplayState,
    ReplayStep,
    RetainedEntry,
)

NOTHING = Selected(None, 0)
PAGE = 64
"""Requests read at once."""
GROUP = 16
"""Most requests that are given at once; one commit stores them."""
WINDOW = 128
"""Most requests of a replay that its destination has not finished."""
LOOK = 0.05
"""Seconds between two looks whether the destination has time."""
AGAIN = 1.0
"""Seconds until the next try after the spool failed or was full."""
QUIET = 60.0
"""Seconds between two log lines about that."""

VERBS = {"running": "resume", "paused": "pause", "cancelled": "cancel"}
"""What an operator does to bring a replay into a state."""

NOT_RETAINED = (
    "this spool retains nothing: several gateways share it, and NATS deletes what is delivered"
)

log = structlog.get_logger()


class ReplayServices(ReplayTargets, Protocol):
    """The parts of the running gateway that replays need; a reload may replace them."""

    @property
    def spool(self) -> Spool:
        """Return the spool."""

    @property
    def consents(self) -> ConsentMemory:
        """Return the stored consent of users."""

    @property
    def suppression(self) -> Suppression | None:
        """Return whose events are left out; None for nobody's."""

    def parse(self, entry: Entry) -> Sequence[Event]:
        """Return the events of a stored request."""


async def pause_refused(store: ReplayableStore, job: ReplayJob, refusal: ReplayRefused) -> None:
    """Pause a replay that cannot go on."""
    await store.set_replay(job.id, "paused")
    log.warning("replay_paused", replay=job.id, destination=job.selection.to, reason=str(refusal))


class ReplayRunner:
    """The replays of a gateway; those that run go on after a restart.

    Args:
        services: the parts of the gateway.
    """

    def __init__(self, services: ReplayServices) -> None:
        self._services = services
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def _store(self) -> ReplayableStore:
        """Return the spool, if it retains anything.

        Raises:
            GatewayError: it cannot.
        """
        spool = self._services.spool
        if not isinstance(spool, ReplayableStore):
            raise GatewayError(NOT_RETAINED)
        return spool

    async def start(self) -> None:
        """Go on with the replays that ran when the gateway stopped.

        Raises:
            SpoolError: the spool fails.
        """
        if isinstance(self._services.spool, ReplayableStore):
            for job in await self._store.replays():
                if job.state != "running":
                    continue
                if refusal := find_refusal(job.selection, self._services):
                    await pause_refused(self._store, job, refusal)
                else:
                    self._run(job)

    async def stop(self) -> None:
        """Stop reading; the replays go on at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Read nothing within the body, which begins once all copies under way are recorded.

        Raises:
            GatewayError: the spool retains nothing.
            SpoolError: the spool fails.
        """
        await self.stop()
        try:
            await self._store.replay(0)
            yield
        finally:
            await self.start()

    async def begin(self, selection: ReplaySelection) -> ReplayJob:
        """Begin a replay.

        Raises:
            ReplayRefused: it cannot deliver, as when routes to the destination ask for consent,
                and are not to be asked.
            GatewayError: the spool retains nothing, or another replay to the destination runs.
            ValueError: its condition is invalid.
            SpoolError: the spool fails.
        """
        EventFilter(selection.source, selection.name, selection.when)
        self._check(selection)
        job = await self._store.begin_replay(selection)
        log.info("replay_began", replay=job.id, destination=selection.to, dry=selection.dry_run)
        self._run(job)
        return job

    async def all(self) -> list[ReplayJob]:
        """Return the last replays, the newest first.

        Raises:
            GatewayError: the spool retains nothing.
            SpoolError: the spool fails.
        """
        return await self._store.replays()

    def _check(self, selection: ReplaySelection) -> None:
        """Refuse a replay that cannot deliver.

        Raises:
            ReplayRefused: it cannot.
        """
        if refusal := find_refusal(selection, self._services):
            raise refusal

    async def set_state(self, number: int, state: ReplayState) -> ReplayJob | None:
        """Pause, resume or cancel a replay, and return it; None if it is unknown.

        Raises:
            ReplayRefused: it is to be resumed, and cannot deliver.
            GatewayError: it is finished, or the spool retains nothing.
            SpoolError: the spool fails.
        """
        known = await self._store.replay(number)
        if known is None:
            return None
        _check_unfinished(known, state)
        if state == "running":
            self._check(known.selection)
        job = await self._store.set_replay(number, state)
        if job is None:
            return None
        if job.state != state:  # it was finished meanwhile
            _check_unfinished(job, state)
        if job.state == "running":
            self._run(job)
        elif (task := self._tasks.pop(number, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        log.info("replay_state", replay=number, destination=job.selection.to, state=job.state)
        return job

    def _run(self, job: ReplayJob) -> None:
        if job.id not in self._tasks:
            reader = _Replay(self._services, self._store, job)
            name = f"replay/{job.id}"
            task = asyncio.get_running_loop().create_task(reader.run(), name=name)
            self._tasks[job.id] = task
            task.add_done_callback(lambda ended: self._ended(job.id, ended))

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(number) is task:
            del self._tasks[number]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("replay_failed", replay=number, exc_info=error)


def _check_unfinished(job: ReplayJob, state: ReplayState) -> None:
    """Refuse to change the state of a finished replay.

    Raises:
        GatewayError: it is finished.
    """
    if job.state in {"done", "cancelled"}:
        raise GatewayError(
            f"replay {job.id} to {job.selection.to} is {job.state} already; "
            f"nothing to {VERBS[state]}"
        )


class _Copy(NamedTuple):
    """A copy of a retained entry, to be appended with a move of the replay."""

    entry: Entry
    events: Sequence[Event]
    step: ReplayStep


class _Replay:
    """One replay that runs."""

    def __init__(self, services: ReplayServices, store: ReplayableStore, job: ReplayJob) -> None:
        selection = job.selection
        self._services, self._store, self._job, self._to = services, store, job, selection.to
        self._wanted = EventFilter(selection.source, selection.name, selection.when)
        self._rate = selection.rate
        self._group = GROUP
        if self._rate is not None:
            self._group = max(1, min(GROUP, int(self._rate * LOOK)))
        self._position = job.position
        self._under_way: deque[int] = deque()
        """The copies that the destination has not finished."""
        self._lines = LogLimit(1, QUIET)
        self._next = 0.0
        """When the next event may be given, by the monotonic clock."""

    async def run(self) -> None:
        """Read to the end, unless the replay is paused or cancelled."""
        while True:
            try:
                await self._read()
            except SpoolError as error:
                if self._lines.take(self._to):
                    log.warning("replay_waits", replay=self._job.id, reason=str(error))
                await asyncio.sleep(AGAIN)
                if not await self._is_found_again():
                    return
            else:
                return

    async def _read(self) -> None:
        """Read to the end, unless the replay is paused or cancelled, or cannot go on.

        Raises:
            SpoolError: the spool fails, or is full.
        """
        try:
            while page := await self._store.retained(self._job, self._position, PAGE):
                self._check()
                if not await self._give(page):
                    return
            await self._finish()
        except ReplayRefused as refusal:
            await pause_refused(self._store, self._job, refusal)

    def _check(self) -> None:
        """Ask whether the replay may still deliver, which a reload may change at any time.

        Raises:
            ReplayRefused: it may not. A dry run delivers nothing, so it may always go on.
        """
        if not self._job.selection.dry_run and (
            refusal := find_refusal(self._job.selection, self._services)
        ):
            raise refusal

    async def _is_found_again(self) -> bool:
        """Go on from where the store says; return whether the replay still runs."""
        while True:
            try:
                found = await self._store.replay(self._job.id)
            except SpoolError:
                await asyncio.sleep(AGAIN)
                continue
            if found is None or found.state != "running":
                return False
            self._position = found.position
            return True

    async def _finish(self) -> None:
        """Wait until the destination has finished the copies, and end the replay.

        Raises:
            NoDestination: it never will.
            SpoolError: the spool fails.
        """
        await self._wait_for_room(0)
        step = ReplayStep(self._job.id, self._position, self._job.upto, ReplayCounts())
        if await self._store.skip_replayed(step):
            await self._store.set_replay(self._job.id, "done")
            log.info("replay_done", replay=self._job.id, destination=self._to)

    async def _give(self, page: Sequence[RetainedEntry]) -> bool:
        """Give what is selected of a page to the destination; return whether the replay still runs.

        Raises:
            ReplayRefused: it cannot go on.
            SpoolError: the spool fails, or is full.
        """
        while left := [found for found in page if found.seq > self._position]:
            rules = self._rules
            copies, passed = await self._copies(left)
            for start in range(0, len(copies), self._group):
                if not await self._append(left, copies[start : start + self._group], rules):
                    return False
                if rules != self._rules:  # the rest is selected by the new ones
                    break
            else:
                last = left[-1].seq
                step = ReplayStep(self._job.id, self._position, last, passed)
                if self._position < last and not await self._store.skip_replayed(step):
                    return False
                self._position = last
        return True

    @property
    def _rules(self) -> tuple[Router, Suppression | None]:
        """Return what a selection depends on, and a reload replaces."""
        return self._services.router, self._services.suppression

    @property
    def _recalls_consent(self) -> bool:
        """Return whether a selection depends on remembered consent, which any event may change."""
        services = self._services
        asks = services.consents.on and services.router.asks_consent
        return self._job.selection.through_routes and asks

    async def _copies(self, page: Sequence[RetainedEntry]) -> tuple[list[_Copy], ReplayCounts]:
        """Return the copies of what is selected, and the counts of the requests after the last."""
        at, passed, copies = self._position, ReplayCounts(), list[_Copy]()
        for found in page:
            selected, events = await self._selected(found)
            passed = _added(passed, selected, events)
            if selected.copy and events and not self._job.selection.dry_run:
                step = ReplayStep(self._job.id, at, found.seq, passed)
                copies.append(_Copy(selected.copy, events, step))
                at, passed = found.seq, ReplayCounts()
            await asyncio.sleep(0)  # live events come first
        return copies, passed

    async def _append(
        self,
        page: Sequence[RetainedEntry],
        copies: Sequence[_Copy],
        rules: tuple[Router, Suppression | None],
    ) -> bool:
        """Append copies once the destination has time; return whether the replay still runs.

        What changed while they waited counts: they are selected again.

        Args:
            page: the requests that they are of.
            copies: some in a row.
            rules: those by which they were selected.

        Raises:
            ReplayRefused: the replay cannot go on.
            SpoolError: the spool fails, or is full.
        """
        await self._wait_for_room(WINDOW - len(copies))
        if self._rate is not None:
            await asyncio.sleep(self._next - time.monotonic())
        upto, passed, again = copies[-1].step.upto, ReplayCounts(), self._recalls_consent
        while again or rules != self._rules:
            rules, again = self._rules, False
            part = [found for found in page if self._position < found.seq <= upto]
            copies, passed = await self._copies(part)
        self._check()  # nothing is awaited from here until the copies are handed to the spool
        if self._rate is not None:
            given = sum(one.step.counts.queued for one in copies)
            self._next = max(self._next, time.monotonic()) + given / self._rate
        appended = await asyncio.gather(*(self._store.replay_entry(*one) for one in copies))
        for seq, copy in zip(appended, copies, strict=True):
            if seq is None:
                return False
            self._under_way.append(seq)
            self._position = copy.step.upto
        if self._position < upto:
            step = ReplayStep(self._job.id, self._position, upto, passed)
            if not await self._store.skip_replayed(step):
                return False
            self._position = upto
        return True

    async def _wait_for_room(self, most: int) -> None:
        """Wait until at most so many copies are under way, and the destination has time for more.

        Raises:
            NoDestination: it is no longer configured.
            SpoolError: the destination was forgotten.
        """
        while self._under_way or most:
            team = self._services.teams.get(self._to)
            if team is None:
                raise NoDestination(self._to)
            for shard in self._services.spool.shards:
                cursor = shard.cursor(self._to)
                while self._under_way and self._under_way[0] <= cursor:
                    self._under_way.popleft()
            if (not most or team.has_time) and len(self._under_way) <= most:
                return
            await asyncio.sleep(LOOK)

    async def _selected(self, found: RetainedEntry) -> tuple[Selected, Sequence[Event] | None]:
        """Return what to give of a retained request, and its events; None if it is unreadable."""
        entry, services = found.entry, self._services
        if not self._wanted.takes_source(entry.source):
            return NOTHING, ()
        events = parse_if_possible(entry, services.parse)
        if not events:
            return NOTHING, None
        plan = None
        if self._job.selection.through_routes:
            consented: Mapping[int, Mapping[str, bool]] = {}
            if self._recalls_consent:
                consented = await services.consents.recall(entry.source, events)
            plan = services.router.plan(entry.source, events, consented)
        selected = select(
            self._job,
            found,
            events,
            wanted=self._wanted,
            plan=plan,
            suppression=services.suppression,
        )
        return selected, events


def _added(
    counts: ReplayCounts, selected: Selected, events: Sequence[Event] | None
) -> ReplayCounts:
    """Return *counts* and those of one more request."""
    queued = () if selected.copy is None else next(iter(selected.copy.targets.values()))
    return ReplayCounts(
        counts.requests + 1,
        counts.queued + len(queued),
        counts.repeated + selected.repeated,
        counts.unreadable + (events is None),
    )
