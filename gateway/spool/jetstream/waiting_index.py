"""The waiting deliveries of a destination: by due time, by user, by place."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator

from gateway.spool.values import WaitingDelivery

Mark = tuple[int, int]
"""seq and number of a delivery."""
_Due = tuple[float, int, int]
_FEW = 64
"""New due times up to which each is inserted; more are sorted at once."""


class WaitingIndex:
    """Waiting deliveries by mark; retrying ones in the order of their due times.

    Attributes:
        users: the number of waiting deliveries per user, without those of nobody.
        parked: the number of parked ones.
    """

    def __init__(self) -> None:
        self._by_mark: dict[Mark, WaitingDelivery] = {}
        self._due: list[_Due] = []
        self._new: list[_Due] = []
        self._parked: dict[str, set[Mark]] = {}
        self.users: Counter[str] = Counter()
        self.parked = 0

    def __len__(self) -> int:
        return len(self._by_mark)

    def __contains__(self, mark: Mark) -> bool:
        return mark in self._by_mark

    def __iter__(self) -> Iterator[WaitingDelivery]:
        return iter(self._by_mark.values())

    def get(self, mark: Mark) -> WaitingDelivery | None:
        """Return one delivery."""
        return self._by_mark.get(mark)

    def add(self, one: WaitingDelivery) -> None:
        """Add or replace a delivery."""
        mark = (one.mark.seq, one.mark.index)
        self.remove(mark)
        self._by_mark[mark] = one
        if one.user:
            self.users[one.user] += 1
        if one.parked:
            self.parked += 1
            self._parked.setdefault(one.user, set()).add(mark)
        else:
            self._new.append((one.due, *mark))

    def remove(self, mark: Mark) -> None:
        """Remove a delivery; nothing if it is not here."""
        one = self._by_mark.pop(mark, None)
        if one is None:
            return
        if one.user:
            self.users[one.user] -= 1
            if not self.users[one.user]:
                del self.users[one.user]
        if one.parked:
            self.parked -= 1
            marks = self._parked[one.user]
            marks.discard(mark)
            if not marks:
                del self._parked[one.user]
        else:
            due = self._sorted()
            del due[bisect_left(due, (one.due, *mark))]

    def retrying(
        self, due_before: float, limit: int, after: WaitingDelivery | None
    ) -> list[WaitingDelivery]:
        """Return retrying deliveries due at or before a time, by due time, seq and number."""
        due = self._sorted()
        start = bisect_right(due, (after.due, after.mark.seq, after.mark.index)) if after else 0
        found = []
        for at, *mark in due[start : start + limit]:
            if at > due_before:
                break
            found.append(self._by_mark[mark[0], mark[1]])
        return found

    def parked_of(self, user: str, limit: int) -> list[WaitingDelivery]:
        """Return a user's parked deliveries, by seq and number."""
        return [self._by_mark[mark] for mark in sorted(self._parked.get(user, ()))[:limit]]

    def _sorted(self) -> list[_Due]:
        if len(self._new) > _FEW:
            self._due.extend(self._new)
            self._due.sort()
        else:
            for one in self._new:
                insort(self._due, one)
        self._new.clear()
        return self._due
