"""Faults injected into parts of a running gateway leave no trace once they are over."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.delivery.job import Job
from gateway.delivery.queue import USER_JOBS
from gateway.delivery.sender import OnResult
from gateway.errors import Rejected, SpoolError
from gateway.event import Event
from gateway.http import Request, Response
from gateway.ingest.events import parse_stored
from gateway.observability.observer import DestinationObserver
from gateway.plugin.vendor import Input
from gateway.spool import BacklogLimit, DeliveryRef, Entry, Evicted, Progress, WaitingDelivery
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.verdict import RetryLater, Verdict
from tests.e2e.running import PATIENCE
from tests.soak.in_process_harness import in_process_harness
from tests.soak.ledger import dead_letters, disordered
from tests.soak.load import pour
from tests.soak.marks import EventMark, request
from tests.soak.process_harness import PROMPT
from tests.soak.vendor import Behaviour

FIRST = EventMark(0, 1)
BATCHER = 3
"""A user who sends several events per request."""
READS = ("unread", "retrying", "parked", "blocked", "entries")
SLOW = PROMPT.replace("1s", "20s")
PATIENT = 'timeout = "20s"\nretry_min = "20ms"\nretry_max = "5m"'
AMPLE = 'drain_timeout = "30s"'
UNRECORDED = 1024
"""Maximum number of ended deliveries that the spool has not recorded yet."""

Call = Callable[..., Any]


def said_in(logs: list[Any]) -> set[str]:
    """Return the events in *logs*."""
    return {line["event"] for line in logs}


async def until(holds: Callable[[], bool]) -> None:
    """Wait until *holds* returns true; it reads state that signals no change."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def failing(call: Call, dice: random.Random, share: float) -> Call:
    """Return *call*, which fails at random as an unreadable spool does."""

    async def fails(*args: Any, **options: Any) -> Any:
        if dice.random() < share:
            raise SpoolError("injected")
        return await call(*args, **options)

    return fails


async def test_failing_reads_of_the_spool_leave_nothing_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads of the spool that fail at random are logged; afterwards everything arrives in order."""
    dice = random.Random(7)  # noqa: S311 - no secret, and it must be repeatable
    with capture_logs() as logs:
        async with in_process_harness(tmp_path, "chrts") as on:
            vendor, shard = on.vendors["chrts"], on.gateway.spool.shards[0]
            vendor.weights = {"500": 1, "ok": 2}
            with monkeypatch.context() as patch:
                for name in READS:
                    patch.setattr(shard, name, failing(getattr(shard, name), dice, 0.5))
                await on.send(300)
            vendor.weights = {"ok": 1}
            await on.arrived("chrts")
            assert not disordered(vendor.accepted)
    assert "spool_read_failed" in said_in(logs)


@pytest.mark.parametrize(
    ("name", "nth"),
    [("unread", 1), ("blocked", 1), ("retrying", 1), ("retrying", 2), ("retrying", 3),
     ("entries", 1), ("entries", 2), ("parked", 1)],
)  # fmt: skip
async def test_a_failed_read_is_repeated_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nth: int
) -> None:
    """A read that fails, of a retry or of a parked event, is repeated without another trigger."""
    monkeypatch.setattr("gateway.delivery.backlog.TICK", 0.05)
    marks = [EventMark(4, 1), EventMark(4, 2)]
    waits = {
        1: WaitingDelivery(DeliveryRef(1, 0), due=0, reason="HTTP 500", user="user-4"),
        2: WaitingDelivery(DeliveryRef(2, 0), due=0, user="user-4", parked=True),
    }
    await filled(tmp_path / "spool", marks, waits)
    calls, read = 0, getattr(SqliteSpool, name)

    async def fails_once(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise SpoolError("injected")
        return await read(*args)

    monkeypatch.setattr(SqliteSpool, name, fails_once)
    async with in_process_harness(tmp_path, "chrts", delivery=PROMPT) as on:
        await on.vendors["chrts"].until(lambda v: len(v.accepted) == len(marks), PATIENCE)
    assert calls > nth
    assert list(on.vendors["chrts"].accepted) == marks


async def test_an_exception_in_a_delivery_stops_no_task_and_no_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that raises an exception is logged and made again; every event arrives."""
    dice = random.Random(3)  # noqa: S311 - no secret, and it must be repeatable
    with capture_logs() as logs:
        async with in_process_harness(tmp_path, "chrts") as on:
            sender = on.gateway.teams["chrts"].sender
            sends = sender.send

            def fails(jobs: Sequence[Job], on_result: OnResult) -> None:
                if dice.random() < 0.2:
                    raise ArithmeticError("injected")
                sends(jobs, on_result)

            monkeypatch.setattr(sender, "send", fails)
            await on.send(200)
            monkeypatch.setattr(sender, "send", sends)
            await on.arrived("chrts")
    assert "delivery_failed" in said_in(logs)


def faulty(call: Call, dice: random.Random) -> Call:
    """Return *call*, which fails at random before it does anything."""

    def fails(*args: Any, **options: Any) -> Any:
        if dice.random() < 0.1:
            raise ArithmeticError("injected")
        return call(*args, **options)

    return fails


async def test_an_exception_when_a_delivery_ends_stops_no_task_and_no_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception at a delivery's end is logged, and the delivery is made again."""
    dice = random.Random(5)  # noqa: S311 - no secret, and it must be repeatable
    with capture_logs() as logs:
        async with in_process_harness(tmp_path, "chrts") as on:
            vendor, worker = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
            vendor.weights = {"500": 1, "ok": 3}
            vendor.dislikes = lambda mark: "400" if mark.number == 2 else None
            with monkeypatch.context() as patch:
                patch.setattr("gateway.delivery.pump.PAUSE", 0.01)
                for part, name in (
                    (DestinationObserver, "on_attempt"),
                    (worker._observer, "_settled"),
                    (worker, "take"),
                    (worker.breaker, "record_success"),
                    (worker.breaker, "record_failure"),
                    (worker.dead_letters, "write"),
                    (worker.tracker, "delivered"),
                    (worker.tracker, "completed"),
                    (worker.tracker, "dead_lettered"),
                ):
                    patch.setattr(part, name, faulty(getattr(part, name), dice))
                patch.setattr(worker._pump, "_take", worker.take)
                await on.send(400)
                await vendor.until(lambda v: len(v.accepted) > 300, PATIENCE)
            vendor.weights = {"ok": 1}
            bad = {mark for mark in on.load.acknowledged if mark.number == 2}
            must = on.load.acknowledged.keys() - bad
            await vendor.until(lambda v: must <= v.accepted.keys(), PATIENCE)
            await until(
                lambda: worker._counts.dead_lettered >= len(bad) and not len(worker.queue.in_flight)
            )
            assert not disordered(vendor.accepted)
    assert {"settle_failed", "observer_failed", "pump_failed"} <= said_in(logs)


async def test_after_failures_without_a_reason_all_tasks_work_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage without failure reasons, deliveries go on at full concurrency at once."""
    async with in_process_harness(tmp_path, "chrts", users=64, delivery=PATIENT) as on:
        vendor, worker = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
        judges = worker.sender._judge

        def wordless(answer: Response) -> Verdict:
            verdict = judges(answer)
            return replace(verdict, reason="") if isinstance(verdict, RetryLater) else verdict

        monkeypatch.setattr(worker.sender, "_judge", wordless)
        vendor.weights = {"500": 1}
        await on.send(64)
        await until(lambda: worker.breaker.state == "open")
        planned: list[Behaviour] = ["ok"]
        vendor.decide = lambda _: planned.pop() if planned else "held"
        await vendor.until(lambda _: not planned, PATIENCE)
        await vendor.until(lambda v: v.answering == 8, 2)
        vendor.release()
        await on.arrived("chrts")


async def test_deliveries_stop_while_progress_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While progress cannot be recorded, deliveries stop and it is logged; then each arrives."""
    with capture_logs() as logs:
        async with in_process_harness(tmp_path, "chrts") as on:
            vendor, shard = on.vendors["chrts"], on.gateway.spool.shards[0]
            with monkeypatch.context() as patch:
                always = random.Random(1)  # noqa: S311 - no secret
                patch.setattr(shard, "settle", failing(shard.settle, always, 1.0))
                await on.send(40)
                await until(lambda: on.gateway.teams["chrts"].workers[0].tracker.stalled)
                sent = len(vendor.attempts)
                await on.send(200)
                assert len(vendor.attempts) <= sent + 8, "only what was on its way"
            await on.arrived("chrts")
            assert set(vendor.accepted.values()) == {1}
    assert {"progress_failed", "progress_recovered"} <= said_in(logs)


async def test_deliveries_wait_for_a_slow_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first record is not written, at most `UNRECORDED` deliveries end."""
    async with in_process_harness(tmp_path, "chrts", users=64, delivery=SLOW) as on:
        vendor, shard = on.vendors["chrts"], on.gateway.spool.shards[0]
        goes_on, settles = asyncio.Event(), shard.settle

        async def waits(destination: str, progress: Progress, *, soon: bool) -> None:
            await goes_on.wait()
            await settles(destination, progress, soon=soon)

        monkeypatch.setattr(shard, "settle", waits)
        await on.send(UNRECORDED + 400)
        await vendor.until(lambda v: len(v.accepted) >= UNRECORDED, PATIENCE)
        with pytest.raises(TimeoutError):
            await vendor.until(lambda v: len(v.accepted) > UNRECORDED + 64, 1)
        goes_on.set()
        await on.arrived("chrts")


async def test_events_during_a_slow_start_arrive_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that arrive while a destination's worker starts are delivered once."""
    async with in_process_harness(tmp_path, "chrts", "tracardi") as on:
        shard = on.gateway.spool.shards[0]
        counts = shard.blocked
        on.setup.present.remove("tracardi")
        await on.reload()
        counting, goes_on = asyncio.Event(), asyncio.Event()

        async def slowly(destination: str) -> Any:
            found = await counts(destination)
            if destination == "tracardi":
                counting.set()
                await goes_on.wait()
            return found

        monkeypatch.setattr(shard, "blocked", slowly)
        on.setup.present.append("tracardi")
        reloading = asyncio.get_running_loop().create_task(on.reload())
        await asyncio.wait_for(counting.wait(), PATIENCE)
        await on.send(60)
        goes_on.set()
        await reloading
        await on.send(60)
        await on.arrived("chrts")
        got = on.vendors["tracardi"].accepted
        await on.vendors["tracardi"].until(lambda v: len(v.accepted) > 30, PATIENCE)
        assert set(got.values()) == {1}


@pytest.mark.parametrize("how", ["change", "remove"])
async def test_a_reload_waits_for_running_attempts(tmp_path: Path, how: str) -> None:
    """A reload waits for attempts that the vendor has accepted, and does not repeat them."""
    async with in_process_harness(tmp_path, "chrts", "tracardi", delivery=SLOW, server=AMPLE) as on:
        vendor, old = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
        vendor.decide = lambda _: "held"
        sent = await pour(on.url, 4, users=4)
        await vendor.until(lambda v: v.answering == len(sent), PATIENCE)
        if how == "change":
            on.setup.change("chrts")
        else:
            on.setup.present.remove("chrts")
        reloading = asyncio.get_running_loop().create_task(on.reload())
        await until(lambda: old.queue.closed)
        vendor.release()
        await reloading
        on.setup.present = ["chrts", "tracardi"]
        await on.reload()
        await pour(on.url, 4, users=4, first=400)
        await vendor.until(lambda v: len(v.accepted) == 2 * len(sent), PATIENCE)
    assert set(vendor.accepted.values()) == {1}


async def test_delivered_events_do_not_overflow(tmp_path: Path) -> None:
    """An overflow gives up no event that was delivered, even behind an older pending one."""
    more = SLOW + 'max_backlog = 60\non_full = "dead_letter"'
    async with in_process_harness(tmp_path, "chrts", delivery=more, users=12) as on:
        vendor = on.vendors["chrts"]
        vendor.decide = lambda marks: "hang" if marks[0].user == FIRST.user else None
        await on.send(400)
        others = {mark for mark in on.load.acknowledged if mark.user != FIRST.user}
        await vendor.until(lambda v: others <= v.accepted.keys(), PATIENCE)
        await on.gateway.teams["chrts"].workers[0].tracker.flush()
        letters = await asyncio.to_thread(dead_letters, tmp_path / "spool")
        assert letters["chrts"]
        assert not letters["chrts"].keys() & vendor.accepted.keys()


async def test_a_user_continues_after_its_retry_is_evicted(tmp_path: Path) -> None:
    """When an overflow gives up a user's retry, the events parked behind it are delivered."""
    more = PROMPT + 'max_backlog = 10\non_full = "dead_letter"'
    async with in_process_harness(tmp_path, "chrts", delivery=more, users=4) as on:
        vendor = on.vendors["chrts"]
        vendor.weights = {"500": 3, "slow": 1}
        await on.send(300)
        vendor.weights = {"ok": 1}
        before = len(on.load.acknowledged)
        for _ in range(4):
            await on.send(4)
        last = set(list(on.load.acknowledged)[before + 8 :])
        await vendor.until(lambda v: bool(last & v.accepted.keys()), PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while any(_pending(await on.gateway.spool.depths())):
                await on.gateway.teams["chrts"].workers[0].tracker.flush()


def _pending(depths: Any) -> list[int]:
    return [depth.backlog + depth.retrying + depth.parked for depth in depths.values()]


async def filled(
    folder: Path, marks: Sequence[EventMark], waiting: dict[int, WaitingDelivery]
) -> None:
    """Leave *marks* in a spool, with some deliveries *waiting*, as a crash does."""
    spool = SqliteSpool(folder)
    await spool.open()
    await spool.register({"chrts": BacklogLimit()})
    for number, mark in enumerate(marks):
        data, _ = request(mark.user, mark.number)
        head, _, body = data.partition(b"\r\n\r\n")
        target = head.split(b" ")[1].decode()
        sent = Request(
            method="POST",
            url=target,
            headers={"content-type": "application/json", "authorization": "Bearer k"},
            body=body,
            id=f"r-{number}",
        )
        users = (spool.user_hash(f"user-{mark.user}"),)
        await spool.append(
            Entry(f"r-{number}", "shop", sent, {"chrts": (0,)}, "chrts", users=users)
        )
    await spool.settle("chrts", Progress(0, later=list(waiting.values())))
    await spool.close()


async def test_a_retry_that_ends_ahead_of_the_log_comes_once(tmp_path: Path) -> None:
    """A retry ahead of the cursor that ends before the log is read that far is delivered once."""
    marks = [EventMark(4 * n, 1) for n in range(400)]
    waits = {
        seq: WaitingDelivery(
            DeliveryRef(seq, 0), due=0, reason="HTTP 500", user=f"user-{4 * (seq - 1)}"
        )
        for seq in range(300, 380)
    }
    await filled(tmp_path / "spool", marks, waits)
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW + "concurrency = 2") as on:
        vendor = on.vendors["chrts"]
        vendor.weights, vendor.pace = {"slow": 1}, (0.005, 0.01)
        await vendor.until(lambda v: set(marks) <= v.accepted.keys(), PATIENCE)
        order = list(vendor.accepted)
        assert order.index(marks[310]) < order.index(marks[290]), "it went ahead of the log"
    assert set(vendor.accepted.values()) == {1}


async def test_more_retries_than_a_page_keep_their_users_order(tmp_path: Path) -> None:
    """An event parked behind a retry waits for it, even with more retries due than fit a page."""
    users = 1200
    marks = [EventMark(4 * n, number) for number in (1, 2) for n in range(users)]
    due = time.time() + 2
    waits = {}
    for seq, mark in enumerate(marks, 1):
        behind = mark.number == 2
        waits[seq] = WaitingDelivery(
            DeliveryRef(seq, 0), due=due, reason="" if behind else "HTTP 500",
            user=f"user-{mark.user}",
            parked=behind,
        )  # fmt: skip
    await filled(tmp_path / "spool", marks, waits)
    async with in_process_harness(tmp_path, "chrts", delivery=PATIENT) as on:
        vendor = on.vendors["chrts"]
        await vendor.until(lambda v: set(marks) <= v.accepted.keys(), PATIENCE)
    assert not disordered(vendor.accepted)
    assert set(vendor.accepted.values()) == {1}


async def test_large_events_are_held_within_a_bound_of_bytes(tmp_path: Path) -> None:
    """In an outage, requests of 200 KB stay in memory only up to the limit in bytes."""
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor, worker = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
        vendor.decide = lambda _: "held"
        sent = await pour(on.url, 160, users=160, padding="x" * 200_000)
        await vendor.until(lambda v: v.answering == 8, PATIENCE)
        assert worker.queue.ready <= 100, "100 such requests are past 16 MiB"
        vendor.release()
        await vendor.until(lambda v: set(sent) <= v.accepted.keys(), PATIENCE)


@pytest.mark.parametrize("requests", [1, 9])
async def test_one_user_has_a_bounded_number_of_events_in_memory(
    tmp_path: Path, requests: int
) -> None:
    """At most `USER_JOBS` events of a user's burst are in memory, in one request or in several."""
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor, worker = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
        vendor.decide = lambda _: "held"
        on.load.aim(on.url)
        await on.load.burst(BATCHER, 90, 90 // requests)
        await vendor.until(lambda v: v.answering == 1, PATIENCE)
        assert len(worker.queue.in_flight) == USER_JOBS
        assert worker.backlog.unread == 90 - USER_JOBS
        vendor.release()
        await on.arrived("chrts")
        assert not disordered(vendor.accepted)


async def test_a_passed_through_request_is_not_split(tmp_path: Path) -> None:
    """A request that is passed through is sent whole, however many events of a user it has."""
    async with in_process_harness(tmp_path, "tracardi", delivery=SLOW) as on:
        vendor, worker = on.vendors["tracardi"], on.gateway.teams["tracardi"].workers[0]
        vendor.decide = lambda _: "held"
        on.load.aim(on.url)
        await on.load.burst(BATCHER, 8 * USER_JOBS, 2 * USER_JOBS)
        await vendor.until(lambda v: v.answering == 1, PATIENCE)
        assert len(worker.queue.in_flight) == 2 * USER_JOBS
        vendor.release()
        await on.arrived("tracardi")
        assert [len(attempt.marks) for attempt in vendor.attempts] == [2 * USER_JOBS] * 4


async def test_a_stored_request_that_no_longer_parses_is_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored request that its plugin rejects becomes one dead letter, and is logged."""
    marks = [EventMark(4 * n, 1) for n in range(4)]
    await filled(tmp_path / "spool", marks, {})
    with capture_logs() as logs:
        refused = _refusing(monkeypatch, b"m-4-1-m")
        async with in_process_harness(tmp_path, "chrts", delivery=PROMPT) as on:
            vendor = on.vendors["chrts"]
            must = {mark for mark in marks if mark.user != 4}
            await vendor.until(lambda v: must <= v.accepted.keys(), PATIENCE)
            await on.gateway.teams["chrts"].workers[0].tracker.flush()
            (letter,) = await on.gateway.spool.dead_letters()
        assert refused
    assert "no longer contains this event" in letter.reason
    assert "stored_request_unparsable" in said_in(logs)


def _refusing(monkeypatch: pytest.MonkeyPatch, what: bytes) -> list[str]:
    refused: list[str] = []

    def picky(entry: Entry, inputs: Mapping[str, Input]) -> list[Event]:
        if what in entry.request.body:
            refused.append(entry.id)
            raise Rejected("$", "is not read any more")
        return parse_stored(entry, inputs)

    monkeypatch.setattr("gateway.app.parse_stored", picky)
    return refused


async def test_a_backlog_that_no_longer_parses_is_read_without_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages without a deliverable event are read one after the other, without a wait."""
    monkeypatch.setattr("gateway.delivery.backlog.TICK", 3600.0)
    await filled(tmp_path / "spool", [EventMark(4 * n, 1) for n in range(250)], {})
    assert not _refusing(monkeypatch, b"m-")
    async with in_process_harness(tmp_path, "chrts", delivery=PROMPT) as on:
        await until(lambda: on.gateway.teams["chrts"].counts.dead_lettered == 250)


async def test_a_parked_event_continues_after_an_unparsable_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parked event is delivered when the event before it turns out to be unparsable."""
    marks = [EventMark(4, 1), EventMark(4, 2)]
    behind = WaitingDelivery(DeliveryRef(2, 0), due=0, reason="", user="user-4", parked=True)
    await filled(tmp_path / "spool", marks, {2: behind})
    refused = _refusing(monkeypatch, b"m-4-1-m")
    async with in_process_harness(tmp_path, "chrts", delivery=PROMPT) as on:
        await on.vendors["chrts"].until(lambda v: marks[1] in v.accepted, PATIENCE)
    assert refused


async def test_blocked_users_are_counted_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that fails while the spool counts blocked users blocks its user's next event."""
    slow = 'timeout = "20s"\nretry_min = "1h"\nretry_max = "1h"'
    async with in_process_harness(tmp_path, "chrts", delivery=slow) as on:
        vendor, shard = on.vendors["chrts"], on.gateway.spool.shards[0]
        worker = on.gateway.teams["chrts"].workers[0]
        vendor.dislikes = lambda mark: "500" if mark == FIRST else None
        counting, goes_on, counts = asyncio.Event(), asyncio.Event(), shard.blocked

        async def slowly(destination: str) -> dict[str, int]:
            found = await counts(destination)
            counting.set()
            await goes_on.wait()
            return found

        monkeypatch.setattr(shard, "blocked", slowly)
        worker.backlog.on_notice(Evicted("chrts", 0, ()))
        await asyncio.wait_for(counting.wait(), PATIENCE)
        await pour(on.url, 1, users=1)
        await until(lambda: on.gateway.teams["chrts"].counts.retried == 1)
        counting.clear()
        goes_on.set()
        await asyncio.wait_for(counting.wait(), PATIENCE)
        await pour(on.url, 1, users=1, first=4)
        await vendor.until(lambda v: EventMark(4, 1) in v.accepted, PATIENCE)
        assert worker.queue.users.blocked(f"user-{FIRST.user}")


async def test_the_cursor_stays_before_an_entry_whose_read_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor does not pass an entry that is in flight after a failed read."""
    await filled(tmp_path / "spool", [EventMark(4, 1)], {})
    reading, goes_on, reads = asyncio.Event(), asyncio.Event(), SqliteSpool.entries

    async def fails_once(spool: SqliteSpool, seqs: Sequence[int]) -> Any:
        if seqs and not reading.is_set():
            reading.set()
            await goes_on.wait()
            raise SpoolError("injected")
        return await reads(spool, seqs)

    monkeypatch.setattr(SqliteSpool, "entries", fails_once)
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor, worker = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
        vendor.decide = lambda _: "held"
        await asyncio.wait_for(reading.wait(), PATIENCE)
        await pour(on.url, 1, users=1)
        await vendor.until(lambda v: v.answering == 1, PATIENCE)
        goes_on.set()
        await vendor.until(lambda v: v.answering == 2, PATIENCE)
        worker.tracker.advance()
        await worker.tracker.flush()
        assert on.gateway.spool.shards[0].cursor("chrts") == 0
        vendor.release()
        await vendor.until(lambda v: EventMark(4, 1) in v.accepted, PATIENCE)


async def test_retries_in_memory_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When many retries are due at once, a bounded number is in memory, and all arrive once."""
    monkeypatch.setattr("gateway.delivery.queue.WINDOW_JOBS", 50)
    marks = [EventMark(4 * n, 1) for n in range(400)]
    waits = {
        seq: WaitingDelivery(
            DeliveryRef(seq, 0), due=0, reason="HTTP 500", user=f"user-{mark.user}"
        )
        for seq, mark in enumerate(marks, 1)
    }
    await filled(tmp_path / "spool", marks, waits)
    async with in_process_harness(tmp_path, "chrts", delivery=SLOW) as on:
        vendor, worker = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
        vendor.decide = lambda _: "held"
        await vendor.until(lambda v: v.answering == 8, PATIENCE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await until(lambda: worker.queue.in_flight.waiting > 150)
        vendor.release()
        await vendor.until(lambda v: set(marks) <= v.accepted.keys(), PATIENCE)
    assert set(vendor.accepted.values()) == {1}
