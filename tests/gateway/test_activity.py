"""What happened in each minute, kept for a day."""

from pathlib import Path

import pytest

from gateway.admin.activity import (
    KEPT,
    MINUTE,
    ActivityFile,
    ActivityLog,
    DestinationCount,
    SourceCount,
    quantile,
)
from gateway.observability.counters import SLOW, Counters
from gateway.spool import GivenUp

START = 30_000_000 * MINUTE


class Day:
    """An activity log with a clock and counters."""

    def __init__(self, path: Path) -> None:
        self.now = float(START)
        self.path = path
        self.restart()

    def restart(self) -> None:
        """Begin anew, as after a restart: counters are at zero."""
        self.counts = Counters()
        self.log = ActivityLog(ActivityFile(self.path), lambda: self.now)

    async def happens(self, delivered: int = 0, **given_up: GivenUp) -> None:
        """Record events that were accepted and delivered within a quarter of a second."""
        self.counts.events["shop", "track"] += delivered
        crm = self.counts.destinations["crm"]
        crm.outcomes["delivered"] += delivered
        for _ in range(delivered):
            crm.delivery_seconds.observe(0.25)
        await self.log.record(self.counts, given_up)

    def delivered(self) -> list[int]:
        """Return the deliveries of the last quarter of an hour, by minute."""
        none = DestinationCount()
        return [one.destinations.get("crm", none).delivered for one in self.log.points("15m")]


@pytest.fixture
def day(tmp_path: Path) -> Day:
    """Return a day without events."""
    return Day(tmp_path / "activity.db")


async def test_counts_go_to_their_minutes(day: Day) -> None:
    """What is counted between two records belongs to the minute of the second."""
    await day.happens(3)
    await day.happens(4)
    day.now += 2 * MINUTE
    await day.happens(5)
    assert day.delivered() == [0] * 12 + [7, 0, 5]
    assert day.log.points("1h")[-1].sources == {"shop": SourceCount(5, 0)}
    assert sum(one.sources["shop"].accepted for one in day.log.points("24h") if one.sources) == 12


async def test_a_restart_keeps_the_day(day: Day) -> None:
    """After a restart the earlier minutes are there, and the same minute goes on."""
    await day.happens(3)
    day.restart()
    await day.happens(4)
    assert day.delivered()[-1] == 7
    day.restart()
    day.now += MINUTE
    await day.happens()
    assert day.delivered()[-2:] == [7, 0]


async def test_refusals_failures_and_dead_letters_are_counted(day: Day) -> None:
    """Refused requests count for their source, dead letters of the spool for the destination."""
    day.counts.refused["shop", "forbidden"] += 2
    day.counts.refused["", "not_found"] += 1
    day.counts.destinations["crm"].outcomes |= {"retry": 3, "dead_letter": 1}
    await day.happens(0, crm=GivenUp(dead=5))
    (last,) = (one for one in day.log.points("15m") if one.destinations)
    assert last.sources == {"shop": SourceCount(0, 2)}
    crm = last.destinations["crm"]
    assert (crm.delivered, crm.failed, crm.dead) == (0, 4, 6)


async def test_only_a_day_is_kept(day: Day) -> None:
    """A minute is deleted a day later, from memory and from the file."""
    await day.happens(1)
    day.now += KEPT * MINUTE
    await day.happens(2)
    assert sum(len(one.destinations) for one in day.log.points("24h")) == 1
    assert [one.at for one in ActivityFile(day.path).load(0)] == [START // MINUTE + KEPT]


async def test_a_clock_that_is_set_back_loses_nothing(day: Day) -> None:
    """While the clock is behind the latest minute, that minute goes on."""
    await day.happens(1)
    day.now -= 10 * MINUTE
    await day.happens(2)
    day.now += 10 * MINUTE
    assert day.delivered()[-1] == 3


async def test_a_damaged_file_begins_anew(day: Day) -> None:
    """A file that is no database is replaced."""
    day.path.write_bytes(b"no database" * 100)
    await day.happens(3)
    day.restart()
    await day.happens()
    assert day.delivered()[-1] == 3


async def test_a_disk_that_fails_stops_nothing(day: Day) -> None:
    """Without a file the minutes are in memory."""
    day.path.mkdir()
    await day.happens(3)
    assert day.delivered()[-1] == 3


def test_quantiles_are_interpolated() -> None:
    """A quantile lies within the bounds of the deliveries that decide it."""
    none = [0] * (len(SLOW) + 1)
    assert quantile(none, 0.5) is None
    fast = [10, *none[1:]]
    assert quantile(fast, 0.5) == pytest.approx(SLOW[0] / 2)
    mixed = [90, 0, 10, *none[3:]]
    assert quantile(mixed, 0.95) == pytest.approx((SLOW[1] + SLOW[2]) / 2)
    assert quantile([*none[:-1], 4], 0.5) == SLOW[-1]
