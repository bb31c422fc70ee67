"""What a shard owes to one destination: cursor, waiting deliveries, counts; kept in memory.

A worker's report becomes a `Change`, which the journal stores; a stored change is applied. What a
report repeats is left out of the change, so that a change can be applied without the log.
"""

from collections.abc import Collection, Iterable, Mapping
from heapq import nsmallest
from typing import NamedTuple

import msgspec

from gateway.spool.jetstream.decisions import WaitingRow
from gateway.spool.jetstream.pending_index import PendingIndex
from gateway.spool.jetstream.waiting_index import Mark, WaitingIndex
from gateway.spool.rows import pack_attempts, unpack_attempts
from gateway.spool.values import (
    Balance,
    Deliveries,
    DeliveryRef,
    Progress,
    QueueDepth,
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

    def add(
        self, seq: int, deliveries: int, at: float, *, waits: bool = False, replay: bool = False
    ) -> None:
        """Count an entry after the cursor; *at* is its time in Unix seconds.

        If its deliveries wait from the beginning, as those of a *replay* do, it is no part of the
        backlog.
        """
        if not waits:
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

    def depth(self) -> QueueDepth:
        """Return the queue depth."""
        return QueueDepth(
            self.cursor,
            *self.counts(),
            self.dead_letters,
            self.oldest_time(),
            self.oldest_unread_time(),
        )

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
        moved = self._ending(progress.moved, new)
        change.ended += moved
        change.accepted -= len(moved)
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
        unread = self.oldest_unread_time()
        return min([*self._since.values(), *([] if unread is None else [unread])], default=None)

    def oldest_unread_time(self) -> float | None:
        """Return when the oldest entry after the cursor was appended, in Unix seconds."""
        first = self.pending.first()
        return first[1] if first else None

    def time(self, seq: int, numbers: Deliveries) -> float:
        """Return when a pending entry was accepted, in Unix seconds; 0 if it is not pending."""
        waiting = (self._since.get((seq, number), 0.0) for number in numbers)
        return self.pending.time(seq) or max(waiting, default=0.0)

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
        if change.counted >= self._counted:
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
