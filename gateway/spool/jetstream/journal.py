"""The journal of a shard: whoever wrote its last claim owns the shard, and nobody else can write.

Each record is stored only after the one that its writer believes to be the last. That is the fence:
no clock and no lock decides who owns a shard, but the order of the records.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from gateway.errors import SpoolError
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.messages import StreamMessage, Unanswered, WrongSequence
from gateway.spool.values import Fenced

Kind = Literal["claim", "settle", "snapshot", "release"]
_WAIT = 0.05


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A message of the journal."""

    kind: Kind
    epoch: int
    """Rises with each claim."""
    owner: str
    number: int
    """Rises from 1 in each epoch."""
    previous: int
    """The sequence of the record before; 0 for the first one."""
    part: int
    """From 1 to ``parts``: a snapshot may need several records."""
    parts: int
    body: bytes


class StoredRecord(NamedTuple):
    """A record with its sequence."""

    seq: int
    record: Record


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class ShardJournal:
    """Claims a shard, and writes its records.

    One call of `write` at a time.

    Args:
        connection: of this gateway.
        stream: the stream of the journals.
        subject: of this shard's journal.
        owner: a name that no other start of any gateway has.

    Attributes:
        epoch: of the claim.
        fenced: whether somebody else has claimed the shard.
    """

    def __init__(self, connection: NatsConnection, stream: str, subject: str, owner: str) -> None:
        self._connection, self._stream, self._subject = connection, stream, subject
        self._owner = owner
        self._last = self._number = 0
        self.epoch = 0
        self.fenced = False

    async def claim(self, may_take: Callable[[str], bool]) -> bool:
        """Take the shard; return whether it is ours now.

        *may_take* is asked about the one who has it, unless it was released. False if somebody
        else wrote meanwhile.
        """
        found = await self._read_last()
        if found and found.record.kind != "release" and not may_take(found.record.owner):
            return False
        self.epoch = found.record.epoch + 1 if found else 1
        self._last = found.seq if found else 0
        self._number, self.fenced = 0, False
        try:
            await self.write("claim", b"")
        except Fenced:
            return False
        return True

    async def write(
        self,
        kind: Kind,
        body: bytes,
        *,
        part: int = 1,
        parts: int = 1,
        beside: Sequence[StreamMessage] = (),
    ) -> int:
        """Store a record; return its sequence.

        The messages *beside* it are stored with it or not at all, directly before it. Raises
        Fenced if the shard is somebody else's, and SpoolError if it is not known whether the
        record is stored: the caller reports the same in the next one.
        """
        self._number += 1
        number = self._number
        end = time.monotonic() + self._connection.patience
        while True:
            if self.fenced:
                raise Fenced(f"{self._subject}: another gateway has taken the shard over")
            record = Record(kind, self.epoch, self._owner, number, self._last, part, parts, body)
            try:
                self._last = await self._store(record, beside)
            except WrongSequence:
                if await self._arrived(number, end):
                    return self._last
            except Unanswered:
                if time.monotonic() >= end:
                    raise
                await asyncio.sleep(_WAIT)
            else:
                return self._last

    async def _store(self, record: Record, beside: Sequence[StreamMessage]) -> int:
        data = _encode(record)
        if not beside:
            return await self._connection.store(
                self._subject, data, expected=record.previous, patience=0
            )
        batch = f"{record.owner}.{record.epoch}.{record.number}.{time.monotonic_ns()}"
        last = StreamMessage(self._subject, data, record.previous)
        return await self._connection.store_batch(batch, [*beside, last])

    async def _arrived(self, number: int, end: float) -> bool:
        """Return whether the last record is the one that was just refused, sent before.

        Otherwise it is an earlier one of ours, which arrived late: the record is written after it.
        """
        while True:
            found = await self._read_last()
            if found and found.seq > self._last:
                record = found.record
                self.fenced = (record.owner, record.epoch) != (self._owner, self.epoch)
                if not self.fenced:
                    self._last = found.seq
                return record.number == number and not self.fenced
            # A server that no longer leads does not know the last record yet.
            if time.monotonic() >= end:
                raise Unanswered(f"{self._subject}: its last record is not known")
            await asyncio.sleep(_WAIT)

    async def _read_last(self) -> StoredRecord | None:
        found = await self._connection.last(self._stream, self._subject)
        return StoredRecord(found.seq, _decode(found.data)) if found else None

    async def records(self) -> list[StoredRecord]:
        """Return the records that make the state at our claim: the last whole snapshot and after.

        Raises SpoolError if the journal has a hole: NATS lost a part of it.
        """
        found: list[StoredRecord] = []
        async for message in self._connection.read_all(self._stream, self._subject, 1, self._last):
            self._follow(found, StoredRecord(message.seq, _decode(message.data)))
        if found[0].record.previous and not _begins_whole(found):
            raise SpoolError(f"{self._subject}: the journal has a hole before {found[0].seq}")
        return found

    def _follow(self, found: list[StoredRecord], one: StoredRecord) -> None:
        """Add a record; one that begins a snapshot may follow a gap, since others are purged."""
        expected = found[-1].seq if found else 0
        if one.record.previous != expected:
            if one.record.kind != "snapshot" or one.record.part != 1:
                raise SpoolError(f"{self._subject}: the journal has a hole before {one.seq}")
            found.clear()
        found.append(one)
        record = one.record
        if record.kind == "snapshot" and record.part == record.parts:
            del found[: -record.parts]

    async def purge(self, before: int) -> None:
        """Delete the records before a sequence, once a whole snapshot stands there."""
        await self._connection.purge(self._stream, self._subject, before)


def _begins_whole(found: Sequence[StoredRecord]) -> bool:
    """Return whether the first records are a whole snapshot."""
    parts = found[0].record.parts
    shape = [(one.record.kind, one.record.part) for one in found[:parts]]
    return shape == [("snapshot", part) for part in range(1, parts + 1)]
