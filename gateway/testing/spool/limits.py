"""The contract of limits: backlog, bytes and age."""

import asyncio
from typing import Literal

import pytest

from gateway.spool import (
    BacklogLimit,
    DeadLetterFilter,
    DeadLettersReplayed,
    DeliveryRef,
    Evicted,
    GivenUp,
    Progress,
    SpoolFull,
    SpoolLimits,
)
from gateway.testing.spool.contract import (
    FREE,
    TRY,
    ManualClock,
    Notices,
    Places,
    ShardSpool,
    SpoolContract,
    SpoolFactory,
    append,
    entry,
    eventually,
    failed,
    follow,
    later,
    pending,
)

EVER = 1e12
DAY = 86_400.0


async def fill(spool: ShardSpool, *, dead: bool = False) -> None:
    """Append entries of about 10 kB without end; turn them into dead letters if asked."""
    while True:
        seq = await append(spool, entry("r", body=b"x" * 10_000, a=(0,)))
        if dead:
            await spool.settle("a", Progress(cursor=seq, dead=[failed(seq)]))


class LimitsSuite(SpoolContract):
    """Behaviour at the limits."""

    async def test_full_backlog_refuses(self, opened: SpoolFactory) -> None:
        """At ``max_backlog`` an append for that destination is rejected, with a time to wait."""
        spool = await opened(a=BacklogLimit(max_backlog=2))
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.append(entry("r2", a=(0,), b=(0,)))
        with pytest.raises(SpoolFull, match="'a'") as caught:
            await spool.append(entry("r3", a=(0,)))
        assert caught.value.retry_after > 0
        assert await spool.pending("r3") is None
        assert "max_backlog" in spool.refusing()["a"]
        assert await append(spool, entry("r4", b=(0,))) == at[3]
        await spool.settle("a", Progress(cursor=at[1]))
        assert await append(spool, entry("r5", a=(0,))) == at[4]

    async def test_a_full_destination_holds_up_no_other(self, opened: SpoolFactory) -> None:
        """Other destinations get an entry; for the full one it becomes dead letters."""
        spool = await opened(a=BacklogLimit(max_backlog=1))
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        told = follow(spool)
        assert await append(spool, entry("r2", a=(0, 1), b=(1,))) == at[2]
        assert [dict(item.entry.targets) for item in told] == [{"b": (1,)}]
        assert [item.entry.id for item in await pending(spool, "a")] == ["r1"]
        assert [item.entry.id for item in await pending(spool, "b")] == ["r2"]
        letters = await spool.dead_letters()
        assert [(x.destination, x.mark, x.cause) for x in letters] == [
            ("a", DeliveryRef(at[2], 0), "overflow"),
            ("a", DeliveryRef(at[2], 1), "overflow"),
        ]
        assert "max_backlog" in letters[0].reason
        assert letters[0].entry.request.body
        assert spool.given_up()["a"] == GivenUp(dead=2)
        assert (await spool.balances())["a"].unaccounted == 0
        assert list(spool.refusing()) == ["a"]
        assert spool.health() is None
        await spool.settle("a", Progress(cursor=at[1]))
        assert spool.refusing() == {}
        assert await spool.replay_dead_letters(DeadLetterFilter()) == 2
        assert {one.mark.index for one in await spool.retrying("a", EVER, 9)} == {0, 1}

    async def test_a_shadow_alone_takes_nothing(self, opened: SpoolFactory) -> None:
        """An entry that only a shadow can take is rejected."""
        spool = await opened(
            a=BacklogLimit(max_backlog=1), b=BacklogLimit(max_backlog=5, overflow="drop")
        )
        at = Places(spool)
        await spool.append(entry("r1", a=(0,), b=(0,)))
        with pytest.raises(SpoolFull, match="'a'"):
            await spool.append(entry("r2", a=(0,), b=(0,)))
        assert await append(spool, entry("r3", b=(0,))) == at[2]

    async def test_bound_holds_within_a_batch(self, opened: SpoolFactory) -> None:
        """Of many appends at once, exactly as many are accepted as fit."""
        spool = await opened(a=BacklogLimit(max_backlog=3))
        sent = [append(spool, entry(f"r{i}", a=(0,))) for i in range(8)]
        results = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(result) for result in results] == [int] * 3 + [SpoolFull] * 5
        assert (await spool.depths())["a"].backlog == 3

    async def test_waiting_deliveries_count_as_backlog(self, opened: SpoolFactory) -> None:
        """Deliveries that wait count towards ``max_backlog`` until they end."""
        spool = await opened(a=BacklogLimit(max_backlog=2))
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.append(entry("r2", a=(0,)))
        await spool.settle(
            "a", Progress(cursor=at[2], later=[later(at[1]), later(at[2], parked=True)])
        )
        with pytest.raises(SpoolFull):
            await spool.append(entry("r3", a=(0,)))
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 0)]))
        assert await append(spool, entry("r4", a=(0,))) == at[3]

    async def test_replayed_deliveries_count_as_backlog(self, opened: SpoolFactory) -> None:
        """Replayed deliveries count towards ``max_backlog`` like others."""
        spool = await opened(a=BacklogLimit(max_backlog=1))
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(cursor=at[1], dead=[failed(at[1])]))
        assert await spool.replay_dead_letters(DeadLetterFilter()) == 1
        with pytest.raises(SpoolFull):
            await spool.append(entry("r2", a=(0,)))

    async def test_overflow_makes_dead_letters_of_the_oldest(self, opened: SpoolFactory) -> None:
        """With the policy ``dead_letter`` the oldest pending deliveries become dead letters."""
        spool = await opened(a=BacklogLimit(max_backlog=3, overflow="dead_letter"))
        at = Places(spool)
        notices = Notices(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0, 1), b=(0,)))
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1], 0)]))
        await spool.append(entry("r4", a=(0,)))
        await spool.append(entry("r5", a=(0,)))
        letters = await spool.dead_letters()
        first, *rest = [dead.id for dead in letters]
        assert await notices.next() == Evicted("a", at[1], (DeliveryRef(at[1], 0),), 0, (first,), 1)
        assert await notices.next() == Evicted("a", at[2], (), 0, tuple(rest), 2)
        assert spool.cursor("a") == at[2]
        assert [(dead.destination, dead.mark) for dead in letters] == [
            ("a", DeliveryRef(at[1], 0)),
            ("a", DeliveryRef(at[2], 0)),
            ("a", DeliveryRef(at[2], 1)),
        ]
        assert {dead.cause for dead in letters} == {"overflow"}
        assert (letters[0].user, letters[0].event_name) == ("u1", "Product Viewed")
        assert letters[0].attempts == (TRY,)
        assert "HTTP 503" in letters[0].reason
        depth = (await spool.depths())["a"]
        assert (depth.backlog, depth.retrying, depth.dead_letters) == (3, 0, 3)
        assert (await spool.depths())["b"].backlog == 3

    async def test_what_is_dropped_leaves_no_trace(
        self, opened: SpoolFactory, clock: ManualClock
    ) -> None:
        """With the policy ``drop`` deliveries above the limits are dropped and counted."""
        spool = await opened(
            SpoolLimits(max_age=DAY), a=BacklogLimit(max_backlog=2, overflow="drop")
        )
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1])]))
        await spool.append(entry("r2", a=(0, 1)))
        await spool.append(entry("r3", a=(0,)))
        assert await notices.next() == Evicted("a", at[1], (DeliveryRef(at[1], 0),), 1)
        await spool.append(entry("r4", a=(0,)))
        assert await notices.next() == Evicted("a", at[2], (), 2)
        clock.now += DAY + 1
        assert await notices.next() == Evicted("a", at[4], (), 2)
        assert await spool.dead_letters() == []
        depth = (await spool.depths())["a"]
        assert (depth.backlog, depth.retrying, depth.dead_letters) == (0, 0, 0)

    async def test_overflow_evicts_the_oldest_and_no_dead_letters(
        self, opened: SpoolFactory
    ) -> None:
        """The oldest entry is evicted before a younger waiting one; dead letters stay."""
        spool = await opened(a=BacklogLimit(max_backlog=4, overflow="dead_letter"))
        at = Places(spool)
        await spool.append(entry("r1", a=(0, 1)))
        await spool.append(entry("r2", a=(0,)))
        await spool.settle("a", Progress(later=[later(at[2])], dead=[failed(at[1], 1)]))
        await spool.append(entry("r3", a=(0,)))
        await spool.append(entry("r4", a=(0,)))
        letters = await spool.dead_letters()
        assert [(dead.mark, dead.cause) for dead in letters] == [
            (DeliveryRef(at[1], 1), "refused"),
            (DeliveryRef(at[1], 0), "overflow"),
        ]
        assert await spool.retrying("a", EVER, 9) == [later(at[2])]

    async def test_taken_delivery_that_ended_well_is_withdrawn(self, opened: SpoolFactory) -> None:
        """A delivery that was evicted in flight and succeeded is no dead letter."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="dead_letter"))
        at = Places(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)))
        assert len(await spool.dead_letters()) == 2
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 0)]))
        assert [dead.mark for dead in await spool.dead_letters()] == [DeliveryRef(at[2], 0)]

    async def test_taken_delivery_does_not_wait_again(self, opened: SpoolFactory) -> None:
        """A retry that is reported for an evicted delivery does not bring it back."""
        spool = await opened(a=BacklogLimit(max_backlog=1, overflow="dead_letter"))
        at = Places(spool)
        for i in range(2):
            await spool.append(entry(f"r{i}", a=(0,)))
        await spool.register({"a": FREE, "b": FREE})
        await spool.settle("a", Progress(later=[later(at[1])]))
        assert await spool.retrying("a", EVER, 9) == []
        await spool.settle("a", Progress(dead=[failed(at[1])]))
        assert [(dead.mark, dead.cause) for dead in await spool.dead_letters()] == [
            (DeliveryRef(at[1], 0), "refused")
        ]

    async def test_refused_dead_letter_is_not_withdrawn(self, spool: ShardSpool) -> None:
        """``done`` withdraws only dead letters that the spool made by itself."""
        at = Places(spool)
        await spool.append(entry("r1", a=(0,)))
        await spool.settle("a", Progress(cursor=at[1], dead=[failed(at[1])]))
        await spool.settle("a", Progress(done=[DeliveryRef(at[1], 0)]))
        assert len(await spool.dead_letters()) == 1

    async def test_full_store_refuses_until_space_is_given_back(self, opened: SpoolFactory) -> None:
        """Above ``max_bytes`` appends are rejected, and health says why, until there is space."""
        spool = await opened(SpoolLimits(max_bytes=400_000))
        told = follow(spool)
        with pytest.raises(SpoolFull, match="max_bytes") as caught:
            await fill(spool)
        assert caught.value.retry_after > 0
        assert 10 < len(told) < 40
        assert "max_bytes" in spool.refusing()["a"]
        await spool.settle("a", Progress(cursor=spool.position()))
        assert await append(spool, entry("again", body=b"x" * 10_000, a=(0,)))
        assert (spool.health(), spool.refusing()) == (None, {})

    @pytest.mark.parametrize("overflow", ["refuse", "dead_letter"])
    async def test_one_destination_does_not_fill_the_store(
        self, opened: SpoolFactory, overflow: Literal["refuse", "dead_letter"]
    ) -> None:
        """A failing destination keeps to its share; entries for others are appended."""
        spool = await opened(SpoolLimits(max_bytes=2_000_000), a=BacklogLimit(overflow=overflow))
        for number in range(600):
            seq = await append(spool, entry(f"r{number}", body=b"x" * 10_000, a=(0,), b=(0,)))
            await spool.settle("b", Progress(cursor=seq))
            assert await spool.size() <= 2_000_000
        depth = (await spool.depths())["a"]
        given_up = spool.given_up()["a"]
        assert depth.backlog + depth.dead_letters + given_up.dropped == 600
        assert 60 < depth.backlog + depth.dead_letters < 180
        assert (await spool.balances())["a"].unaccounted == 0
        assert "b" not in spool.given_up()
        assert spool.health() is None
        if overflow == "dead_letter":
            assert spool.refusing() == {}
            assert depth.dead_letters > 0
            newest = (await pending(spool, "a"))[-1]
            assert newest.entry.id == "r599"
            return
        assert "share" in spool.refusing()["a"]
        with pytest.raises(SpoolFull, match="share"):
            await spool.append(entry("alone", a=(0,)))
        assert depth.dead_letters == 0
        assert (await pending(spool, "a"))[0].entry.id == "r0"
        await spool.settle("a", Progress(cursor=spool.position()))

        async def takes_again() -> bool:
            return spool.refusing() == {}

        await eventually(takes_again)
        assert await append(spool, entry("alone", a=(0,))) > 0

    async def test_entries_of_others_are_not_kept_behind_one(self, opened: SpoolFactory) -> None:
        """A failing destination keeps only its own entries in the log."""
        spool = await opened(SpoolLimits(max_bytes=2_000_000))
        await spool.append(entry("pending", a=(0,)))
        for number in range(600):
            seq = await append(spool, entry(f"r{number}", body=b"x" * 10_000, b=(0,)))
            await spool.settle("b", Progress(cursor=seq))

        async def small() -> bool:
            return await spool.size() < 300_000

        await eventually(small)
        assert [one.entry.id for one in await pending(spool, "a")] == ["pending"]

    @pytest.mark.parametrize("overflow", ["refuse", "dead_letter"])
    async def test_one_destinations_dead_letters_do_not_fill_the_store(
        self, opened: SpoolFactory, overflow: Literal["refuse", "dead_letter"]
    ) -> None:
        """Dead letters count towards the share, however few events of a request they are."""
        spool = await opened(SpoolLimits(max_bytes=2_000_000), a=BacklogLimit(overflow=overflow))
        taken = 0
        for number in range(400):
            sent = entry(f"r{number}", body=b"x" * 10_000, a=tuple(range(9)), b=(0,))
            seq = await append(spool, sent)
            await spool.settle("b", Progress(cursor=seq))
            if "a" not in spool.refusing():
                taken += 1
                dead = [failed(seq, rendered=b"")]
                await spool.settle("a", Progress(cursor=seq, dead=dead, delivered=8 * taken))
        depths = await spool.depths()
        assert depths["a"].dead_letters > 50
        assert depths["b"].backlog == 0
        assert spool.given_up()["a"].dropped > 50
        assert (await spool.balances())["a"].unaccounted == 0
        assert spool.health() is None

    async def test_two_share_the_store(self, opened: SpoolFactory) -> None:
        """Two failing destinations get about the same share; entries for a third are appended."""
        spool = await opened(SpoolLimits(max_bytes=2_000_000))
        await spool.register(dict.fromkeys(("a", "b", "c"), FREE))
        for number in range(300):
            await spool.append(entry(f"a{number}", body=b"x" * 10_000, a=(0,), c=(0,)))
            seq = await append(spool, entry(f"b{number}", body=b"x" * 5_000, b=(0,), c=(0,)))
            await spool.settle("c", Progress(cursor=seq))
        depths = await spool.depths()
        assert depths["a"].backlog * 10_000 > 400_000
        assert depths["b"].backlog * 5_000 > 400_000
        assert depths["c"].backlog == 0
        assert set(spool.refusing()) == {"a", "b"}

    async def test_health_knows_without_an_append_that_there_is_no_room(
        self, opened: SpoolFactory
    ) -> None:
        """Health reports a full spool exactly while it rejects appends."""
        spool = await opened(SpoolLimits(max_bytes=800_000), a=BacklogLimit(), b=BacklogLimit())
        refused = 0
        for number in range(200):
            said = spool.health() or (set(spool.refusing()) == {"a", "b"})
            try:
                await spool.append(entry(f"r{number}", body=b"x" * 10_000, a=(0,), b=(0,)))
            except SpoolFull:
                refused += 1
                assert said or refused == 1
            else:
                assert not said
        assert refused > 50
        await spool.settle("a", Progress(cursor=spool.position()))
        await spool.settle("b", Progress(cursor=spool.position()))

        async def well() -> bool:
            return spool.health() is None and spool.refusing() == {}

        await eventually(well)
        assert await append(spool, entry("again", body=b"x" * 10_000, a=(0,), b=(0,)))

    async def test_dead_letters_fill_the_store_too(self, opened: SpoolFactory) -> None:
        """Dead letters count towards ``max_bytes``; deleting them frees space."""
        spool = await opened(SpoolLimits(max_bytes=400_000))
        with pytest.raises(SpoolFull):
            await fill(spool, dead=True)
        assert 10 < len(await spool.dead_letters(limit=99)) < 40
        await spool.delete_dead_letters(DeadLetterFilter())
        assert await append(spool, entry("again", body=b"x" * 10_000, a=(0,))) > 10

    async def test_old_deliveries_expire(self, opened: SpoolFactory, clock: ManualClock) -> None:
        """A delivery that is pending longer than ``max_age`` becomes a dead letter."""
        spool = await opened(SpoolLimits(max_age=DAY))
        at = Places(spool)
        notices = Notices(spool)
        for i in range(3):
            await spool.append(entry(f"r{i}", a=(0,)))
        await spool.settle("a", Progress(cursor=at[1], later=[later(at[1])]))
        clock.now += DAY
        await spool.append(entry("young", a=(0, 1)))
        await spool.settle("a", Progress(later=[later(at[4], 1)]))
        clock.now += 1
        notice = await notices.next()
        letters = await spool.dead_letters()
        ids = tuple(dead.id for dead in letters)
        assert notice == Evicted("a", at[3], (DeliveryRef(at[1], 0),), 0, ids, 3)
        assert [(dead.mark.seq, dead.cause) for dead in letters] == [
            (seq, "expired") for seq in at(1, 3)
        ]
        assert [item.seq for item in await pending(spool, "a")] == [at[4]]
        assert await spool.retrying("a", EVER, 9) == [later(at[4], 1)]

    async def test_orphans_expire(self, opened: SpoolFactory, clock: ManualClock) -> None:
        """Deliveries of a removed destination expire after ``max_age`` too."""
        spool = await opened(SpoolLimits(max_age=DAY))
        await spool.append(entry("r1", b=(0,)))
        await spool.register({"a": FREE})
        clock.now += DAY + 1

        async def expired() -> bool:
            causes = [dead.cause for dead in await spool.dead_letters()]
            return causes == ["expired"] and (await spool.orphans())["b"].backlog == 0

        await eventually(expired)

    async def test_replay_counts_its_age_anew(
        self, opened: SpoolFactory, clock: ManualClock
    ) -> None:
        """The age of a replayed delivery starts with its replay."""
        spool = await opened(SpoolLimits(max_age=DAY))
        at = Places(spool)
        notices = Notices(spool)
        await spool.append(entry("r1", a=(0,)))
        clock.now += DAY + 1
        assert isinstance(await notices.next(), Evicted)
        await spool.append(entry("r2", b=(0,)))
        clock.now += 10
        assert await spool.replay_dead_letters(DeadLetterFilter(cause="expired")) == 1
        assert await notices.next() == DeadLettersReplayed("a")
        clock.now += DAY - 9
        (mark,) = [one.mark for one in await spool.retrying("a", EVER, 9)]
        notice = await notices.next()
        (dead,) = await spool.dead_letters()
        assert notice == Evicted("b", at[2], (), 0, (dead.id,), 1)
        assert [one.mark for one in await spool.retrying("a", EVER, 9)] == [mark]
        clock.now += 10
        notice = await notices.next()
        (_, dead) = await spool.dead_letters()
        assert notice == Evicted("a", at[1], (mark,), 0, (dead.id,), 1)
