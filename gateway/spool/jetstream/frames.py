"""Frames: entries gathered per shard, stored as one message.

A message costs the servers about as much whatever is in it, so entries that come while a frame is
on its way share the next one.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self
from zlib import crc32

import msgspec

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.clock import Clock, SteadyClock
from gateway.spool.dedup import dedup_keys
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import MAX_ROWS, Layout, seq_of
from gateway.spool.jetstream.messages import StoredMessage, Unanswered, with_id
from gateway.spool.rows import pack, unpack
from gateway.spool.values import DedupWindow, Entry, SpoolFull

MAX_FRAMES = 4
"""Frames on their way at a time; one of each shard, which keeps their order."""
MAX_FRAME_BYTES = 512 * 1024
"""Bytes of entries at which a frame is full; one larger entry has a frame of its own."""
MAX_GATHERED = 64 * 1024 * 1024
"""Bytes of entries that may wait for a frame."""
MARK_BYTES = 96
"""Bytes by which a frame is known again: those of a host's name, a random part and a number."""
_RETRY_AFTER = 1.0


class ReplayedLetter(msgspec.Struct, frozen=True, array_like=True):
    """A dead letter that a row replays: its delivery waits, due at once."""

    letter: int
    """The id of the dead letter, which is no more then."""
    index: int
    user: str
    event_name: str
    reason: str


class FrameRow(msgspec.Struct, frozen=True, array_like=True):
    """An entry in a frame; see `gateway.spool.rows`."""

    id: str
    meta: bytes
    body: bytes
    ids: dict[int, bytes] = {}
    """Dedup keys by event index."""
    window: float = 0.0
    """Seconds for which the keys are remembered."""
    replays: list[ReplayedLetter] = []
    """The dead letters that it replays, one for each of its deliveries; else it is a new entry."""
    refused: dict[str, str] = {}
    """Why destinations refuse it: their deliveries become dead letters."""
    moved_at: float = 0.0
    """When another spool accepted it, in Unix seconds, if it was moved from there."""
    reply_within: float = 0.0
    """Seconds for which a client of the frame's origin waits for the vendor's response."""

    @property
    def is_late(self) -> bool:
        """Return whether its request was accepted long before, so that its id does not rise."""
        return bool(self.replays or self.moved_at)

    def entry(self) -> Entry:
        """Return the entry as it was sent."""
        return unpack(self.id, self.meta, self.body)


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What one message of the log holds."""

    origin: str
    """The gateway that stored it, named anew at each start."""
    number: int
    """Rises with each frame of the origin."""
    at: float
    """Unix seconds at which it was sent, by the origin's clock."""
    rows: list[FrameRow]
    late: float = 0.0
    """Seconds by which `at` may be too late, as the origin has not trusted its clock yet."""
    ahead: float = 0.0
    """How far the origin's trusted system clock was ahead of `at`, in seconds."""


class RowExtras(NamedTuple):
    """What a new entry's row has besides the entry; see `FrameRow`."""

    refused: Mapping[str, str] = {}
    moved_at: float = 0.0
    reply_within: float = 0.0


NO_EXTRAS = RowExtras()


class OwnEntry(NamedTuple):
    """An entry that this gateway stored, with its events if they are parsed."""

    entry: Entry
    events: Sequence[Event] | None


class _Pending(NamedTuple):
    row: msgspec.Raw
    size: int
    own: OwnEntry
    future: asyncio.Future[int]
    until: float
    """When patience with it ends, by the monotonic clock."""
    together: "_Together | None" = None


class _Together:
    """An entry of several shards: a frame in each of them, stored once all are next in turn."""

    def __init__(self) -> None:
        self.jobs: dict[int, _Pending] = {}
        self.in_turn = 0
        self.ended = asyncio.Event()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


class FrameMark(NamedTuple):
    """Which frame is at a sequence of the log."""

    message: int
    checksum: int
    """Of its first bytes, with its origin and number."""

    @classmethod
    def of(cls, message: StoredMessage) -> Self:
        """Return the mark of a frame's message."""
        return cls(message.seq, crc32(message.data[:MARK_BYTES]))


NO_FRAME = FrameMark(0, 0)


def read_frame(data: bytes, message: int) -> Frame:
    """Return the frame of a message; raises SpoolError if there is none: NATS lost it."""
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        raise SpoolError(f"NATS lost frame {message}, it cannot be read: {error}") from error


class FrameWriter:
    """Stores entries in the log.

    Args:
        connection: of this gateway.
        layout: names the subjects.
        origin: names this start of this gateway.
        clock: of this gateway's spool.
    """

    def __init__(
        self,
        connection: NatsConnection,
        layout: Layout,
        origin: str,
        clock: Clock | None = None,
    ) -> None:
        self.origin = origin
        self.connection, self.layout = connection, layout
        self.clock: Clock = clock or SteadyClock()
        self._gathered: dict[int, deque[_Pending]] = defaultdict(deque)
        self._size = 0
        self._number = 0
        self._free = asyncio.Semaphore(MAX_FRAMES)
        self._senders: dict[int, asyncio.Task[None]] = {}
        self._followed: dict[int, dict[int, list[OwnEntry]]] = {}

    def append(  # noqa: PLR0913 - what a row can be
        self,
        shard: int,
        entry: Entry,
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
        *,
        replays: Sequence[ReplayedLetter] = (),
        extras: RowExtras = NO_EXTRAS,
    ) -> asyncio.Future[int]:
        """Return the entry's seq once its frame is stored.

        With *once* the owner of the shard leaves duplicates out, in the order of the log. Raises
        SpoolFull if too much waits for the servers. The future raises SpoolError if the entry
        cannot be written, or if NATS did not answer; then it may be stored nevertheless.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            row = _row(entry, once, replays, extras)
        except SpoolError as error:
            future.set_exception(error)
            return future
        self._take_room(len(row))
        own = OwnEntry(entry, events)
        self._gather(shard, _Pending(msgspec.Raw(row), len(row), own, future, self._until()))
        return future

    def append_together(
        self,
        parts: Mapping[int, Entry],
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
        extras: RowExtras = NO_EXTRAS,
    ) -> asyncio.Future[int]:
        """Store an entry's *parts* by shard, all of them or none; the result is 0.

        Each keeps its place among the entries of its shard. Raises as `append` does.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            rows = {shard: _row(part, once, (), extras) for shard, part in parts.items()}
        except SpoolError as error:
            future.set_exception(error)
            return future
        self._take_room(sum(map(len, rows.values())))
        together, until = _Together(), self._until()
        for shard, row in rows.items():
            own = OwnEntry(parts[shard], events)
            job = _Pending(msgspec.Raw(row), len(row), own, future, until, together)
            together.jobs[shard] = job
            self._gather(shard, job)
        return future

    def _until(self) -> float:
        return time.monotonic() + self.connection.patience

    def _take_room(self, size: int) -> None:
        if self._size and self._size + size > MAX_GATHERED:
            raise SpoolFull(f"{self._size} bytes wait for NATS", _RETRY_AFTER)
        self._size += size

    def _gather(self, shard: int, job: _Pending) -> None:
        self._gathered[shard].append(job)
        if shard not in self._senders:
            task = asyncio.get_running_loop().create_task(self._send(shard))
            self._senders[shard] = task

    def follow(self, shard: int) -> None:
        """Remember the entries of the shard's frames from now on, for `take`."""
        self._followed[shard] = {}

    def unfollow(self, shard: int) -> None:
        """Forget them."""
        self._followed.pop(shard, None)

    def take(self, shard: int, frame: Frame) -> list[OwnEntry] | None:
        """Return the entries of a frame if this gateway stored it, and forget them."""
        if frame.origin != self.origin:
            return None
        return self._followed.get(shard, {}).pop(frame.number, None)

    async def close(self) -> None:
        """Store what is gathered, or give it up when patience is over."""
        while self._senders:
            await asyncio.gather(*self._senders.values(), return_exceptions=True)

    async def _send(self, shard: int) -> None:
        try:
            while waiting := self._gathered[shard]:
                if together := waiting[0].together:
                    waiting.popleft()
                    await self._send_together(together)
                else:
                    async with self._free:
                        await self._send_frames({shard: self._next_frame(waiting)})
        finally:
            del self._senders[shard]

    async def _send_together(self, together: _Together) -> None:
        """Wait until a frame is next in each of its shards; the last shard sends all of them."""
        together.in_turn += 1
        if together.in_turn < len(together.jobs):
            await together.ended.wait()
            return
        try:
            async with self._free:
                await self._send_frames({shard: [job] for shard, job in together.jobs.items()})
        finally:
            together.ended.set()

    async def _send_frames(self, frames: Mapping[int, list[_Pending]]) -> None:
        """Store a frame, or frames of several shards together.

        It is tried as long as there is patience with the entry that has waited longest.
        """
        jobs = [job for some in frames.values() for job in some]
        patience = min(job.until for job in jobs) - time.monotonic()
        messages, numbers = [], {}
        for shard, some in frames.items():
            self._number += 1
            numbers[shard] = number = self._number
            if shard in self._followed:
                self._followed[shard][number] = [job.own for job in some]
            now, rows = self.clock.now(), [job.row for job in some]
            late = max(0.0, now - self.clock.sure())
            data = _encode((self.origin, number, now, rows, late, self.clock.ahead))
            messages.append((self.layout.log(shard), data, f"{self.origin}.{number}"))
        try:
            first = await self._store(messages, patience)
        except Exception as error:  # noqa: BLE001 - no sender may wait for ever
            for shard, number in numbers.items():
                self._followed.get(shard, {}).pop(number, None)
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(_spool_error(error))
            return
        finally:
            self._size -= sum(job.size for job in jobs)
        for index, job in enumerate(jobs):
            if not job.future.done():
                job.future.set_result(first + index)

    async def _store(self, messages: Sequence[tuple[str, bytes, str]], patience: float) -> int:
        """Return the seq of the first entry of a single frame; 0 for several."""
        subject, data, message_id = messages[0]
        if patience <= 0:
            raise Unanswered(f"{subject}: no answer in time")
        if len(messages) == 1:
            stored = self.connection.store(subject, data, message_id=message_id, patience=patience)
            return seq_of(await stored, 0)
        together = [with_id(*one) for one in messages]
        await self.connection.store_together(message_id, together, patience)
        return 0

    @staticmethod
    def _next_frame(waiting: deque[_Pending]) -> list[_Pending]:
        """Take the entries of the next frame; those that waited too long go in one of their own."""
        jobs = [waiting.popleft()]
        size = jobs[0].size
        late = jobs[0].until <= time.monotonic()
        while waiting and len(jobs) < MAX_ROWS and not waiting[0].together:
            if late and waiting[0].until > time.monotonic():
                break
            size += waiting[0].size
            if size > MAX_FRAME_BYTES:
                break
            jobs.append(waiting.popleft())
        return jobs


def _row(
    entry: Entry,
    once: DedupWindow | None,
    replays: Sequence[ReplayedLetter],
    extras: RowExtras,
) -> bytes:
    """Return an entry's `Row`; raises SpoolError if it cannot be written."""
    try:
        ids, window = (dedup_keys(entry, once), once.window) if once else ({}, 0.0)
        row = (entry.id, pack(entry), entry.request.body)
        if not (ids or replays or any(extras)):
            return _encode(row)
        return _encode((*row, ids, window, replays, *extras))
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise SpoolError(f"{entry.id!r} cannot be written: {error}") from error


def _spool_error(error: Exception) -> SpoolError:
    if isinstance(error, SpoolError):
        return error
    return SpoolError(f"a frame cannot be stored: {error!r}")
