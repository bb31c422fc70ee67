"""The index of unread deliveries: fair turns, order per user, and no losses."""

from collections import Counter, deque
from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.unread import LOOKED, SHARE, Unread, UnreadIndex

FREE = 10**6


def fill(index: UnreadIndex, deliveries: list[tuple[int, str]]) -> list[Unread]:
    """Add one delivery per user and source, in the order of the log."""
    made = [Unread(seq, 0, user, source) for seq, (user, source) in enumerate(deliveries, 1)]
    for one in made:
        index.add(one)
    return made


def turn(index: UnreadIndex, most: int = 10, room: int = FREE) -> list[Unread]:
    """Take deliveries from each source in turn."""
    return [x for source in index.sources for x in index.take(source, most, lambda _: room)]


def test_a_source_alone_is_read_in_the_order_of_the_log() -> None:
    """Without large backlogs, deliveries are taken in the order of the log."""
    index = UnreadIndex()
    made = fill(index, [(n, "a") for n in range(1, 101)])
    assert index.first() == 1
    assert [one for _ in range(10) for one in turn(index)] == made
    assert (len(index), index.first(), list(index.sources)) == (0, None, [])


def test_a_backlog_of_one_user_delays_no_other() -> None:
    """An event after 100,000 events of one other user is taken in the first turns."""
    index = UnreadIndex()
    fill(index, [(7, "a")] * 100_000 + [(8, "a")])
    first = turn(index, most=2 * SHARE + 2, room=SHARE)
    assert 8 in [one.user for one in first]
    assert index.first() is not None


def test_a_backlog_of_one_source_delays_no_other() -> None:
    """An event after 100,000 events of another source is taken in the first turn."""
    index = UnreadIndex()
    fill(index, [(n + 10, "a") for n in range(100_000)] + [(1, "b")])
    assert "b" in [one.source for one in turn(index)]


def test_a_user_at_the_limit_is_skipped() -> None:
    """A user with too many jobs is skipped until some of them finish."""
    index = UnreadIndex()
    fill(index, [(1, "a"), (1, "a"), (2, "a")])
    rooms = Counter({1: 0, 2: 5})
    assert [x.user for x in index.take("a", 10, rooms.__getitem__)] == [2]
    assert index.take("a", 10, rooms.__getitem__) == []
    rooms[1] = 5
    index.freed(1)
    assert [x.seq for x in index.take("a", 10, rooms.__getitem__)] == [1, 2]


def test_a_users_events_keep_their_order_over_sources() -> None:
    """A user's events keep their order across sources."""
    index = UnreadIndex()
    fill(index, [(n + 10, "a") for n in range(50)] + [(1, "a"), (1, "b"), (2, "b")])
    first = turn(index, most=10)
    assert [one.user for one in first if one.source == "b"] == [2]
    order = [one.seq for _ in range(10) for one in turn(index, most=10) if one.user == 1]
    assert order == [51, 52]


def test_take_lowest_takes_from_a_large_backlog_only() -> None:
    """``take_lowest`` takes the oldest deliveries only from a user with a large backlog."""
    index = UnreadIndex()
    made = fill(index, [(7, "a")] * (SHARE + 10))
    assert index.take_lowest(5) == []
    assert index.take("a", 3, lambda _: FREE) == made[:3]
    assert index.take_lowest(5) == made[3:8]
    assert index.first() == made[8].seq


def test_evicted_deliveries_are_removed() -> None:
    """Evicted deliveries are removed from all queues of the index."""
    index = UnreadIndex()
    fill(index, [(1, "a")] * 50 + [(n, "b") for n in range(2, 52)])
    index.evict(75)
    assert (len(index), index.first()) == (25, 76)
    assert not index.holds(1)


def test_a_request_that_may_be_forwarded_is_taken_whole() -> None:
    """Deliveries of a request that may be forwarded are taken together, beyond the share."""
    index = UnreadIndex()
    for number in range(100):
        index.add(Unread(1, number, 5, "a"), whole=True)
    index.add(Unread(2, 0, 5, "a"), whole=True)
    assert len(index.take("a", 10, lambda _: 10)) == 100


class Reading:
    """An index, the deliveries added to it, and those taken, with limits per user."""

    def __init__(self) -> None:
        self.index = UnreadIndex()
        self.added: list[Unread] = []
        self.taken: list[Unread] = []
        self.evicted = 0
        self._jobs: Counter[int] = Counter()

    def add(self, user: int, source: str, events: int = 1) -> None:
        """Add a request with some events of the user."""
        seq = self.added[-1].seq + 1 if self.added else 1
        for number in range(events):
            self.added.append(Unread(seq, number, user, source))
            self.index.add(self.added[-1])

    def take(self) -> None:
        """Take deliveries from each source in turn."""
        for source in self.index.sources:
            for one in self.index.take(source, 5, lambda user: 2 - self._jobs[user]):
                self._jobs[one.user] += 1
                self.taken.append(one)

    def free(self, user: int) -> None:
        """Finish all jobs of a user."""
        self._jobs[user] = 0
        self.index.freed(user)

    def evict(self) -> None:
        """Evict the older half, once."""
        if self.added and not self.evicted:
            self.evicted = self.added[len(self.added) // 2].seq
            while self.index.evict(self.evicted):
                pass


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from("abc"), st.sampled_from([1, 3, 40])),
        max_size=60,
    ),
    st.lists(st.sampled_from(["take", "add", "free 1", "free 2", "free 3", "evict"]), max_size=60),
)
def test_nothing_is_lost_and_no_user_is_overtaken(
    requests: list[tuple[int, str, int]], acts: list[str]
) -> None:
    """Every delivery is taken once and in its user's order, under any limits."""
    reading, coming = Reading(), deque(requests)
    for act in acts:
        what, _, user = act.partition(" ")
        for _ in range(min(10, len(coming)) if what == "add" else 0):
            reading.add(*coming.popleft())
        {"take": reading.take, "evict": reading.evict}.get(what, lambda: None)()
        if user:
            reading.free(int(user))
    for one in coming:
        reading.add(*one)
    while before := len(reading.index):
        for known in range(5):
            reading.free(known)
        reading.take()
        assert len(reading.index) < before
    taken = reading.taken
    assert len(taken) == len(set(taken))
    assert set(taken) >= {one for one in reading.added if one.seq > reading.evicted}
    for known in range(1, 5):
        places = [(one.seq, one.number) for one in taken if one.user == known]
        assert places == sorted(places)
    assert reading.index.first() is None


def test_deliveries_added_again_keep_their_order() -> None:
    """Deliveries that are added again come before their users' later ones."""
    index = UnreadIndex()
    made = fill(index, [(n % 7, "a") for n in range(70)])
    taken = turn(index)
    for one in reversed(taken):
        index.add(one)
    found: list[Unread] = []
    while index:
        found += turn(index)
        index.sweep()
    assert sorted(found) == made
    for user in range(1, 7):
        assert [one for one in found if one.user == user] == [x for x in made if x.user == user]


def test_finding_a_users_deliveries_takes_constant_time() -> None:
    """Finding a user's deliveries among 100,000 takes constant time."""
    index = UnreadIndex()
    fill(index, [(n * 2_654_435_761 % 2**32, "a") for n in range(1, 100_001)])
    began = process_time()
    assert not any(index.holds(n * 40_503 % 2**32 | 1 << 40) for n in range(1, 2001))
    assert index.first_of(100_000 * 2_654_435_761 % 2**32) == 100_000
    assert process_time() - began < 0.25


def test_a_large_eviction_runs_in_steps() -> None:
    """A large eviction runs in short steps."""
    index = UnreadIndex()
    fill(index, [(n % 2000 + 1, "a") for n in range(2000 * (SHARE + 2))])
    steps, longest, more = 0, 0.0, True
    while more:
        began = process_time()
        more = index.evict(2000 * (SHARE + 2))
        longest = max(longest, process_time() - began)
        steps += 1
    assert steps >= 2000 // LOOKED
    assert longest < 0.02
    assert (len(index), index.first()) == (0, None)


def test_a_search_without_result_is_bounded() -> None:
    """A turn that finds nothing stops after a bounded search, and continues later."""
    index = UnreadIndex()
    users = range(1, 4 * LOOKED)
    fill(index, [(user, source) for source in "ab" for user in users])
    assert index.take("b", 10, lambda _: FREE) == []
    assert index.interrupted
    assert len(index.take("a", 10 * LOOKED, lambda _: FREE)) == LOOKED
    found = [one for _ in range(40) for one in turn(index, most=LOOKED) if one.source == "b"]
    index.sweep()
    found += [one for _ in range(40) for one in turn(index, most=LOOKED) if one.source == "b"]
    assert sorted(one.user for one in found) == list(users)


def test_a_request_of_many_events_of_one_user_keeps_their_order() -> None:
    """Events of one user in one request keep their order under a small limit."""
    index = UnreadIndex()
    made = [Unread(1, number, 7, "a") for number in range(4 * SHARE)]
    for one in made:
        index.add(one)
    found: list[Unread] = []
    while index:
        found += turn(index, most=8, room=SHARE // 4)
        index.freed(7)
    assert found == made


def test_other_sources_backlogs_are_searched_for_older_deliveries_only() -> None:
    """With long backlogs of two sources, a turn does not search all of the other one."""
    index = UnreadIndex()
    users = [n * 2_654_435_761 % 2**32 for n in range(1, 400_001)]
    fill(index, [(user, "ab"[n % 2]) for n, user in enumerate(users)])
    began = process_time()
    assert sum(len(turn(index, most=100)) for _ in range(20)) == 4000
    assert process_time() - began < 1
