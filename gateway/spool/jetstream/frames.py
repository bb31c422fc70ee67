"""Frames: entries gathered per shard, stored as one message.

A message costs the servers about as much whatever is in it, so entries that come while a frame is
on its way share the next one.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.clock import Clock, SteadyClock
from gateway.spool.dedup import dedup_keys
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import MAX_ROWS, Layout, seq_of
from gateway.spool.rows import pack, unpack
from gateway.spool.values import DedupWindow, Entry, SpoolFull

MAX_FRAMES = 4
"""Frames on their way at a time; one of each shard, which keeps their order."""
MAX_FRAME_BYTES = 512 * 1024
"""Bytes of entries at which a frame is full; one larger entry has a frame of its own."""
MAX_GATHERED = 64 * 1024 * 1024
"""Bytes of entries that may wait for a frame."""
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


class OwnEntry(NamedTuple):
    """An entry that this gateway stored, with its events if they are parsed."""

    entry: Entry
    events: Sequence[Event] | None


class _Pending(NamedTuple):
    row: msgspec.Raw
    size: int
    own: OwnEntry
    future: asyncio.Future[int]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


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

    def append(
        self,
        shard: int,
        entry: Entry,
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
        *,
        replays: Sequence[ReplayedLetter] = (),
    ) -> asyncio.Future[int]:
        """Return the entry's seq once its frame is stored.

        With *once* the owner of the shard leaves duplicates out, in the order of the log. Raises
        SpoolFull if too much waits for the servers. The future raises SpoolError if the entry
        cannot be written, or if NATS did not answer; then it may be stored nevertheless.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            ids, window = (dedup_keys(entry, once), once.window) if once else ({}, 0.0)
            row = _encode(
                (entry.id, pack(entry), entry.request.body, ids, window, replays)
                if ids or replays
                else (entry.id, pack(entry), entry.request.body)
            )
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            future.set_exception(SpoolError(f"{entry.id!r} cannot be written: {error}"))
            return future
        if self._size and self._size + len(row) > MAX_GATHERED:
            raise SpoolFull(f"{self._size} bytes wait for NATS", _RETRY_AFTER)
        self._size += len(row)
        self._gathered[shard].append(
            _Pending(msgspec.Raw(row), len(row), OwnEntry(entry, events), future)
        )
        if shard not in self._senders:
            task = asyncio.get_running_loop().create_task(self._send(shard))
            self._senders[shard] = task
        return future

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
            while self._gathered[shard]:
                async with self._free:
                    await self._send_frame(shard, self._next_frame(self._gathered[shard]))
        finally:
            del self._senders[shard]

    async def _send_frame(self, shard: int, jobs: list[_Pending]) -> None:
        self._number += 1
        number = self._number
        followed = self._followed.get(shard)
        if followed is not None:
            followed[number] = [job.own for job in jobs]
        data = _encode((self.origin, number, self.clock.now(), [job.row for job in jobs]))
        try:
            message = await self.connection.store(
                self.layout.log(shard), data, message_id=f"{self.origin}.{number}"
            )
        except Exception as error:  # noqa: BLE001 - no sender may wait for ever
            if followed is not None:
                followed.pop(number, None)
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(_spool_error(error))
            return
        finally:
            self._size -= sum(job.size for job in jobs)
        for index, job in enumerate(jobs):
            if not job.future.done():
                job.future.set_result(seq_of(message, index))

    @staticmethod
    def _next_frame(waiting: deque[_Pending]) -> list[_Pending]:
        jobs = [waiting.popleft()]
        size = jobs[0].size
        while waiting and len(jobs) < MAX_ROWS and size + waiting[0].size <= MAX_FRAME_BYTES:
            jobs.append(waiting.popleft())
            size += jobs[-1].size
        return jobs


def _spool_error(error: Exception) -> SpoolError:
    if isinstance(error, SpoolError):
        return error
    return SpoolError(f"a frame cannot be stored: {error!r}")
