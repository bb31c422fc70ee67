"""Move what a spool holds to the spool of a running gateway, in batches that may be repeated.

The old spool forgets a batch once the new one has it. If anything ends in between, the batch is
sent again; the new spool knows each part by a key for a while (`MOVE_WINDOW`) and does not store it
twice.
"""

from bisect import bisect_right
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)

import msgspec
from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.spool.dead_letters import ALL_DEAD_LETTERS, DeadLetter
from gateway.spool.interface import Shard, Spool
from gateway.spool.moved import (
    MAX_BATCH_BYTES,
    MAX_ENTRIES,
    MAX_LETTERS,
    MovedBatch,
    MovedConsent,
    MovedEntry,
    MovedLetter,
    MovedMessageId,
)
from gateway.spool.rows import pack, pack_attempts
from gateway.spool.values import (
    DeliveryRef,
    LogRecord,
    Progress,
)

_PAGE = 500
"""Pending deliveries that are looked for at a time, of each destination."""
_READ = 50
"""Entries that are read at a time."""
_WAITING = 1000
"""Waiting deliveries that are read at a time."""
_EVER = float("inf")
_ALL = 1 << 62


class MoveCounts(msgspec.Struct):
    """What a spool holds, or what was moved."""

    deliveries: dict[str, int] = {}
    """Pending deliveries, by destination."""
    dead_letters: dict[str, int] = {}
    """By destination."""
    message_ids: int = 0
    consents: int = 0


async def counts(spool: Spool) -> MoveCounts:
    """Return what a spool holds that can be moved."""
    found = MoveCounts()
    for name, balance in (await spool.balances()).items():
        if balance.pending:
            found.deliveries[name] = balance.pending
        if balance.dead_letters:
            found.dead_letters[name] = balance.dead_letters
    async for ids in spool.message_ids():
        found.message_ids += len(ids)
    async for consents in spool.consents():
        found.consents += len(consents)
    return found


class SpoolMover:
    """Moves the content of a spool whose gateways are stopped.

    Args:
        spool: the old spool, open; this process owns all its shards.
        destinations: those of the new spool; what others have stays.
        send: stores a batch in the new spool, and returns once it is durable.

    Attributes:
        moved: what was moved so far.
    """

    def __init__(
        self,
        spool: Spool,
        destinations: Collection[str],
        send: Callable[[MovedBatch], Awaitable[None]],
    ) -> None:
        self._spool, self._destinations, self._send = spool, destinations, send
        self._origin = spool.user_hash("origin")
        self.moved = MoveCounts()

    async def run(self) -> None:
        """Move everything; raises SpoolError if a spool fails, then call it again."""
        await self._move_memory()
        for shard in self._spool.shards:
            await self._move_shard(shard)
        await self._move_letters()

    async def _move_memory(self) -> None:
        """Copy message ids and consent; the old spool keeps them until they expire."""
        async for ids in self._spool.message_ids():
            kept = [MovedMessageId(key, until) for key, until in ids.items()]
            await self._send(MovedBatch(self._origin, message_ids=kept))
            self.moved.message_ids += len(kept)
        async for some in self._spool.consents():
            consents = [MovedConsent(one.user, one.until, dict(one.records)) for one in some]
            await self._send(MovedBatch(self._origin, consents=consents))
            self.moved.consents += len(consents)

    # ---- entries -----------------------------------------------------------------------------

    async def _move_shard(self, shard: Shard) -> None:
        names = [name for name in await shard.depths() if name in self._destinations]
        waiting = {name: await _waiting_marks(shard, name) for name in names}
        after, end = 0, shard.position()
        while after < end:
            after = await self._move_page(shard, waiting, after, end)

    async def _move_page(
        self, shard: Shard, waiting: Mapping[str, Sequence[DeliveryRef]], after: int, end: int
    ) -> int:
        """Move the next entries; return the seq up to which all are moved."""
        found: dict[int, dict[str, list[int]]] = {}
        scanned = [end]
        for name, marks in waiting.items():
            page = await shard.unread(name, after, end, _PAGE)
            first = bisect_right(marks, after, key=_seq)
            last = marks[min(first + _PAGE, len(marks)) - 1].seq if first < len(marks) else end
            some = marks[first : bisect_right(marks, last, key=_seq)]
            scanned += [page.scanned, last if first + len(some) < len(marks) else end]
            for item in page.items:
                found.setdefault(item.seq, {}).setdefault(name, []).extend(item.numbers)
            for mark in some:
                found.setdefault(mark.seq, {}).setdefault(name, []).append(mark.index)
        upto = min(scanned)
        async for batch in _batches(shard, {s: n for s, n in found.items() if s <= upto}):
            await self._move_entries(shard, batch)
        for name in waiting:
            await shard.settle(name, Progress(cursor=upto), soon=True)
        return upto

    async def _move_entries(self, shard: Shard, batch: "_Batch") -> None:
        await self._send(MovedBatch(self._origin, entries=batch.entries))
        for name, marks in batch.marks.items():
            await shard.settle(name, Progress(moved=marks), soon=True)
            deliveries = self.moved.deliveries
            deliveries[name] = deliveries.get(name, 0) + len(marks)

    # ---- dead letters ------------------------------------------------------------------------

    async def _move_letters(self) -> None:
        after = 0
        while found := await self._spool.dead_letters(ALL_DEAD_LETTERS, after, MAX_LETTERS):
            after = found[-1].id
            batch: list[MovedLetter] = []
            size = 0
            for letter in found:
                if letter.destination not in self._destinations:
                    continue
                one = _moved_letter(letter)
                parts = (one.entry.meta, one.entry.body, one.rendered, one.attempts)
                length = sum(map(len, parts))
                if batch and size + length > MAX_BATCH_BYTES:
                    await self._move_some(batch)
                    batch, size = [], 0
                batch.append(one)
                size += length
            if batch:
                await self._move_some(batch)

    async def _move_some(self, letters: list[MovedLetter]) -> None:
        await self._send(MovedBatch(self._origin, dead_letters=letters))
        await self._spool.delete_moved_letters([letter.number for letter in letters])
        for letter in letters:
            known = self.moved.dead_letters
            known[letter.destination] = known.get(letter.destination, 0) + 1


class _Batch:
    """Entries that are moved together."""

    def __init__(self) -> None:
        self.entries: list[MovedEntry] = []
        self.marks: dict[str, list[DeliveryRef]] = {}
        """Their deliveries by destination."""
        self.size = 0

    def add(self, one: MovedEntry, targets: Mapping[str, Sequence[int]]) -> None:
        self.entries.append(one)
        self.size += len(one.meta) + len(one.body)
        for name, numbers in targets.items():
            marks = [DeliveryRef(one.number, number) for number in numbers]
            self.marks.setdefault(name, []).extend(marks)


async def _batches(
    shard: Shard, found: Mapping[int, Mapping[str, Sequence[int]]]
) -> AsyncIterator[_Batch]:
    """Yield the deliveries of some entries in batches of about `MAX_BATCH_BYTES`."""
    batch, seqs = _Batch(), sorted(found)
    for start in range(0, len(seqs), _READ):
        some = seqs[start : start + _READ]
        times, records = await shard.times(some), await shard.entries(some)
        if missing := set(some) - {record.seq for record in records}:
            raise SpoolError(f"{len(missing)} entries cannot be read, the first at {min(missing)}")
        for record in records:
            targets = {name: tuple(sorted(n)) for name, n in found[record.seq].items()}
            batch.add(_moved(record, targets, times.get(record.seq, 0.0)), targets)
            if batch.size >= MAX_BATCH_BYTES or len(batch.entries) == MAX_ENTRIES:
                yield batch
                batch = _Batch()
    if batch.entries:
        yield batch


def _seq(mark: DeliveryRef) -> int:
    return mark.seq


async def _waiting_marks(shard: Shard, destination: str) -> list[DeliveryRef]:
    """Return all deliveries that wait for a retry or for an earlier event, by seq."""
    marks: list[DeliveryRef] = []
    page = await shard.retrying(destination, _EVER, _WAITING)
    while page:
        marks += [one.mark for one in page]
        page = await shard.retrying(destination, _EVER, _WAITING, page[-1])
    for user in await shard.blocked(destination):
        marks += [one.mark for one in await shard.parked(destination, user, _ALL)]
    return sorted(marks, key=_seq)


def _moved(record: LogRecord, targets: Mapping[str, tuple[int, ...]], at: float) -> MovedEntry:
    entry = replace(record.entry, targets=targets)
    at = at or entry.request.received_at.timestamp()
    return MovedEntry(record.seq, at, entry.id, pack(entry), entry.request.body)


def _moved_letter(letter: DeadLetter) -> MovedLetter:
    record = LogRecord(letter.mark.seq, letter.entry)
    return MovedLetter(
        number=letter.id,
        entry=_moved(record, letter.entry.targets, 0.0),
        destination=letter.destination,
        index=letter.mark.index,
        cause=letter.cause,
        reason=letter.reason,
        at=letter.at,
        attempts=pack_attempts(letter.attempts),
        rendered=letter.rendered,
        event_name=letter.event_name,
        user=letter.user,
    )
