"""What a worker reports to the spool, and which rows read from the spool are out of date."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import pytest

from gateway.delivery.circuit_breaker import CircuitBreaker
from gateway.delivery.progress import ProgressTracker
from gateway.http import Request
from gateway.spool import (
    BacklogLimit,
    DeliveryRef,
    Entry,
    Evicted,
    FailedDelivery,
    Progress,
    SpoolNotice,
    WaitingDelivery,
)
from gateway.spool.sqlite.spool import SqliteSpool

REQUEST = Request(method="POST", url="/", body=b"{}")
PATIENCE = 10.0


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    """Return an open spool with one destination."""
    opened = SqliteSpool(tmp_path / "spool")
    await opened.open()
    await opened.register({"crm": BacklogLimit()})
    yield opened
    await opened.close()


def nothing() -> None:
    """Do nothing."""


def tracker_of(
    spool: SqliteSpool, reached: Callable[[], int], on_fenced: Callable[[], None] = nothing
) -> ProgressTracker:
    """Return the tracker of a worker."""
    return ProgressTracker("crm", spool, reached, on_recorded=nothing, on_fenced=on_fenced)


async def append(spool: SqliteSpool, count: int) -> None:
    """Append entries of one event each."""
    for number in range(count):
        await spool.append(Entry(f"r-{number}", "shop", REQUEST, {"crm": (0,)}))


async def test_the_cursor_waits_for_the_oldest_and_counts_what_is_ahead(spool: SqliteSpool) -> None:
    """The cursor stays before the oldest open entry; completed ones after it are counted."""
    await append(spool, 4)
    tracker = tracker_of(spool, spool.position)
    for seq in (1, 2, 3, 4):
        tracker.open(seq, 1)
    tracker.close(2)
    tracker.close(3)
    await tracker.flush()
    assert (tracker.completed_ahead, spool.cursor("crm")) == (2, 0)
    tracker.close(1)
    await tracker.flush()
    assert (tracker.completed_ahead, spool.cursor("crm")) == (0, 3)
    tracker.close(4)
    await tracker.flush()
    assert (tracker.completed_ahead, spool.cursor("crm")) == (0, 4)


async def test_a_part_of_an_entry_is_ahead_too(spool: SqliteSpool) -> None:
    """Completed deliveries of an open entry count as ahead."""
    tracker = tracker_of(spool, lambda: 0)
    tracker.open(1, 3)
    assert tracker.completed_ahead == 0
    tracker.close(1)
    assert tracker.completed_ahead == 1
    tracker.open(2, 2)
    tracker.close(2)
    tracker.close(1)
    assert tracker.completed_ahead == 3
    tracker.close(1)
    assert tracker.completed_ahead == 1


async def test_a_delivery_ahead_of_order_holds_the_cursor(
    spool: SqliteSpool,
) -> None:
    """A delivery opened ahead of order holds the cursor until it is settled."""
    await append(spool, 3)
    tracker = tracker_of(spool, spool.position)
    tracker.open_ahead(1)
    for seq in (2, 3):
        tracker.open(seq, 1)
        tracker.close(seq, "delivered")
    await tracker.flush()
    assert (tracker.completed_ahead, spool.cursor("crm")) == (2, 0)
    tracker.close_ahead(1)
    await tracker.flush()
    assert (tracker.completed_ahead, spool.cursor("crm")) == (0, 3)


async def test_a_row_of_an_ended_delivery_is_out_of_date(
    spool: SqliteSpool,
) -> None:
    """A row is out of date if its delivery ended after the read began."""
    await append(spool, 2)
    tracker = tracker_of(spool, lambda: 0)
    for seq in (1, 2):
        tracker.waiting(WaitingDelivery(DeliveryRef(seq, 0), due=0))
    await tracker.flush()
    with tracker.watch_moves() as moved:
        found = await spool.retrying("crm", 1, 10)
        tracker.completed(DeliveryRef(1, 0), "delivered")
        assert moved(DeliveryRef(1, 0))
        await tracker.flush()
        assert [later.mark.seq for later in found if not moved(later.mark)] == [2]
    with tracker.watch_moves() as moved:
        found = await spool.retrying("crm", 1, 10)
        assert [later.mark.seq for later in found if not moved(later.mark)] == [2]


async def test_a_delivered_event_that_was_evicted_is_claimed_back(
    spool: SqliteSpool,
) -> None:
    """A delivered event that the spool evicted in the meantime is claimed back."""
    taken: list[Evicted] = []
    spool.subscribe(lambda notice: taken.append(notice) if isinstance(notice, Evicted) else None)
    await append(spool, 2)
    tracker = tracker_of(spool, lambda: 0)
    tracker.open(1, 1)
    tracker.open(2, 1)
    tracker.delivered(DeliveryRef(2, 0))
    tracker.close(2)
    await spool.register({"crm": BacklogLimit(max_backlog=1, overflow="dead_letter")})
    await append(spool, 1)
    assert [letter.mark.seq for letter in await spool.dead_letters()] == [1, 2]
    tracker.on_evicted(taken[0].cursor)
    await tracker.flush()
    assert [letter.mark.seq for letter in await spool.dead_letters()] == [1]


async def test_a_delivery_that_ends_during_a_report_is_reported_next(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that ends during a report is recorded by the next report."""
    await append(spool, 2)
    tracker = tracker_of(spool, lambda: 0)
    settles, goes_on = spool.settle, asyncio.Event()
    reports: asyncio.Queue[Progress] = asyncio.Queue()

    async def slowly(destination: str, progress: Progress, *, soon: bool) -> None:
        reports.put_nowait(progress)
        await goes_on.wait()
        await settles(destination, progress, soon=soon)

    monkeypatch.setattr(spool, "settle", slowly)
    tracker.waiting(WaitingDelivery(DeliveryRef(1, 0), due=0))
    await asyncio.wait_for(reports.get(), PATIENCE)
    tracker.waiting(WaitingDelivery(DeliveryRef(2, 0), due=0))
    goes_on.set()
    second = await asyncio.wait_for(reports.get(), PATIENCE)
    assert [later.mark.seq for later in second.later] == [2]
    await tracker.flush()


@pytest.mark.parametrize("what", ["waiting", "completed", "dead_lettered"])
async def test_a_flush_records_every_kind_of_outcome(spool: SqliteSpool, what: str) -> None:
    """A flush records a waiting, completed or dead delivery although the cursor does not move."""
    await append(spool, 2)
    tracker = tracker_of(spool, lambda: 0)
    mark = DeliveryRef(1, 0)
    if what == "waiting":
        tracker.waiting(WaitingDelivery(mark, due=0))
    elif what == "completed":
        tracker.completed(mark, "delivered")
    elif what == "dead_lettered":
        tracker.dead_lettered(FailedDelivery(mark, "refused", "no", at=0))
    await tracker.flush()
    depth = (await spool.depths())["crm"]
    assert (depth.retrying, depth.dead_letters) == (what == "waiting", what == "dead_lettered")
    assert (await spool.balances())["crm"].delivered == (what == "completed")
    assert not tracker.unreported


async def test_a_dead_letter_is_reported_once(spool: SqliteSpool) -> None:
    """A recorded dead letter is not reported again by the next flush."""
    await append(spool, 1)
    tracker = tracker_of(spool, spool.position)
    tracker.dead_lettered(FailedDelivery(DeliveryRef(1, 0), "refused", "no", at=0))
    await tracker.flush()
    (letter,) = await spool.dead_letters()
    assert await spool.delete_dead_letters([letter.id]) == 1
    await tracker.flush()
    assert not await spool.dead_letters()


def test_a_success_does_not_shorten_a_pause() -> None:
    """A success of an earlier attempt does not shorten the pause of a 429."""
    breaker = CircuitBreaker(low=1, high=60)
    for user in ("u", "v"):
        breaker.record_failure(
            DeliveryRef(1, 0), user, cause="limit", reason="HTTP 429", after=7.0, now=100,
            isolated_before=False,
        )  # fmt: skip
    breaker.record_success(0.0)
    assert breaker.wait_time(101) == 6
    assert breaker.wait_time(107) == 0


async def missing(spool: SqliteSpool) -> int:
    """Return how many deliveries the spool cannot account for."""
    return (await spool.balances())["crm"].unaccounted


async def test_only_deliveries_before_the_cursor_are_counted(spool: SqliteSpool) -> None:
    """Deliveries after the cursor are not counted as finished until the cursor passes them."""
    await append(spool, 4)
    tracker = tracker_of(spool, spool.position)
    tracker.open_ahead(1)
    for seq in (2, 3, 4):
        tracker.open(seq, 1)
    tracker.delivered(DeliveryRef(2, 0))
    tracker.close(2, "delivered")
    tracker.dead_lettered(FailedDelivery(DeliveryRef(3, 0), "refused", "no", 1.0))
    tracker.close(3)
    await tracker.flush()
    assert spool.cursor("crm") == 0
    assert await missing(spool) == 0
    tracker.completed(DeliveryRef(1, 0), "delivered")
    tracker.close_ahead(1)
    tracker.close(4, "declined")
    await tracker.flush()
    balance = (await spool.balances())["crm"]
    assert (balance.delivered, balance.declined, balance.dead_letters, balance.unaccounted) == (
        2,
        1,
        1,
        0,
    )


@pytest.mark.parametrize("overflow", ["dead_letter", "drop"])
async def test_an_evicted_delivery_is_counted_with_its_claim(
    spool: SqliteSpool, overflow: Literal["dead_letter", "drop"]
) -> None:
    """A delivered event that was evicted counts once, under each overflow policy."""
    await spool.register({"crm": BacklogLimit(2, overflow)})
    notices: asyncio.Queue[SpoolNotice] = asyncio.Queue()
    spool.subscribe(notices.put_nowait)
    tracker = tracker_of(spool, spool.position)
    await append(spool, 2)
    tracker.open(1, 1)
    tracker.open(2, 1)
    tracker.delivered(DeliveryRef(2, 0))
    tracker.close(2, "delivered")
    await append(spool, 3)
    for seq in (3, 4, 5):
        tracker.open(seq, 1)
    cursor = 0
    while cursor < 3:
        notice = await notices.get()
        assert isinstance(notice, Evicted)
        cursor = notice.cursor
        tracker.on_evicted(cursor)
    await tracker.flush()
    balance = (await spool.balances())["crm"]
    assert (balance.delivered, balance.dead_letters + balance.dropped, balance.pending) == (1, 2, 2)
    assert balance.unaccounted == 0
    for seq in (1, 3):
        tracker.close(seq)
    tracker.close(4, "delivered")
    tracker.close(5, "delivered")
    await tracker.flush()
    balance = (await spool.balances())["crm"]
    assert (balance.delivered, balance.pending, balance.unaccounted) == (3, 0, 0)


async def test_a_report_overtaken_by_an_eviction_adds_its_claims(
    spool: SqliteSpool,
) -> None:
    """A delivery that was evicted during its report is counted only with its claim."""
    await spool.register({"crm": BacklogLimit(1, "dead_letter")})
    tracker = tracker_of(spool, lambda: 1)

    def hear(notice: SpoolNotice) -> None:
        assert isinstance(notice, Evicted)
        tracker.on_evicted(notice.cursor, notice.marks)

    spool.subscribe(hear)
    await append(spool, 1)
    tracker.open(1, 1)
    tracker.delivered(DeliveryRef(1, 0))
    tracker.close(1, "delivered")
    taking = asyncio.ensure_future(append(spool, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the report is being written
    await tracker.flush()
    await taking
    balance = (await spool.balances())["crm"]
    assert (balance.delivered, balance.dead_letters, balance.pending, balance.unaccounted) == (
        1,
        0,
        1,
        0,
    )
    assert not tracker.stalled


async def test_a_row_of_an_evicted_delivery_is_out_of_date(spool: SqliteSpool) -> None:
    """A row is out of date if the spool evicted its delivery since the read began."""
    tracker = tracker_of(spool, lambda: 0)
    with tracker.watch_moves() as moved:
        tracker.on_evicted(0, [DeliveryRef(1, 0)])
        assert moved(DeliveryRef(1, 0))
        assert not moved(DeliveryRef(2, 0))


async def test_an_entry_opened_late_holds_the_cursor(spool: SqliteSpool) -> None:
    """The cursor does not pass an entry that is opened after later ones."""
    await append(spool, 5)
    tracker = tracker_of(spool, spool.position)
    tracker.open(4, 1)
    tracker.close(4, "delivered")
    tracker.open(5, 1)
    tracker.open(2, 1)
    tracker.open_ahead(3)
    await tracker.flush()
    assert spool.cursor("crm") == 1
    tracker.close(2, "delivered")
    await tracker.flush()
    balance = (await spool.balances())["crm"]
    assert (spool.cursor("crm"), balance.delivered) == (2, 1)


async def test_what_is_flushed_is_recorded_at_once(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush reports `soon`, and hurries a report that is under way; the timer does neither."""
    await append(spool, 2)
    tracker = tracker_of(spool, lambda: 0)
    settles, said = spool.settle, list[str]()
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly(destination: str, progress: Progress, *, soon: bool) -> None:
        said.append("soon" if soon else "later")
        begun.set()
        await goes_on.wait()
        await settles(destination, progress)

    def hurry() -> None:
        said.append("hurry")
        goes_on.set()

    monkeypatch.setattr(spool, "settle", slowly)
    monkeypatch.setattr(spool, "hurry", hurry)
    tracker.waiting(WaitingDelivery(DeliveryRef(1, 0), due=0))
    await begun.wait()
    tracker.waiting(WaitingDelivery(DeliveryRef(2, 0), due=0))
    await tracker.flush()
    assert said == ["later", "hurry", "soon"]
    assert len(await spool.retrying("crm", 1e12, 9)) == 2
    tracker.end()
