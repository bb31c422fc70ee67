"""One destination's worker: in an outage and after it, at its start and at its end."""

import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.delivery import Team
from gateway.delivery.backlog import MAX_INDEXED, PAGE
from gateway.event import Event
from gateway.http import Request
from gateway.ingest.events import parse_stored
from gateway.plugin.vendor import Input
from gateway.spool import DeliveryRef, Entry, LogRecord, WaitingDelivery
from tests.e2e.running import PATIENCE
from tests.e2e.test_injected_faults import filled, until
from tests.soak.in_process_harness import in_process_harness
from tests.soak.load import pour
from tests.soak.marks import ALIAS_EVERY, EventMark
from tests.soak.process_harness import PROMPT
from tests.soak.vendor import Behaviour

LANES = 8
"""Default number of concurrent attempts."""
LONG = 'timeout = "20s"\nretry_min = "20ms"\nretry_max = "1h"'


async def test_full_concurrency_returns_with_the_first_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a successful probe, attempts are made at full concurrency at once."""
    monkeypatch.setattr("gateway.delivery.circuit_breaker.MAX_PROBE_WAIT", 3600.0)
    marks = [EventMark(4 * n, 1) for n in range(40)]
    await filled(tmp_path / "spool", marks, {})
    async with in_process_harness(tmp_path, "chrts", delivery=LONG) as on:
        vendor, breaker = on.vendors["chrts"], on.gateway.teams["chrts"].breaker
        vendor.weights = {"500": 1}
        await until(lambda: breaker.opened > 1)  # attempts in flight at the opening have ended
        first: list[Behaviour] = ["ok"]
        vendor.decide = lambda _: first.pop() if first else "held"
        await vendor.until(lambda v: v.answering == LANES, PATIENCE)
        vendor.release()
        await vendor.until(lambda v: set(marks) <= v.accepted.keys(), PATIENCE)


async def test_a_retry_goes_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry is made when it is due, without waiting for the reader's tick or another event."""
    monkeypatch.setattr("gateway.delivery.backlog.TICK", 3600.0)
    brisk = 'timeout = "20s"\nretry_min = "20ms"\nretry_max = "50ms"'
    async with in_process_harness(tmp_path, "chrts", delivery=brisk) as on:
        vendor = on.vendors["chrts"]
        await on.gateway.teams["chrts"].workers[0].backlog.ready()
        answers: list[Behaviour] = ["500"] * 3
        vendor.decide = lambda _: answers.pop() if answers else "ok"
        (mark,) = await pour(on.url, 1, users=1)
        await vendor.until(lambda v: mark in v.accepted, PATIENCE)
    assert len(vendor.attempts) == 4


async def test_a_retry_from_before_a_start_waits_no_longer_than_retry_max(tmp_path: Path) -> None:
    """A retry that was due in hours before a stop is made within `retry_max` after the start."""
    (mark,) = marks = [EventMark(4, 1)]
    hours = time.time() + 36_000
    await filled(
        tmp_path / "spool", marks, {1: WaitingDelivery(DeliveryRef(1, 0), due=hours, user="user-4")}
    )
    async with in_process_harness(tmp_path, "chrts", delivery=PROMPT) as on:
        await on.vendors["chrts"].until(lambda v: mark in v.accepted, PATIENCE)


async def test_a_drain_tries_waiting_deliveries_at_once(tmp_path: Path) -> None:
    """A drain tries a delivery at once that would wait for hours."""
    (mark,) = marks = [EventMark(4, 1)]
    hours = time.time() + 36_000
    await filled(
        tmp_path / "spool", marks, {1: WaitingDelivery(DeliveryRef(1, 0), due=hours, user="user-4")}
    )
    async with in_process_harness(tmp_path, "chrts", delivery=LONG.replace("1h", "10h")) as on:
        vendor, team = on.vendors["chrts"], on.gateway.teams["chrts"]
        await team.ready()
        assert not vendor.attempts
        await team.drain()
        await vendor.until(lambda v: mark in v.accepted, PATIENCE)


async def test_a_delivered_event_behind_a_hanging_one_is_not_repeated(tmp_path: Path) -> None:
    """A stop records a delivered event even while an older delivery is interrupted."""
    hanging, other, later = EventMark(0, 1), EventMark(4, 1), EventMark(8, 1)
    async with in_process_harness(tmp_path, "chrts", delivery=LONG) as on:
        vendor = on.vendors["chrts"]
        vendor.dislikes = lambda mark: "hang" if mark == hanging else None
        await pour(on.url, 1, users=1)
        await vendor.until(lambda v: v.answered["hang"] == 1, PATIENCE)
        await pour(on.url, 1, users=1, first=other.user)
        await vendor.until(lambda v: other in v.accepted, PATIENCE)
    async with in_process_harness(tmp_path, "chrts", delivery=LONG) as on:
        vendor = on.vendors["chrts"]
        await vendor.until(lambda v: hanging in v.accepted, PATIENCE)
        await pour(on.url, 1, users=1, first=later.user)  # it is sent after all repeats
        await vendor.until(lambda v: later in v.accepted, PATIENCE)
        assert [attempt.marks for attempt in vendor.attempts] == [(hanging,), (later,)]


async def test_a_large_request_in_parts_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored request is parsed once, when it is read, and not again for each part."""
    parsed: list[str] = []

    def parse(entry: Entry, inputs: Mapping[str, Input]) -> list[Event]:
        parsed.append(entry.id)
        return parse_stored(entry, inputs)

    monkeypatch.setattr("gateway.app.parse_stored", parse)
    async with in_process_harness(tmp_path, "chrts", delivery=LONG) as on:
        on.load.aim(on.url)
        await on.load.burst(3, 300, 300)
        await on.arrived("chrts")
    assert len(parsed) == 1


async def test_a_team_counts_from_zero(tmp_path: Path) -> None:
    """A team's counts are 0 before the first event, and each outcome adds one to its count."""
    async with in_process_harness(tmp_path, "chrts", "tracardi", delivery=PROMPT) as on:
        team = on.gateway.teams["tracardi"]
        assert counts(team) == (0, 0, 0, 0, 0)
        vendor = on.vendors["tracardi"]
        answers: list[Behaviour] = ["500", "400", "ok"]
        vendor.decide = lambda _: answers.pop(0) if answers else "ok"
        await pour(on.url, ALIAS_EVERY, users=1)
        await until(lambda: sum(counts(team)) == ALIAS_EVERY + 1)
        assert counts(team) == (ALIAS_EVERY - 2, 1, 1, 1, 0)


def counts(team: Team) -> tuple[int, int, int, int, int]:
    """Return what a team counts."""
    now = team.status()
    return now.delivered, now.declined, now.dead, now.retried, now.shadowed


async def test_a_backlog_stays_in_the_log_while_the_circuit_is_open(tmp_path: Path) -> None:
    """While the circuit is open the backlog stays in the log; only events for probes are read."""
    marks = [EventMark(4 * n, 1) for n in range(5 * PAGE)]
    await filled(tmp_path / "spool", marks, {})
    brisk = 'timeout = "20s"\nretry_min = "20ms"\nretry_max = "50ms"'
    async with in_process_harness(tmp_path, "chrts", delivery=brisk) as on:
        vendor, worker = on.vendors["chrts"], on.gateway.teams["chrts"].workers[0]
        vendor.weights = {"500": 1}
        await until(lambda: worker.breaker.opened > 0)
        tried = len(vendor.attempts)
        await vendor.until(lambda v: len(v.attempts) > tried + 20, PATIENCE)
        assert worker.backlog.unread > 3 * PAGE
        vendor.weights = {"ok": 1}
        await vendor.until(lambda v: set(marks) <= v.accepted.keys(), PATIENCE)


async def test_a_backlog_of_any_length_costs_the_same_memory(tmp_path: Path) -> None:
    """Past what is indexed, 30,000 more unread deliveries take no memory of the worker."""
    async with in_process_harness(tmp_path, "chrts") as on:
        team, shard = on.gateway.teams["chrts"], on.gateway.spool.shards[0]
        worker, start = team.workers[0], shard.position() + 1
        await worker.backlog.ready()
        team.pause()
        request = Request(method="POST", url="/event/track")

        def offer(first: int, count: int) -> None:
            for seq in range(start + first, start + first + count):
                user = seq * 2_654_435_761 % 2**32
                entry = Entry("r", "shop", request, {"chrts": (0,)}, "chrts", users=(user,))
                worker.offer(LogRecord(seq, entry), ())

        offer(0, MAX_INDEXED + 1)
        assert worker.backlog.unread == MAX_INDEXED
        tracemalloc.start()
        try:
            offer(MAX_INDEXED + 1, 30_000)
            more, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert more < 100_000
