"""Which deliveries of one destination stand in the log and have no job yet.

They are kept by source, and within a source by user where one has many, so that neither a
source's backlog nor a user's stands before anybody else's events. A delivery costs 20 bytes here.
"""

import heapq
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

SHARE = 32
"""Deliveries of one user that lie among a source's others; more of them are kept apart."""
SLOTS = 1 << 21
"""Of the filter that tells whose deliveries are certainly not here: 4 MB while there are any."""
MANY = 65_535
"""A slot of the filter counts no further; then it never says no again."""
COMPACT = 4096
"""Taken places at the front of a flow that are worth giving back."""
NOBODY = 0
"""The hash of those who are not known; their events wait for nobody's."""


class Unread(NamedTuple):
    """One delivery that stands in the log."""

    seq: int
    number: int
    """Of the delivery among those of its request, as in `gateway.spool.Entry.targets`."""
    user: int
    """The hash of its user, as in `gateway.spool.Entry.users`."""
    source: str


class Flow:
    """Deliveries in the order of the log."""

    __slots__ = ("_head", "_numbers", "_seqs", "_users", "gate")

    def __init__(self, gate: tuple[int, int] = (0, 0)) -> None:
        self._seqs = array("Q")
        self._numbers = array("Q")
        self._users = bytearray()
        self._head = 0
        self.gate = gate
        """Where this is one user's: their deliveries up to here may still be among the others."""

    def __len__(self) -> int:
        return len(self._seqs) - self._head

    @property
    def first(self) -> int:
        """Return the first one's seq; there has to be one."""
        return self._seqs[self._head]

    @property
    def place(self) -> tuple[int, int]:
        """Return the first one's seq and number; there has to be one."""
        return self._seqs[self._head], self._numbers[self._head]

    @property
    def last_place(self) -> tuple[int, int]:
        """Return the last one's seq and number, (0, 0) where there is none."""
        return (self._seqs[-1], self._numbers[-1]) if len(self) else (0, 0)

    @property
    def user(self) -> int:
        """Return the first one's user."""
        return int.from_bytes(self._users[4 * self._head : 4 * self._head + 4], "little")

    def add(self, seq: int, number: int, user: int) -> None:
        """Take a delivery, wherever it belongs in the order of the log."""
        packed = user.to_bytes(4, "little")
        if not len(self) or (seq, number) > (self._seqs[-1], self._numbers[-1]):
            self._seqs.append(seq)
            self._numbers.append(number)
            self._users += packed
            return
        at = bisect_left(self._seqs, seq, self._head)
        while at < len(self._seqs) and (self._seqs[at], self._numbers[at]) < (seq, number):
            at += 1
        self._seqs.insert(at, seq)
        self._numbers.insert(at, number)
        self._users[4 * at : 4 * at] = packed

    def pop(self) -> tuple[int, int, int]:
        """Take the first one out: its seq, its number, its user."""
        head = self._head
        found = self._seqs[head], self._numbers[head], self.user
        self._head += 1
        if self._head > COMPACT and 2 * self._head > len(self._seqs):
            del self._seqs[: self._head], self._numbers[: self._head]
            del self._users[: 4 * self._head]
            self._head = 0
        return found

    def find(self, user: int, before: int | None = None) -> int | None:
        """Return the seq of a user's first delivery, if it is lower than *before*."""
        packed, at = user.to_bytes(4, "little"), 4 * self._head
        end = len(self._users)
        if before is not None:
            end = 4 * bisect_left(self._seqs, before, self._head)
        while (at := self._users.find(packed, at, end)) >= 0:
            if not at % 4:
                return self._seqs[at // 4]
            at += 1
        return None


class _Source:
    """One source's deliveries.

    A user in ``own`` has a flow of their own, to which everything further of theirs is added.
    """

    def __init__(self) -> None:
        self.whole = False
        self.common = Flow()
        self.own: dict[int, Flow] = {}
        self.turns: dict[int, None] = {}
        """Users with a flow of their own that may have a delivery that can go."""
        self._gated: list[tuple[tuple[int, int], int]] = []
        self._heads: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self.common or self.own)

    def first(self) -> int | None:
        """Return the lowest seq."""
        heads = self._heads
        while heads:
            flow = self.own.get(heads[0][1])
            if flow is not None and flow.first == heads[0][0]:
                break
            heapq.heappop(heads)
        firsts = [heads[0][0]] if heads else []
        if self.common:
            firsts.append(self.common.first)
        return min(firsts, default=None)

    def lowest(self) -> int | None:
        """Return the user whose flow begins with the lowest seq of all, if it is one of theirs."""
        first = self.first()
        if first is None or (self.common and self.common.first == first):
            return None
        return self._heads[0][1]

    def first_of(self, user: int) -> int | None:
        """Return the lowest seq of a user's deliveries."""
        own = self.own.get(user)
        firsts = [own.first] if own else []
        if self.common and (own is None or self.common.place <= own.gate):
            among = self.common.find(user)
            firsts += [] if among is None else [among]
        return min(firsts, default=None)

    def older(self, user: int, seq: int) -> bool:
        """Tell whether a user has a delivery before *seq*; what comes after is not searched."""
        own = self.own.get(user)
        if own and own.first < seq:
            return True
        if not self.common or (own is not None and self.common.place > own.gate):
            return False
        return self.common.find(user, seq) is not None

    def add_own(self, seq: int, number: int, user: int) -> None:
        """Add a delivery to its user's own flow."""
        flow = self.own.get(user)
        if flow is None:
            flow = self.own[user] = Flow(self.common.last_place)
            self.turns[user] = None
        flow.add(seq, number, user)
        if flow.first == seq:
            heapq.heappush(self._heads, (seq, user))

    def pop_own(self, user: int) -> tuple[int, int, int]:
        """Take the first delivery out of a user's own flow."""
        flow = self.own[user]
        found = flow.pop()
        if flow:
            heapq.heappush(self._heads, (flow.first, user))
        else:
            del self.own[user]
            self.turns.pop(user, None)
        return found

    def gated(self, user: int) -> bool:
        """Tell whether earlier deliveries of a user may be among the others; look again later."""
        flow = self.own[user]
        if flow.place <= flow.gate or not self.common or self.common.place > flow.gate:
            return False
        heapq.heappush(self._gated, (flow.gate, user))
        return True

    def went_on(self) -> None:
        """Let users have their turn whose earlier deliveries are not among the others any more."""
        place = self.common.place if self.common else None
        while self._gated and (place is None or self._gated[0][0] < place):
            user = heapq.heappop(self._gated)[1]
            if user in self.own:
                self.turns[user] = None


class UnreadIndex:
    """What is unread, and what of it may have a job next.

    What is taken of one user keeps the order of the log, over all sources.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._count = 0
        self._filter: array[int] | None = None

    def __len__(self) -> int:
        """Return how many deliveries there are."""
        return self._count

    @property
    def sources(self) -> Sequence[str]:
        """Return the sources that have any; the one that had its turn last is last."""
        return [name for name, source in self._sources.items() if source]

    def first(self) -> int | None:
        """Return the lowest seq."""
        if not self._count:
            return None
        firsts = (source.first() for source in self._sources.values())
        return min((first for first in firsts if first is not None), default=None)

    def holds(self, user: int) -> bool:
        """Tell whether there is a delivery of the user."""
        return self.first_of(user) is not None

    def first_of(self, user: int) -> int | None:
        """Return the lowest seq of the user's deliveries."""
        if not self._count or user == NOBODY or not self._counted(user):
            return None
        firsts = (one.first_of(user) for one in self._sources.values())
        return min((first for first in firsts if first is not None), default=None)

    def add(self, one: Unread, *, whole: bool | None = None) -> None:
        """Take a delivery, which comes after all of its user's that were taken.

        *whole* says whether the source's requests may go on as they came, for which all of a
        request's deliveries are needed at once; None leaves it as it was.
        """
        seq, number, user, name = one
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source()
        if whole is not None:
            source.whole = whole
        self._count += 1
        many = user != NOBODY and self._note(user, 1) > SHARE
        if many or user in source.own:
            source.add_own(seq, number, user)
        else:
            source.common.add(seq, number, user)

    def take(self, name: str, most: int, room_for: Callable[[int], int]) -> list[Unread]:
        """Take deliveries of a source out, no more than *most* unless they belong together.

        Args:
            name: the source; it is the last to have its turn again.
            most: how many are wanted.
            room_for: returns how many jobs a user may have now.
        """
        source = self._sources.pop(name)
        self._sources[name] = source
        taking = _Taking(self, name, source, room_for)
        taking.from_common(most // 2 if source.turns else most)
        taking.from_own(most)
        taking.from_common(most)
        source.went_on()
        if not source:
            del self._sources[name]
        return taking.taken

    def take_lowest(self, most: int) -> list[Unread]:
        """Take up to *most* deliveries of the user out whose flow holds the cursor back.

        None are taken where it is not one user's flow that does.
        """
        first = self.first()
        for name, source in self._sources.items():
            if source.first() != first:
                continue
            user = source.lowest()
            if user is None or source.gated(user):
                return []
            found: list[Unread] = []
            while user in source.own and len(found) < most:
                if self.older_elsewhere(user, source.own[user].first, source):
                    break
                found.append(self.take_own(name, source, user))
            return found
        return []

    def freed(self, user: int) -> None:
        """Note that the user may have more jobs than before."""
        for source in self._sources.values():
            if user in source.own:
                source.turns[user] = None

    def sweep(self) -> None:
        """Let every user have their turn again."""
        for source in self._sources.values():
            source.turns.update(dict.fromkeys(source.own))

    def evict(self, cursor: int) -> None:
        """Drop all deliveries at or before *cursor*, which the spool has given up."""
        for name, source in list(self._sources.items()):
            while source.common and source.common.first <= cursor:
                self.take_common(name, source)
            for user in list(source.own):
                while user in source.own and source.own[user].first <= cursor:
                    self.take_own(name, source, user)
            source.went_on()
            if not source:
                del self._sources[name]

    def take_common(self, name: str, source: _Source) -> Unread:
        """Take the first of a source's common flow out."""
        seq, number, user = source.common.pop()
        return self._took(Unread(seq, number, user, name))

    def take_own(self, name: str, source: _Source, user: int) -> Unread:
        """Take the first of a user's own flow out."""
        seq, number, _ = source.pop_own(user)
        return self._took(Unread(seq, number, user, name))

    def _took(self, one: Unread) -> Unread:
        self._count -= 1
        if one.user != NOBODY:
            self._note(one.user, -1)
            self.freed(one.user)
        if not self._count:
            self._filter = None
        return one

    def older_elsewhere(self, user: int, seq: int, source: _Source) -> bool:
        """Tell whether a source other than theirs has an earlier delivery than the user's at *seq*.

        That one is counted in the filter itself, so one alone there is certainly the first.
        """
        if user == NOBODY or len(self._sources) == 1 or self._counted(user) == 1:
            return False
        return any(one.older(user, seq) for one in self._sources.values() if one is not source)

    def _counted(self, user: int) -> int:
        return 0 if self._filter is None else self._filter[user % SLOTS]

    def _note(self, user: int, more: int) -> int:
        if self._filter is None:
            self._filter = array("H", bytes(2 * SLOTS))
        count = self._filter[user % SLOTS]
        if count < MANY:
            count = self._filter[user % SLOTS] = max(0, count + more)
        return count


class _Taking:
    """One turn of a source."""

    def __init__(
        self, index: UnreadIndex, name: str, source: _Source, room_for: Callable[[int], int]
    ) -> None:
        self.taken: list[Unread] = []
        self._index = index
        self._name = name
        self._source = source
        self._room_for = room_for
        self._of: Counter[int] = Counter()

    def _may(self, user: int, seq: int) -> bool:
        if user == NOBODY:
            return True
        if self._room_for(user) <= self._of[user] and not self._goes_with_last(user, seq):
            return False
        return not self._index.older_elsewhere(user, seq, self._source)

    def _goes_with_last(self, user: int, seq: int) -> bool:
        """Tell whether a delivery is of the same request and user as the one taken last."""
        if not (self._source.whole and self.taken):
            return False
        last = self.taken[-1]
        return last.seq == seq and last.user == user

    def _took(self, one: Unread) -> None:
        self.taken.append(one)
        if one.user != NOBODY:
            self._of[one.user] += 1

    def from_common(self, most: int) -> None:
        """Take what has no flow of its own; what may not go yet gets one."""
        source, common = self._source, self._source.common
        while common:
            user, seq = common.user, common.first
            if len(self.taken) >= most and not self._goes_with_last(user, seq):
                return
            if user in source.own or not self._may(user, seq):
                seq, number, user = common.pop()
                source.add_own(seq, number, user)
                continue
            self._took(self._index.take_common(self._name, source))

    def from_own(self, most: int) -> None:
        """Take what has a flow of its own, one user after the other."""
        source = self._source
        for user in list(source.turns):
            if len(self.taken) >= most:
                return
            del source.turns[user]
            while user in source.own and not source.gated(user):
                seq = source.own[user].first
                if not self._may(user, seq):
                    break
                if len(self.taken) >= most and not self._goes_with_last(user, seq):
                    source.turns[user] = None
                    return
                self._took(self._index.take_own(self._name, source, user))
