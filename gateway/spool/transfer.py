"""Move what a spool holds to the spool of a running gateway, in batches that may be repeated.

The old spool forgets a batch once the new one has it. If anything ends in between, the batch is
sent again; the new spool knows each part by a key for `MOVE_WINDOW` and does not store it twice.
"""

import asyncio
from bisect import bisect_right
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from gateway.errors import GatewayError, SpoolError
from gateway.spool.dead_letters import ALL_DEAD_LETTERS, DeadLetter
from gateway.spool.dedup import dedup_key
from gateway.spool.interface import Shard, Spool
from gateway.spool.rows import pack, pack_attempts, unpack, unpack_attempts
from gateway.spool.values import (
    MOVE_WINDOW,
    Attempt,
    Cause,
    ConsentRecord,
    DedupWindow,
    DeliveryRef,
    Entry,
    LogRecord,
    Progress,
    SpoolFull,
    StoredConsent,
    copy_number,
    event_index,
)

MAX_BATCH_BYTES = 1024 * 1024
"""Bytes of requests at which a batch is full; the last one may exceed it."""
MAX_ENTRIES = 1000
"""Entries of a batch."""
MAX_LETTERS = 50
"""Dead letters of a batch."""
MAX_REMEMBERED = 2000
"""Message ids or users with consent of a batch."""
_LATEST = 1e11
_EVENTS = 1_000_000
"""More than the events of any request, or the deliveries of an event to a destination."""
_PAGE = 500
"""Pending deliveries that are looked for at a time, of each destination."""
_READ = 50
"""Entries that are read at a time."""
_WAITING = 1000
"""Waiting deliveries that are read at a time."""
_EVER = float("inf")
_ALL = 1 << 62
_RETRY_AFTER = 1.0

T = TypeVar("T")

Time = Annotated[float, Meta(ge=0, le=_LATEST)]
"""Unix seconds."""
_BASE64 = {"pattern": "^[A-Za-z0-9+/]{21}[AQgw]==$"}
Key = Annotated[bytes, Meta(min_length=16, max_length=16, extra_json_schema=_BASE64)]
Place = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class InvalidBatch(GatewayError):
    """A part of a batch is nothing that a spool holds; the text begins with its path."""


class UnknownDestinations(GatewayError):
    """The new spool does not have a destination of a batch."""


class MovedEntry(msgspec.Struct, frozen=True):
    """A request with the deliveries of it that are pending."""

    number: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    """Its place in the old spool; a dead letter's may be negative, if its request is gone."""
    at: Time
    """Unix seconds at which it was accepted."""
    id: Annotated[str, Meta(pattern="^[!-~]{1,200}$")]
    meta: bytes
    """What the spool stores beside the body; see `gateway.spool.rows`."""
    body: bytes


class MovedLetter(msgspec.Struct, frozen=True):
    """A dead letter."""

    number: Place
    """Its id in the old spool."""
    entry: MovedEntry
    destination: str
    index: int
    """The number of the delivery within the request."""
    cause: Cause
    reason: str
    at: Time
    """Unix seconds at which it became a dead letter."""
    attempts: bytes
    """As the spool stores them."""
    rendered: bytes
    event_name: str
    user: str


class MovedConsent(msgspec.Struct, frozen=True):
    """The stored consent of a user."""

    user: Key
    until: Time
    """Unix seconds at which it is deleted."""
    records: dict[str, ConsentRecord]
    """By category."""


class MovedMessageId(msgspec.Struct, frozen=True):
    """The id of an event, remembered so that a duplicate is dropped."""

    key: Key
    until: Time
    """Unix seconds at which it is forgotten."""


class MovedBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a spool's content, for another spool. Sent again, it changes nothing."""

    origin: int
    """Names the old spool."""
    entries: Annotated[list[MovedEntry], Meta(max_length=MAX_ENTRIES)] = []
    """In the order of its log."""
    dead_letters: Annotated[list[MovedLetter], Meta(max_length=MAX_LETTERS)] = []
    message_ids: Annotated[list[MovedMessageId], Meta(max_length=MAX_REMEMBERED)] = []
    consents: Annotated[list[MovedConsent], Meta(max_length=MAX_REMEMBERED)] = []


class MoveCounts(msgspec.Struct):
    """What a spool holds, or what was moved."""

    deliveries: dict[str, int] = {}
    """Pending deliveries, by destination."""
    dead_letters: dict[str, int] = {}
    """By destination."""
    message_ids: int = 0
    consents: int = 0


# ---- the new spool --------------------------------------------------------------------------


async def restore(
    spool: Spool, batch: MovedBatch, user_keys: Callable[[Entry], Sequence[str]]
) -> None:
    """Store a batch of another spool; done when it is durable.

    Events of a user are stored one after the other, so that a failure leaves no gap. Raises
    SpoolFull if a destination accepts nothing now, and SpoolError for other failures: send the
    batch again. Raises InvalidBatch and UnknownDestinations before anything is stored.

    Args:
        spool: the new spool.
        batch: what to store.
        user_keys: returns the ordering key of each event of an entry; none if it is unreadable.
    """

    def hashes(entry: Entry) -> tuple[int, ...]:
        return tuple(spool.user_hash(key) for key in user_keys(entry))

    entries, letters = await asyncio.to_thread(_checked, batch, hashes)
    used = {name for _, entry in entries for name in entry.targets}
    used |= {letter.destination for letter in letters.values()}
    if unknown := used - (await spool.depths()).keys():
        raise UnknownDestinations(f"unknown destinations: {', '.join(sorted(unknown))}")
    _check_room(spool, {name for _, entry in entries for name in entry.targets})
    if batch.message_ids:
        await spool.restore_message_ids({one.key: one.until for one in batch.message_ids})
    if batch.consents:
        stored = [StoredConsent(one.user, one.until, one.records) for one in batch.consents]
        await spool.restore_consents(stored)
    for wave in waves(entries, lambda one: one[1].users):
        await together([_append(spool, batch.origin, one, entry) for one, entry in wave])
    if letters:
        await spool.restore_dead_letters(letters)


def _checked(
    batch: MovedBatch, hashes: Callable[[Entry], tuple[int, ...]]
) -> tuple[list[tuple[MovedEntry, Entry]], dict[bytes, DeadLetter]]:
    """Return the entries and dead letters of a batch, unpacked, with other user hashes.

    Raises:
        InvalidBatch: a part is invalid.
    """
    entries = [
        (one, _entry(one, hashes, f"$.entries[{place}]")) for place, one in enumerate(batch.entries)
    ]
    letters = {}
    for place, one in enumerate(batch.dead_letters):
        path = f"$.dead_letters[{place}]"
        letter = _letter(one, _entry(one.entry, hashes, f"{path}.entry"), path)
        letters[dedup_key("", f"moved letter {batch.origin} {one.number}")] = letter
    return entries, letters


def _entry(one: MovedEntry, hashes: Callable[[Entry], tuple[int, ...]], path: str) -> Entry:
    try:
        entry = unpack(one.id, one.meta, one.body)
    except (msgspec.DecodeError, ValueError) as error:  # a text that is not UTF-8
        raise InvalidBatch(f"{path}.meta: {error}") from None
    texts = (entry.source, entry.vendor, entry.request.id, *entry.targets)
    if any("\0" in text for text in texts):
        raise InvalidBatch(f"{path}.meta: a name or an id with a NUL")
    numbers = [n for some in entry.targets.values() for n in some]
    if any(n < 0 or copy_number(n) >= _EVENTS for n in numbers):
        raise InvalidBatch(f"{path}.meta: a delivery with an invalid number")
    last = max(map(event_index, numbers), default=0)
    users = hashes(entry)
    if last >= (max(len(users), len(entry.users)) or _EVENTS):
        raise InvalidBatch(f"{path}.meta: a delivery of event {last}, which the request lacks")
    # Another version of a plugin may find fewer events: then the users are unknown.
    return replace(entry, users=users if last < len(users) else ())


def _is_time(at: float) -> bool:
    return 0 <= at <= _LATEST  # false for NaN


def _check_room(spool: Spool, destinations: Collection[str]) -> None:
    refusing = spool.refusing()
    why = spool.health() or "; ".join(refusing[n] for n in destinations if n in refusing)
    if why:
        raise SpoolFull(why, _RETRY_AFTER)


async def _append(spool: Spool, origin: int, one: MovedEntry, entry: Entry) -> None:
    await spool.append(entry, None, _once(origin, one, entry), one.at)


async def together(appends: Iterable[Awaitable[None]]) -> None:
    """Wait for all, then raise the first error."""
    for result in await asyncio.gather(*appends, return_exceptions=True):
        if result is not None:
            raise result


def _once(origin: int, one: MovedEntry, entry: Entry) -> DedupWindow:
    """Return a key for each event, so that a repeat of the entry is left out."""
    events = {event_index(n) for numbers in entry.targets.values() for n in numbers}
    ids = {event: f"\0moved {origin} {one.number} {event}" for event in events}
    return DedupWindow(ids, MOVE_WINDOW)


def waves(items: Sequence[T], users_of: Callable[[T], Iterable[int]]) -> list[list[T]]:
    """Return *items* in groups, each of which has at most one of a user, in the users' order.

    Args:
        items: what to store.
        users_of: returns the user hashes of an item; 0 is nobody.
    """
    groups: list[list[T]] = []
    following: dict[int, int] = {}
    for one in items:
        users = {user for user in users_of(one) if user}
        place = max((following.get(user, 0) for user in users), default=0)
        following |= dict.fromkeys(users, place + 1)
        if place == len(groups):
            groups.append([])
        groups[place].append(one)
    return groups


def _letter(one: MovedLetter, entry: Entry, path: str) -> DeadLetter:
    if one.index not in entry.targets.get(one.destination, ()):
        what = f"the request has no delivery {one.index} to {one.destination!r}"
        raise InvalidBatch(f"{path}.index: {what}")
    return DeadLetter(
        id=one.number,
        destination=one.destination,
        mark=DeliveryRef(one.entry.number, one.index),
        entry=entry,
        cause=one.cause,
        reason=one.reason,
        at=one.at,
        attempts=_unpacked_attempts(one.attempts, path),
        rendered=one.rendered,
        event_name=one.event_name,
        user=one.user,
    )


def _unpacked_attempts(packed: bytes, path: str) -> tuple[Attempt, ...]:
    try:
        attempts = unpack_attempts(packed)
    except (msgspec.DecodeError, ValueError) as error:  # a text that is not UTF-8
        raise InvalidBatch(f"{path}.attempts: {error}") from None
    figures = [figure for one in attempts for figure in (one.at, one.latency, one.isolated)]
    if not all(map(_is_time, figures)):
        raise InvalidBatch(f"{path}.attempts: a time or a share out of range")
    return attempts


# ---- the old spool --------------------------------------------------------------------------


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
