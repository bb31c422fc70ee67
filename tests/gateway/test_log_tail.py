"""The part of a backlog that is not indexed: its places, and whose deliveries it may have."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import log_tail
from gateway.delivery.log_tail import LogTail


@given(st.lists(st.tuples(st.sampled_from(["add", "read"]), st.integers(1, 5)), max_size=80))
def test_no_user_of_the_tail_is_missed(acts: list[tuple[str, int]]) -> None:
    """A user with a delivery in the tail is always found, however it grows and is read."""
    tail, left, last = LogTail(), [], 0
    for act, number in acts:
        if act == "add":
            last += number
            left.append((last, number))
            tail.add(last, number)
        elif left:
            read = left[min(number, len(left)) - 1][0]
            tail.advance(read)
            left = [one for one in left if one[0] > read]
        assert bool(tail) == bool(left)
        assert {user for _, user in left} <= {user for user in range(6) if tail.may_have(user)}
        if left:
            assert tail.after < left[0][0]
            assert tail.upto == left[-1][0]


def test_users_are_forgotten_with_their_places() -> None:
    """A user is forgotten once the tail is read, even if there is always more of it."""
    tail = LogTail()
    tail.add(1, 7)
    tail.add(2, 8)
    tail.advance(1)
    tail.add(3, 9)
    assert [user for user in (7, 8, 9) if tail.may_have(user)] == [7, 8, 9]
    tail.advance(3 - 1)
    tail.add(4, 10)
    tail.advance(3)
    tail.add(5, 11)
    assert [user for user in (7, 8, 9, 10, 11) if tail.may_have(user)] == [9, 10, 11]


def test_a_tail_of_any_length_costs_the_same_memory() -> None:
    """100,000 deliveries of as many users cost no more than two sets of users."""
    tail = LogTail()
    tracemalloc.start()
    try:
        for seq in range(1, 100_001):
            tail.add(seq, seq * 2_654_435_761 % 2**32)
            tail.advance(seq - 40_000)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2.1 * log_tail.BITS / 8


def test_a_million_users_leave_most_others_free() -> None:
    """With a million users in the tail, three of four others may still overtake it."""
    tail = LogTail()
    for number in range(1_000_000):
        tail.add(number + 1, number * 2_654_435_761 % 2**32)
    others = [(number * 2_654_435_761 + 12_345) % 2**32 for number in range(1_000)]
    assert sum(tail.may_have(user) for user in others) < 250
