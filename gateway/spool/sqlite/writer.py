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
from gateway.spool.auditor import Auditor
from gateway.spool.clock import SLACK, Clock, check_clock
from gateway.spool.rows import pack
from gateway.spool.sqlite import consent
from gateway.spool.sqlite.balance import balances
from gateway.spool.sqlite.commands import (
    AppendEntry,
    CloseWriter,
    Command,
    CommandQueue,
    EmptyLog,
    RecordProgress,
    RunTransaction,
    SaveConsent,
    fail,
)
from gateway.spool.sqlite.cursors import DestinationCursor
from gateway.spool.sqlite.database import MOVED, TRANSIENT, Row, insert
from gateway.spool.sqlite.dedup import Deduplicator, purge
from gateway.spool.sqlite.eviction import Evictions, RefusedEntry
from gateway.spool.sqlite.progress import (
    NOWHERE,
    apply_progress,
    forget_ended,
    forget_evicted,
)
from gateway.spool.sqlite.replays import move, note_copy
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
_ROUNDS = 4
"""How often so many retained rows are deleted in one transaction."""
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
        self.room = Room(session.places, session.gauge, session.folder)
        self.evictions = Evictions(session.places, self.room, clock)
        self._session, self._places, self._gauge = session, session.places, session.gauge
        self._batches, self._limits, self._clock = batches, limits, clock
        self._ticked = self._shrunk = self._ahead = 0.0
        self._audited = -math.inf
        self.auditor = Auditor()
        self._stale = False
        """Whether there are expired ids to delete."""
        self._releasing = False
        """Whether there may be more rows that were retained for long enough."""
        self._places.retains = limits.retain is not None

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
                elif isinstance(job, EmptyLog):
                    self._empty_log(job)
            closing = any(isinstance(job, CloseWriter) for job in jobs)
            if closing:
                self._session.disconnect()
                self._session.end()
                self.evictions.log_new()
            if jobs:
                self._answer(jobs, notices)
            if closing:
                return
            busy = self._maintain(idle=not jobs)
            if self._session.untold:
                self._answer([], [])

    def _answer(self, jobs: Sequence[Command], notices: Sequence[SpoolNotice]) -> None:
        again, self._session.untold = self._session.untold, []
        numbers = self._places.position, self._places.evictions
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
                for place in self._places.by_name.values():
                    notices += self.evictions.overflow(connection, place)
                self.room.look(connection)
                if self._releasing or trimmable(self._places) >= STEP:
                    self._trim(connection, max(STEP, 2 * len(jobs)))
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
                place = self._places[job.destination]
            except SpoolError as e:
                job.error = e
                continue
            if job.heard < place.evicted:
                job.error = Outdated(
                    f"the spool evicted deliveries of {place.name!r}; report again"
                )
                continue
            terse = self.room.full is not None
            apply_progress(connection, place, job.progress, self._places.ended, terse=terse)
            place.new_reported = max(place.new_reported, job.progress.cursor)

    def _append(self, connection: apsw.Connection, jobs: Sequence[AppendEntry]) -> None:
        self._free_space(connection)
        now = self._clock.now()
        dedup = Deduplicator(connection, now, self._clock.sure(), [job for job in jobs if job.ids])
        taken: list[_Taking] = []
        rows: list[Row] = []
        for job in jobs:
            size = dedup.drop_duplicates(job) if job.ids else 0
            if job.kept is None:
                continue
            try:
                entry, refused, mask = self._admitted(job.kept, moved=bool(job.accepted_at))
                meta, body = pack(entry), entry.request.body
                length = len(meta) + len(body)
                self._make_room(connection, size + length)
                if job.step is not None and not move(connection, job.step):
                    job.kept = None  # the replay was paused or cancelled
                    job.result = 0
                    continue
            except apsw.Error:
                raise
            except Exception as e:  # noqa: BLE001 - an entry that cannot be packed fails alone
                fail([job], e)
            else:
                if job.ids:
                    dedup.note(job)
                job.kept = entry
                taken.append(_Taking(job, entry, length, refused))
                at = min(now, job.accepted_at or now)  # a later one would be retained for ever
                rows.append((mask | TRANSIENT if job.step else mask, at, entry.id, meta, body))
        if rows:
            self._place(connection, taken, insert(connection, rows))
        dedup.remember()
        for place in self._places.by_name.values():
            place.coming = 0

    def _free_space(self, connection: apsw.Connection) -> None:
        """Delete what nobody needs if so much is used that a destination may exceed its share."""
        if self._gauge.tight:
            self._trim(connection, _HURRY)
            self._give_way(connection)
            self.room.look(connection)

    def _place(self, connection: apsw.Connection, taken: Sequence["_Taking"], seq: int) -> None:
        """Record in memory the entries that were inserted from *seq* on."""
        by_name, accepted = self._places.by_name, defaultdict[str, int](int)
        for job, entry, size, refused in taken:
            job.result = seq
            for name, numbers in entry.targets.items():
                by_name[name].add(seq, len(numbers), size)
                accepted[name] += len(numbers)
            if job.step is not None or job.accepted_at:
                self._places.transient.add(seq)
            if job.step is not None:
                for name, numbers in entry.targets.items():
                    note_copy(connection, job.step, by_name[name].number, numbers, seq)
            for refusal in refused:
                accepted[refusal.place.name] += len(refusal.numbers)
                self.evictions.refuse(connection, seq, refusal)
            seq += 1
        self._places.new_position = seq - 1
        counts = ((count, by_name[name].number) for name, count in accepted.items())
        connection.executemany(_ACCEPT, counts)

    def _admitted(self, entry: Entry, *, moved: bool) -> tuple[Entry, list["RefusedEntry"], int]:
        """Return the entry for the destinations that accept it, the refused parts, and the mask.

        Raises SpoolFull if no destination except shadows accepts it, and SpoolError for an unknown
        destination.
        """
        refused: list[RefusedEntry] = []
        places: list[DestinationCursor] = []
        takes, mask, by_name = False, MOVED if moved else 0, self._places.by_name
        for name, numbers in entry.targets.items():
            place = by_name.get(name) or self._places[name]
            if place.bounds is None:
                raise SpoolError(f"destination {place.name!r} is not registered; register it first")
            overflow = place.bounds.overflow
            if overflow == "refuse" and (why := self.room.refusal(place)):
                refused.append(RefusedEntry(place, numbers, why))
                continue
            takes = takes or overflow != "drop"
            places.append(place)
            mask |= place.bit
        if refused:
            if not takes:
                raise SpoolFull("; ".join(one.why for one in refused), _RETRY_AFTER)
            left = {place.name: entry.targets[place.name] for place in places}
            entry = msgspec.structs.replace(entry, targets=left)
        for place in places:
            place.coming += 1
        return entry, refused, mask

    def _remember(self, connection: apsw.Connection, jobs: Sequence[SaveConsent]) -> None:
        for job in jobs:
            try:
                self._make_room(connection, consent.bytes_needed(job.records))
            except SpoolFull as e:
                fail([job], e)
            else:
                consent.remember(connection, job.records, self._clock.now(), job.window)

    def _make_room(self, connection: apsw.Connection, size: int) -> None:
        """Reserve *size* more bytes; raises SpoolFull if there is no room for them."""
        if not self._gauge.has_room(connection, size):
            self._trim(connection, _HURRY)
        while not self._gauge.has_room(connection, size) and self._release(connection, size):
            pass
        if not self._gauge.has_room(connection, size):
            raise SpoolFull(self.room.full_reason(), _RETRY_AFTER)

    # ---- the rest ------------------------------------------------------------------------

    def _call(self, job: RunTransaction) -> Sequence[SpoolNotice]:
        try:
            with self._session.writing() as connection:
                outcome = job.act(connection, self._places)
            if outcome.then:
                outcome.then()
            job.result = outcome.result
        except Exception as e:  # noqa: BLE001 - the thread must survive any operation
            fail([job], e)
            return ()
        return outcome.notices

    def _empty_log(self, job: EmptyLog) -> None:
        try:
            job.result = self._session.empty_log()
        except Exception as e:  # noqa: BLE001 - the thread must survive any operation
            fail([job], e)

    def _maintain(self, *, idle: bool) -> bool:
        """Do a step of maintenance; return whether there is more to do at once."""
        now = time.monotonic()
        due = now - self._ticked >= TICK
        if due:
            self._ticked = now
            self.evictions.log_new()
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
        if due or self._stale or self._releasing or trimmable(self._places) >= STEP:
            self._session.has_room()
            with self._session.writing() as connection:
                self._trim(connection, STEP)
                self._give_way(connection)
                self._forget(connection, STEP)
                places = self._places.by_name.values()
                for place in places:
                    more |= forget_ended(connection, place, STEP)
                forget_evicted(connection, places)
        more |= expired or self._stale or self._releasing
        return more or trimmable(self._places) >= STEP

    # ---- retained entries ----------------------------------------------------------------

    def _trim(self, connection: apsw.Connection, count: int) -> None:
        """Delete some rows that nobody needs, and that were retained for long enough."""
        retain, before = self._limits.retain, -math.inf
        if retain is not None:
            before = math.inf if self._session.short else self._clock.sure() - retain
        self._releasing = trim(connection, self._places, count, before) >= count

    def _give_way(self, connection: apsw.Connection) -> None:
        """Delete the oldest retained rows while more than half of ``max_bytes`` is used.

        So they never count against the share of a destination. One call deletes a part.
        """
        for _ in range(_ROUNDS):
            if not (self._places.retains and self._gauge.tight):
                return
            released = self._release(connection, self._gauge.excess)
            self._gauge.measure(connection)
            if not released:
                return

    def _release(self, connection: apsw.Connection, size: int) -> int:
        """Delete about *size* bytes of retained rows before their time; return how many rows."""
        places = self._places
        if not places.retains:
            return 0
        rows = places.new_position - places.new_released
        count = min(_HURRY, 1 + size * rows // max(1, self._gauge.bytes))
        return trim(connection, places, count, math.inf)

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
        session, places = self._session, self._places
        if not session.others_wrote():
            return
        with session.using() as connection:
            places.recount(connection)
            names = [name for (name,) in fetch(connection, _REPLAYED, (session.checked,))]
        session.checked = places.position
        self._answer([], [DeadLettersReplayed(name) for name in names])

    def _audit(self) -> None:
        """Check the balances, every few ticks."""
        now = time.monotonic()
        if now - self._audited < AUDIT * TICK:
            return
        self._audited = now
        with self._session.writing() as connection:
            self._session.count_again(connection)
            found = balances(connection, self._places)
        self.auditor.look(found)

    def _follow_clock(self) -> None:
        """Check whether the system clock was set, and store the offset once it is trusted."""
        check_clock(self._clock)
        ahead = self._clock.ahead
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
        for name in list(self._places.by_name):
            with self._session.writing() as connection:
                place = self._places[name]
                notices = self.evictions.evict(
                    connection, place, why, STEP, now - self._limits.max_age
                )
            if notices:  # at once: the next destination's transaction may fail
                self._answer([], notices)
                expired = True
        return expired
