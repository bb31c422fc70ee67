"""A shard of the log that this gateway owns: the spool of the delivery engine."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.spool.auditor import Auditor
from gateway.spool.callbacks import call_each
from gateway.spool.dead_letters import DeadLetter, DeadLetterFilter
from gateway.spool.interface import Offer
from gateway.spool.jetstream.dead_letters import ShardDeadLetters
from gateway.spool.jetstream.evictions import ShardEvictions
from gateway.spool.jetstream.follower import Follower
from gateway.spool.jetstream.frames import FrameMark, FrameWriter, OwnEntry, read_frame
from gateway.spool.jetstream.journal import ShardJournal, StoredRecord
from gateway.spool.jetstream.layout import MAX_ROWS, message_of, seq_of
from gateway.spool.jetstream.letter_messages import replay_groups
from gateway.spool.jetstream.log_reader import LogReader, LogReplaced, LogTooShort
from gateway.spool.jetstream.messages import StoredMessage
from gateway.spool.jetstream.recorder import ProgressRecorder
from gateway.spool.jetstream.shard_state import Changes, ShardState
from gateway.spool.jetstream.trimmer import TRIM_DELAY, LogTrimmer
from gateway.spool.rows import targets_of
from gateway.spool.values import (
    BacklogLimit,
    Balance,
    DeadLettersReplayed,
    DeliveryRef,
    Entry,
    Fenced,
    LogRecord,
    PendingRequest,
    Progress,
    QueueDepth,
    ReplyWanted,
    SpoolNotice,
    UnreadEntry,
    UnreadPage,
    WaitingDelivery,
    event_index,
)

UPKEEP_INTERVAL = 2.0
"""Seconds between two looks at what is too old, what nobody needs, and the balances."""

SURE_OF_LOSS = 20.0
"""Seconds for which a log must be too short: a server that leads no more may have answered."""

log = structlog.get_logger()
_decode = msgspec.msgpack.Decoder(Changes).decode


class JetStreamShard:
    """A ``Shard`` in the streams of a cluster.

    What is not in the log is in memory: the state that the journal's records make. Every change of
    it is in the journal first.

    Args:
        writer: of this gateway; what it stored in this shard is offered with its parsed events.
            Its connection and its layout are the shard's too.
        number: of the shard, from 0 on.
        user_hash: hashes users' keys, alike on all gateways.
        on_ended: called when the shard turns out to be another gateway's, or damaged.
        trim_delay: seconds, see `TRIM_DELAY`.

    Attributes:
        number: of the shard.
        state: cursors, waiting deliveries and counts.
        dead_letters: those of the shard.
        evictions: what is given up by age and by the backlog's bounds.
        auditor: checks the balances every few seconds.
    """

    def __init__(
        self,
        writer: FrameWriter,
        number: int,
        user_hash: Callable[[str], int],
        on_ended: Callable[[], None] = lambda: None,
        *,
        trim_delay: float = TRIM_DELAY,
    ) -> None:
        self.number = number
        self.state = ShardState()
        self._writer = writer
        self._connection, self._layout = connection, layout = writer.connection, writer.layout
        self._hash = user_hash
        self._log = LogReader(connection, layout, number, self.state.left_out)
        self._journal = ShardJournal(
            connection, layout.state_stream, layout.journal(number), writer.origin
        )
        self._recorder = ProgressRecorder(
            self._journal,
            self.state,
            self._entries_of,
            layout.dead_letters(number),
            connection.max_payload,
            on_ended=on_ended,
        )
        self.dead_letters = ShardDeadLetters(connection, layout, number, self.state, self._recorder)
        self.evictions = ShardEvictions(
            self.state, self._recorder, self._log, writer.clock, self._tell
        )
        self.auditor = Auditor()
        self._followers: list[Offer] = []
        self._listeners: list[Callable[[SpoolNotice], None]] = []
        self._follower: Follower | None = None
        self._trimmer = LogTrimmer(
            writer,
            number,
            self.state,
            self._log,
            self._recorder,
            check=self._check,
            delay=trim_delay,
        )
        self._upkeep: asyncio.Task[None] | None = None
        self._refused = asyncio.Event()
        """Set when a destination refuses something."""
        self._lost = ""
        """Which frame cannot be read."""
        self._short_since = 0.0
        """Since when the log ends before what was handed over, by the monotonic clock; 0 if not."""
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = "the shard is not claimed"

    # ---- ownership -----------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Return the number of the claim; it rises with each."""
        return self._journal.epoch

    @property
    def fenced(self) -> bool:
        """Return whether the shard ended: another gateway claimed it, or NATS lost a frame."""
        return self._journal.fenced or bool(self._lost)

    async def claim(self, may_take: Callable[[str], bool] = lambda _: True) -> bool:
        """Take the shard over and read its state; return whether it is ours.

        *may_take* is asked about its owner, unless it was released. Raises SpoolError if the state
        cannot be read or NATS lost a part of it; then try with a new object.
        """
        if not await self._journal.claim(may_take):
            return False
        for one in await self._journal.records():
            self._replay(one)
        await self._read_log()
        await self._trimmer.begin()
        self._closed = ""
        self._recorder.start()
        return True

    def _replay(self, one: StoredRecord) -> None:
        """Apply a record; parts of a snapshot that was not finished say nothing new."""
        if one.record.body:
            self.state.apply(_decode(one.record.body))

    async def _read_log(self) -> None:
        """Count the entries that are in the log after the first cursor, up to its end."""
        state, last = self.state, await self._log.last()
        if message_of(state.position) > (last.seq if last else 0):
            raise SpoolError(
                f"{self._layout.log(self.number)}: NATS lost the end of the log: it has no frame "
                f"{message_of(state.position)}"
            )
        await self._log.check_end(state.end)
        if last is None:
            return
        state.end = FrameMark.of(last)
        recorded = state.position
        cursors = [found.cursor for found in state.destinations.values()]
        start = message_of(min(cursors, default=recorded))
        async for message, frame in self._log.frames(start, last.seq):
            for index, row in enumerate(frame.rows):
                seq, targets = seq_of(message.seq, index), targets_of(row.meta)
                state.restore(seq, row, targets, frame.at, recorded, late=frame.late)
        self._log.trimmed = await self._log.first()

    def follow(self, offer: Offer) -> None:
        """Call *offer* on the loop for each entry after `position` (see ``Shard.follow``)."""
        self._followers.append(offer)

    def start(self) -> None:
        """Hand entries over, and trim the log, from now on."""
        self._writer.follow(self.number)
        self._follower = Follower(
            self._connection,
            self._layout.log_stream,
            self._layout.log(self.number),
            message_of(self.state.position) + 1,
            self._on_frame,
            check=self._check_end,
        )
        self._follower.start()
        self._upkeep = asyncio.get_running_loop().create_task(self._keep_up())

    async def release(self) -> None:
        """Record what was reported, and give the shard away; a fenced one is abandoned."""
        await self._stop_reading("the shard is released")
        await self._recorder.finish()
        with contextlib.suppress(SpoolError):
            await self._journal.write("release", b"")

    async def abandon(self) -> None:
        """End at once, and record nothing."""
        await self._stop_reading("the shard is given up")
        await self._recorder.stop(SpoolError(self._closed))

    async def _stop_reading(self, why: str) -> None:
        self._closed = self._closed or why
        self._wake_waiters()
        if self._follower:
            await self._follower.stop()
        self._writer.unfollow(self.number)
        if self._upkeep:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)

    # ---- the log -------------------------------------------------------------------------

    def _on_frame(self, message: StoredMessage) -> None:
        if self._lost:
            return
        try:
            frame = read_frame(message.data, message.seq)
        except SpoolError as error:
            self._end(f"{self._layout.log(self.number)}: {error}")
            return
        self.state.end = FrameMark.of(message)
        own = self._writer.take(self.number, frame)
        for index, row in enumerate(frame.rows):
            seq = seq_of(message.seq, index)
            if seq <= self.state.position:  # a frame comes again if an entry raised
                continue
            entry, events = own[index] if own else OwnEntry(row.entry(), None)
            left = self.state.take(seq, row, entry.targets, frame.at, late=frame.late)
            if left is not entry.targets:
                entry = replace(entry, targets=left)
            waits, ended = row.reply_within, not left and bool(row.ids or row.refused)
            if not row.replays and (waits or not ended):
                reply = ReplyWanted(frame.origin, waits) if waits else None
                call_each(self._followers, LogRecord(seq, entry, reply), events)
            self.state.position = seq
            if row.refused:
                self._refused.set()
            for name in left if row.replays else ():
                self._tell(DeadLettersReplayed(name))
        self._wake_waiters()

    async def _check_end(self) -> None:
        """End the shard if the log has lost what was handed over.

        New frames have the numbers of the lost ones then, and would be taken for these. Raises
        SpoolError if so, and while it is not sure.
        """
        try:
            await self._log.check_end(self.state.end)
        except LogTooShort as error:
            self._short_since = self._short_since or time.monotonic()
            if time.monotonic() - self._short_since >= SURE_OF_LOSS:
                self._end(str(error))
            raise
        except LogReplaced as error:
            self._end(str(error))
            raise
        self._short_since = 0.0

    def _end(self, lost: str) -> None:
        """End the shard: nothing may overtake what NATS lost."""
        if self._lost:
            return
        self._lost = lost
        log.error("log_lost", shard=self.number, reason=self._lost)
        self._recorder.end(Fenced(self._lost))

    def _tell(self, notice: SpoolNotice) -> None:
        call_each(self._listeners, notice)

    async def handed_over(self, seq: int) -> frozenset[int]:
        """Wait until an entry was handed over; return the indexes of its duplicate events.

        Raises SpoolError if the shard is given away before.
        """
        while self.state.position < seq:
            self._check()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return frozenset(map(event_index, self.state.left_out.get(seq, ())))

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def subscribe(self, listener: Callable[[SpoolNotice], None]) -> None:
        """Call ``listener`` on the loop for every notice about the shard."""
        self._listeners.append(listener)

    def user_hash(self, user: str) -> int:
        """Return the hash of a user's key (see ``Intake.user_hash``)."""
        return self._hash(user)

    def position(self) -> int:
        """Return the seq of the last entry that was handed over."""
        return self.state.position

    def cursor(self, destination: str) -> int:
        """Return the destination's cursor."""
        return self.state[destination].cursor

    async def balances(self) -> dict[str, Balance]:
        """Return the balance of every known destination, of this shard's deliveries."""
        self._check()
        return {name: found.balance() for name, found in self.state.destinations.items()}

    async def depths(self) -> dict[str, QueueDepth]:
        """Return the queue depth of every known destination, of this shard's deliveries."""
        self._check()
        return {name: found.depth() for name, found in self.state.destinations.items()}

    async def unread(self, destination: str, after: int, upto: int, limit: int) -> UnreadPage:
        """Return a page of a destination's pending deliveries (see ``Shard.unread``)."""
        self._check()
        found = self.state[destination]
        seqs = found.pending.after(after, upto, limit)
        scanned = seqs[-1] if len(seqs) == limit else upto
        items = []
        for seq, entry in (await self._log.entries(seqs)).items():
            numbers = found.open_numbers(seq, entry.targets.get(destination, ()))
            if numbers and seq > found.cursor:
                users = tuple([entry.user(event_index(number)) for number in numbers])
                items.append(UnreadEntry(seq, entry.lane, entry.vendor, numbers, users))
        self._check()
        return UnreadPage(items, scanned)

    async def entries(self, seqs: Sequence[int]) -> list[LogRecord]:
        """Return the entries with these seqs, without missing ones."""
        self._check()
        known = [seq for seq in seqs if 0 < seq <= self.state.position]
        found = await self._log.entries(known)
        return [LogRecord(seq, found[seq]) for seq in sorted(found)]

    async def times(self, seqs: Sequence[int]) -> dict[int, float]:
        """Return when pending entries were accepted (see ``Shard.times``)."""
        found = await self._log.entries(seqs)
        return {seq: at for seq, one in found.items() if (at := self.state.time(seq, one))}

    # ---- waiting deliveries --------------------------------------------------------------

    async def retrying(
        self, destination: str, due_before: float, limit: int, after: WaitingDelivery | None = None
    ) -> list[WaitingDelivery]:
        """Return retrying deliveries by due time (see ``Shard.retrying``)."""
        self._check()
        return self.state[destination].waiting.retrying(due_before, limit, after)

    async def parked(self, destination: str, user: str, limit: int) -> list[WaitingDelivery]:
        """Return a user's parked deliveries, by seq and index."""
        self._check()
        return self.state[destination].waiting.parked_of(user, limit)

    async def blocked(self, destination: str) -> dict[str, int]:
        """Return the number of waiting deliveries per user."""
        self._check()
        return dict(self.state[destination].waiting.users)

    # ---- progress ------------------------------------------------------------------------

    def settle(
        self, destination: str, progress: Progress, *, soon: bool = False
    ) -> Awaitable[None]:
        """Record a worker's progress in the journal (see ``Shard.settle``)."""
        self._check()
        self.state[destination]  # raises for an unknown one
        return self._recorder.report(destination, progress, soon=soon)

    async def _entries_of(self, destination: str, marks: Sequence[DeliveryRef]) -> dict[int, Entry]:
        """Return the entries of deliveries by seq, from letters where the log has them no more."""
        entries = await self._log.entries([mark.seq for mark in marks])
        for mark in [mark for mark in marks if mark.seq not in entries]:
            number = self.state[destination].evicted_letter(mark)
            if number > 0 and (letter := await self.dead_letters.one(number)):
                entries[mark.seq] = letter.entry
        return entries

    def hurry(self) -> None:
        """Write at once what `settle` was given without *soon*."""
        self._recorder.hurry()

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set the destinations; those that the shard does not know begin at the end of the log."""
        self._check()
        self.evictions.bounds = destinations
        new = [name for name in destinations if name not in self.state.destinations]
        for name in new:
            self.state.begin(name, self.state.position)
        await asyncio.gather(*[self._recorder.report(n, Progress(), soon=True) for n in new])

    async def forget(self, destination: str) -> int:
        """Delete a destination's cursor and pending deliveries; return how many were pending.

        Raises SpoolError if this gateway has it registered.
        """
        self._check()
        if destination in self.evictions.bounds:
            raise SpoolError(
                f"destination {destination!r} is registered; remove it from the configuration first"
            )
        pending = self.state[destination].balance().pending
        await self._recorder.store(lambda: self.state.forgetting(destination))
        return pending

    async def restore_ids(self, ids: Mapping[bytes, float]) -> None:
        """Remember dedup keys of another spool, by the Unix seconds at which each expires."""
        self._check()
        await self._recorder.store(
            lambda: Changes(self.state.position, [], ids=self.state.ids.later(ids))
        )

    async def restore_letters(self, letters: Mapping[bytes, bytes]) -> None:
        """Store dead letters of another spool, as messages (see `restored_letter`) by key."""
        self._check()
        await self._recorder.restore(letters, self._writer.clock.now())

    async def replay(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Replay dead letters, by ids or by filter; return how many there were.

        A row of the log names them, and has the entry once more: whoever owns the shard then makes
        their deliveries wait, and removes the letters. Raises SpoolError if a destination is not
        known.
        """
        self._check()
        count = 0
        async for letters in self.dead_letters.portions(which):
            count += await self._replay_letters(letters)
        return count

    async def _replay_letters(self, letters: Sequence[DeadLetter]) -> int:
        for name in {letter.destination for letter in letters}:
            if name not in self.state.destinations:
                raise SpoolError(
                    f"destination {name!r} no longer exists; add it to the configuration again, or "
                    f"delete its dead letters"
                )
        groups, count = replay_groups(letters), 0
        for start in range(0, len(groups), MAX_ROWS):
            rows = [
                self._writer.append(self.number, entry, replays=replays)
                for entry, replays in groups[start : start + MAX_ROWS]
            ]
            seqs = await asyncio.gather(*rows)
            await self.handed_over(seqs[-1])
            count += sum(len(replays) for _, replays in groups[start : start + MAX_ROWS])
            count -= sum(len(self.state.left_out.get(seq, ())) for seq in seqs)
        return count

    async def pending(self, request_id: str) -> PendingRequest | None:
        """Return a request in this shard and its pending deliveries (see ``SpoolAdmin.pending``).

        An entry that still waits although the log is trimmed is found as well.
        """
        self._check()
        original = await self._log.find(request_id, message_of(self.state.position))
        replays = [seq for seq, name in self.state.replays.items() if name == request_id]
        copies = self._trimmer.copied - self.state.replays.keys() if not original else set()
        found = await self._log.entries([original, *replays, *copies])
        found = {seq: entry for seq, entry in found.items() if entry.id == request_id}
        if not found:
            return None
        waits = {
            key: one
            for seq, entry in found.items()
            for key, one in self.state.waits(seq, entry).items()
        }
        first = min(found)
        return PendingRequest(found[first], waits, first not in self.state.replays)

    # ---- upkeep --------------------------------------------------------------------------

    async def trim(self) -> None:
        """Delete what no destination needs (see `LogTrimmer.run`)."""
        self.state.ids.sweep(self._writer.clock.sure())
        await self._trimmer.run()
        await self.dead_letters.clean()

    async def _keep_up(self) -> None:
        due = 0.0
        while not self._ended():
            whole = time.monotonic() >= due
            if whole:
                due = time.monotonic() + UPKEEP_INTERVAL
            self._refused.clear()
            try:
                await (self._look_after() if whole else self.evictions.refuse())
            except SpoolError as error:
                if self._ended():
                    return
                log.warning("upkeep_failed", shard=self.number, reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._refused.wait()

    async def _look_after(self) -> None:
        await self.evictions.run()
        await self.trim()
        self.auditor.look(await self.balances())

    def _ended(self) -> bool:
        return bool(self._closed)

    def _check(self) -> None:
        """Raise SpoolError unless the shard is ours."""
        if self._lost:
            raise Fenced(self._lost)
        if self.fenced:
            raise Fenced(f"another gateway has taken shard {self.number} over")
        if self._closed:
            raise SpoolError(f"shard {self.number}: {self._closed}")
