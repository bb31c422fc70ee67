"""The spool of a gateway in a cluster: entries reach the owner of their shard, whoever it is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count

import msgspec
import pytest

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Request
from gateway.spool import (
    BacklogLimit,
    ConsentRecord,
    DeadLetterFilter,
    DeliveryRef,
    Entry,
    FailedDelivery,
    Fenced,
    LogRecord,
    Progress,
    Shard,
    Spool,
    SpoolFull,
    WaitingDelivery,
)
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.spool import JetStreamSpool
from gateway.testing.spool.contract import eventually
from tests.cluster.servers import NatsServers

SHARDS = 4
PATIENCE = 20.0
DESTINATION = "a"


class Runner:
    """Records at once what its shards hand over."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int]] = []
        """The id of each entry, and the shard that handed it over."""
        self.told: list[str] = []
        self.progress: dict[int, int] = {}

    def start_shard(self, shard: Shard) -> None:
        """Take what the shard hands over, and what nobody has delivered."""
        self.told.append(f"start {shard.number}")
        shard.follow(partial(self._offer, shard.number))

    def _offer(self, shard: int, record: LogRecord, events: Sequence[Event] | None) -> None:
        del events
        self.got.append((record.entry.id, shard))
        self.progress[shard] = record.seq

    async def finish_shard(self, shard: Shard) -> None:
        """Record what was handed over."""
        self.told.append(f"finish {shard.number}")
        if seq := self.progress.get(shard.number):
            await shard.settle(DESTINATION, Progress(cursor=seq), soon=True)

    def abandon_shard(self, shard: Shard) -> None:
        """Do nothing more."""
        self.told.append(f"abandon {shard.number}")


Open = Callable[[], "asyncio.Future[tuple[JetStreamSpool, Runner]]"]


@pytest.fixture
async def opened(nats_cluster: NatsServers, layout: Layout) -> AsyncIterator[Open]:
    """Return a function that opens the spool of one more gateway."""
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def gateway() -> AsyncIterator[tuple[JetStreamSpool, Runner]]:
            spool = JetStreamSpool(NatsConnection(nats_cluster.urls), layout, shards=SHARDS)
            runner = Runner()
            spool.run_shards(runner)
            await spool.open()
            await spool.register({DESTINATION: BacklogLimit()})
            yield spool, runner
            await spool.close()

        async def open_one() -> tuple[JetStreamSpool, Runner]:
            return await stack.enter_async_context(gateway())

        yield lambda: asyncio.ensure_future(open_one())


def entry_of(spool: Spool, name: str, *users: str, to: Sequence[str] = (DESTINATION,)) -> Entry:
    """Return an entry with an event of each user."""
    return Entry(
        name,
        "shop",
        Request(method="POST", url="/", body=name.encode()),
        dict.fromkeys(to, tuple(range(len(users)))),
        "chrts",
        users=tuple(spool.user_hash(user) for user in users),
    )


async def until(check: Callable[[], bool]) -> None:
    """Wait until *check* returns true."""
    async with asyncio.timeout(PATIENCE):
        while not check():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.01)


def owned(spool: JetStreamSpool) -> set[int]:
    """Return the numbers of the shards that a gateway delivers."""
    return {shard.number for shard in spool.shards}


async def test_two_gateways_share_the_shards_and_one_takes_those_of_the_other(opened: Open) -> None:
    """What any gateway accepts, the owner delivers, in order; what is recorded is not repeated."""
    (one, first), (two, second) = await asyncio.gather(opened(), opened())
    await until(lambda: len(owned(one)) == len(owned(two)) == SHARDS // 2)
    assert owned(one) | owned(two) == set(range(SHARDS))
    assert one.leased()
    assert one.user_hash("u1") == two.user_hash("u1") != 0
    for n in range(20):
        await (one, two)[n % 2].append(entry_of(one, f"r{n}", f"u{n % 5}"))
    await until(lambda: len(first.got) + len(second.got) == 20)
    shard_of = {f"u{n}": one.user_hash(f"u{n}") % SHARDS for n in range(5)}
    for runner, spool in ((first, one), (second, two)):
        for user, shard in shard_of.items():
            ids = [name for name, at in runner.got if int(name[1:]) % 5 == int(user[1:])]
            mine = [f"r{n}" for n in range(int(user[1:]), 20, 5)]
            assert ids == (mine if shard in owned(spool) else [])

    given = owned(one)
    await one.close()
    assert one.health() == "the spool is closed"
    assert not one.leased()
    assert owned(one) == set()
    assert set(first.told[-len(given) :]) == {f"finish {shard}" for shard in given}
    await until(lambda: owned(two) == set(range(SHARDS)))
    for taken in two.shards:
        page = await taken.unread(DESTINATION, taken.cursor(DESTINATION), taken.position(), 99)
        assert [item.seq for item in page.items if taken.number in given] == []
    user = next(user for user in map(str, count()) if two.user_hash(user) % SHARDS in given)
    await two.append(entry_of(two, "last", user))
    await until(lambda: "last" in [name for name, _ in second.got])
    with pytest.raises(SpoolError, match="closed"):
        await one.append(entry_of(two, "late", "u1"))


async def test_an_entry_of_several_users_reaches_the_shard_of_each(opened: Open) -> None:
    """Each shard hands over the deliveries of its users, and no others."""
    spool, runner = await opened()
    await until(lambda: len(owned(spool)) == SHARDS)
    users = [f"u{n}" for n in range(9)]
    seen: dict[int, tuple[int, ...]] = {}
    for shard in spool.shards:

        def note(record: LogRecord, _: object, number: int = shard.number) -> None:
            seen[number] = record.entry.targets[DESTINATION]

        shard.follow(note)
    wanted: dict[int, list[int]] = {}
    for n, user in enumerate(users):
        wanted.setdefault(spool.user_hash(user) % SHARDS, []).append(n)
    assert (await spool.append(entry_of(spool, "many", *users))).seq == 0
    await until(lambda: len(runner.got) == len(wanted))
    assert seen == {shard: tuple(numbers) for shard, numbers in wanted.items()}
    assert spool.report().depths == {DESTINATION: len(wanted)}


async def test_a_new_destination_is_known_to_all_shards(opened: Open) -> None:
    """A destination is known to shards that are owned, and to those that come later."""
    spool, _ = await opened()
    await spool.register({DESTINATION: BacklogLimit(), "b": BacklogLimit()})
    await until(lambda: len(owned(spool)) == SHARDS)
    await spool.register({"c": BacklogLimit()})
    assert all(shard.cursor(name) == 0 for shard in spool.shards for name in (DESTINATION, *"bc"))
    with pytest.raises(SpoolError, match="unknown destinations: a"):
        await spool.append(entry_of(spool, "r", "u"))


async def test_operators_see_and_decide_about_all_shards_from_any_gateway(opened: Open) -> None:
    """Sums, requests, dead letters and decisions are the same whichever gateway is asked."""
    (one, _), (two, _) = await asyncio.gather(opened(), opened())
    await until(lambda: len(owned(one)) == len(owned(two)) == SHARDS // 2)
    for n in range(20):
        await one.append(entry_of(one, f"r{n}", f"u{n}", f"v{n}"))

    async def handed_over() -> bool:
        return (await one.balances())[DESTINATION].accepted == 40

    await eventually(handed_over)
    dead: list[DeliveryRef] = []
    for shard in (*one.shards, *two.shards):
        page = await shard.unread(DESTINATION, 0, shard.position(), 99)
        marks = [DeliveryRef(item.seq, number) for item in page.items for number in item.numbers]
        dead += marks[:2]
        await shard.settle(
            DESTINATION,
            Progress(
                cursor=shard.position(),
                later=[WaitingDelivery(mark, 0.0, user="u") for mark in marks[2:]],
                dead=[FailedDelivery(mark, "refused", f"no {mark.seq}", 1.0) for mark in marks[:2]],
            ),
            soon=True,
        )
    for asked in (one, two):
        assert (await asked.balances())[DESTINATION].pending == 40 - len(dead)
        depth = (await asked.depths())[DESTINATION]
        assert (depth.retrying, depth.dead_letters) == (40 - len(dead), len(dead))
        found = [await asked.pending(f"r{n}") for n in range(20)]
        assert all(request and request.entry.targets == {DESTINATION: (0, 1)} for request in found)
        assert sum(len(request.waits) for request in found if request) == 40 - len(dead)
        letters = await asked.dead_letters(limit=99)
        assert len(letters) == len(dead)
        pages = [await asked.dead_letters(after=after, limit=3) for after in (0, letters[2].id)]
        assert [*pages[0], *pages[1]] == letters[:6]
        assert await asked.dead_letter(letters[3].id) == letters[3]
        assert [group.count for group in await asked.letter_groups()] == [len(dead)]
        assert await asked.pending("r99") is None
    assert await two.delete_dead_letters([letters[0].id, letters[1].id, 1, 1 << 80]) == 2
    assert await one.dead_letter(letters[0].id) is None
    assert await two.replay_dead_letters([letters[2].id]) == 1
    assert await one.replay_dead_letters(DeadLetterFilter()) == len(dead) - 3
    assert await two.dead_letters() == []
    assert await two.delete_dead_letters(DeadLetterFilter()) == 0
    assert (await two.depths())[DESTINATION].retrying == 40 - 2
    for spool in (one, two):
        await spool.register({"b": BacklogLimit()})
    assert set(await one.orphans()) == {DESTINATION}
    await one.pause(DESTINATION, paused=True)
    assert await two.paused() == {DESTINATION}
    assert await two.forget(DESTINATION) == 40 - 2
    assert await one.paused() == set()
    for refused in (two.forget(DESTINATION), two.pause("x", paused=True)):
        with pytest.raises(SpoolError, match="unknown destination"):
            await refused
    with pytest.raises(SpoolError, match="is registered"):
        await one.forget("b")
    assert await one.size() > 0
    assert (one.given_up(), one.unaccounted(), one.refusing()) == ({}, {DESTINATION: 0}, {})


async def test_a_bound_of_the_backlog_holds_over_all_shards(opened: Open) -> None:
    """Every gateway refuses at the sum of all shards; the owners give up what is above it."""
    (one, first), (two, second) = await asyncio.gather(opened(), opened())
    await until(lambda: len(owned(one)) == len(owned(two)) == SHARDS // 2)
    for spool in (one, two):
        await spool.register({DESTINATION: BacklogLimit(max_backlog=8), "b": BacklogLimit()})
    sent = [one.append(entry_of(one, f"r{n}", f"u{n}")) for n in range(8)]
    assert all(appended.seq for appended in await asyncio.gather(*sent))
    for spool in (one, two):
        await until(lambda spool=spool: "max_backlog (8)" in spool.refusing().get(DESTINATION, ""))  # type: ignore[misc]
        with pytest.raises(SpoolFull, match="max_backlog") as refused:
            await spool.append(entry_of(spool, "refused", "u1"))
        assert refused.value.retry_after > 0
    users = [next(u for u in map(str, count()) if one.user_hash(u) % SHARDS == n) for n in range(4)]
    await one.append(entry_of(one, "both", *users, to=(DESTINATION, "b")))
    await until(lambda: sum(name == "both" for name, _ in first.got + second.got) == SHARDS)

    async def given_up() -> bool:
        return len(await two.dead_letters()) == SHARDS

    await eventually(given_up)
    letters = await two.dead_letters()
    assert {(letter.entry.id, letter.cause) for letter in letters} == {("both", "overflow")}
    assert one.given_up()[DESTINATION].dead + two.given_up()[DESTINATION].dead == SHARDS
    balances = await one.balances()
    assert (balances["b"].pending, balances[DESTINATION].pending) == (SHARDS, 8)
    assert [balance.unaccounted for balance in balances.values()] == [0, 0]

    for spool in (one, two):
        await spool.register({DESTINATION: BacklogLimit(3, "dead_letter"), "b": BacklogLimit()})

    async def within() -> bool:
        return (await two.depths())[DESTINATION].backlog <= 3

    await eventually(within)
    depth = (await two.depths())[DESTINATION]
    assert (one.refusing(), two.refusing()) == ({}, {})
    assert depth.dead_letters == SHARDS + 8 - depth.backlog


async def test_gateways_notice_that_their_configurations_differ(opened: Open) -> None:
    """Digests are told with signs of life; a gateway that is alone differs from nobody."""
    one, _ = await opened()
    one.set_config("new")
    assert not one.configs_differ()
    two, _ = await opened()
    two.set_config("old")
    await until(one.configs_differ)
    await until(two.configs_differ)
    two.set_config("new")
    await until(lambda: not (one.configs_differ() or two.configs_differ()))


async def test_consent_is_the_same_on_all_gateways(opened: Open) -> None:
    """What a user said to one gateway, another one knows at once."""
    (one, _), (two, _) = await asyncio.gather(opened(), opened())
    said = {b"user": {"ads": ConsentRecord(granted=False, at=1.0)}}
    await one.save_consent(said, 3600.0)
    assert await two.load_consent([b"user", b"other"]) == said


async def test_a_shard_whose_record_is_fenced_is_dropped(
    opened: Open, nats_cluster: NatsServers, layout: Layout
) -> None:
    """A gateway that learns from a refused record that its shard is another's gives it up."""
    spool, runner = await opened()
    await until(lambda: len(owned(spool)) == SHARDS)
    shard = spool.shards[0]
    connection = NatsConnection(nats_cluster.urls)
    await connection.open()
    claim = await connection.last(layout.state_stream, layout.journal(shard.number))
    assert claim is not None
    await connection.store(layout.journal(shard.number), other_claim(claim.data, claim.seq))
    await connection.close()
    with pytest.raises(Fenced):
        await shard.settle(DESTINATION, Progress(), soon=True)
    await until(lambda: f"abandon {shard.number}" in runner.told)
    await until(lambda: len(owned(spool)) == SHARDS)
    assert runner.told.count(f"start {shard.number}") == 2


def other_claim(data: bytes, seq: int) -> bytes:
    """Return a claim of another gateway, which is not alive, after a record."""
    kind, epoch, *_ = msgspec.msgpack.decode(data)
    del kind
    return msgspec.msgpack.encode(["claim", epoch + 1, "other", 1, seq, 1, 1, b""])
