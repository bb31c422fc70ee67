"""Which shards an entry goes to."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from gateway.http import Request
from gateway.spool import Entry, delivery_number, event_index
from gateway.spool.jetstream.routing import split_by_shard

SHARDS = 4


def made(users: tuple[int, ...], targets: Mapping[str, tuple[int, ...]], name: str = "r") -> Entry:
    """Return an entry."""
    return Entry(name, "shop", Request(method="POST", url="/"), targets, users=users)


@given(
    st.lists(st.sampled_from([0, *range(100, 108)]), min_size=1, max_size=8),
    st.dictionaries(st.sampled_from("ab"), st.sets(st.integers(0, 15), min_size=1), min_size=1),
)
def test_each_delivery_is_in_the_shard_of_its_user_and_nowhere_else(
    users: list[int], wanted: dict[str, set[int]]
) -> None:
    """All deliveries are in exactly one part, a user's in the user's shard, in their order."""
    targets = {
        name: tuple(sorted(delivery_number(n % len(users), n // len(users)) for n in some))
        for name, some in wanted.items()
    }
    entry = made(tuple(users), targets)
    parts = split_by_shard(entry, SHARDS)
    found: dict[str, list[int]] = {name: [] for name in targets}
    for shard, part in parts.items():
        assert part.targets
        for name, numbers in part.targets.items():
            assert list(numbers) == sorted(numbers)
            found[name] += numbers
            for number in numbers:
                user = users[event_index(number)]
                assert not user or user % SHARDS == shard
    assert {name: tuple(sorted(numbers)) for name, numbers in found.items()} == targets


def test_requests_without_users_are_spread() -> None:
    """A request without a user goes to the shard of its id, whole."""
    for users in ((), (0,), (0, 0)):
        found = [split_by_shard(made(users, {"a": (0,)}, f"r{n}"), SHARDS) for n in range(100)]
        assert all(len(parts) == 1 for parts in found)
        assert {shard for parts in found for shard in parts} == set(range(SHARDS))
        assert found[0] == split_by_shard(made(users, {"a": (0,)}, "r0"), SHARDS)
