"""Measure how long bystanders' events take to arrive, with and without an attack."""

import asyncio
import contextlib
import math
from pathlib import Path
from typing import NamedTuple

from tests.siege.attacks import FAR, Happened, Siege
from tests.soak.marks import EventMark
from tests.soak.memory import resident
from tests.soak.process_harness import ProcessHarness, process_harness

USERS = 16
PAUSE = 0.5
"""Seconds between two requests of one bystander."""
LATE = 20.0
"""Seconds after which an event counts as missing."""
HEAD = (
    f"{'attack':42}{'without: p50':>13}{'p99':>8}{'beside: p50':>14}{'p99':>8}"
    f"{'events':>9}{'refused':>9}{'missing':>9}{'MiB':>6}"
    "  of the attack"
)


class Delays(NamedTuple):
    """Seconds from sending an event to its arrival at the vendor."""

    p50: float
    p99: float
    events: int
    missing: int
    """Events that had not arrived `LATE` seconds after the last one was sent."""


class SiegeResult(NamedTuple):
    """The result of one siege."""

    name: str
    alone: Delays
    beside: Delays
    refused: int
    """Bystanders' requests that were refused during the attack."""
    memory: float
    """The gateway's memory at its end, in MiB."""
    happened: Happened
    """What the attack did."""

    def row(self) -> str:
        """Return the figures as a row of the table."""
        came_to = ", ".join(f"{count} {what}" for what, count in self.happened.items())
        return (
            f"{self.name:42}{_ms(self.alone.p50):>13}{_ms(self.alone.p99):>8}"
            f"{_ms(self.beside.p50):>14}{_ms(self.beside.p99):>8}{self.beside.events:9}"
            f"{self.refused:9}{self.beside.missing:9}{self.memory:6.0f}  {came_to}"
        )


def _ms(seconds: float) -> str:
    return "never" if math.isinf(seconds) else f"{1000 * seconds:.0f} ms"


async def besiege(folder: Path, siege: Siege, *, without: float, beside: float) -> SiegeResult:
    """Measure bystanders for *without* seconds without, then *beside* seconds with the attack."""
    names = ("chrts", "growlytics") if siege.dead else ("chrts",)
    async with process_harness(
        folder, *names, delivery="", users=USERS, pause=PAUSE, more=siege.more
    ) as on:
        vendor = on.vendors["chrts"]
        if siege.latency:
            vendor.weights, vendor.pace = {"slow": 1}, (siege.latency, siege.latency)
        if siege.dead:
            await on.vendors["growlytics"].down()
        on.load.aim(on.gateway.url)
        on.load.start()
        await on.load.reaches(USERS)
        alone = await _measured(on, without)
        before = on.load.turned_away
        async with siege.attack(on, siege.size) as happened:
            besieged = await _measured(on, beside)
            memory = resident(on.gateway.process.pid)
        return SiegeResult(
            siege.name, alone, besieged, on.load.turned_away - before, memory, happened
        )


async def _measured(on: ProcessHarness, seconds: float) -> Delays:
    load, vendor = on.load, on.vendors["chrts"]
    before = set(load.acknowledged)
    await asyncio.gather(asyncio.sleep(seconds), load.everyone())
    sent = {mark for mark in load.acknowledged.keys() - before if mark.user < FAR}
    with contextlib.suppress(TimeoutError):
        await vendor.until(lambda v: sent <= v.accepted.keys(), LATE)
    found = sorted(_delay(on, mark) for mark in sent)
    if not found:
        return Delays(math.inf, math.inf, 0, 0)
    missing = sum(1 for delay in found if math.isinf(delay))
    return Delays(_share(found, 0.5), _share(found, 0.99), len(found), missing)


def _delay(on: ProcessHarness, mark: EventMark) -> float:
    return on.vendors["chrts"].when.get(mark, math.inf) - on.load.sent[mark]


def _share(found: list[float], share: float) -> float:
    return found[min(len(found) - 1, int(len(found) * share))]
