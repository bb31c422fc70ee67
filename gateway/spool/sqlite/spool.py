"""The embedded spool: one SQLite file, one writer thread, group commit."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.clock import Clock, GivenClock, SteadyClock
from gateway.spool.dead_letters import (
    ALL_DEAD_LETTERS,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
)
from gateway.spool.dedup import dedup_keys
from gateway.spool.interface import EventSearch, Offer, Shard, ShardRunner
from gateway.spool.replays import (
    ReplayJob,
    ReplaySelection,
    ReplayState,
    ReplayStep,
    RetainedEntry,
)
from gateway.spool.sqlite import commands, consent, dead_letters, erasure, reader, replays, transfer
from gateway.spool.sqlite.commands import (
    AppendEntry,
    CloseWriter,
    CommandQueue,
    EmptyLog,
    RecordProgress,
    RunTransaction,
    SaveConsent,
    TransactionResult,
)
from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.database import lock
from gateway.spool.sqlite.reader import SpoolReader, read_pending
from gateway.spool.sqlite.session import WriterSession
from gateway.spool.sqlite.writer import Writer
from gateway.spool.user_hash import UserHash
from gateway.spool.values import (
    Appended,
    BacklogLimit,
    Balance,
    ConsentRecord,
    DedupWindow,
    Entry,
    ErasedEvents,
    FoundEvents,
    GivenUp,
    LogRecord,
    PendingRequest,
    Progress,
    QueueDepth,
    SpoolFull,
    SpoolLimits,
    SpoolNotice,
    StoredConsent,
    UnreadPage,
    WaitingDelivery,
)

MAX_QUEUED = 64 * 1024 * 1024
"""Bytes of request bodies that may wait for the disk; above it appends are refused."""
_RETRY_AFTER = 1.0
TRIES = 5
"""How often emptying the write-ahead log is tried, each time for as long as SQLite waits."""
_NO_LIMITS = SpoolLimits()


class SqliteSpool:
    """A ``Spool`` in its own folder, and its only ``Shard``.

    ``vfs`` names a SQLite VFS to use instead of the default one. ``clock`` is a `Clock`, or a
    function that returns Unix seconds and is always trusted.

    Attributes:
        clock: the clock of the spool.
        number: 0, the number of its shard.
        node: empty, since no other gateway shares it.
    """

    number = 0
    node = ""

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits = _NO_LIMITS,
        *,
        vfs: str | None = None,
        clock: Clock | Callable[[], float] | None = None,
    ) -> None:
        self._folder, self._limits, self._vfs = folder, limits, vfs
        given = clock or SteadyClock()
        self.clock: Clock = GivenClock(given) if callable(given) else given
        self._followers: list[Offer] = []
        self._listeners: list[Callable[[SpoolNotice], None]] = []
        self._lock: int | None = None
        self._open = False
        self._session = WriterSession(folder, vfs, limits.max_bytes, self.clock)
        self._user_hash = UserHash(b"")  # replaced once the store is open

    async def open(self) -> None:
        """Open the store (see ``Spool.open``)."""
        self._lock = lock(self._folder)
        self._loop = asyncio.get_running_loop()
        spare = self._session.spare
        self._session = WriterSession(self._folder, self._vfs, self._limits.max_bytes, self.clock)
        self._session.spare = spare
        self._batches = CommandQueue(self._followers, self._listeners)
        self._writer = Writer(self._session, self._batches, self._limits, self.clock)
        self._reader = SpoolReader(self._folder, self._vfs)
        self._writer.start()
        self._open = True
        try:
            self._user_hash = UserHash(await self._call(commands.secret))
        except BaseException:
            await self.close()
            raise

    def spares(self, what: Callable[[], None]) -> None:
        """Call *what* when the disk is full, from any thread (see ``Spool.spares``)."""
        self._session.spare = what

    @property
    def _reads(self) -> SpoolReader:
        if not self._open:
            raise SpoolError(f"{self._folder}: the spool is closed")
        return self._reader

    async def close(self) -> None:
        """Finish queued work, then close; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        await self._reader.close()
        closing = CloseWriter(self._loop.create_future())
        self._batches.put(closing)
        await closing.future
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def health(self) -> str | None:
        """Return why appends fail now (see ``Intake.health``)."""
        if not self._open:
            return f"{self._folder}: the spool is closed"
        session = self._session
        trouble = session.trouble or session.short or self._reader.trouble or self._writer.room.full
        return trouble or self._slow_disk_reason(0)

    def refusing(self) -> Mapping[str, str]:
        """Return which destinations accept nothing new (see ``Intake.refusing``)."""
        return self._writer.room.refusing if self._open else {}

    def _slow_disk_reason(self, size: int) -> str | None:
        """Return why *size* more bytes cannot be queued; None if they can."""
        queued = self._batches.queued
        if not queued or queued + size <= MAX_QUEUED:
            return None
        return f"{self._folder}: {queued} bytes wait to be written; the disk is too slow or hangs"

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set all destinations (see ``SpoolAdmin.register``)."""
        await self._call(partial(commands.register, destinations=dict(destinations)))

    async def orphans(self) -> dict[str, QueueDepth]:
        """Return the destinations in the store that are not registered."""
        places = self._session.places.by_name
        depths = await self.depths()
        return {n: depth for n, depth in depths.items() if n in places and places[n].bounds is None}

    async def forget(self, destination: str) -> int:
        """Delete an orphan's cursor and pending deliveries (see ``SpoolAdmin.forget``)."""
        given_up: int = await self._call(partial(commands.forget, name=destination))
        return given_up

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Store whether an operator paused the destination (see ``SpoolAdmin.pause``)."""
        await self._call(partial(commands.pause, name=destination, paused=paused))

    async def paused(self) -> frozenset[str]:
        """Return the destinations that are paused."""
        return await self._reads.run(reader.paused)

    def append(
        self,
        entry: Entry,
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
        accepted_at: float | None = None,
        reply_within: float = 0.0,
    ) -> Awaitable[Appended]:
        """Return where the entry is once it is durable (see ``Intake.append``)."""
        del reply_within  # the followers are in this process
        future = self._future()
        if slow := self._batches.queued and self._slow_disk_reason(len(entry.request.body)):
            raise SpoolFull(slow, _RETRY_AFTER)
        job = AppendEntry(future, entry=entry, events=events, kept=entry, accepted_at=accepted_at)
        if once is not None:
            job.ids, job.window = dedup_keys(entry, once), once.window
        self._batches.put(job)
        return future

    def settle(
        self, destination: str, progress: Progress, *, soon: bool = False
    ) -> Awaitable[None]:
        """Record a worker's progress in one transaction (see ``Shard.settle``)."""
        del soon  # every report is recorded at once
        heard = self._batches.heard
        job = RecordProgress(
            self._future(), destination=destination, progress=progress, heard=heard
        )
        self._batches.put(job)
        return job.future

    def save_consent(
        self, records: Mapping[bytes, Mapping[str, ConsentRecord]], window: float
    ) -> Awaitable[None]:
        """Store users' consent (see ``Intake.save_consent``)."""
        job = SaveConsent(self._future(), records=records, window=window)
        self._batches.put(job)
        return job.future

    async def load_consent(self, users: Sequence[bytes]) -> dict[bytes, dict[str, ConsentRecord]]:
        """Return the stored consent of *users* (see ``Intake.load_consent``)."""
        return await self._reads.run(consent.recall, users, self.clock.sure())

    async def _call(
        self, act: Callable[[apsw.Connection, DestinationCursors], TransactionResult]
    ) -> Any:
        job = RunTransaction(self._future(), act=act)
        self._batches.put(job)
        return await job.future

    def _future(self) -> asyncio.Future[Any]:
        if not self._open:
            raise SpoolError(f"{self._folder}: the spool is closed")
        return self._loop.create_future()

    def hurry(self) -> None:
        """Do nothing: every report is recorded at once."""

    @property
    def shards(self) -> Sequence[Shard]:
        """Return the spool itself."""
        return (self,)

    @property
    def leased(self) -> None:
        """Return None: no other process can own the shard."""

    def follow_pauses(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Do nothing: no other process pauses destinations."""

    @property
    def cluster(self) -> None:
        """Return None: a gateway with a spool of its own is alone."""

    @property
    def peers(self) -> None:
        """Return None: likewise."""

    @property
    def configs_differ(self) -> None:
        """Return None: no other process delivers."""

    def set_config(self, digest: str) -> None:
        """Do nothing: there is nobody to tell."""

    def leads(self) -> bool:
        """Return True: likewise."""
        return True

    def joined(self) -> bool:
        """Return True: there is nobody to join."""
        return True

    def share(self) -> float:
        """Return 1: it is its only shard."""
        return 1.0

    def run_shards(self, runner: ShardRunner) -> None:
        """Tell *runner* of the spool, which stays its shard."""
        runner.start_shard(self)

    async def own_all(self) -> None:
        """Do nothing: it is its only shard."""

    def follow(self, offer: Offer) -> None:
        """Call *offer* on the loop for each new entry (see ``Shard.follow``)."""
        self._followers.append(offer)

    def subscribe(self, listener: Callable[[SpoolNotice], None]) -> None:
        """Call ``listener`` on the loop for every notice."""
        self._listeners.append(listener)

    def user_hash(self, user: str) -> int:
        """Return a 32-bit hash of a user's key (see ``Intake.user_hash``)."""
        return self._user_hash(user)

    def position(self) -> int:
        """Return the seq of the last entry, 0 in a new spool."""
        return self._batches.position if self._open else 0

    def cursor(self, destination: str) -> int:
        """Return the destination's cursor."""
        return self._session.places[destination].cursor

    async def unread(self, destination: str, after: int, upto: int, limit: int) -> UnreadPage:
        """Return a page of a destination's pending deliveries (see ``Shard.unread``)."""
        return await self._reads.run(reader.unread, destination, after, upto, limit)

    async def balances(self) -> dict[str, Balance]:
        """Return the balance of each destination (see ``SpoolAdmin.balances``)."""
        found: dict[str, Balance] = await self._call(
            partial(commands.balance, session=self._session)
        )
        return found

    async def entries(self, seqs: Sequence[int]) -> list[LogRecord]:
        """Return the entries with these seqs, without missing ones."""
        return await self._reads.run(reader.entries, seqs)

    async def times(self, seqs: Sequence[int]) -> dict[int, float]:
        """Return when the entries with these seqs were accepted, without missing ones."""
        return await self._reads.run(reader.times, seqs)

    async def pending(self, request_id: str) -> PendingRequest | None:
        """Return the pending deliveries of a request (see ``SpoolAdmin.pending``)."""
        return await self._reads.run(read_pending, request_id)

    async def retrying(
        self, destination: str, due_before: float, limit: int, after: WaitingDelivery | None = None
    ) -> list[WaitingDelivery]:
        """Return retrying deliveries by due time (see ``Shard.retrying``)."""
        return await self._reads.run(reader.retrying, destination, due_before, limit, after)

    async def parked(self, destination: str, user: str, limit: int) -> list[WaitingDelivery]:
        """Return a user's parked deliveries, by seq and index."""
        return await self._reads.run(reader.parked, destination, user, limit)

    async def blocked(self, destination: str) -> dict[str, int]:
        """Return the number of waiting deliveries per user."""
        return await self._reads.run(reader.blocked, destination)

    async def depths(self) -> dict[str, QueueDepth]:
        """Return the queue depth of every known destination."""
        places = list(self._session.places.by_name.values())
        known = [(place.name, place.cursor, place.backlog, place.first()) for place in places]
        found = await self._reads.run(reader.depths, known)
        ahead = self.clock.ahead
        if not ahead:
            return found
        return {
            name: replace(
                depth,
                oldest=None if depth.oldest is None else depth.oldest + ahead,
                oldest_unread=None if depth.oldest_unread is None else depth.oldest_unread + ahead,
            )
            for name, depth in found.items()
        }

    def given_up(self) -> Mapping[str, GivenUp]:
        """Return how many deliveries were evicted, by destination (see ``SpoolAdmin.given_up``)."""
        return dict(self._writer.evictions.given_up) if self._open else {}

    def unaccounted(self) -> Mapping[str, int]:
        """Return the number of unaccounted deliveries (see ``SpoolAdmin.unaccounted``)."""
        return self._writer.auditor.unaccounted

    async def size(self) -> int:
        """Return the used bytes of the file."""
        return await self._reads.run(reader.size)

    async def dead_letters(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, after: int = 0, limit: int = 50
    ) -> list[DeadLetter]:
        """Return dead letters by id; ``after`` is the last id of the previous page."""
        return await self._reads.run(dead_letters.listing, which, after, limit)

    async def letter_groups(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, limit: int = 50
    ) -> list[DeadLetterGroup]:
        """Return groups of dead letters (see ``SpoolAdmin.letter_groups``)."""
        return await self._reads.run(dead_letters.groups, which, limit)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """Return one dead letter by its id."""
        return await self._reads.run(dead_letters.one, number)

    async def delete_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Delete dead letters; return how many there were."""
        return await self._each(which, commands.drop_some)

    async def replay_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Replay dead letters (see ``SpoolAdmin.replay_dead_letters``)."""
        return await self._each(which, partial(commands.replay_some, now=self.clock.now()))

    async def message_ids(self) -> AsyncIterator[dict[bytes, float]]:
        """Yield the dedup keys that are remembered (see ``SpoolTransfer.message_ids``)."""
        page: dict[bytes, float] | None = None
        while page := await self._reads.run(
            transfer.message_ids, max(page or [b""]), self.clock.sure()
        ):
            yield page

    async def restore_message_ids(self, ids: Mapping[bytes, float]) -> None:
        """Remember dedup keys of another spool (see ``SpoolTransfer.restore_message_ids``)."""
        await self._call(partial(transfer.restore_message_ids, ids=ids))

    async def consents(self) -> AsyncIterator[list[StoredConsent]]:
        """Yield the stored consent of all users."""
        page: list[StoredConsent] = []
        while page := await self._reads.run(
            transfer.consents, page[-1].user if page else b"", self.clock.sure()
        ):
            yield page

    async def restore_consents(self, consents: Sequence[StoredConsent]) -> None:
        """Store consent of another spool (see ``SpoolTransfer.restore_consents``)."""
        await self._call(partial(transfer.restore_consents, restored=consents))

    async def restore_dead_letters(self, letters: Mapping[bytes, DeadLetter]) -> None:
        """Store dead letters of another spool (see ``SpoolTransfer.restore_dead_letters``)."""
        now, sure = self.clock.now(), self.clock.sure()
        act = partial(transfer.restore_dead_letters, letters=letters, now=now, sure=sure)
        await self._call(act)

    async def delete_moved_letters(self, ids: Sequence[int]) -> None:
        """Delete dead letters that another spool has now."""
        await self._call(partial(transfer.delete_moved_letters, ids=ids))

    async def begin_replay(self, selection: ReplaySelection) -> ReplayJob:
        """Store a new replay (see ``ReplayableStore``)."""
        now, ahead = self.clock.now(), self.clock.ahead
        job: ReplayJob = await self._call(
            partial(replays.begin, selection=selection, now=now, ahead=ahead)
        )
        return job

    async def replays(self) -> list[ReplayJob]:
        """Return the last replays, the newest first (see ``ReplayableStore``)."""
        return await self._reads.run(replays.listed)

    async def replay(self, job: int) -> ReplayJob | None:
        """Return a replay once all steps before are recorded (see ``ReplayableStore``)."""
        found: ReplayJob | None = await self._call(partial(replays.show, number=job))
        return found

    async def set_replay(self, job: int, state: ReplayState) -> ReplayJob | None:
        """Set the state of a replay (see ``ReplayableStore``)."""
        found: ReplayJob | None = await self._call(
            partial(replays.set_state, number=job, state=state)
        )
        return found

    async def retained(self, job: ReplayJob, after: int, limit: int) -> Sequence[RetainedEntry]:
        """Return the next requests of a replay (see ``ReplayableStore``)."""
        return await self._reads.run(replays.retained_for, job, self.clock.ahead, after, limit)

    async def replay_entry(
        self, entry: Entry, events: Sequence[Event], step: ReplayStep
    ) -> int | None:
        """Append a copy of a retained entry (see ``ReplayableStore``)."""
        job = AppendEntry(self._future(), entry=entry, events=events, kept=entry, step=step)
        self._batches.put(job)
        appended: Appended = await job.future
        return appended.seq or None

    async def skip_replayed(self, step: ReplayStep) -> bool:
        """Move a replay past requests (see ``ReplayableStore``)."""
        moved: bool = await self._call(partial(replays.skip, step=step))
        return moved

    async def find_events(self, wanted: EventSearch) -> FoundEvents:
        """Return the wanted events in all stored requests (see ``ErasableStore``)."""
        found: dict[str, dict[int, Mapping[int, str]]] = {"kept": {}, "log": {}}
        destinations: set[str] = set()
        for table in ("kept", "log", "kept"):  # one may become the other meanwhile
            after: int | None = 0
            while after is not None:
                page = await self._reads.run(erasure.search, table, wanted, after)
                more, names, after = page
                found[table].update(more)
                destinations |= names
        return FoundEvents(found["log"], found["kept"], frozenset(destinations))

    async def erase_events(self, found: FoundEvents, users: Collection[bytes]) -> ErasedEvents:
        """Erase events and the consent of *users* (see ``ErasableStore``)."""
        taken: ErasedEvents = await self._call(partial(erasure.erase, found=found, users=users))
        return taken

    async def overwrite_erased(self) -> None:
        """Remove what was deleted from the file and its log (see ``ErasableStore``)."""
        while await self._call(erasure.free_pages):
            pass
        for _ in range(TRIES):
            job = EmptyLog(self._future())
            self._batches.put(job)
            if await job.future:
                return
        raise SpoolError(
            f"{self._folder}: another process reads the spool, so its write-ahead log still has "
            f"what was erased; end that process, then erase again"
        )

    async def _each(
        self,
        which: Sequence[int] | DeadLetterFilter,
        act: Callable[..., TransactionResult],
    ) -> int:
        after, total = 0, 0
        upto = await self._reads.run(dead_letters.newest)
        while ids := await self._reads.run(dead_letters.portion, which, after, upto):
            total += await self._call(partial(act, ids=ids))
            after = ids[-1]
        return total
