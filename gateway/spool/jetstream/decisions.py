"""What a shard's owner decides about entries in the order of the log.

It decides about duplicates, replays, and deliveries that a destination refuses.

Until a record covers an entry, the next owner decides the same from the log. So a decision needs
only the entry, its frame's time and what was decided before.
"""

from collections.abc import Iterator, Mapping

import msgspec

from gateway.spool.dead_letters import AT_ONCE
from gateway.spool.dedup import numbers_of
from gateway.spool.jetstream.frames import FrameRow
from gateway.spool.values import Deliveries

_SWEEP = 4096
"""Fewest ids at which expired ones are looked for."""
ID_BYTES = 32
"""Bytes of a dedup key in a record."""
_ROW_BYTES = 64


class WaitingRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A waiting delivery in the journal."""

    seq: int
    index: int
    due: float
    parked: bool
    user: str
    event_name: str
    reason: str
    attempts: bytes
    since: float
    """Unix seconds at which its entry was appended."""


class Decision(msgspec.Struct, array_like=True):
    """What was decided about one entry."""

    seq: int
    ids: list[tuple[bytes, float]] = []
    """New dedup keys, with the Unix seconds at which each expires."""
    left_out: list[int] = []
    """Numbers of the deliveries that the entry loses: of duplicates, or of letters that are no
    more."""
    waiting: dict[str, list[WaitingRow]] = {}
    """Deliveries that wait from the beginning, by destination."""
    letters: list[int] = []
    """Ids of the dead letters that were replayed."""
    request: str = ""
    """The id of the request that is replayed or was moved."""

    def size(self) -> int:
        """Return about how many bytes of a record it needs."""
        rows = [row for rows in self.waiting.values() for row in rows]
        texts = sum(len(row.user) + len(row.event_name) + len(row.reason) for row in rows)
        size = _ROW_BYTES * (len(rows) + 1) + ID_BYTES * len(self.ids)
        return size + 10 * len(self.left_out) + 4 * texts


class DedupIds:
    """The dedup keys of a shard's events, until they expire."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        return len(self._until)

    def __iter__(self) -> Iterator[tuple[bytes, float]]:
        return iter(self._until.items())

    def decide(
        self, seq: int, row: FrameRow, targets: Mapping[str, Deliveries], at: float, late: float
    ) -> Decision:
        """Return which deliveries are duplicates at the time *at*, and which ids are new.

        *at* may be *late* by some seconds: ids expire only when they surely do.
        """
        repeats: set[int] = set()
        new: dict[bytes, float] = {}
        for event in sorted(row.ids):
            key = row.ids[event]
            if key in new or self.has(key, at - late):
                repeats.add(event)
            else:
                new[key] = at + row.window
        left_out = sorted(numbers_of(targets, repeats)) if repeats else []
        return Decision(seq, list(new.items()), left_out)

    def add(self, ids: list[tuple[bytes, float]]) -> None:
        """Remember new keys."""
        self._until.update(ids)

    def has(self, key: bytes, now: float) -> bool:
        """Return whether a key is remembered."""
        return self._until.get(key, now) > now

    def later(self, ids: Mapping[bytes, float]) -> list[tuple[bytes, float]]:
        """Return those of other keys that are new here, or expire later than here."""
        return [(key, until) for key, until in ids.items() if self._until.get(key, 0.0) < until]

    def sweep(self, now: float) -> None:
        """Forget what expired before *now*, when the keys have doubled since it was done last."""
        if len(self._until) >= self._sweep_at:
            self._until = {key: until for key, until in self._until.items() if until > now}
            self._sweep_at = max(_SWEEP, 2 * len(self._until))


def decide_replay(
    seq: int, row: FrameRow, targets: Mapping[str, Deliveries], gone: set[int] | None, at: float
) -> Decision:
    """Return which letters a row replays: those that are not among *gone*, none if that is None."""
    ((destination, numbers),) = targets.items()
    there = [one for one in row.replays if gone is not None and one.letter not in gone]
    indexes = {one.index for one in there}
    waiting = [
        WaitingRow(seq, one.index, AT_ONCE, False, one.user, one.event_name, one.reason, b"", at)  # noqa: FBT003 - a row of the journal
        for one in there
    ]
    left_out = [number for number in numbers if number not in indexes]
    letters = [one.letter for one in there]
    request = row.id if waiting else ""
    return Decision(seq, [], left_out, {destination: waiting}, letters, request)


def refused_deliveries(
    seq: int, row: FrameRow, targets: Mapping[str, Deliveries], at: float
) -> dict[str, list[WaitingRow]]:
    """Return the deliveries that destinations refuse: they wait to become dead letters.

    They are parked behind no user, so no worker gets them.
    """
    return {
        name: [WaitingRow(seq, number, at, True, "", "", why, b"", at) for number in targets[name]]  # noqa: FBT003 - a row of the journal
        for name, why in row.refused.items()
        if name in targets
    }
