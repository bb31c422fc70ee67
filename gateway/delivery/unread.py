"""Which deliveries of one destination stand in the log and have no job yet.

They are kept by source, and within a source by user where one has many, so that neither a
source's backlog nor a user's stands before anybody else's events. A delivery costs 24 bytes here,
and nothing that is done at once takes longer the more there are.
"""

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

SHARE = 32
"""Deliveries of one user that lie among a source's others; more of them are kept apart."""
SLOTS = 1 << 16
"""Users whose hashes have the same remainder by this are told apart one after the other."""
COMPACT = 4096
"""Taken places at the front of a flow that are worth giving back."""
LOOKED = 500
"""Deliveries, or users, that are looked at before others have their turn on the event loop."""
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
    """One user's deliveries in the order of the log."""

    __slots__ = ("_head", "_numbers", "_seqs", "gate")

    def __init__(self, gate: tuple[int, int] = (0, 0)) -> None:
        self._seqs = array("Q")
        self._numbers = array("Q")
        self._head = 0
        self.gate = gate
        """Their deliveries up to here may still be among the others."""

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

    def add(self, seq: int, number: int) -> None:
        """Take a delivery, wherever it belongs in the order of the log."""
        if not len(self) or (seq, number) > (self._seqs[-1], self._numbers[-1]):
            self._seqs.append(seq)
            self._numbers.append(number)
            return
        at = bisect_left(self._seqs, seq, self._head)
        while at < len(self._seqs) and (self._seqs[at], self._numbers[at]) < (seq, number):
            at += 1
        self._seqs.insert(at, seq)
        self._numbers.insert(at, number)

    def pop(self) -> tuple[int, int]:
        """Take the first one out: its seq and its number."""
        found = self.place
        self._move(self._head + 1)
        return found

    def skip(self, cursor: int) -> int:
        """Drop all at or before *cursor*; return how many these were."""
        before = self._head
        after = bisect_right(self._seqs, cursor, before)
        self._move(after)
        return after - before

    def _move(self, head: int) -> None:
        self._head = head
        if head > COMPACT and 2 * head > len(self._seqs):
            self._compact()

    def _compact(self) -> None:
        del self._seqs[: self._head], self._numbers[: self._head]
        self._head = 0


class Common(Flow):
    """Many users' deliveries in the order of the log; a user's are found without a search.

    Each knows how far before it the last one is whose user has the same remainder by `SLOTS`, as
    the hash chains of deflate do: whoever looks for a user's goes back along these. Nothing has to
    be done to them when the first ones are taken out.
    """

    __slots__ = ("_back", "_gone", "_newest", "_users")

    def __init__(self) -> None:
        super().__init__()
        self._users = array("I")
        self._back = array("I")
        self._newest: dict[int, int] = {}
        """By remainder, the place of the newest delivery, counted from the very first."""
        self._gone = 0
        """Deliveries that were here before the first of the arrays."""

    @property
    def last_place(self) -> tuple[int, int]:
        """Return the last one's seq and number, (0, 0) where there is none."""
        return (self._seqs[-1], self._numbers[-1]) if len(self) else (0, 0)

    @property
    def user(self) -> int:
        """Return the first one's user."""
        return self._users[self._head]

    def append(self, seq: int, number: int, user: int) -> None:
        """Take a delivery that comes after all others."""
        back = 0
        if user != NOBODY:
            here, slot = self._gone + len(self._seqs), user % SLOTS
            back = here - self._newest.get(slot, here)
            self._newest[slot] = here
        self._seqs.append(seq)
        self._numbers.append(number)
        self._users.append(user)
        self._back.append(back)

    def find(self, user: int) -> tuple[int, int | None]:
        """Return how many deliveries of a user there are, and the first one's seq."""
        count, first = 0, None
        at = self._newest.get(user % SLOTS, -1) - self._gone
        while at >= self._head:
            if self._users[at] == user:
                count, first = count + 1, at
            back = self._back[at]
            if not back:
                break
            at -= back
        return count, None if first is None else self._seqs[first]

    def _compact(self) -> None:
        del self._users[: self._head], self._back[: self._head]
        self._gone += self._head
        super()._compact()


class _Source:
    """One source's deliveries.

    A user in ``own`` has a flow of their own, to which everything further of theirs is added.
    """

    def __init__(self) -> None:
        self.whole = False
        self.common = Common()
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
        _, first = self.common.find(user)
        own = self.own.get(user)
        if own is None or (first is not None and first < own.first):
            return first
        return own.first

    def older(self, user: int, seq: int) -> bool:
        """Tell whether a user has a delivery before *seq*."""
        first = self.first_of(user)
        return first is not None and first < seq

    def add(self, seq: int, number: int, user: int) -> None:
        """Add a delivery: among the others, as long as it is their last and its user has few."""
        late = (seq, number) < self.common.last_place
        if late or user in self.own or self.common.find(user)[0] >= SHARE:
            self.add_own(seq, number, user)
        else:
            self.common.append(seq, number, user)

    def add_own(self, seq: int, number: int, user: int) -> None:
        """Add a delivery to its user's own flow."""
        flow = self.own.get(user)
        if flow is None:
            flow = self.own[user] = Flow(self.common.last_place)
            self.turns[user] = None
        flow.add(seq, number)
        if flow.first == seq:
            heapq.heappush(self._heads, (seq, user))

    def pop_own(self, user: int) -> tuple[int, int]:
        """Take the first delivery out of a user's own flow."""
        found = self.own[user].pop()
        self._moved(user)
        return found

    def _moved(self, user: int) -> None:
        if flow := self.own[user]:
            heapq.heappush(self._heads, (flow.first, user))
        else:
            del self.own[user]
            self.turns.pop(user, None)

    def evict(self, cursor: int) -> int:
        """Drop deliveries at or before *cursor*, of some users; return how many these were."""
        count, heads = self.common.skip(cursor), self._heads
        for _ in range(LOOKED):
            if not heads or heads[0][0] > cursor:
                break
            first, user = heapq.heappop(heads)
            flow = self.own.get(user)
            if flow is not None and flow.first == first:
                count += flow.skip(cursor)
                self._moved(user)
        return count

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
        for _ in range(LOOKED):
            if not self._gated or (place is not None and self._gated[0][0] >= place):
                break
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
        self.interrupted = False
        """The last turn of a source ended because enough was looked at, whatever it found."""

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
        if not self._count or user == NOBODY:
            return None
        firsts = (one.first_of(user) for one in self._sources.values())
        return min((first for first in firsts if first is not None), default=None)

    def add(self, one: Unread, *, whole: bool | None = None) -> None:
        """Take a delivery, which comes after all of its user's that were taken out.

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
        source.add(seq, number, user)

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
        self.interrupted = taking.looks <= 0
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

    def evict(self, cursor: int) -> bool:
        """Drop deliveries at or before *cursor*, which the spool has given up.

        It is not done at once where these are many users': tell whether there are more.
        """
        for name, source in list(self._sources.items()):
            self._count -= source.evict(cursor)
            source.went_on()
            if not source:
                del self._sources[name]
        first = self.first()
        return first is not None and first <= cursor

    def take_common(self, name: str, source: _Source) -> Unread:
        """Take the first of a source's common flow out."""
        user = source.common.user
        return self._took(Unread(*source.common.pop(), user, name))

    def take_own(self, name: str, source: _Source, user: int) -> Unread:
        """Take the first of a user's own flow out."""
        return self._took(Unread(*source.pop_own(user), user, name))

    def _took(self, one: Unread) -> Unread:
        self._count -= 1
        if one.user != NOBODY:
            self.freed(one.user)
        return one

    def older_elsewhere(self, user: int, seq: int, source: _Source) -> bool:
        """Tell whether a source other than theirs has a delivery of the user before *seq*."""
        if user == NOBODY:
            return False
        return any(one.older(user, seq) for one in self._sources.values() if one is not source)


class _Taking:
    """One turn of a source."""

    def __init__(
        self, index: UnreadIndex, name: str, source: _Source, room_for: Callable[[int], int]
    ) -> None:
        self.taken: list[Unread] = []
        self.looks = LOOKED
        """How many more deliveries may be looked at."""
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
            together = self._goes_with_last(user, seq)
            if not together and (len(self.taken) >= most or self.looks <= 0):
                return
            self.looks -= 1
            if user in source.own or not self._may(user, seq):
                source.add_own(*common.pop(), user)
                continue
            self._took(self._index.take_common(self._name, source))

    def from_own(self, most: int) -> None:
        """Take what has a flow of its own, one user after the other."""
        source = self._source
        for user in list(islice(source.turns, LOOKED)):
            if len(self.taken) >= most or self.looks <= 0:
                return
            self.looks -= 1
            del source.turns[user]
            while user in source.own and not source.gated(user):
                seq = source.own[user].first
                if not self._may(user, seq):
                    break
                if len(self.taken) >= most and not self._goes_with_last(user, seq):
                    return
                self._took(self._index.take_own(self._name, source, user))
