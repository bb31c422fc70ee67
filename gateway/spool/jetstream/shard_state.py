"""The state of a shard in memory: its destinations, and what its owners decided about entries.

The journal stores it as records of `Changes`, of which the next owner makes it again.
"""

from collections import Counter, deque
from collections.abc import Collection, Mapping

import msgspec

from gateway.errors import SpoolError
from gateway.spool.dedup import without
from gateway.spool.jetstream.decisions import (
    ID_BYTES,
    Decision,
    DedupIds,
    decide_replay,
    refused_deliveries,
)
from gateway.spool.jetstream.destination_state import Change, DestinationState
from gateway.spool.jetstream.frames import NO_FRAME, FrameMark, FrameRow
from gateway.spool.values import (
    MOVE_WINDOW,
    Deliveries,
    DeliveryRef,
    Entry,
    WaitingDelivery,
)


class Changes(msgspec.Struct, array_like=True):
    """The body of a record."""

    position: int
    """The last entry that the owner had seen."""
    changes: list[Change]
    forgotten: list[str] = []
    """Destinations that are no more."""
    letters_left: dict[str, int] = {}
    """How many dead letters destinations have that are no more."""
    removed: list[int] = []
    """Ids of dead letters that are no more, although their messages may be."""
    decisions: list[Decision] = []
    """About entries after the position of the record before."""
    ids: list[tuple[bytes, float]] = []
    """New dedup keys, see `Decision`; in a snapshot, all of them."""
    left_out: dict[int, list[int]] = {}
    """In a snapshot: by seq, the deliveries that entries have lost."""
    replays: dict[int, str] = {}
    """In a snapshot: the ids of replayed and moved requests that are pending, by seq."""
    end: FrameMark = NO_FRAME
    """The last frame that the owner had seen."""


class ShardState:
    """All destinations of a shard.

    Attributes:
        destinations: by name.
        position: the last entry that was handed over.
        end: the last frame that was seen, by which a log that lost its end is noticed.
        new: destinations that no record names yet; the next record must.
        removed: ids of dead letters that are no more, as long as their messages are.
        removing: ids of those that a record on its way removes.
        ids: dedup keys.
        left_out: by seq, the deliveries that entries of the log have lost.
        replays: the ids of replayed and moved requests that may be pending, by seq.
        letters_left: how many dead letters destinations have that are no more.
        unrecorded: what was decided since the last record, in the order of the log.
    """

    def __init__(self) -> None:
        self.destinations: dict[str, DestinationState] = {}
        self.position = 0
        self.end = NO_FRAME
        self.new: set[str] = set()
        self.removed: set[int] = set()
        self.removing: set[int] = set()
        self.ids = DedupIds()
        self.left_out: dict[int, frozenset[int]] = {}
        self.replays: dict[int, str] = {}
        self.letters_left: dict[str, int] = {}
        self.unrecorded: deque[Decision] = deque()

    def begin(self, name: str, cursor: int) -> DestinationState:
        """Add a destination that begins after *cursor*, with the dead letters that it left."""
        found = self.destinations[name] = DestinationState(name, cursor)
        found.accepted = found.letters = self.letters_left.get(name, 0)
        self.new.add(name)
        return found

    def __getitem__(self, destination: str) -> DestinationState:
        """Return a destination's part; raises SpoolError for an unknown one."""
        found = self.destinations.get(destination)
        if found is None:
            raise SpoolError(f"unknown destination {destination!r}; register it first")
        return found

    def take(
        self,
        seq: int,
        row: FrameRow,
        targets: Mapping[str, Deliveries],
        at: float,
        *,
        late: float = 0.0,
    ) -> Mapping[str, Deliveries]:
        """Decide about an entry after the last one; return what is left of its targets.

        *at* are the Unix seconds of its frame, *late* those by which they may be too late. What a
        replay begins waits, and so does what a destination refuses, until it is a dead letter.
        """
        if not (row.ids or row.is_late or row.refused):
            self.add(seq, targets, at)
            return targets
        if row.replays:
            known = targets.keys() <= self.destinations.keys()
            gone = self.removed | self.removing if known else None
            decision = decide_replay(seq, row, targets, gone, at)
        else:
            decision = self.ids.decide(seq, row, targets, at, late)
        if decision.left_out:
            targets = without(targets, decision.left_out)
        if row.moved_at:
            at = row.moved_at
            decision.request = row.id if targets else ""
        self.add(seq, targets, at, row=row)
        if row.refused:
            decision.waiting = refused_deliveries(seq, row, targets, at)
            targets = {name: n for name, n in targets.items() if name not in row.refused}
        self._decided(decision)
        self.unrecorded.append(decision)
        return targets

    def restore(  # noqa: PLR0913 - as `take`
        self,
        seq: int,
        row: FrameRow,
        targets: Mapping[str, Deliveries],
        at: float,
        recorded: int,
        *,
        late: float = 0.0,
    ) -> None:
        """Take an entry at a takeover; up to *recorded* another owner has decided about it."""
        if seq > recorded:
            self.take(seq, row, targets, at, late=late)
            self.position = seq
        else:
            left = without(targets, self.left_out.get(seq, ()))
            self.add(seq, left, row.moved_at or at, begin=False, row=row)

    def _decided(self, decision: Decision) -> None:
        self.ids.add(decision.ids)
        if decision.left_out:
            self.left_out[decision.seq] = frozenset(decision.left_out)
        self._remove(decision.letters)
        for name, rows in decision.waiting.items():
            if found := self.destinations.get(name):
                found.wait(rows)
        if decision.request:
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
        row: FrameRow | None = None,
    ) -> None:
        """Count an entry of the log for its destinations; *row* says for which of them it waits.

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
                replay = bool(row and row.replays)
                waits = replay or bool(row and name in row.refused)
                found.add(seq, len(numbers), at, waits=waits, replay=replay)

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
            self.letters_left.pop(change.destination, None)
            self.new.discard(change.destination)
            self._remove(change.withdrawn)
        for name in changes.forgotten:
            self.destinations.pop(name, None)
            self.new.discard(name)
        for name, count in changes.letters_left.items():
            if count and name not in self.destinations:
                self.letters_left[name] = count
            else:
                self.letters_left.pop(name, None)
        self._remove(changes.removed)
        self.ids.add(changes.ids)
        self.left_out |= {seq: frozenset(numbers) for seq, numbers in changes.left_out.items()}
        self.replays |= changes.replays
        self.position = max(self.position, changes.position)
        self.end = max(self.end, changes.end)
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
            self.replays = {
                seq: name for seq, name in self.replays.items() if seq >= before or seq in waiting
            }

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
        """Return the change that forgets a destination; its dead letters stay."""
        left = self.destinations[destination].dead_letters
        return Changes(self.position, [], [destination], {destination: left})

    def time(self, seq: int, entry: Entry) -> float:
        """Return when a pending entry was accepted, in Unix seconds; 0 if it is not pending."""
        known = (self.destinations.get(name) for name in entry.targets)
        times = (found.time(seq, entry.targets[found.name]) for found in known if found)
        return max(times, default=0.0)

    def restoring(self, letters: Mapping[bytes, str], now: float) -> tuple[Changes, list[bytes]]:
        """Return the change that adds dead letters of another spool, and the keys of the new ones.

        *letters* has the destination of each by key. Raises SpoolError for an unknown one.
        """
        new = [key for key in letters if not self.ids.has(key, now)]
        changes = []
        for name, count in Counter(letters[key] for key in new).items():
            change = self[name].snapshot(whole=False)
            change.letters += count
            change.accepted += count
            changes.append(change)
        keys = [(key, now + MOVE_WINDOW) for key in new]
        return Changes(self.position, changes, ids=keys), new

    def dropping(self, letters: Mapping[int, str], *, moved: bool = False) -> Changes:
        """Return the change that deletes dead letters, given the destination of each id.

        Those that were *moved* are not accepted here any more.
        """
        changes, left = [], {}
        for name, count in Counter(letters.values()).items():
            if found := self.destinations.get(name):
                change = found.snapshot(whole=False)
                if moved:
                    change.accepted -= count
                else:
                    change.dropped += count
                change.deleted += count
                changes.append(change)
            else:
                left[name] = self.letters_left.get(name, 0) - count
        return Changes(self.position, changes, letters_left=left, removed=list(letters))

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
            letters_left=dict(self.letters_left),
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
        part.end = self.end
        return [*parts, part]
