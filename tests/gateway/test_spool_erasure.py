"""Erasing somebody's events from the spool's file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import apsw
import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.spool import (
    ConsentRecord,
    DedupWindow,
    DeliveryRef,
    Entry,
    ErasedEvents,
    EventSearch,
    LogRecord,
    Progress,
)
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import append, entry, eventually, failed, later
from tests.gateway.opened_spool import opened_spool

ANNA = "anna-canary@shop.example"
USER = b"a-hash-of-consen"


def of(user: str) -> EventSearch:
    """Return the search for the events of a user; the body of a request is a list of user ids."""

    def wanted(one: Entry) -> Mapping[int, str]:
        users = orjson.loads(one.request.body or b"[]")
        return {n: f"m-{one.id}-{n}" for n, name in enumerate(users) if name == user}

    return wanted


def sent(name: str, *users: str, size: int = 0, **targets: tuple[int, ...]) -> Entry:
    """Return a request with an event of each of *users*, and *size* bytes more."""
    return entry(name, body=orjson.dumps(users) + b" " * size, **targets)


async def erase(spool: SqliteSpool, user: str = ANNA) -> ErasedEvents:
    """Erase a user's events and return what was taken."""
    found = await spool.find_events(of(user))
    taken = await spool.erase_events(found, [USER])
    await spool.overwrite_erased()
    return taken


def files_with(folder: Path, text: str) -> list[str]:
    """Return the names of the files in *folder* whose bytes contain *text*."""
    return sorted(path.name for path in folder.iterdir() if text.encode() in path.read_bytes())


async def balanced(spool: SqliteSpool) -> None:
    """Check that no delivery is unaccounted for."""
    for name, balance in (await spool.balances()).items():
        assert balance.unaccounted == 0, (name, balance)


async def pending(spool: SqliteSpool, name: str) -> list[tuple[int, tuple[int, ...]]]:
    """Return what a worker that starts now finds in the log."""
    page = await spool.unread(name, 0, spool.position(), 100)
    return [(one.seq, one.numbers) for one in page.items]


async def test_no_byte_of_an_erased_request_is_left(tmp_path: Path) -> None:
    """Pending, waiting, given up, delivered and trimmed: no file has a byte of it afterwards."""
    async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
        seqs = [
            await append(spool, sent(f"r{n}", ANNA, size=n * 3000, a=(0,), b=(0,)))
            for n in range(6)
        ]
        other = await append(spool, sent("x1", "bert-canary", a=(0,), b=(0,)))
        waits = later(seqs[1], user=ANNA, reason=f"HTTP 503: {ANNA}")
        given_up = failed(seqs[2], user=ANNA, reason=f"HTTP 400: {ANNA}", rendered=ANNA.encode())
        await spool.settle("a", Progress(seqs[3], [waits], dead=[given_up], delivered=2))
        assert files_with(tmp_path, ANNA)
        taken = await erase(spool)
        assert files_with(tmp_path, ANNA) == []
        assert files_with(tmp_path, "bert-canary")
        assert dict(taken.deliveries) == {"a": 3, "b": 6}
        assert dict(taken.dead_letters) == {"a": 1}
        assert (taken.requests, taken.shared_requests) == (6, 0)
        assert await pending(spool, "a") == await pending(spool, "b") == [(other, (0,))]
        assert await spool.retrying("a", 1e12, 10) == []
        assert await spool.dead_letters() == []
        await balanced(spool)
    assert files_with(tmp_path, ANNA) == []


async def test_what_was_deleted_before_is_overwritten(tmp_path: Path) -> None:
    """Requests that were delivered and trimmed long before leave no byte in free pages either."""
    async with opened_spool(tmp_path) as spool:
        seqs = [await append(spool, sent(f"r{n}", ANNA, size=9000, a=(0,))) for n in range(40)]
        await append(spool, sent("x1", "bert", a=(0,)))
        await spool.settle("a", Progress(seqs[-1], delivered=40))

        async def trimmed() -> bool:
            return not await spool.entries(seqs)

        await eventually(trimmed)
        assert files_with(tmp_path, ANNA)
        await erase(spool)
        assert files_with(tmp_path, ANNA) == []
        await balanced(spool)


async def test_events_of_others_stay_deliverable(tmp_path: Path) -> None:
    """Of a request of several people only one's deliveries go; it stays until the others end."""
    async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
        mixed = await append(spool, sent("r1", "bert", ANNA, "carl", a=(0, 1, 2), b=(1,)))
        taken = await erase(spool)
        assert (taken.requests, taken.shared_requests) == (0, 1)
        assert dict(taken.deliveries) == {"a": 1, "b": 1}
        assert await pending(spool, "a") == [(mixed, (0, 2))]
        assert await pending(spool, "b") == []
        ((_, stored),) = [(r.seq, r.entry) for r in await spool.entries([mixed])]
        assert orjson.loads(stored.request.body) == ["bert", ANNA, "carl"]
        await spool.settle("a", Progress(mixed, delivered=2))
        await spool.settle("b", Progress(mixed))
        await balanced(spool)
        again = await erase(spool)
        assert (again.requests, again.shared_requests, dict(again.deliveries)) == (1, 0, {})
        assert files_with(tmp_path, ANNA) == []


async def test_dead_letters_of_others_stay(tmp_path: Path) -> None:
    """Others' dead letters of the same request stay, without the last request that was sent."""
    async with opened_spool(tmp_path) as spool:
        seq = await append(spool, sent("r1", "bert", ANNA, a=(0, 1)))
        both = [failed(seq, 0, user="bert"), failed(seq, 1, user=ANNA)]
        await spool.settle("a", Progress(seq, dead=both))
        taken = await erase(spool)
        assert (dict(taken.dead_letters), taken.requests, taken.shared_requests) == ({"a": 1}, 0, 1)
        (left,) = await spool.dead_letters()
        assert (left.user, left.mark.index, left.rendered) == ("bert", 0, b"")
        assert await spool.replay_dead_letters([left.id]) == 1
        await balanced(spool)


async def test_dedup_and_consent_are_forgotten(tmp_path: Path) -> None:
    """The message ids of the erased events may come again, and the consent is unknown."""
    async with opened_spool(tmp_path) as spool:
        once = DedupWindow({0: "m-r1-0"}, 3600.0)
        assert await append(spool, sent("r1", ANNA, a=(0,)), once)
        assert not await append(spool, sent("r2", ANNA, a=(0,)), once)
        await spool.save_consent({USER: {"ads": ConsentRecord(True, 1.0)}}, 1e9)  # noqa: FBT003 - a field
        taken = await erase(spool)
        assert (taken.message_ids, taken.consents) == (1, 1)
        assert await spool.load_consent([USER]) == {}
        assert await append(spool, sent("r3", ANNA, a=(0,)), once)


async def test_accounts_are_right_after_a_restart(tmp_path: Path) -> None:
    """After an erasure and a restart, counts and cursors follow from the file as before."""
    async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
        seqs = [
            await append(spool, sent(f"r{n}", name, a=(0,), b=(0,)))
            for n, name in enumerate(["bert", ANNA, "bert", ANNA])
        ]
        await spool.settle("a", Progress(later=[later(seqs[1])]))
        await erase(spool)
        before = await spool.balances()
        left = [(seqs[0], (0,)), (seqs[2], (0,))]
        assert await pending(spool, "a") == left
    async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
        assert await spool.balances() == before
        assert await pending(spool, "a") == await pending(spool, "b") == left
        for name in ("a", "b"):
            await spool.settle(name, Progress(seqs[3], delivered=2))
        await balanced(spool)
        depths = await spool.depths()
        assert {name: one.backlog for name, one in depths.items()} == {"a": 0, "b": 0}


async def test_a_delivery_that_is_reported_later_does_not_come_back(tmp_path: Path) -> None:
    """A report of an erased delivery, from before the erasure, changes nothing."""
    async with opened_spool(tmp_path) as spool:
        seq = await append(spool, sent("r1", ANNA, a=(0,)))
        await append(spool, sent("r2", "bert", a=(0,)))
        await erase(spool)
        await spool.settle("a", Progress(later=[later(seq)]))
        await spool.settle("a", Progress(dead=[failed(seq)]))
        await spool.settle("a", Progress(done=[DeliveryRef(seq, 0)]))
        assert await spool.retrying("a", 1e12, 10) == []
        assert await spool.dead_letters() == []
        await balanced(spool)
        assert files_with(tmp_path, ANNA) == []


async def test_a_reader_that_holds_the_log_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process reads an old state, the write-ahead log cannot be emptied: an error."""
    monkeypatch.setattr("gateway.spool.sqlite.spool.TRIES", 1)
    async with opened_spool(tmp_path) as spool:
        await append(spool, sent("r1", ANNA, a=(0,)))
        reader = apsw.Connection(str(tmp_path / "spool.db"))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM log").fetchall()
        with pytest.raises(SpoolError, match=r"another process reads the spool.*erase again"):
            await erase(spool)
        assert spool.health() is None
        reader.execute("COMMIT")
        reader.close()
        await spool.overwrite_erased()
        assert files_with(tmp_path, ANNA) == []


async def test_entries_handed_over_before_are_not_changed(tmp_path: Path) -> None:
    """The followers' entries stay as they were; only the store forgets."""
    async with opened_spool(tmp_path) as spool:
        told: list[LogRecord] = []
        spool.follow(lambda item, _events: told.append(item))
        await append(spool, replace(sent("r1", ANNA, a=(0,)), users=(7,)))
        await erase(spool)
        assert told[0].entry.users == (7,)
        (blank,) = await spool.entries([told[0].seq])
        assert (blank.entry.request.body, blank.entry.request.headers, blank.entry.users) == (
            b"", {}, (),
        )  # fmt: skip
        assert blank.entry.request.client is None
        assert "shop=1" not in blank.entry.request.url


class Workers:
    """What the workers of some destinations know, by destination: open and waiting deliveries."""

    def __init__(self, *names: str) -> None:
        self.open: dict[str, dict[DeliveryRef, str]] = {name: {} for name in names}
        self.waiting: dict[str, dict[DeliveryRef, str]] = {name: {} for name in names}
        self.delivered = Counter[str]()
        self.last = 0

    def take(self, seq: int, users: Sequence[str], entry_: Entry) -> None:
        """Add the deliveries of a new entry."""
        self.last = seq
        for name, numbers in entry_.targets.items():
            self.open[name].update({DeliveryRef(seq, n): users[n] for n in numbers})

    def report(self, name: str, random: Random) -> Progress:
        """End, postpone or give up some deliveries at random; return the report."""
        ends: dict[str, list[DeliveryRef]] = {"done": [], "later": [], "dead": []}
        opened, waits = self.open[name], self.waiting[name]
        for mark in list(opened):
            if random.random() < 0.4:
                user = opened.pop(mark)
                ends[kind := random.choice(["done", "later", "dead"])].append(mark)
                if kind == "later":
                    waits[mark] = user
        for mark in list(waits):
            if mark not in ends["later"] and random.random() < 0.3:
                del waits[mark]
                ends[random.choice(["done", "dead"])].append(mark)
        self.delivered[name] += len(ends["done"])
        return Progress(
            min((mark.seq for mark in opened), default=self.last + 1) - 1,
            [later(mark.seq, mark.index) for mark in ends["later"]],
            ends["done"],
            [failed(mark.seq, mark.index) for mark in ends["dead"]],
            delivered=self.delivered[name],
        )

    def forget(self, user: str) -> None:
        """Forget the deliveries of a user, as new workers do that read the store."""
        for known in (*self.open.values(), *self.waiting.values()):
            for mark in [mark for mark, owner in known.items() if owner == user]:
                del known[mark]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_state_the_others_are_not_touched(seed: int, tmp_path: Path) -> None:
    """In any state, an erasure takes one person's deliveries, and the accounts stay right."""
    random = Random(seed)  # noqa: S311 - no secret depends on it
    workers, people = Workers("a", "b"), ["anna", "bert", "carl"]
    for _ in range(2):  # the second time after a restart
        async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
            for step in range(30):
                users = [random.choice(people) for _ in range(random.randint(1, 3))]
                every = tuple(range(len(users)))
                some = {name: every for name in ("a", "b") if random.random() < 0.8}
                if some:
                    one = replace(sent(f"r{seed}-{step}", *users), targets=some)
                    workers.take(await append(spool, one), users, one)
                if random.random() < 0.7:
                    name = random.choice(["a", "b"])
                    await spool.settle(name, workers.report(name, random))
                if step % 10 == 7:
                    gone = random.choice(people)
                    await erase(spool, gone)
                    workers.forget(gone)
                    await balanced(spool)
                for name in ("a", "b"):
                    unread = {
                        DeliveryRef(seq, n)
                        for seq, numbers in await pending(spool, name)
                        for n in numbers
                    }
                    assert unread == workers.open[name].keys()
                    resting = await spool.retrying(name, 1e12, 1000)
                    assert {one.mark for one in resting} == workers.waiting[name].keys()
            before = await spool.balances()
        async with opened_spool(tmp_path, destinations=("a", "b")) as spool:
            assert await spool.balances() == before
