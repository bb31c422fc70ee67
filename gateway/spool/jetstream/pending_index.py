"""The entries of a shard that a destination has not passed, by seq."""

from array import array
from bisect import bisect_right

_COMPACT = 4096
"""Passed entries at the front of the arrays at which they are deleted."""


class PendingIndex:
    """Entries after a destination's cursor in the order of the log, 20 bytes each."""

    def __init__(self) -> None:
        self._seqs, self._counts, self._times = array("q"), array("I"), array("d")
        self._start = 0

    def __len__(self) -> int:
        return len(self._seqs) - self._start

    def add(self, seq: int, deliveries: int, at: float) -> None:
        """Add the newest entry, with its number of deliveries and its time in Unix seconds."""
        self._seqs.append(seq)
        self._counts.append(deliveries)
        self._times.append(at)

    def deliveries(self, seq: int) -> int:
        """Return how many deliveries an entry has for the destination, 0 if it is not here."""
        place = self._place(seq)
        return 0 if place is None else self._counts[place]

    def after(self, seq: int, upto: int, limit: int) -> list[int]:
        """Return up to *limit* seqs after *seq* and not after *upto*."""
        first = bisect_right(self._seqs, seq, self._start)
        last = bisect_right(self._seqs, upto, first)
        return list(self._seqs[first : min(last, first + limit)])

    def time(self, seq: int) -> float:
        """Return the time of an entry, 0 if it is not here."""
        place = self._place(seq)
        return 0.0 if place is None else self._times[place]

    def _place(self, seq: int) -> int | None:
        place = bisect_right(self._seqs, seq, self._start) - 1
        return place if place >= self._start and self._seqs[place] == seq else None

    def older(self, before: float, limit: int) -> list[int]:
        """Return the oldest seqs, up to *limit*, until one that is not before a time."""
        found = []
        for place in range(self._start, min(self._start + limit, len(self._seqs))):
            if self._times[place] >= before:
                break
            found.append(self._seqs[place])
        return found

    def first(self) -> tuple[int, float] | None:
        """Return seq and time of the oldest entry."""
        if not self:
            return None
        return self._seqs[self._start], self._times[self._start]

    def pass_(self, cursor: int) -> int:
        """Remove the entries at or before *cursor*; return how many deliveries they have."""
        end = bisect_right(self._seqs, cursor, self._start)
        passed = sum(self._counts[self._start : end])
        self._start = end
        if self._start > _COMPACT and self._start * 2 > len(self._seqs):
            for column in (self._seqs, self._counts, self._times):
                del column[: self._start]
            self._start = 0
        return passed
