"""What a shard owes to its destinations: cursors, waiting deliveries, counts; kept in memory.

A worker's report becomes a `Change`, which the journal stores; a stored change is applied. What a
report repeats is left out of the change, so that a change can be applied without the log.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from heapq import nsmallest
from typing import NamedTuple

import msgspec

from gateway.errors import SpoolError
from gateway.spool.dedup import without
from gateway.spool.jetstream.decisions import (
    ID_BYTES,
    Decision,
    DedupIds,
    WaitingRow,
    decide_replay,
)
from gateway.spool.jetstream.frames import FrameRow
from gateway.spool.jetstream.pending_index import PendingIndex
from gateway.spool.jetstream.waiting_index import Mark, WaitingIndex
from gateway.spool.rows import pack_attempts, unpack_attempts
from gateway.spool.values import (
    Balance,
    Deliveries,
    DeliveryRef,
    Entry,
    Progress,
    WaitingDelivery,
)

_DROPPED, _LETTER_GONE = 0, -1
_MAX_EVICTED = 10_000
"""Evicted deliveries that are remembered: more than a worker has in flight."""


class Change(msgspec.Struct, array_like=True):
    """What a record changes for one destination; in a snapshot, all that it has."""

    destination: str
    cursor: int
    waiting: list[WaitingRow] = []
    ended: list[Mark] = []
    """Finished deliveries that waited or that are after the cursor."""
    dead: list[Mark] = []
    """Deliveries that became dead letters."""
    counted: int = 0
    """The last entry that ``accepted`` and ``replayed`` count. All counts are totals."""
    accepted: int = 0
    replayed: int = 0
    """Deliveries of replayed dead letters."""
    delivered: int = 0
    declined: int = 0
    shadowed: int = 0
    dropped: int = 0
    letters: int = 0
    """Dead letters that were made."""
    deleted: int = 0
    """Those that were deleted or withdrawn."""
    again: int = 0
    """Evicted deliveries that ended although their letters were deleted or replayed."""
    withdrawn: list[int] = []
    """Ids of the letters of evicted deliveries that ended nevertheless."""


class Changes(msgspec.Struct, array_like=True):
    """The body of a record."""

    position: int
    """The last entry that the owner had seen."""
    changes: list[Change]
    forgotten: list[str] = []
    """Destinations that are no more."""
    removed: list[int] = []
    """Ids of dead letters that are no more, although their messages may be."""
    decisions: list[Decision] = []
    """About entries after the position of the record before."""
    ids: list[tuple[bytes, float]] = []
    """In a snapshot: all dedup keys, see `Decision`."""
    left_out: dict[int, list[int]] = {}
    """In a snapshot: by seq, the deliveries that entries have lost."""
    replays: dict[int, str] = {}
    """In a snapshot: the ids of replayed requests that wait, by seq."""


class Counts(NamedTuple):
    """The deliveries of a destination that are not finished."""

    backlog: int
    retrying: int
    parked: int


class DestinationState:
    """One destination's part of a shard.

    Attributes:
        cursor: every delivery at or before it is finished, or an exception.
        waiting: retrying and parked deliveries.
        pending: entries after the cursor.
    """

    def __init__(self, name: str, cursor: int) -> None:
        self.name, self.cursor = name, cursor
        self.waiting = WaitingIndex()
        self.pending = PendingIndex()
        self.accepted = self.replayed = self.delivered = self.declined = self.shadowed = 0
        self.dropped = self.letters = self.deleted = self.again = 0
        self._counted = 0
        """The last entry that ``accepted`` and ``replayed`` count."""
        self._excepted: dict[int, set[int]] = {}
        """Deliveries after the cursor that are waiting, finished or dead."""
        self._unread = 0
        """All others after the cursor."""
        self._since: dict[Mark, float] = {}
        """When the entries of waiting deliveries were appended."""
        self._evicted: dict[Mark, int] = {}
        """Evicted deliveries that a worker may have in flight: the ids of their letters, or
        `_DROPPED`, or `_LETTER_GONE`."""

    @property
    def dead_letters(self) -> int:
        """Return the number of dead letters that exist."""
        return self.letters - self.deleted - self.replayed

    def add(self, seq: int, deliveries: int, at: float, *, replay: bool = False) -> None:
        """Count an entry after the cursor; *at* is its time in Unix seconds.

        The deliveries of a replay wait from the beginning, so it is no part of the backlog.
        """
        if not replay:
            self.pending.add(seq, deliveries, at)
            self._unread += deliveries - len(self._excepted.get(seq, ()))
        if seq > self._counted:
            self._counted = seq
            if replay:
                self.replayed += deliveries
            else:
                self.accepted += deliveries

    def wait(self, rows: Iterable[WaitingRow]) -> None:
        """Add waiting deliveries."""
        for row in rows:
            self.waiting.add(_waiting_delivery(row))
            self._since[row.seq, row.index] = row.since
            self._except(row.seq, row.index)

    def open_numbers(self, seq: int, numbers: Deliveries) -> Deliveries:
        """Return those deliveries of an entry that are neither waiting nor finished."""
        excepted = self._excepted.get(seq)
        return tuple([n for n in numbers if n not in excepted]) if excepted else numbers

    def is_open(self, mark: DeliveryRef) -> bool:
        """Return whether a delivery after the cursor is neither waiting nor finished."""
        return mark.index not in self._excepted.get(mark.seq, ()) and (
            self.pending.deliveries(mark.seq) > 0
        )

    def counts(self) -> Counts:
        """Return how much is pending."""
        parked = self.waiting.parked
        return Counts(len(self.pending), len(self.waiting) - parked, parked)

    def balance(self) -> Balance:
        """Return the balance of accepted deliveries and their outcomes."""
        return Balance(
            accepted=self.accepted + self.again,
            delivered=self.delivered,
            declined=self.declined,
            shadowed=self.shadowed,
            dead_letters=self.dead_letters,
            dropped=self.dropped,
            pending=self._unread + len(self.waiting),
        )

    def change(self, progress: Progress) -> Change:
        """Return what a report changes; what it repeats is left out."""
        waiting = [self.waiting_row(one) for one in progress.later if self._is_pending(one.mark)]
        new = {(row.seq, row.index) for row in waiting}
        dead = self._ending((one.mark for one in progress.dead), new)
        ended = self._ending(progress.done, new)
        change = self._change()
        change.cursor = max(self.cursor, progress.cursor)
        change.waiting = waiting
        change.ended = [mark for mark in ended if mark not in dead]
        change.dead = list(dead)
        change.delivered = max(self.delivered, progress.delivered or 0)
        change.declined = max(self.declined, progress.declined or 0)
        change.shadowed = max(self.shadowed, progress.shadowed or 0)
        change.letters += len(dead)
        self._claim(change)
        return change

    def _claim(self, change: Change) -> None:
        """Count the evicted deliveries that ended nevertheless by what became of them."""
        for mark in (*change.ended, *change.dead):
            letter = self._evicted.get(mark)
            if letter == _DROPPED:
                change.dropped -= 1
            elif letter == _LETTER_GONE:
                change.again += 1
            elif letter is not None:
                change.deleted += 1
                change.withdrawn.append(letter)

    def evicted(self, letters: Mapping[Mark, int], dropped: Iterable[Mark]) -> None:
        """Remember which deliveries were evicted, with the ids of their letters."""
        self._evicted |= letters
        self._evicted |= dict.fromkeys(dropped, _DROPPED)
        for mark in list(self._evicted)[: max(0, len(self._evicted) - _MAX_EVICTED)]:
            del self._evicted[mark]

    def evicted_letter(self, mark: DeliveryRef) -> int:
        """Return the id of an evicted delivery's letter; 0 or less if there is none."""
        return self._evicted.get((mark.seq, mark.index), _DROPPED)

    def letters_gone(self, letters: Collection[int]) -> None:
        """Notice that letters were deleted or replayed."""
        if self._evicted:
            for mark, letter in self._evicted.items():
                if letter in letters:
                    self._evicted[mark] = _LETTER_GONE

    def oldest(self, count: int, before: float) -> tuple[list[WaitingDelivery], list[int]]:
        """Return the oldest waiting deliveries and entries after the cursor, *count* together.

        Only those of entries that were appended before a time, in Unix seconds.
        """
        marks = nsmallest(count, (mark for mark, at in self._since.items() if at < before))
        seqs = self.pending.older(before, count)
        order = sorted([(*mark, True) for mark in marks] + [(seq, -1, False) for seq in seqs])
        waiting = [self.waiting.get((seq, index)) for seq, index, waits in order[:count] if waits]
        return (
            [one for one in waiting if one],
            [seq for seq, _, waits in order[:count] if not waits],
        )

    def oldest_time(self) -> float | None:
        """Return when the oldest pending delivery was appended, in Unix seconds."""
        first = self.pending.first()
        return min([*self._since.values(), *([first[1]] if first else [])], default=None)

    def waiting_row(self, one: WaitingDelivery) -> WaitingRow:
        """Return a waiting delivery as the journal has it."""
        seq, index = one.mark.seq, one.mark.index
        since = self._since.get((seq, index))
        if since is None:
            since = self.pending.time(seq)
        return WaitingRow(
            seq, index, one.due, one.parked, one.user, one.event_name, one.reason,
            pack_attempts(one.attempts), since,
        )  # fmt: skip

    def _change(self) -> Change:
        """Return cursor and counts as they are."""
        return Change(
            destination=self.name,
            cursor=self.cursor,
            counted=self._counted,
            accepted=self.accepted,
            replayed=self.replayed,
            delivered=self.delivered,
            declined=self.declined,
            shadowed=self.shadowed,
            dropped=self.dropped,
            letters=self.letters,
            deleted=self.deleted,
            again=self.again,
        )

    def _is_pending(self, mark: DeliveryRef) -> bool:
        return (mark.seq, mark.index) in self.waiting or self.is_open(mark)

    def _ending(self, marks: Iterable[DeliveryRef], new: set[Mark]) -> dict[Mark, None]:
        """Return each of the marks that is pending, evicted or in *new*, once."""
        return {
            (mark.seq, mark.index): None
            for mark in marks
            if (mark.seq, mark.index) in new
            or (mark.seq, mark.index) in self._evicted
            or self._is_pending(mark)
        }

    def apply(self, change: Change) -> None:
        """Apply a change that the journal has."""
        self.wait(change.waiting)
        for seq, index in (*change.ended, *change.dead):
            self.waiting.remove((seq, index))
            self._since.pop((seq, index), None)
            self._evicted.pop((seq, index), None)
            self._except(seq, index)
        self._advance(change.cursor)
        if change.counted > self._counted:
            self._counted = change.counted
            self.accepted, self.replayed = change.accepted, change.replayed
        self.delivered, self.declined = change.delivered, change.declined
        self.shadowed, self.dropped = change.shadowed, change.dropped
        self.letters, self.deleted, self.again = change.letters, change.deleted, change.again

    def _except(self, seq: int, index: int) -> None:
        if seq <= self.cursor:
            return
        excepted = self._excepted.setdefault(seq, set())
        if index not in excepted:
            excepted.add(index)
            self._unread -= self.pending.deliveries(seq) > 0

    def _advance(self, cursor: int) -> None:
        if cursor <= self.cursor:
            return
        gone = 0
        for seq in [seq for seq in self._excepted if seq <= cursor]:
            excepted = self._excepted.pop(seq)
            gone += len(excepted) if self.pending.deliveries(seq) else 0
        self.cursor = cursor
        self._unread -= self.pending.pass_(cursor) - gone

    def snapshot(self, *, whole: bool = True) -> Change:
        """Return cursor and counts, and the finished deliveries if it is to be *whole*."""
        ended = [
            (seq, index)
            for seq, indexes in (self._excepted if whole else {}).items()
            for index in indexes
            if (seq, index) not in self.waiting
        ]
        change = self._change()
        change.ended = ended
        return change


class ShardState:
    """All destinations of a shard.

    Attributes:
        destinations: by name.
        position: the last entry that was handed over.
        new: destinations that no record names yet; the next record must.
        removed: ids of dead letters that are no more, as long as their messages are.
        removing: ids of those that a record on its way removes.
        ids: dedup keys.
        left_out: by seq, the deliveries that entries of the log have lost.
        replays: the ids of replayed requests that may wait, by seq.
        unrecorded: what was decided since the last record, in the order of the log.
    """

    def __init__(self) -> None:
        self.destinations: dict[str, DestinationState] = {}
        self.position = 0
        self.new: set[str] = set()
        self.removed: set[int] = set()
        self.removing: set[int] = set()
        self.ids = DedupIds()
        self.left_out: dict[int, frozenset[int]] = {}
        self.replays: dict[int, str] = {}
        self.unrecorded: deque[Decision] = deque()

    def begin(self, name: str, cursor: int) -> DestinationState:
        """Add a destination that begins after *cursor*."""
        found = self.destinations[name] = DestinationState(name, cursor)
        self.new.add(name)
        return found

    def __getitem__(self, destination: str) -> DestinationState:
        """Return a destination's part; raises SpoolError for an unknown one."""
        found = self.destinations.get(destination)
        if found is None:
            raise SpoolError(f"unknown destination {destination!r}; register it first")
        return found

    def take(
        self, seq: int, row: FrameRow, targets: Mapping[str, Deliveries], at: float
    ) -> Mapping[str, Deliveries]:
        """Decide about an entry after the last one; return what is left of its targets.

        *at* are the Unix seconds of its frame. What a replay begins waits.
        """
        if not row.ids and not row.replays:
            self.add(seq, targets, at)
            return targets
        if row.replays:
            known = targets.keys() <= self.destinations.keys()
            gone = self.removed | self.removing if known else None
            decision = decide_replay(seq, row, targets, gone, at)
        else:
            decision = self.ids.decide(seq, row, targets, at)
        if decision.left_out:
            targets = without(targets, decision.left_out)
        self.add(seq, targets, at, replay=bool(row.replays))
        self._decided(decision)
        self.unrecorded.append(decision)
        return targets

    def restore(
        self, seq: int, row: FrameRow, targets: Mapping[str, Deliveries], at: float, recorded: int
    ) -> None:
        """Take an entry at a takeover; up to *recorded* another owner has decided about it."""
        if seq > recorded:
            self.take(seq, row, targets, at)
            self.position = seq
        else:
            left = without(targets, self.left_out.get(seq, ()))
            self.add(seq, left, at, begin=False, replay=bool(row.replays))

    def _decided(self, decision: Decision) -> None:
        self.ids.add(decision.ids)
        if decision.left_out:
            self.left_out[decision.seq] = frozenset(decision.left_out)
        self._remove(decision.letters)
        if found := self.destinations.get(decision.destination):
            found.wait(decision.waiting)
        if decision.waiting:
            self.replays[decision.seq] = decision.request

    def _remove(self, letters: Collection[int]) -> None:
        if letters:
            self.removed.update(letters)
            for found in self.destinations.values():
                found.letters_gone(letters)

    def add(
        self,
        seq: int,
        targets: Mapping[str, Deliveries],
        at: float,
        *,
        begin: bool = True,
        replay: bool = False,
    ) -> None:
        """Count an entry of the log for its destinations.

        A destination that is not known here begins with the first entry that targets it. Without
        *begin* it is left out: the journal knew the entry, so the destination was forgotten since.
        """
        for name, numbers in targets.items():
            found = self.destinations.get(name)
            if found is None:
                if not begin:
                    continue
                found = self.begin(name, seq - 1)
            if seq > found.cursor:
                found.add(seq, len(numbers), at, replay=replay)

    def apply(self, changes: Changes) -> None:
        """Apply a record's changes."""
        for change in changes.changes:
            name = change.destination
            if name not in self.destinations:
                self.destinations[name] = DestinationState(name, change.cursor)
        for decision in changes.decisions:
            if decision.seq > self.position:
                self._decided(decision)
        for change in changes.changes:
            self.destinations[change.destination].apply(change)
            self.new.discard(change.destination)
            self._remove(change.withdrawn)
        for name in changes.forgotten:
            self.destinations.pop(name, None)
            self.new.discard(name)
        self._remove(changes.removed)
        self.ids.add(changes.ids)
        self.left_out |= {seq: frozenset(numbers) for seq, numbers in changes.left_out.items()}
        self.replays |= changes.replays
        self.position = max(self.position, changes.position)
        while self.unrecorded and self.unrecorded[0].seq <= changes.position:
            self.unrecorded.popleft()

    def decisions(self, upto: int, max_bytes: int) -> list[list[Decision]]:
        """Return what no record has about entries up to *upto*, in lists of about *max_bytes*."""
        parts: list[list[Decision]] = [[]]
        size = 0
        for decision in self.unrecorded:
            if decision.seq > upto:
                break
            if size >= max_bytes:
                parts.append([])
                size = 0
            parts[-1].append(decision)
            size += decision.size()
        return parts

    def trimmed(self, before: int) -> None:
        """Forget what entries before a seq have lost: the log has them no more."""
        for seq in [seq for seq in self.left_out if seq < before]:
            del self.left_out[seq]
        if self.replays:
            waiting = self.waiting_seqs()
            self.replays = {seq: name for seq, name in self.replays.items() if seq in waiting}

    def waits(self, seq: int, entry: Entry) -> dict[tuple[str, int], WaitingDelivery | None]:
        """Return an entry's pending deliveries: None for one of the backlog."""
        found: dict[tuple[str, int], WaitingDelivery | None] = {}
        for name, numbers in entry.targets.items():
            state = self.destinations.get(name)
            if state is None:
                continue
            for number in numbers:
                waiting = state.waiting.get((seq, number))
                if waiting or state.is_open(DeliveryRef(seq, number)):
                    found[name, number] = waiting
        return found

    def forgetting(self, destination: str) -> Changes:
        """Return the change that forgets a destination."""
        return Changes(self.position, [], [destination])

    def dropping(self, letters: Mapping[int, str]) -> Changes:
        """Return the change that deletes dead letters, given the destination of each id."""
        changes = []
        for name, count in Counter(letters.values()).items():
            if found := self.destinations.get(name):
                change = found.snapshot(whole=False)
                change.dropped += count
                change.deleted += count
                changes.append(change)
        return Changes(self.position, changes, removed=list(letters))

    def needed(self) -> int:
        """Return the first seq that a destination has not passed, or the end of the log.

        What was decided about an entry must be recorded before the log may lose it.
        """
        firsts = [found.pending.first() for found in self.destinations.values()]
        decided = [self.unrecorded[0].seq] if self.unrecorded else []
        return min([self.position, *decided, *[first[0] for first in firsts if first]])

    def waiting_seqs(self) -> set[int]:
        """Return the seqs of all entries with waiting deliveries."""
        return {one.mark.seq for found in self.destinations.values() for one in found.waiting}

    def snapshot(self, max_bytes: int) -> list[Changes]:
        """Return the state as records of about *max_bytes* at most."""
        left_out = {seq: sorted(numbers) for seq, numbers in self.left_out.items()}
        ids = list(self.ids)
        each = max(1, max_bytes // ID_BYTES)
        parts = [
            Changes(self.position, [], ids=ids[start : start + each])
            for start in range(0, len(ids), each)
        ]
        part = Changes(
            self.position,
            [],
            removed=list(self.removed),
            left_out=left_out,
            replays=dict(self.replays),
        )
        size = 0
        for found in self.destinations.values():
            change = found.snapshot()
            part.changes.append(change)
            size += 64 + 12 * len(change.ended)
            for one in found.waiting:
                row = found.waiting_row(one)
                size += 64 + len(row.user) + len(row.reason) + len(row.event_name)
                size += len(row.attempts)
                change.waiting.append(row)
                if size >= max_bytes:
                    parts.append(part)
                    change = msgspec.structs.replace(change, waiting=[], ended=[])
                    part, size = Changes(self.position, [change]), 0
        return [*parts, part]


def _waiting_delivery(row: WaitingRow) -> WaitingDelivery:
    return WaitingDelivery(
        mark=DeliveryRef(row.seq, row.index),
        due=row.due,
        attempts=unpack_attempts(row.attempts),
        reason=row.reason,
        user=row.user,
        event_name=row.event_name,
        parked=row.parked,
    )
