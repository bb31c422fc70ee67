"""The index of the first of one destination's deliveries in the log that have no job yet.

They are grouped by source, and within a source by user if a user has many, so that the backlog of
one source or user does not delay others. A delivery costs 24 bytes, and no single step takes longer
when there are more.
"""

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

SHARE = 32
"""Most deliveries of one user in a source's common flow; further ones get the user's own flow."""
SLOTS = 1 << 14
"""Number of hash chains: users whose hashes have the same remainder share one."""
COMPACT = 4096
"""Removed places at the front of a flow at which its arrays are compacted."""
LOOKED = 500
"""Deliveries or users handled before other tasks of the event loop may run."""
NOBODY = 0
"""The hash of an unknown user; such events never wait for others."""


class Unread(NamedTuple):
    """One delivery in the log."""

    seq: int
    number: int
    """The number of the delivery in its request, as in `gateway.spool.Entry.targets`."""
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
        """Place up to which the common flow may still have deliveries of the user."""

    def __len__(self) -> int:
        return len(self._seqs) - self._head

    @property
    def first(self) -> int:
        """Return the seq of the first delivery; the flow must not be empty."""
        return self._seqs[self._head]

    @property
    def place(self) -> tuple[int, int]:
        """Return seq and number of the first delivery; the flow must not be empty."""
        return self._seqs[self._head], self._numbers[self._head]

    def add(self, seq: int, number: int) -> None:
        """Insert a delivery in the order of the log."""
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
        """Remove the first delivery; return its seq and number."""
        found = self.place
        self._move(self._head + 1)
        return found

    def skip(self, cursor: int) -> int:
        """Remove all deliveries at or before *cursor*; return their number."""
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
    """Deliveries of many users in the order of the log, with a hash index by user.

    Each delivery has the distance to the previous one of the same `SLOTS` chain, as in deflate
    (RFC 1951, section 4), and a search for a user follows the chain backwards. The chains need no
    update when the first deliveries are removed.
    """

    __slots__ = ("_back", "_gone", "_newest", "_users")

    def __init__(self) -> None:
        super().__init__()
        self._users = array("I")
        self._back = array("I")
        self._newest: dict[int, int] = {}
        """By chain, the index of the newest delivery, counted from the first ever added."""
        self._gone = 0
        """Number of deliveries removed from the arrays."""

    @property
    def last_place(self) -> tuple[int, int]:
        """Return seq and number of the last delivery; (0, 0) if there is none."""
        return (self._seqs[-1], self._numbers[-1]) if len(self) else (0, 0)

    @property
    def user(self) -> int:
        """Return the user of the first delivery."""
        return self._users[self._head]

    def append(self, seq: int, number: int, user: int) -> None:
        """Add a delivery after all others."""
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
        """Return the number of a user's deliveries, and the seq of the first."""
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
    """The deliveries of one source.

    A user in ``own`` has a separate flow, which gets all further deliveries of the user.
    """

    def __init__(self) -> None:
        self.whole = False
        self.common = Common()
        self.own: dict[int, Flow] = {}
        self.turns: dict[int, None] = {}
        """Users with an own flow that may have a delivery to take."""
        self._gated: list[tuple[tuple[int, int], int]] = []
        self._heads: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self.common or self.own)

    def first(self) -> int | None:
        """Return the lowest seq; None if there are no deliveries."""
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
        """Return the user whose own flow has the lowest seq of all; None if no own flow has it."""
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
        """Return whether a user has a delivery before *seq*."""
        first = self.first_of(user)
        return first is not None and first < seq

    def add(self, seq: int, number: int, user: int) -> None:
        """Add a delivery: to the common flow if it is the last and its user has few, else apart."""
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
        """Remove and return the first delivery of a user's own flow."""
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
        """Remove deliveries at or before *cursor*, of some users; return their number."""
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
        """Return whether the common flow may have earlier deliveries of a user.

        If so, the user gets a turn again once it has none (`went_on`).
        """
        flow = self.own[user]
        if flow.place <= flow.gate or not self.common or self.common.place > flow.gate:
            return False
        heapq.heappush(self._gated, (flow.gate, user))
        return True

    def went_on(self) -> None:
        """Give users a turn whose earlier deliveries have left the common flow."""
        place = self.common.place if self.common else None
        for _ in range(LOOKED):
            if not self._gated or (place is not None and self._gated[0][0] >= place):
                break
            user = heapq.heappop(self._gated)[1]
            if user in self.own:
                self.turns[user] = None


class UnreadIndex:
    """The first unread deliveries, and the choice of those that become jobs next.

    Deliveries of one user are taken in the order of the log, across all sources.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self.count = 0
        """Number of deliveries."""
        self.interrupted = False
        """Whether the last turn of a source ended at the limit of `LOOKED`."""

    def __len__(self) -> int:
        """Return the number of deliveries."""
        return self.count

    @property
    def sources(self) -> Sequence[str]:
        """Return the sources with deliveries, in the order of their turns."""
        return [name for name, source in self._sources.items() if source]

    def first(self) -> int | None:
        """Return the lowest seq; None if there are no deliveries."""
        if not self.count:
            return None
        firsts = (source.first() for source in self._sources.values())
        return min((first for first in firsts if first is not None), default=None)

    def holds(self, user: int) -> bool:
        """Return whether the user has a delivery."""
        return self.first_of(user) is not None

    def first_of(self, user: int) -> int | None:
        """Return the lowest seq of the user's deliveries."""
        if not self.count or user == NOBODY:
            return None
        firsts = (one.first_of(user) for one in self._sources.values())
        return min((first for first in firsts if first is not None), default=None)

    def add(self, one: Unread, *, whole: bool | None = None) -> None:
        """Add a delivery; it must come after all taken deliveries of its user.

        *whole* says whether the source's requests may be forwarded unchanged, which needs all
        deliveries of a request at once; None keeps the last value.
        """
        seq, number, user, name = one
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source()
        if whole is not None:
            source.whole = whole
        self.count += 1
        source.add(seq, number, user)

    def take(self, name: str, most: int, room_for: Callable[[int], int]) -> list[Unread]:
        """Remove and return deliveries of a source: at most *most*, unless they belong together.

        Args:
            name: the source; it becomes the last in the order of turns.
            most: number of deliveries wanted.
            room_for: returns how many more jobs a user may have now.
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
        """Remove and return up to *most* deliveries of the user whose own flow blocks the cursor.

        The result is empty if no user's own flow does.
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
        """Record that the user may have more jobs than before."""
        for source in self._sources.values():
            if user in source.own:
                source.turns[user] = None

    def sweep(self) -> None:
        """Give every user a turn again."""
        for source in self._sources.values():
            source.turns.update(dict.fromkeys(source.own))

    def evict(self, cursor: int) -> bool:
        """Remove deliveries at or before *cursor*, which the spool evicted.

        If they are of many users, one call removes only a part; return whether there are more.
        """
        for name, source in list(self._sources.items()):
            self.count -= source.evict(cursor)
            source.went_on()
            if not source:
                del self._sources[name]
        first = self.first()
        return first is not None and first <= cursor

    def take_common(self, name: str, source: _Source) -> Unread:
        """Remove and return the first delivery of a source's common flow."""
        user = source.common.user
        return self._took(Unread(*source.common.pop(), user, name))

    def take_own(self, name: str, source: _Source, user: int) -> Unread:
        """Remove and return the first delivery of a user's own flow."""
        return self._took(Unread(*source.pop_own(user), user, name))

    def _took(self, one: Unread) -> Unread:
        self.count -= 1
        if one.user != NOBODY:
            self.freed(one.user)
        return one

    def older_elsewhere(self, user: int, seq: int, source: _Source) -> bool:
        """Return whether another source has a delivery of the user before *seq*."""
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
        """Number of deliveries that may still be handled in this turn."""
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
        """Return whether a delivery has the same request and user as the last one taken."""
        if not (self._source.whole and self.taken):
            return False
        last = self.taken[-1]
        return last.seq == seq and last.user == user

    def _took(self, one: Unread) -> None:
        self.taken.append(one)
        if one.user != NOBODY:
            self._of[one.user] += 1

    def from_common(self, most: int) -> None:
        """Take deliveries of the common flow; those that may not be sent yet get an own flow."""
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
        """Take deliveries of the users' own flows, one user after the other."""
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
