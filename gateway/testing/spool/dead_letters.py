"""The contract of dead letters: find, delete and replay them."""

from pathlib import Path

import pytest

from gateway.errors import SpoolError
from gateway.spool import (
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLettersReplayed,
    DeliveryRef,
    Progress,
    SpoolLimits,
)
from gateway.testing.spool.contract import (
    FREE,
    ManualClock,
    Notices,
    Places,
    ShardSpool,
    SpoolContract,
    entry,
    eventually,
    failed,
    pending,
)

EVER = 1e12


async def die(spool: ShardSpool, at: Places, destination: str, *letters: tuple[int, int]) -> None:
    """Turn some deliveries into dead letters, and move the cursor past everything.

    *letters* has the number of the entry and of the delivery.
    """
    dead = [failed(at[number], index, user=f"u{number}") for number, index in letters]
    await spool.settle(destination, Progress(cursor=spool.position(), dead=dead))


class DeadLettersSuite(SpoolContract):
    """Dead letters."""

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (DeadLetterFilter(), [1, 2, 3]),
            (DeadLetterFilter(destination="b"), [3]),
            (DeadLetterFilter(destination="c"), []),
            (DeadLetterFilter(reason="NO SUCH"), [1]),
            (DeadLetterFilter(reason="100%"), [2]),
            (DeadLetterFilter(since=20.0), [2, 3]),
            (DeadLetterFilter(until=20.0), [1]),
            (DeadLetterFilter(since=20.0, until=30.0), [2]),
            (DeadLetterFilter(event_name="Cart Viewed"), [2]),
            (DeadLetterFilter(user="u3"), [3]),
            (DeadLetterFilter(cause="unrenderable"), [2]),
            (DeadLetterFilter(request="r2"), [2]),
            (DeadLetterFilter(request="r4"), []),
            (DeadLetterFilter(request="r3", destination="a"), []),
            (DeadLetterFilter(destination="a", user="u3"), []),
        ],
    )
    async def test_filters(
        self, spool: ShardSpool, which: DeadLetterFilter, expected: list[int]
    ) -> None:
        """Each filter selects by its field; several are combined with "and"."""
        at = Places(spool)
        for name in ("r1", "r2", "r3"):
            await spool.append(entry(name, a=(0,), b=(0,)))
        first = failed(at[1], at=10.0, user="u1", reason="HTTP 400: no such shop")
        second = failed(
            at[2],
            at=20.0,
            user="u2",
            reason="100% odd",
            event_name="Cart Viewed",
            cause="unrenderable",
        )
        third = failed(at[3], at=30.0, user="u3", reason="HTTP 413")
        await spool.settle("a", Progress(cursor=at[3], dead=[first, second]))
        await spool.settle("b", Progress(cursor=at[3], dead=[third]))
        assert [dead.mark.seq for dead in await spool.dead_letters(which)] == [
            at[number] for number in expected
        ]

    async def test_groups_are_of_one_reason_pattern(self, spool: ShardSpool) -> None:
        """Reasons that differ only in numbers are one group per destination, the largest first."""
        at = Places(spool)
        for name in ("r1", "r2", "r3", "r4"):
            await spool.append(entry(name, a=(0,), b=(0,)))
        dead = [
            failed(at[1], at=10.0, reason="HTTP 400: no item 7"),
            failed(at[2], at=20.0, reason="HTTP 400: no item 12"),
            failed(at[3], at=30.0, reason="HTTP 400: no shop"),
            failed(at[4], at=40.0, reason="HTTP 400: no item 8", cause="expired"),
        ]
        await spool.settle("a", Progress(cursor=at[4], dead=dead))
        await spool.settle(
            "b", Progress(cursor=at[4], dead=[failed(at[1], reason="HTTP 400: no item 9")])
        )
        first, *rest = await spool.letter_groups()
        newest = (await spool.dead_letters())[1].id
        assert first == DeadLetterGroup(
            "a", "refused", "HTTP #: no item #", "HTTP 400: no item 7", 2, 10.0, 20.0, newest
        )
        assert [(group.destination, group.reason_pattern, group.count) for group in rest] == [
            ("b", "HTTP #: no item #", 1),
            ("a", "HTTP #: no item #", 1),
            ("a", "HTTP #: no shop", 1),
        ]
        assert await spool.letter_groups(DeadLetterFilter(cause="refused"), limit=1) == [first]
        found = await spool.dead_letters(
            DeadLetterFilter(reason_pattern=first.reason_pattern, destination="a")
        )
        assert [dead.mark.seq for dead in found] == [at[1], at[2], at[4]]

    async def test_listing_goes_page_by_page(self, spool: ShardSpool) -> None:
        """A page continues after the last id of the previous one."""
        at = Places(spool)
        for i in range(5):
            await spool.append(entry(f"r{i}", a=(0,)))
        await die(spool, at, "a", *[(number, 0) for number in range(1, 6)])
        page = await spool.dead_letters(limit=2)
        rest = await spool.dead_letters(after=page[-1].id, limit=99)
        assert [dead.mark.seq for dead in page + rest] == at(1, 5)

    async def test_one_dead_letter_by_id(self, spool: ShardSpool) -> None:
        """A dead letter is found by its id; an unknown id finds nothing."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await die(spool, at, "a", (1, 0))
        (dead,) = await spool.dead_letters()
        assert await spool.dead_letter(dead.id) == dead
        assert await spool.dead_letter(dead.id + 1) is None

    async def test_dead_letter_outlives_its_log_row(self, spool: ShardSpool) -> None:
        """A dead letter is complete after the log was trimmed."""
        at = Places(spool)
        sent = entry("r1", body=b"x" * 10_000, a=(0, 1))
        await spool.append(sent)
        await spool.append(entry("r2", a=(0,)))
        await die(spool, at, "a", (1, 0), (1, 1))

        async def trimmed() -> bool:
            return await spool.entries([at[1]]) == []

        await eventually(trimmed)
        assert [dead.entry for dead in await spool.dead_letters()] == [sent, sent]

    async def test_drop_by_ids_and_by_filter(self, spool: ShardSpool) -> None:
        """Deleting removes exactly the selected dead letters and returns their number."""
        at = Places(spool)
        for i in range(5):
            await spool.append(entry(f"r{i}", a=(0,)))
        await die(spool, at, "a", *[(number, 0) for number in range(1, 6)])
        ids = [dead.id for dead in await spool.dead_letters()]
        assert await spool.delete_dead_letters([ids[0], ids[2], 999]) == 2
        assert await spool.delete_dead_letters(DeadLetterFilter(user="u2")) == 1
        assert [dead.mark.seq for dead in await spool.dead_letters()] == [at[4], at[5]]
        assert await spool.delete_dead_letters(DeadLetterFilter()) == 2
        assert await spool.delete_dead_letters(DeadLetterFilter()) == 0

    async def test_dead_letters_of_one_request_are_settled_one_by_one(
        self, spool: ShardSpool
    ) -> None:
        """Deleting one event's dead letter does not affect another one of its request."""
        at = Places(spool)
        sent = entry("r1", a=(0, 1))
        await spool.append(sent)
        await die(spool, at, "a", (1, 0), (1, 1))
        first, second = await spool.dead_letters()
        await spool.delete_dead_letters([first.id])
        assert await spool.dead_letter(second.id) == second

    async def test_replay_appends_a_fresh_entry(
        self, spool: ShardSpool, clock: ManualClock
    ) -> None:
        """Replayed dead letters of a request become one entry, for their destination only."""
        at = Places(spool)
        sent = entry("r1", a=(0, 1, 2), b=(0,))
        await spool.append(sent)
        await die(spool, at, "b")
        await die(spool, at, "a", (1, 0), (1, 2))
        notices = Notices(spool)
        assert await spool.replay_dead_letters(DeadLetterFilter(destination="a")) == 2
        assert await notices.next() == DeadLettersReplayed("a")
        assert await spool.dead_letters() == []
        place = spool.position()
        assert place > at[1]
        (item,) = await spool.entries([place])
        assert (item.entry.id, item.entry.source) == (sent.id, sent.source)
        assert (item.entry.request, item.entry.targets) == (sent.request, {"a": (0, 2)})
        waiting = await spool.retrying("a", clock.now, 10)
        assert [one.mark for one in waiting] == [DeliveryRef(place, 0), DeliveryRef(place, 2)]
        assert {(w.user, w.event_name, w.attempts) for w in waiting} == {
            ("u1", "Product Viewed", ())
        }
        assert "no such shop" in waiting[0].reason
        assert await pending(spool, "a") == []
        found = await spool.pending("r1")
        assert found is not None
        assert [found.waits["a", 0], found.waits["a", 2]] == waiting

    async def test_dead_letters_are_found_by_their_request(self, spool: ShardSpool) -> None:
        """All dead letters of a request are found, each once, even after a replay that failed."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0, 1), b=(0,)))
        await spool.append(entry("r2", a=(0,)))
        await die(spool, at, "a", (1, 0), (1, 1), (2, 0))
        await die(spool, at, "b", (1, 0))
        which = DeadLetterFilter(request="r1")
        assert len(await spool.dead_letters(which)) == 3
        assert sum(group.count for group in await spool.letter_groups(which)) == 3
        second = await spool.dead_letters(DeadLetterFilter(request="r1", event=1))
        assert [dead.mark for dead in second] == [DeliveryRef(at[1], 1)]
        assert await spool.replay_dead_letters(DeadLetterFilter(request="r1", destination="a")) == 2
        assert [dead.destination for dead in await spool.dead_letters(which)] == ["b"]
        again = spool.position()
        await spool.settle("a", Progress(done=[DeliveryRef(again, 1)], dead=[failed(again)]))
        found = await spool.dead_letters(which)
        assert [(dead.destination, dead.mark) for dead in found] == [
            ("b", DeliveryRef(at[1], 0)), ("a", DeliveryRef(again, 0)),
        ]  # fmt: skip
        assert await spool.delete_dead_letters(which) == 2
        assert [dead.entry.id for dead in await spool.dead_letters()] == ["r2"]

    async def test_replay_by_ids(self, spool: ShardSpool) -> None:
        """Replaying by ids affects only these."""
        at = Places(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)))
        await die(spool, at, "a", (1, 0), (2, 0), (3, 0))
        ids = [dead.id for dead in await spool.dead_letters()]
        assert await spool.replay_dead_letters([ids[1], 999]) == 1
        assert [dead.id for dead in await spool.dead_letters()] == [ids[0], ids[2]]
        (item,) = await spool.entries([spool.position()])
        assert item.entry.id == "r1"

    async def test_replay_of_many(self, spool: ShardSpool) -> None:
        """Any number of dead letters can be replayed or deleted."""
        at = Places(spool)
        for i in range(450):
            await spool.append(entry(f"r{i}", a=(0,)))
        await die(spool, at, "a", *[(number, 0) for number in range(1, 451)])
        assert await spool.replay_dead_letters(DeadLetterFilter()) == 450
        assert (await spool.depths())["a"].retrying == 450
        waiting = await spool.retrying("a", EVER, 999)
        again = [failed(one.mark.seq) for one in waiting]
        await spool.settle("a", Progress(dead=again))
        assert await spool.delete_dead_letters(DeadLetterFilter()) == 450

    async def test_replayed_ends_like_any_other(self, spool: ShardSpool) -> None:
        """A replayed delivery can succeed or fail again; then its entry leaves the log."""
        at = Places(spool)
        for i in range(2):
            await spool.append(entry(f"r{i}", a=(0,)))
        await die(spool, at, "a", (1, 0), (2, 0))
        await spool.replay_dead_letters(DeadLetterFilter())
        third, fourth = [one.mark for one in await spool.retrying("a", EVER, 9)]
        await spool.append(entry("r9", a=(0,)))
        await spool.settle("a", Progress(cursor=at[3], done=[third], dead=[failed(fourth.seq)]))
        assert [dead.mark for dead in await spool.dead_letters()] == [fourth]

        async def trimmed() -> bool:
            return await spool.entries([*at(1, 2), third.seq, fourth.seq]) == []

        await eventually(trimmed)

    async def test_replay_survives_a_crash(
        self, spool: ShardSpool, tmp_path: Path, clock: ManualClock
    ) -> None:
        """A replayed delivery is pending after a crash, even if a cursor has passed it."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await die(spool, at, "a", (1, 0))
        await spool.replay_dead_letters(DeadLetterFilter())
        place = spool.position()
        await spool.append(entry("r2", a=(0,)))
        await spool.settle("a", Progress(cursor=at[2]))
        again = await self.after_crash(spool, tmp_path, SpoolLimits(), clock)
        await again.open()
        try:
            await again.register({"a": FREE, "b": FREE})
            waiting = await again.retrying("a", EVER, 10)
            assert [one.mark for one in waiting] == [DeliveryRef(place, 0)]
            assert [item.entry.id for item in await again.entries([place])] == ["r1"]
        finally:
            await again.close()

    async def test_replay_needs_a_known_destination(self, spool: ShardSpool) -> None:
        """A replay for a removed destination is rejected, and nothing is replayed."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,), b=(0,)))
        await die(spool, at, "a", (1, 0))
        await die(spool, at, "b", (1, 0))
        await spool.register({"a": FREE})
        await spool.forget("b")
        with pytest.raises(SpoolError, match="'b'"):
            await spool.replay_dead_letters(DeadLetterFilter())
        assert len(await spool.dead_letters()) == 2
        assert await spool.retrying("a", EVER, 10) == []
