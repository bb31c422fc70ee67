"""What a spool holds moves to a spool of the other kind, whatever fails meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Request
from gateway.spool import (
    Attempt,
    BacklogLimit,
    Balance,
    ConsentRecord,
    DeadLetter,
    DedupWindow,
    DeliveryRef,
    Entry,
    FailedDelivery,
    LogRecord,
    Progress,
    Shard,
    Spool,
    WaitingDelivery,
)
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.spool import JetStreamSpool
from gateway.spool.moved import MovedBatch
from gateway.spool.restore import restore
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.spool.transfer import SpoolMover, counts
from tests.cluster.servers import NatsServers

PATIENCE = 20.0
AGO = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
USERS = ("ann", "bob", "cleo", "dan", "eve")
REQUESTS = 24
TRIED = Attempt(AGO, 400, 0.25, "no such product")


class NoDelivery:
    """Takes shards, and delivers nothing."""

    def start_shard(self, shard: Shard) -> None:
        """Follow the shard, as a gateway does."""
        shard.follow(self._ignore)

    async def finish_shard(self, shard: Shard) -> None:
        """Do nothing."""

    def abandon_shard(self, shard: Shard) -> None:
        """Do nothing."""

    def _ignore(self, record: LogRecord, events: Sequence[Event] | None) -> None:
        del record, events


@asynccontextmanager
async def opened(
    kind: str, folder: Path, servers: NatsServers, layout: Layout
) -> AsyncIterator[Spool]:
    """Open a spool of a kind, with all its shards and two destinations."""
    spool: Spool
    if kind == "sqlite":
        spool = SqliteSpool(folder / "spool")
    else:
        spool = JetStreamSpool(NatsConnection(servers.urls), layout, shards=4)
    spool.run_shards(NoDelivery())
    await spool.open()
    try:
        await spool.register({"a": BacklogLimit(), "b": BacklogLimit()})
        await spool.own_all()
        yield spool
    finally:
        await spool.close()


def entry_of(spool: Spool, number: int) -> Entry:
    """Return a request of one user, or of two."""
    users = [USERS[number % len(USERS)]]
    if number % 6 == 0:
        users.append(USERS[(number + 1) % len(USERS)])
    body = f"{number:02} {' '.join(users)}".encode()
    numbers = tuple(range(len(users)))
    return Entry(
        f"r{number:02}",
        "shop",
        Request(method="POST", url="/", body=body, received_at=datetime.fromtimestamp(AGO, UTC)),
        {"a": numbers, "b": numbers} if number % 2 else {"a": numbers},
        "chrts",
        users=tuple(spool.user_hash(user) for user in users),
    )


def user_keys(entry: Entry) -> list[str]:
    """Return the users that the body names."""
    return entry.request.body.decode().split()[1:]


async def accepted(spool: Spool, count: int) -> None:
    """Wait until the owners of the shards have so many deliveries for a destination."""
    async with asyncio.timeout(PATIENCE):
        while (await spool.balances())["a"].accepted < count:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.01)


async def fill(spool: Spool) -> None:
    """Store requests; some of them are delivered, wait, or are dead letters."""
    for number in range(REQUESTS):
        once = DedupWindow({0: f"message-{number}"}, 3600)
        await spool.append(entry_of(spool, number), None, once)
    await accepted(spool, sum(len(entry_of(spool, n).targets["a"]) for n in range(REQUESTS)))
    for shard in spool.shards:
        page = await shard.unread("a", 0, shard.position(), 1000)
        if not page.items:  # a shard without users
            continue
        first, *rest = page.items
        later = [
            WaitingDelivery(DeliveryRef(first.seq, first.numbers[0]), AGO, (TRIED,), "500", "u")
        ]
        dead = [
            FailedDelivery(
                DeliveryRef(item.seq, item.numbers[0]),
                "refused",
                "HTTP 400",
                AGO,
                (TRIED,),
                b"{}",
                "n",
            )
            for item in rest[:1]
        ]
        report = Progress(first.seq, later, dead=dead, delivered=len(first.numbers) - 1)
        await shard.settle("a", report, soon=True)
    await spool.save_consent({b"ann": {"ads": ConsentRecord(granted=True, at=AGO)}}, 3600)


Pending = dict[tuple[str, str], list[str]]


async def pending(spool: Spool) -> Pending:
    """Return the ids of each user's pending requests in order, by destination."""
    found: list[tuple[str, str, int, str]] = []
    for shard in spool.shards:
        for name in ("a", "b"):
            page = await shard.unread(name, 0, shard.position(), 1000)
            marks = {(item.seq, number) for item in page.items for number in item.numbers}
            marks |= {(w.mark.seq, w.mark.index) for w in await shard.retrying(name, 1e12, 1000)}
            entries = {one.seq: one.entry for one in await shard.entries([seq for seq, _ in marks])}
            for seq, number in sorted(marks):
                entry = entries[seq]
                assert spool.user_hash(user_keys(entry)[number]) == entry.users[number]
                found.append((user_keys(entry)[number], name, seq, entry.id))
    by_user: Pending = {}
    for user, name, _, request in found:
        by_user.setdefault((user, name), []).append(request)
    return by_user


def told(letters: Sequence[DeadLetter]) -> list[tuple[object, ...]]:
    """Return what a move keeps of dead letters."""
    return sorted(
        (one.destination, one.entry.id, one.index, one.cause, one.reason, one.at, one.attempts,
         one.rendered, one.event_name, one.user, one.entry.request.body)
        for one in letters
    )  # fmt: skip


def summed(balances: dict[str, Balance]) -> dict[str, tuple[int, int, int]]:
    """Return accepted and pending deliveries and dead letters by destination, if balanced."""
    assert not any(one.unaccounted for one in balances.values())
    return {n: (b.accepted, b.pending, b.dead_letters) for n, b in balances.items()}


@pytest.mark.parametrize("kinds", [("sqlite", "jetstream"), ("jetstream", "sqlite")])
async def test_everything_moves_once_whatever_fails(
    kinds: tuple[str, str], tmp_path: Path, nats_cluster: NatsServers, layout: Layout
) -> None:
    """A move that ends anywhere goes on: all is there once, in order; the old spool is empty."""
    dice = random.Random(1)  # noqa: S311 - a test
    async with (
        opened(kinds[0], tmp_path, nats_cluster, layout) as old,
        opened(kinds[1], tmp_path, nats_cluster, layout) as new,
    ):
        await fill(old)
        native = entry_of(new, 94)
        await new.append(native)
        before, letters = await pending(old), await old.dead_letters()
        known = {key async for ids in old.message_ids() for key in ids}
        whole = summed(await old.balances())

        async def send(batch: MovedBatch) -> None:
            ends = dice.randrange(4)
            if ends == 0:
                raise SpoolError("killed before")
            await restore(new, batch, user_keys)
            if ends == 1:
                raise SpoolError("killed after")

        while sum((left := await counts(old)).deliveries.values()) or left.dead_letters:
            try:
                await SpoolMover(old, {"a", "b"}, send).run()
            except SpoolError as error:
                assert "killed" in str(error)  # noqa: PT017 - others are failures
        gone = (await old.balances())["a"].accepted
        await accepted(new, whole["a"][0] - gone + 1)
        left_there, there = summed(await old.balances()), summed(await new.balances())
        assert {name: one[1:] for name, one in left_there.items()} == {"a": (0, 0), "b": (0, 0)}
        for name, more in (("a", 1), ("b", 0)):
            assert left_there[name][0] + there[name][0] == whole[name][0] + more
            assert there[name][1:] == (whole[name][1] + more, whole[name][2])
        after = await pending(new)
        assert after["eve", "a"].pop(0) == native.id
        assert after == before
        assert told(await new.dead_letters()) == told(letters)
        assert (await new.load_consent([b"ann"])) == await old.load_consent([b"ann"])
        known_there = {key async for ids in new.message_ids() for key in ids}
        assert known_there.issuperset(known)
        for request in {one for some in after.values() for one in some}:
            assert await new.pending(request)
        assert await new.pending(native.id)
