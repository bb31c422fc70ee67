"""Count what happens in each minute, and keep a day of it, across restarts."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import apsw
import msgspec
import structlog

from gateway.log_limit import LogLimit
from gateway.observability.counters import SLOW, Counters
from gateway.spool import GivenUp
from gateway.sqlite import DAMAGED, describe, fetch, open_file, transaction
from gateway.trace.records import FAILED

MINUTE = 60
KEPT = 24 * 60
"""Minutes that are kept."""
SCHEMA = ("CREATE TABLE minute (at INTEGER PRIMARY KEY, counts BLOB NOT NULL)",)
QUIET = 60.0
"""Seconds between two log lines about the file."""

WindowName = Literal["15m", "1h", "24h"]
WINDOWS: Mapping[WindowName, tuple[int, int]] = {"15m": (15, 1), "1h": (60, 1), "24h": (KEPT, 15)}
"""Minutes of each window, and minutes of each of its points."""

log = structlog.get_logger()


class SourceCount(msgspec.Struct, array_like=True):
    """What a source did within some time."""

    accepted: int = 0
    """Events."""
    refused: int = 0
    """Requests."""

    def add(self, other: "SourceCount") -> None:
        """Add another count."""
        self.accepted += other.accepted
        self.refused += other.refused


class DestinationCount(msgspec.Struct, array_like=True):
    """What became of a destination's deliveries within some time."""

    delivered: int = 0
    failed: int = 0
    """Failed attempts."""
    dead: int = 0
    """Deliveries that became dead letters."""
    delays: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SLOW) + 1))
    """Deliveries by their delay; the bounds are `SLOW`."""

    def add(self, other: "DestinationCount") -> None:
        """Add another count."""
        self.delivered += other.delivered
        self.failed += other.failed
        self.dead += other.dead
        self.delays = [one + more for one, more in zip(self.delays, other.delays, strict=True)]


class MinuteCounts(msgspec.Struct):
    """What happened within one minute; what had nothing to do is missing."""

    at: int
    """Number of the minute: Unix seconds divided by 60."""
    sources: dict[str, SourceCount] = msgspec.field(default_factory=dict)
    destinations: dict[str, DestinationCount] = msgspec.field(default_factory=dict)

    def add(self, other: "MinuteCounts") -> None:
        """Add what happened in another minute, or in another part of this one."""
        for name, source in other.sources.items():
            self.sources.setdefault(name, SourceCount()).add(source)
        for name, destination in other.destinations.items():
            self.destinations.setdefault(name, DestinationCount()).add(destination)


class ActivityFile:
    """The file with the minutes. It may be lost, but never stops the gateway.

    Args:
        path: the path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = LogLimit(1, QUIET)

    def load(self, since: int) -> list[MinuteCounts]:
        """Return the stored minutes from number *since* on, the oldest first."""
        try:
            connection = self._open()
        except DAMAGED:
            self._path.unlink()
            return []
        except apsw.Error as error:
            self._say(error)
            return []
        try:
            rows = fetch(
                connection, "SELECT counts FROM minute WHERE at >= ? ORDER BY at", (since,)
            )
            return [msgspec.json.decode(counts, type=MinuteCounts) for (counts,) in rows]
        except (apsw.Error, msgspec.MsgspecError):
            return []  # it is written again
        finally:
            connection.close()

    def save(self, minutes: Iterable[MinuteCounts], before: int) -> None:
        """Store *minutes*, and delete those with a number below *before*."""
        rows = [(one.at, msgspec.json.encode(one)) for one in minutes]
        try:
            connection = self._open()
        except apsw.Error as error:
            self._say(error)
            return
        try:
            with transaction(connection):
                connection.executemany("INSERT OR REPLACE INTO minute VALUES (?, ?)", rows)
                connection.execute("DELETE FROM minute WHERE at < ?", (before,))
        except apsw.Error as error:
            self._say(error)
        finally:
            connection.close()

    def _open(self) -> apsw.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_file(self._path, SCHEMA, synchronous="OFF")

    def _say(self, error: apsw.Error) -> None:
        if self._lines.take():
            log.warning("activity_not_written", reason=describe(error, self._path))


class ActivityLog:
    """The minutes of the last day.

    Args:
        file: where they are kept.
        clock: returns Unix seconds.
    """

    def __init__(self, file: ActivityFile, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._before = MinuteCounts(0)
        self._loaded = False
        self.minutes: deque[MinuteCounts] = deque(maxlen=KEPT)

    async def record(self, counts: Counters, given_up: Mapping[str, GivenUp]) -> None:
        """Add what the counters have counted since the last call, and store it.

        The first call reads the minutes of earlier runs. Calls must not overlap.
        """
        at = int(self._clock()) // MINUTE
        if not self._loaded:
            self._loaded = True
            self.minutes.extend(await asyncio.to_thread(self._file.load, at - KEPT + 1))
        now = _totals(at, counts, given_up)
        fresh = _difference(now, self._before)
        self._before = now
        if not fresh.sources and not fresh.destinations:
            return
        if not self.minutes or self.minutes[-1].at < at:
            self.minutes.append(MinuteCounts(at))
        current = self.minutes[-1]  # a clock that was set back adds to the latest minute
        current.add(fresh)
        kept = msgspec.json.decode(msgspec.json.encode(current), type=MinuteCounts)
        await asyncio.to_thread(self._file.save, [kept], at - KEPT + 1)

    def points(self, window: WindowName) -> list[MinuteCounts]:
        """Return the points of a window up to now, the oldest first, each with its first minute."""
        minutes, width = WINDOWS[window]
        last = int(self._clock()) // MINUTE
        first = last - minutes + 1
        points = [MinuteCounts(first + n * width) for n in range(minutes // width)]
        for one in self.minutes:
            if first <= one.at <= last:
                points[(one.at - first) // width].add(one)
        return points


def _totals(at: int, counts: Counters, given_up: Mapping[str, GivenUp]) -> MinuteCounts:
    found = MinuteCounts(at)
    for (name, _), count in counts.events.items():
        found.sources.setdefault(name, SourceCount()).accepted += count
    for (name, _), count in counts.refused.items():
        if name:
            found.sources.setdefault(name, SourceCount()).refused += count
    for name, one in counts.destinations.items():
        up_to = [int(count) for _, count in one.delivery_seconds.buckets()]
        delays = [count - below for count, below in zip(up_to, [0, *up_to], strict=False)]
        failed = sum(one.outcomes[outcome] for outcome in FAILED if outcome in one.outcomes)
        found.destinations[name] = DestinationCount(
            one.outcomes.get("delivered", 0), failed, one.outcomes.get("dead_letter", 0), delays
        )
    for name, lost in given_up.items():
        found.destinations.setdefault(name, DestinationCount()).dead += lost.dead
    return found


def _difference(now: MinuteCounts, before: MinuteCounts) -> MinuteCounts:
    """Return what was counted between two totals, without those to whom nothing happened."""
    found = MinuteCounts(now.at)
    for name, source in now.sources.items():
        earlier = before.sources.get(name, SourceCount())
        fresh = SourceCount(source.accepted - earlier.accepted, source.refused - earlier.refused)
        if fresh.accepted or fresh.refused:
            found.sources[name] = fresh
    for name, one in now.destinations.items():
        old = before.destinations.get(name, DestinationCount())
        if one != old:
            delays = [a - b for a, b in zip(one.delays, old.delays, strict=True)]
            found.destinations[name] = DestinationCount(
                one.delivered - old.delivered, one.failed - old.failed, one.dead - old.dead, delays
            )
    return found


def quantile(delays: Sequence[int], share: float) -> float | None:
    """Return the approximate delay in seconds that *share* of the deliveries do not exceed.

    It is interpolated within the bounds `SLOW`; None without deliveries.
    """
    wanted, below, low = sum(delays) * share, 0, 0.0
    for high, count in zip(SLOW, delays, strict=False):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below, low = below + count, high
    return SLOW[-1] if sum(delays) else None
