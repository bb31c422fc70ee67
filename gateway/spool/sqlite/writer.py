"""The writer thread: a batch of jobs is one commit; maintenance runs between batches."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import apsw
import msgspec
import structlog

from gateway.errors import SpoolError
from gateway.spool.clock import SLACK, Clock
from gateway.spool.rows import pack
from gateway.spool.sqlite import consent
from gateway.spool.sqlite.balance import Auditor, balances
from gateway.spool.sqlite.commands import (
    AppendEntry,
    CloseWriter,
    Command,
    CommandQueue,
    RecordProgress,
    RunTransaction,
    SaveConsent,
    fail,
)
from gateway.spool.sqlite.cursors import DestinationCursor
from gateway.spool.sqlite.database import Row, insert
from gateway.spool.sqlite.dedup import Deduplicator, purge
from gateway.spool.sqlite.eviction import Evictions, RefusedEntry
from gateway.spool.sqlite.progress import (
    NOWHERE,
    apply_progress,
    forget_ended,
    forget_taken,
)
from gateway.spool.sqlite.room import Room
from gateway.spool.sqlite.session import WriterSession
from gateway.spool.sqlite.vacuum import STEP, shrink, trim, trimmable
from gateway.spool.values import (
    DeadLettersReplayed,
    Entry,
    FailedDelivery,
    Outdated,
    SpoolFull,
    SpoolLimits,
    SpoolNotice,
)
from gateway.sqlite import fetch

TICK = 1.0
"""Seconds between two checks for expired deliveries, other processes and a failed disk."""
AUDIT = 3
"""Ticks between two audits of the balances."""
_PAUSE = 0.005
"""Seconds between two steps of maintenance while the queue is empty."""
_REPLAYED = """
    SELECT name FROM destination WHERE number IN
    (SELECT destination FROM waiting JOIN log USING (seq) WHERE seq > ? AND mask = 0)
"""
_ACCEPT = "UPDATE destination SET accepted = accepted + ? WHERE number = ?"
_SHRINK = 0.05
"""Seconds between two steps of freeing space while jobs are queued."""
_HURRY = 4 * STEP
_RETRY_AFTER = 5.0
_BATCHED = AppendEntry | RecordProgress | SaveConsent

log = structlog.get_logger()


class _Taking(NamedTuple):
    """An accepted entry."""

    job: AppendEntry
    entry: Entry
    size: int
    refused: list[RefusedEntry]


class Writer:
    """Handles batches until it gets a `CloseWriter`."""

    def __init__(
        self,
        session: WriterSession,
        batches: CommandQueue,
        limits: SpoolLimits,
        clock: Clock,
    ) -> None:
        self.room = Room(session.lanes, session.gauge, session.folder)
        self.evictions = Evictions(session.lanes, self.room, clock)
        self._session, self._lanes, self._gauge = session, session.lanes, session.gauge
        self._batches, self._limits, self._clock = batches, limits, clock
        self._ticked = self._shrunk = self._ahead = 0.0
        self._audited = -math.inf
        self.auditor = Auditor()
        self._stale = False
        """Whether there are expired ids to delete."""

    def start(self) -> None:
        """Start the thread; the first job opens the store."""
        threading.Thread(target=self._run, name="spool", daemon=True).start()

    def _run(self) -> None:
        busy = False
        while True:
            jobs = self._batches.take(_PAUSE if busy else TICK)
            notices: list[SpoolNotice] = []
            if batch := [job for job in jobs if isinstance(job, _BATCHED)]:
                notices += self._serve(batch)
            for job in jobs:
                if isinstance(job, RunTransaction):
                    notices += self._call(job)
            closing = any(isinstance(job, CloseWriter) for job in jobs)
            if closing:
                self._session.disconnect()
                self._session.end()
                self.evictions.say()
            if jobs:
                self._answer(jobs, notices)
            if closing:
                return
            busy = self._keep_house(idle=not jobs)
            if self._session.untold:
                self._answer([], [])

    def _answer(self, jobs: Sequence[Command], notices: Sequence[SpoolNotice]) -> None:
        again, self._session.untold = self._session.untold, []
        numbers = self._lanes.position, self._lanes.evictions
        self._batches.answer(jobs, [*again, *notices], *numbers)

    # ---- one batch, one commit -----------------------------------------------------------

    def _serve(
        self, jobs: Sequence[AppendEntry | RecordProgress | SaveConsent]
    ) -> list[SpoolNotice]:
        notices: list[SpoolNotice] = []
        for job in jobs:
            job.error = None
        if not self._session.has_room():
            fail(
                [job for job in jobs if not isinstance(job, RecordProgress)], self._session.no_room
            )
            jobs = [job for job in jobs if isinstance(job, RecordProgress)]
            if not jobs:
                return []
        try:
            with self._session.writing() as connection:
                self._settle(connection, [job for job in jobs if isinstance(job, RecordProgress)])
                self._append(connection, [job for job in jobs if isinstance(job, AppendEntry)])
                self._remember(connection, [job for job in jobs if isinstance(job, SaveConsent)])
                for lane in self._lanes.by_name.values():
                    notices += self.evictions.overflow(connection, lane)
                self.room.look(connection)
                if trimmable(self._lanes) >= STEP:
                    trim(connection, self._lanes, max(STEP, 2 * len(jobs)))
                if self._stale:
                    coming = sum(len(job.ids) for job in jobs if isinstance(job, AppendEntry))
                    self._forget(connection, max(STEP, 2 * coming))
        except SpoolError as e:
            fail(jobs, e)
            return []
        except Exception as e:  # noqa: BLE001 - the thread must survive any job
            if len(jobs) > 1:
                return [notice for job in jobs for notice in self._serve([job])]
            fail(jobs, e)
            return []
        return notices

    def _settle(self, connection: apsw.Connection, jobs: Sequence[RecordProgress]) -> None:
        for job in jobs:
            try:
                lane = self._lanes[job.destination]
            except SpoolError as e:
                job.error = e
                continue
            if job.heard < lane.evicted:
                job.error = Outdated(f"the spool evicted deliveries of {lane.name!r}; report again")
                continue
            terse = self.room.full is not None
            apply_progress(connection, lane, job.progress, self._lanes.ended, terse=terse)
            lane.new_reported = max(lane.new_reported, job.progress.cursor)

    def _append(self, connection: apsw.Connection, jobs: Sequence[AppendEntry]) -> None:
        if self._gauge.tight:
            trim(connection, self._lanes, _HURRY)
            self.room.look(connection)
        now = self._clock.now()
        sieve = Deduplicator(connection, now, self._clock.sure(), [job for job in jobs if job.ids])
        taken: list[_Taking] = []
        rows: list[Row] = []
        for job in jobs:
            size = sieve.sift(job) if job.ids else 0
            if job.kept is None:
                continue
            try:
                entry, refused, mask = self._admitted(job.kept)
                meta, body = pack(entry), entry.request.body
                length = len(meta) + len(body)
                self._make_room(connection, size + length)
            except apsw.Error:
                raise
            except Exception as e:  # noqa: BLE001 - an entry that cannot be packed fails alone
                fail([job], e)
            else:
                if job.ids:
                    sieve.note(job)
                job.kept = entry
                taken.append(_Taking(job, entry, length, refused))
                rows.append((mask, now, entry.id, meta, body))
        if rows:
            self._place(connection, taken, insert(connection, rows))
        sieve.remember()
        for lane in self._lanes.by_name.values():
            lane.coming = 0

    def _place(self, connection: apsw.Connection, taken: Sequence["_Taking"], seq: int) -> None:
        """Record in memory the entries that were inserted from *seq* on."""
        by_name, accepted = self._lanes.by_name, defaultdict[str, int](int)
        for job, entry, size, refused in taken:
            job.result = seq
            for name, numbers in entry.targets.items():
                by_name[name].add(seq, len(numbers), size)
                accepted[name] += len(numbers)
            for refusal in refused:
                accepted[refusal.lane.name] += len(refusal.numbers)
                self.evictions.refuse(connection, seq, refusal)
            seq += 1
        self._lanes.new_position = seq - 1
        counts = ((count, by_name[name].number) for name, count in accepted.items())
        connection.executemany(_ACCEPT, counts)

    def _admitted(self, entry: Entry) -> tuple[Entry, list["RefusedEntry"], int]:
        """Return the entry for the destinations that accept it, the refused parts, and the mask.

        Raises SpoolFull if no destination except shadows accepts it, and SpoolError for an unknown
        destination.
        """
        refused: list[RefusedEntry] = []
        lanes: list[DestinationCursor] = []
        takes, mask, by_name = False, 0, self._lanes.by_name
        for name, numbers in entry.targets.items():
            lane = by_name.get(name) or self._lanes[name]
            if lane.bounds is None:
                raise SpoolError(f"destination {lane.name!r} is not registered; register it first")
            overflow = lane.bounds.overflow
            if overflow == "refuse" and (why := self.room.refusal(lane)):
                refused.append(RefusedEntry(lane, numbers, why))
                continue
            takes = takes or overflow != "drop"
            lanes.append(lane)
            mask |= lane.bit
        if refused:
            if not takes:
                raise SpoolFull("; ".join(one.why for one in refused), _RETRY_AFTER)
            left = {lane.name: entry.targets[lane.name] for lane in lanes}
            entry = msgspec.structs.replace(entry, targets=left)
        for lane in lanes:
            lane.coming += 1
        return entry, refused, mask

    def _remember(self, connection: apsw.Connection, jobs: Sequence[SaveConsent]) -> None:
        for job in jobs:
            try:
                self._make_room(connection, consent.bytes_needed(job.said))
            except SpoolFull as e:
                fail([job], e)
            else:
                consent.remember(connection, job.said, self._clock.now(), job.window)

    def _make_room(self, connection: apsw.Connection, size: int) -> None:
        """Reserve *size* more bytes; raises SpoolFull if there is no room for them."""
        if not self._gauge.has_room(connection, size):
            trim(connection, self._lanes, _HURRY)
        if not self._gauge.has_room(connection, size):
            raise SpoolFull(self.room.full_reason(), _RETRY_AFTER)

    # ---- the rest ------------------------------------------------------------------------

    def _call(self, job: RunTransaction) -> Sequence[SpoolNotice]:
        try:
            with self._session.writing() as connection:
                outcome = job.act(connection, self._lanes)
            if outcome.then:
                outcome.then()
            job.result = outcome.result
        except Exception as e:  # noqa: BLE001 - the thread must survive any operation
            fail([job], e)
            return ()
        return outcome.notices

    def _keep_house(self, *, idle: bool) -> bool:
        """Do a step of maintenance; return whether there is more to do at once."""
        now = time.monotonic()
        due = now - self._ticked >= TICK
        if due:
            self._ticked = now
            self.evictions.say()
        try:
            if self._session.trouble:
                if due:
                    self._session.probe()
                return False
            self._session.checkpoint()
            more = False
            if idle or due:
                more = self._tidy(due=due)
            if idle or now - self._shrunk >= _SHRINK:
                self._shrunk = now
                more |= self._shrink(idle=idle)
        except Exception as e:  # noqa: BLE001 - the thread must survive a failed disk
            self._session.trouble = f"{type(e).__name__}: {e}"
            return False
        return more

    def _tidy(self, *, due: bool) -> bool:
        if due:
            self._look()
            self._follow_clock()
            self._audit()
        expired, more = self._expire(), False
        if due or self._stale or trimmable(self._lanes) >= STEP:
            self._session.has_room()
            with self._session.writing() as connection:
                trim(connection, self._lanes, STEP)
                self._forget(connection, STEP)
                lanes = self._lanes.by_name.values()
                for lane in lanes:
                    more |= forget_ended(connection, lane, STEP)
                forget_taken(connection, lanes)
        return expired or more or self._stale or trimmable(self._lanes) >= STEP

    def _forget(self, connection: apsw.Connection, count: int) -> None:
        now = self._clock.sure()
        ids = purge(connection, now, count)
        self._stale = consent.purge(connection, now, count) or ids

    def _shrink(self, *, idle: bool) -> bool:
        with self._session.using() as connection:
            self._gauge.measure(connection)
            self.room.look(connection)
            shrunk = shrink(connection, self._gauge, all_of_it=self._session.short is not None)
        if idle:
            self._session.checkpoint(1)  # only a checkpoint truncates the file
        return shrunk

    def _look(self) -> None:
        """Check for changes by other processes, and announce replayed dead letters."""
        session, lanes = self._session, self._lanes
        if not session.others_wrote():
            return
        with session.using() as connection:
            lanes.recount(connection)
            names = [name for (name,) in fetch(connection, _REPLAYED, (session.checked,))]
        session.checked = lanes.position
        self._answer([], [DeadLettersReplayed(name) for name in names])

    def _audit(self) -> None:
        """Check the balances, every few ticks."""
        now = time.monotonic()
        if now - self._audited < AUDIT * TICK:
            return
        self._audited = now
        with self._session.writing() as connection:
            self._session.count_again(connection)
            found = balances(connection, self._lanes)
        self.auditor.look(found)

    def _follow_clock(self) -> None:
        """Check whether the system clock was set, and store the offset once it is trusted."""
        changed, ahead = self._clock.look(), self._clock.ahead
        if changed:
            log.warning("clock_changed", seconds=round(changed))
        if abs(ahead - self._ahead) > SLACK:
            with self._session.writing() as connection:
                connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (ahead,))
            self._ahead = ahead

    def _expire(self) -> bool:
        """Turn some expired deliveries into dead letters; return whether there were any."""
        if self._limits.max_age is None:
            return False
        clock = self._clock
        now = clock.sure()
        reason = f"pending for more than {self._limits.max_age:g} s"
        why = FailedDelivery(NOWHERE, "expired", reason, clock.now() + clock.ahead)
        expired = False
        for name in list(self._lanes.by_name):
            with self._session.writing() as connection:
                lane = self._lanes[name]
                notices = self.evictions.evict(
                    connection, lane, why, STEP, now - self._limits.max_age
                )
            if notices:  # at once: the next destination's transaction may fail
                self._answer([], notices)
                expired = True
        return expired
