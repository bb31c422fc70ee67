"""Read a shard's entries: from the log, or their copies once the log is trimmed."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.spool.dedup import without
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.frames import Frame, FrameMark, read_frame
from gateway.spool.jetstream.layout import Layout, index_of, message_of, seq_of
from gateway.spool.jetstream.messages import StoredMessage
from gateway.spool.values import Entry

_TOGETHER = 64
"""Copies that are read at a time."""
_CLOCKS_DIFFER = 2048
"""Messages of the log within which ids of several gateways may not rise: some seconds."""
_NEAR = 64
"""Frames that are read in one go although not all of them are wanted."""


class LogTooShort(SpoolError):
    """The log ends before a frame that was seen, or a server that leads no more was asked."""


class LogReplaced(SpoolError):
    """Another frame has the place of one that was seen."""


class LogReader:
    """Reads one shard of the log.

    Any replica answers a read, and may be behind. What it does not have is asked of the leader: an
    entry that only seems to be missing would be overtaken by the next one of its user.

    Args:
        connection: of this gateway.
        layout: names streams and subjects.
        shard: its number.
        left_out: by seq, the deliveries that entries of the log do not have any more.

    Attributes:
        trimmed: frames before this sequence are no longer in the log.
    """

    def __init__(
        self,
        connection: NatsConnection,
        layout: Layout,
        shard: int,
        left_out: Mapping[int, Collection[int]],
    ) -> None:
        self._connection, self._layout, self._shard = connection, layout, shard
        self._left_out = left_out
        self.trimmed = 0

    async def last(self) -> StoredMessage | None:
        """Return the newest frame's message, as the leader knows it."""
        return await self._connection.last(self._layout.log_stream, self._layout.log(self._shard))

    async def first(self) -> int:
        """Return the sequence of the oldest frame, or an older one; 0 if there is none."""
        page = await self._read(1, 1)
        return page[0].seq if page else 0

    async def check_end(self, seen: FrameMark) -> None:
        """Raise LogTooShort or LogReplaced if the log is not the one that had the frame *seen*."""
        last, subject = await self.last(), self._layout.log(self._shard)
        if seen.message > (last.seq if last else 0):
            what = f"NATS lost the end of the log: it has no frame {seen.message}"
            raise LogTooShort(f"{subject}: {what}")
        found = await self._connection.message(self._layout.log_stream, subject, seen.message)
        if found and FrameMark.of(found) != seen:  # none if it was trimmed since
            what = f"NATS lost the end of the log: frame {seen.message} is another one now"
            raise LogReplaced(f"{subject}: {what}")

    async def frames(self, start: int, end: int) -> AsyncIterator[tuple[StoredMessage, Frame]]:
        """Yield all frames from sequence *start* to *end*, which must exist."""
        stream, subject = self._layout.log_stream, self._layout.log(self._shard)
        async for message in self._connection.read_all(stream, subject, start, end):
            yield message, read_frame(message.data, message.seq)

    async def entries(self, seqs: Iterable[int]) -> dict[int, Entry]:
        """Return the entries with these seqs that exist, in the order of the log."""
        every = sorted(set(seqs))
        wanted: dict[int, list[int]] = {}
        for seq in every:
            if message_of(seq) >= self.trimmed:
                wanted.setdefault(message_of(seq), []).append(seq)
        found = await self._logged(wanted)
        # What was trimmed, before or meanwhile, is among the copies.
        missing = [seq for seq in every if seq not in found]
        for start in range(0, len(missing), _TOGETHER):
            some = missing[start : start + _TOGETHER]
            copies = await asyncio.gather(*[self._copy(seq) for seq in some])
            found |= {seq: copy for seq, copy in zip(some, copies, strict=True) if copy}
        return dict(sorted(found.items()))

    async def find(self, request_id: str, end: int) -> int:
        """Return the seq of a request that is in the log up to frame *end*, 0 if there is none.

        Ids rise in the order of the log, but for the clocks of gateways: it is searched for near
        the place where it should be. Replays and moved entries have the ids of earlier requests.
        """
        low, high = 1, end
        while low < high:
            middle = (low + high) // 2
            first = await self._first_id(middle, high)
            if first is None or first[1] > request_id:
                high = middle
            else:
                low = max(first[0], middle) + 1
        async for message, frame in self.frames(max(low - _CLOCKS_DIFFER, 1), end):
            if message.seq > low + _CLOCKS_DIFFER:
                break
            for index, row in enumerate(frame.rows):
                if row.id == request_id and not row.is_late:
                    return seq_of(message.seq, index)
        return 0

    async def _first_id(self, start: int, end: int) -> tuple[int, str] | None:
        """Return frame and id of the first request from a frame on, before frame *end*."""
        while page := await self._read(start, 1):
            (message,) = page
            if message.seq >= end:
                return None
            for row in read_frame(message.data, message.seq).rows:
                if not row.is_late:
                    return message.seq, row.id
            start = message.seq + 1
        return None

    async def _logged(self, wanted: Mapping[int, Sequence[int]]) -> dict[int, Entry]:
        """Return the entries that are in the log, given their seqs by frame."""
        numbers, groups = list(wanted), list[list[int]]()
        while numbers:
            near = sum(number < numbers[0] + _NEAR for number in numbers[:_NEAR])
            groups.append(numbers[:near])
            numbers = numbers[near:]
        found: dict[int, Entry] = {}
        for start in range(0, len(groups), _TOGETHER):
            some = groups[start : start + _TOGETHER]
            for messages in await asyncio.gather(*map(self._near, some)):
                for message in messages:
                    found |= self._entries_of(message, wanted[message.seq])
        return found

    async def _near(self, numbers: Sequence[int]) -> list[StoredMessage]:
        """Return the messages of frames that are near each other, as far as they exist."""
        page = await self._read(numbers[0], numbers[-1] - numbers[0] + 1)
        messages = {message.seq: message for message in page}
        last = page[-1].seq if page else 0
        for number in numbers:
            if number > last and (late := await self._message(number)):
                messages[number] = late
        return [messages[number] for number in numbers if number in messages]

    async def _message(self, number: int) -> StoredMessage | None:
        return await self._connection.message(
            self._layout.log_stream, self._layout.log(self._shard), number
        )

    async def _read(self, start: int, limit: int) -> list[StoredMessage]:
        return await self._connection.read(
            self._layout.log_stream, self._layout.log(self._shard), start, limit
        )

    async def _copy(self, seq: int) -> Entry | None:
        subject = self._layout.waiting(self._shard, seq)
        message = await self._connection.last(self._layout.state_stream, subject)
        return read_frame(message.data, message.seq).rows[0].entry() if message else None

    def _entries_of(self, message: StoredMessage, seqs: Iterable[int]) -> dict[int, Entry]:
        rows = read_frame(message.data, message.seq).rows
        found: dict[int, Entry] = {}
        for seq in seqs:
            if index_of(seq) >= len(rows):
                continue
            entry = rows[index_of(seq)].entry()
            if left_out := self._left_out.get(seq):
                entry = replace(entry, targets=without(entry.targets, left_out))
                if not entry.targets:
                    continue
            found[seq] = entry
        return found


async def last_time(connection: NatsConnection, layout: Layout) -> tuple[float | None, float]:
    """Return the time of the newest frame, and how far its gateway's system clock was ahead of it.

    In Unix seconds, None in an empty log, and in seconds; see `gateway.spool.clock.Clock.begin`.
    """
    last = await connection.last(layout.log_stream, layout.logs)
    if last is None:
        return None, 0.0
    try:
        frame = read_frame(last.data, last.seq)
    except SpoolError:  # the owner of its shard reports it
        return last.at, 0.0
    return frame.at, frame.ahead
