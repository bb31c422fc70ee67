"""A team: the workers of one destination, each for a shard of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.config.loader.load import load as load_config
from gateway.delivery import Team, worker
from gateway.delivery import backlog as reader
from gateway.delivery.connection import OnEnd
from gateway.delivery.job import StepsOf
from gateway.delivery.renderer import make_renderer
from gateway.delivery.sender import Sender
from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Request, Response
from gateway.plugin.registry import load_plugins
from gateway.redact import Redactor
from gateway.routing.steps import StepChain
from gateway.spool import Entry, Fenced, LogRecord
from gateway.spool.sqlite.spool import SqliteSpool
from tests.gateway.opened_spool import opened_spool
from tests.soak.marks import config

PATIENCE = 10.0
NAME = "chrts"
SHARDS = 3
CONCURRENCY = 2


class Vendor:
    """A transport that keeps every request until the test answers it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, OnEnd]] = []
        self.closed = False
        self._changed = asyncio.Event()

    def post(self, request: Request, on_end: OnEnd, *, whole: bool = False) -> object:
        """Keep a request."""
        del whole
        user = request.body.decode().partition("user-")[2].partition('"')[0]
        self.waiting.append((user, on_end))
        self._changed.set()
        return None

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    async def got(self, count: int) -> list[str]:
        """Return the users of the requests without an answer, once there are *count*."""
        async with asyncio.timeout(PATIENCE):
            while len(self.waiting) < count:
                self._changed.clear()
                await self._changed.wait()
        return [user for user, _ in self.waiting]

    def answer(self, status: int = 200) -> str:
        """Answer the oldest request; return its user."""
        user, on_end = self.waiting.pop(0)
        on_end(Response(status, {}, b"{}"))
        return user


class Unobserved:
    """An observer that looks at nothing."""

    def on_attempt(self, *_: Any) -> None:
        """Do nothing."""


class Parts:
    """A team on shards of its own, and the vendor that it delivers to."""

    def __init__(self, team: Team, vendor: Vendor, shards: Sequence[SqliteSpool]) -> None:
        self.team, self.vendor, self.shards = team, vendor, shards

    def start(self) -> None:
        """Start the team, and hand it all new entries."""
        self.team.start(self.shards)
        for shard in self.shards:
            shard.follow(partial(self._offer, shard.number))

    async def begin(self) -> None:
        """Start, and wait until the pending deliveries are known."""
        self.start()
        await self.team.ready()

    def _offer(self, shard: int, item: LogRecord, events: Sequence[Event] | None) -> None:
        if worker := self.team.workers.get(shard):
            worker.offer(item, events or ())

    async def append(self, shard: int, *users: str, route: str = "", parsed: bool = True) -> None:
        """Append an event of each user to a shard, by a route with steps if it is named."""
        routes = {NAME: {route: (0,)}} if route else {}
        for user in users:
            event = Event(type="track", name="Opened", id=user, user_id=f"user-{user}")
            request = Request(method="POST", url="/", body=user.encode())
            hashes = (self.shards[shard].user_hash(event.user_key),)
            entry = Entry(user, "shop", request, {NAME: (0,)}, NAME, routes, users=hashes)
            await self.shards[shard].append(entry, [event] if parsed else None)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Callable[..., Parts]]:
    """Return a function that makes the team of a destination with some shards."""
    async with AsyncExitStack() as stack:
        shards = []
        for number in range(SHARDS):
            shard = opened_spool(tmp_path / f"shard-{number}", destinations=(NAME,))
            shards.append(await stack.enter_async_context(shard))
            shards[-1].number = number
        made: list[Team] = []

        def make(
            count: int = SHARDS,
            leased: Callable[[], bool] | None = None,
            share: Callable[[], float] | None = None,
            configs_differ: Callable[[], bool] | None = None,
            steps_of: StepsOf = lambda _: None,
            **delivery: Any,
        ) -> Parts:
            path, registry = tmp_path / "gateway.toml", load_plugins()
            path.write_text(config(str(tmp_path / "spool"), {NAME: 9}))
            loaded = load_config(path, registry).destinations[NAME]
            settings = {"concurrency": CONCURRENCY, "rate": None, "passthrough": False} | delivery
            destination = loaded.model_copy(update=settings)
            vendor = Vendor()
            team = Team(
                NAME,
                destination,
                sender=Sender(make_renderer(destination, registry, Redactor), vendor),
                parse=parse,
                steps_of=steps_of,
                observer=Unobserved(),
                leased=leased,
                share=share,
                configs_differ=configs_differ,
            )
            made.append(team)
            return Parts(team, vendor, shards[:count])

        yield make
        for team in made:
            await team.stop(0)


def parse(entry: Entry) -> Sequence[Event]:
    """Return the event of an entry."""
    user = entry.request.body.decode()
    return [Event(type="track", name="Opened", id=user, user_id=f"user-{user}")]


async def until(check: Callable[[], bool]) -> None:
    """Wait until *check* returns true."""
    async with asyncio.timeout(PATIENCE):
        while not check():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0)


async def settled(parts: Parts, shard: int, seq: int) -> None:
    """Wait until a shard's cursor is at *seq*."""
    async with asyncio.timeout(PATIENCE):
        while parts.shards[shard].cursor(NAME) < seq:
            await parts.team.workers[shard].tracker.flush()
            await asyncio.sleep(0)


async def test_concurrency_holds_over_all_shards_and_they_take_turns(
    parts: Callable[..., Parts],
) -> None:
    """All workers together make `concurrency` attempts, and each shard gets its turn."""
    on = parts()
    for shard in range(SHARDS):
        await on.append(shard, *(f"{shard}{n}" for n in range(4)))
    on.start()
    await until(lambda: sum(worker.queue.ready for worker in on.team.workers.values()) == 10)
    sent: list[str] = []
    while len(sent) < 12:
        await on.vendor.got(min(CONCURRENCY, 12 - len(sent)))
        assert len(on.vendor.waiting) <= CONCURRENCY
        sent.append(on.vendor.answer())
    for shard in range(SHARDS):
        assert [user for user in sent if user[0] == str(shard)] == [f"{shard}{n}" for n in range(4)]
        await settled(on, shard, 4)
    assert {user[0] for user in sent[2:5]} == {"0", "1", "2"}, "one of each in turn"
    assert on.team.status().delivered == 12


async def test_the_rate_holds_over_all_shards(parts: Callable[..., Parts]) -> None:
    """A burst is counted once for all shards."""
    on = parts(rate=0.001, burst=2, concurrency=9)
    await on.begin()
    for shard in range(SHARDS):
        await on.append(shard, f"{shard}0")
    assert len(await on.vendor.got(2)) == 2
    await until(lambda: sum(worker.queue.ready for worker in on.team.workers.values()) == 1)
    assert len(on.vendor.waiting) == 2


async def test_concurrency_is_divided_like_the_shards(parts: Callable[..., Parts]) -> None:
    """A team with a part of the shards makes that part of the attempts, and at least one."""
    part = 0.5
    on = parts(share=lambda: part, concurrency=7)
    for shard in range(SHARDS):
        await on.append(shard, *(f"{shard}{n}" for n in range(9)))
    await on.begin()
    await until(lambda: sum(worker.queue.ready for worker in on.team.workers.values()) == 24)
    assert len(on.vendor.waiting) == 3
    part = 0.1
    on.team.abandon(2)
    while len(on.vendor.waiting) > 1:
        on.vendor.answer()
    on.vendor.answer()
    assert len(on.vendor.waiting) == 1
    part = 3 / 7
    on.team.abandon(1)
    assert len(await on.vendor.got(3)) == 3


async def test_the_rate_is_divided_like_the_shards(parts: Callable[..., Parts]) -> None:
    """A team with a part of the shards has that part of the burst and of the rate."""
    on = parts(share=lambda: 0.5, rate=0.001, burst=4, concurrency=9)
    await on.begin()
    for shard in range(SHARDS):
        await on.append(shard, f"{shard}0")
    assert len(await on.vendor.got(2)) == 2
    await until(lambda: sum(worker.queue.ready for worker in on.team.workers.values()) == 1)
    assert on.team.limiter.wait_time(time.monotonic()) > 1 / 0.001


async def test_the_circuit_opens_for_all_shards(parts: Callable[..., Parts]) -> None:
    """Failures in one shard stop the attempts of all."""
    on = parts(concurrency=9, retry_min=3600.0, retry_max=3600.0)
    await on.begin()
    await on.append(0, *(f"bad{n}" for n in range(5)))
    await on.vendor.got(5)
    for _ in range(5):
        on.vendor.answer(500)
    assert on.team.status().circuit == "open"
    await on.append(1, "good")
    await until(lambda: on.team.workers[1].queue.ready == 1)
    assert on.vendor.waiting == []


async def test_a_worker_that_cannot_record_holds_up_no_other(
    parts: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one shard records nothing, the workers of the others go on at once."""
    on = parts(2)
    await on.begin()

    async def fails(*_: Any, **__: Any) -> None:
        raise SpoolError("injected")

    with capture_logs() as logs:
        monkeypatch.setattr(on.shards[0], "settle", fails)
        await on.append(0, "first")
        await on.vendor.got(1)
        on.vendor.answer()
        with pytest.raises(SpoolError):
            await on.team.workers[0].tracker.flush()
        await on.append(0, "held")
        await on.append(1, "free")
        assert await on.vendor.got(1) == ["free"]
        on.vendor.answer()
        await settled(on, 1, 1)
        monkeypatch.undo()
        assert await on.vendor.got(1) == ["held"]
        on.vendor.answer()
        await settled(on, 0, 2)
    (failed,) = [line for line in logs if line["event"] == "progress_failed"]
    assert (failed["destination"], failed["shard"]) == (NAME, 0)


async def test_a_fenced_worker_ends_and_records_nothing_and_others_go_on(
    parts: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose shard is taken over leaves the team: its attempts no longer count."""
    on = parts(2)
    await on.begin()
    reports = 0

    async def fenced(*_: Any, **__: Any) -> None:
        nonlocal reports
        reports += 1
        raise Fenced("shard 0 belongs to another node")

    with capture_logs() as logs:
        await on.append(0, "first", "second")
        await on.vendor.got(2)
        monkeypatch.setattr(on.shards[0], "settle", fenced)
        worker = on.team.workers[0]
        on.vendor.answer()
        await worker.tracker.flush()
        assert on.team.workers.keys() == {1}
        on.vendor.answer()  # its place is free again, and nothing else happens
        await on.append(0, "third")
        await on.append(1, "one", "two", "three")
        assert await on.vendor.got(CONCURRENCY) == ["one", "two"]
        for _ in range(3):
            await on.vendor.got(1)
            on.vendor.answer()
        await settled(on, 1, 3)
        await worker.tracker.flush()
    assert (reports, on.shards[0].cursor(NAME)) == (1, 0)
    assert [(x["event"], x["shard"]) for x in logs if x["log_level"] != "info"] == [
        ("shard_fenced", 0)
    ]


async def test_a_worker_that_reads_a_fenced_shard_ends(
    parts: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot read its shard because it was taken over leaves the team."""
    on = parts(2)

    async def fenced(*_: Any) -> None:
        raise Fenced("shard 0 belongs to another node")

    monkeypatch.setattr(on.shards[0], "blocked", fenced)
    on.start()
    await until(lambda: 0 not in on.team.workers)
    await on.append(1, "one")
    assert await on.vendor.got(1) == ["one"]


@pytest.mark.parametrize("error", [ArithmeticError, asyncio.CancelledError, SpoolError])
async def test_the_reader_survives_whatever_the_shard_raises(
    parts: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """The reader logs an exception of the shard with its destination and shard, and goes on."""
    monkeypatch.setattr(reader, "TICK", 0.01)
    on = parts(2)
    await on.append(1, "one")
    entries, left = on.shards[1].entries, 3

    async def fails(seqs: Sequence[int]) -> list[LogRecord]:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error("injected")
        return await entries(seqs)

    monkeypatch.setattr(on.shards[1], "entries", fails)
    with capture_logs() as logs:
        on.start()
        assert await on.vendor.got(1) == ["one"]
    told = [x for x in logs if x["event"] in ("reader_failed", "spool_read_failed")]
    assert [(x["destination"], x["shard"]) for x in told] == [(NAME, 1)] * 3


async def test_memory_is_divided_among_the_workers(parts: Callable[..., Parts]) -> None:
    """Each of three workers has room for a third of the jobs that a single one has."""
    alone, three = parts(1), parts(3)
    rooms = []
    for on in (alone, three):
        on.start()
        rooms.append(on.team.workers[0].queue.in_flight.room("shop", 1))
    assert rooms[0] == 3 * rooms[1] + rooms[0] % 3


async def test_a_shard_that_is_added_while_the_team_runs_is_delivered(
    parts: Callable[..., Parts],
) -> None:
    """A worker that joins delivers what waits in its shard and what comes, in turn with others."""
    on = parts(2)
    await on.begin()
    on.team.abandon(1)
    await on.append(1, "waits")
    await on.append(0, "a", "b", "c", "d")
    assert await on.vendor.got(2) == ["a", "b"]
    on.team.add(on.shards[1])
    await until(lambda: on.team.workers[1].queue.ready == 1)
    await on.append(1, "comes")
    sent: list[str] = []
    while len(sent) < 6:
        await on.vendor.got(min(CONCURRENCY, 6 - len(sent)))
        sent.append(on.vendor.answer())
    assert [user for user in sent if user in ("waits", "comes")] == ["waits", "comes"]
    assert sent.index("waits") <= 3, "in its turn"
    assert all(worker.queue.in_flight.sharers == 2 for worker in on.team.workers.values())
    await settled(on, 1, 2)


async def test_a_stopping_team_takes_no_shard(parts: Callable[..., Parts]) -> None:
    """A shard that comes while the team stops is left to the team that follows."""
    on = parts(1)
    on.start()
    await on.append(0, "first")
    await on.vendor.got(1)
    stopping = asyncio.create_task(on.team.stop(PATIENCE))
    await asyncio.sleep(0)
    on.team.add(on.shards[0])
    worker = on.team.workers[0]
    on.vendor.answer()
    await stopping
    assert on.team.workers == {0: worker}
    assert on.shards[0].cursor(NAME) == 1


async def test_a_shard_is_given_up_once_its_attempts_are_recorded(
    parts: Callable[..., Parts],
) -> None:
    """Attempts of a shard that is given up end and are recorded; the next ones stay in it."""
    on = parts(2)
    await on.begin()
    await on.append(0, "one", "two", "three")
    await on.vendor.got(2)
    giving = asyncio.create_task(on.team.give_up(0, PATIENCE))
    await asyncio.sleep(0)
    on.team.pause(paused=False)  # an operator opens no shard that leaves
    await on.append(0, "four")
    on.vendor.answer()
    await on.append(1, "other")
    assert await on.vendor.got(2) == ["two", "other"], "the other shard goes on"
    on.vendor.answer()
    await giving
    assert on.team.workers.keys() == {1}
    assert on.shards[0].cursor(NAME) == 2
    on.team.add(on.shards[0])
    on.vendor.answer()
    assert await on.vendor.got(2) == ["three", "four"]


async def test_a_shard_waits_for_its_own_attempts_alone_and_no_longer_than_the_grace(
    parts: Callable[..., Parts],
) -> None:
    """Attempts of other shards hold nothing up, and one that does not end is delivered again."""
    on = parts(2)
    await on.begin()
    await on.append(0, "done", "hangs")
    await on.vendor.got(2)
    on.vendor.answer()
    await on.append(1, "other")
    assert await on.vendor.got(2) == ["hangs", "other"]
    with capture_logs() as logs:
        await on.team.give_up(1, 0)
        await on.team.give_up(0, 0)
    assert [(x["event"], x["shard"], x["in_flight"]) for x in logs] == [
        ("drain_timed_out", 1, 1),
        ("drain_timed_out", 0, 1),
    ]
    assert [shard.cursor(NAME) for shard in on.shards[:2]] == [1, 0]
    on.vendor.answer()  # its place is free, and the shard records nothing
    on.vendor.answer()
    on.team.add(on.shards[0])
    assert await on.vendor.got(1) == ["hangs"]


async def test_a_shard_without_attempts_is_given_up_at_once(parts: Callable[..., Parts]) -> None:
    """A shard does not wait for the attempts of others."""
    on = parts(2)
    on.start()
    await on.append(0, "first")
    await on.vendor.got(1)
    await on.team.give_up(1, PATIENCE * 9)
    assert on.team.workers.keys() == {0}


async def test_a_shard_that_is_fenced_while_it_is_given_up_ends(
    parts: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Giving a shard up ends without an error if another process takes the shard meanwhile."""
    on = parts(2)
    on.start()
    await on.append(0, "first")
    await on.vendor.got(1)

    async def fenced(*_: Any, **__: Any) -> None:
        raise Fenced("shard 0 belongs to another node")

    monkeypatch.setattr(on.shards[0], "settle", fenced)
    giving = asyncio.create_task(on.team.give_up(0, PATIENCE))
    await asyncio.sleep(0)
    on.vendor.answer()
    await giving
    assert on.team.workers.keys() == {1}


async def test_a_probe_of_a_shard_that_is_gone_holds_up_no_other(
    parts: Callable[..., Parts],
) -> None:
    """If the shard of the attempt that probes the vendor is lost, another shard probes."""
    on = parts(2, retry_min=0.01, retry_max=0.01, concurrency=9)
    await on.begin()
    await on.append(0, *(f"bad{n}" for n in range(5)))
    await on.vendor.got(5)
    for _ in range(5):
        on.vendor.answer(500)
    await on.vendor.got(1)
    assert on.team.status().circuit == "half_open"
    await on.append(1, "good")
    on.team.abandon(0)
    on.vendor.answer()
    assert await on.vendor.got(1) == ["good"]


@pytest.mark.parametrize("shards", [1, 2])
async def test_attempts_wait_for_the_lease(parts: Callable[..., Parts], shards: int) -> None:
    """While the process is not leased no attempt begins; those under way end and are recorded."""
    leased = True
    on = parts(shards, lambda: leased)
    await on.begin()
    await on.append(0, "first")
    await on.vendor.got(1)
    leased = False
    await on.append(0, "second")
    await until(lambda: on.team.workers[0].queue.ready == 1)
    on.vendor.answer()
    await settled(on, 0, 1)
    assert on.vendor.waiting == []
    leased = True
    assert await on.vendor.got(1) == ["second"]


@pytest.mark.parametrize("lacks", ["route", "plugin"])
async def test_what_only_another_process_can_make_waits(
    parts: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """While configurations differ an event waits, in its user's order, and is no dead letter."""
    monkeypatch.setattr(worker, "CONFIG_WAIT", 0.01)
    differ, steps, known = True, None, lacks == "route"

    def parsed(entry: Entry) -> Sequence[Event]:
        return parse(entry) if known else ()

    on = parts(1, configs_differ=lambda: differ, steps_of=lambda _: steps, retry_min=0.01)
    on.team.parse = parsed
    (shard,) = on.shards
    await on.begin()
    await on.append(0, "u", route="new", parsed=known)
    await on.append(0, "u", parsed=known)
    await until_waiting(on, retrying=1 if known else 2, parked=1 if known else 0)
    assert on.vendor.waiting == []
    steps, known = StepChain("new", ()), True
    for _ in range(2):
        assert await on.vendor.got(1) == ["u"]
        on.vendor.answer()
    await until_waiting(on, retrying=0, parked=0)
    assert await shard.dead_letters() == []

    differ, steps = False, None
    await on.append(0, "last", route="gone")
    await until_waiting(on, retrying=0, parked=0, dead=1)
    (letter,) = await shard.dead_letters()
    assert "'gone', whose steps apply to this event, no longer exists" in letter.reason
    assert on.team.status().circuit == "closed"


async def until_waiting(on: Parts, *, retrying: int, parked: int, dead: int = 0) -> None:
    """Wait until so many deliveries wait in the first shard, and are dead letters."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await on.team.workers[0].tracker.flush()
            depth = (await on.shards[0].depths())[NAME]
            if (depth.retrying, depth.parked, depth.dead_letters) == (retrying, parked, dead):
                return
            await asyncio.sleep(0)
