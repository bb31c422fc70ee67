"""Replay many retained events to a new destination beside live traffic, then compare both."""

import asyncio
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from tests.e2e.process import ROOT, gateway_process
from tests.soak.ledger import disordered
from tests.soak.load import Load, pour
from tests.soak.marks import EventMark, configured, destination
from tests.soak.memory import PADDING, Sampled
from tests.soak.operator import INTENT
from tests.soak.vendor import Vendor, vendors

OLD, NEW = "chrts", "chrts-new"
DELIVERY = 'timeout = "30s"'
SPOOL = 'retain = "72h"\nmax_bytes = "16GiB"'
LIVE = 40
"""Users who send single events meanwhile, 0.2 s after each answer."""
PAUSE = 0.2
FIRST = 4 * LIVE
"""The number of the first user of the past."""
LOOK = 0.5
"""Seconds between two looks at the replay."""


@dataclass
class Percentiles:
    """How long live events took, in milliseconds: until the answer, and until the delivery."""

    answers: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)

    def add(self, load: Load, vendor: Vendor, marks: Sequence[EventMark]) -> None:
        """Add the times of events that were sent and delivered."""
        self.answers += [1000 * (load.acknowledged[mark] - load.sent[mark]) for mark in marks]
        self.deliveries += [1000 * (vendor.when[mark] - load.sent[mark]) for mark in marks]

    @property
    def p99(self) -> tuple[float, float]:
        """Return the 99th percentiles of both."""
        return _p99(self.answers), _p99(self.deliveries)


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


@dataclass
class Replayed:
    """The result of a replay."""

    alone: Percentiles
    beside: Percentiles
    accepted_in: float
    replayed_in: float
    events: int
    memory: Sampled
    complaints: list[str]

    @property
    def ratios(self) -> tuple[float, float]:
        """Return the p99 beside the replay by that without it, of answers and of deliveries."""
        (answer, delivery), (answers, deliveries) = self.alone.p99, self.beside.p99
        return answers / answer, deliveries / delivery

    def table(self) -> str:
        """Return the figures as text."""
        rows = zip(
            ("answer", "delivery"), self.alone.p99, self.beside.p99, self.ratios, strict=True
        )
        return "\n".join(
            (
                *self.complaints,
                f"accepted {self.events / self.accepted_in:.0f} events/s",
                f"replayed {self.events / self.replayed_in:.0f} events/s",
                f"memory at most {self.memory.most:.0f} MiB",
                *(
                    f"{what} of live events, p99: {alone:.1f} ms alone, {beside:.1f} ms beside "
                    f"the replay, ratio {ratio:.2f}"
                    for what, alone, beside, ratio in rows
                ),
            )
        )


async def replay(
    folder: Path, events: int, users: int, *, alone: float, rate: float | None = None
) -> Replayed:
    """Accept and deliver *events*, then replay them to another destination, and judge.

    Args:
        folder: for the spool and the configuration.
        events: the number of retained events.
        users: who sent them.
        alone: seconds of live traffic without the replay, before it and after it.
        rate: most events per second of the replay.
    """
    path, memory = folder / "gateway.toml", Sampled()
    async with vendors(OLD) as (old,), _counting_vendor() as new:
        tables = {
            OLD: destination(OLD, old.port, DELIVERY), NEW: destination(NEW, new.port, DELIVERY),
        }  # fmt: skip
        text = configured(str(folder / "spool"), tables, [OLD], spool=SPOOL)
        path.write_text(f'{text}\n[admin]\nlisten = "127.0.0.1:0"\n')
        async with gateway_process(path) as gateway:
            watching = asyncio.get_running_loop().create_task(memory.sample(gateway))
            try:
                began = time.monotonic()
                past = await pour(gateway.url, events, users, padding=PADDING, first=FIRST)
                accepted_in = time.monotonic() - began
                await old.until(lambda vendor: len(vendor.accepted) >= events, events / 100)
                which = {"to": NEW, "until": time.time()} | ({} if rate is None else {"rate": rate})
                load = Load(LIVE, pause=PAUSE, padding=PADDING)
                load.aim(gateway.url)
                without, beside = Percentiles(), Percentiles()
                async with load.running():
                    await _measured(load, old, without, asyncio.sleep(alone))
                    began = time.monotonic()
                    await _measured(load, old, beside, _replay(f"{gateway.admin}/replays", which))
                    replayed_in = time.monotonic() - began
                    await _measured(load, old, without, asyncio.sleep(alone))
            finally:
                watching.cancel()
            gateway.process.terminate()
            await gateway.ended()
        arrived = await new.ended()
    complaints = _complaints("replayed", past, arrived)
    complaints += _complaints("live", [*past, *load.acknowledged], old.accepted)
    return Replayed(without, beside, accepted_in, replayed_in, events, memory, complaints)


async def _measured(load: Load, vendor: Vendor, into: Percentiles, work: Any) -> None:
    """Add the times of the live events that are sent while *work* goes on."""
    before = len(load.acknowledged)
    await work
    marks = list(load.acknowledged)[before:]
    await vendor.until(lambda each: all(mark in each.when for mark in marks), 30)
    into.add(load, vendor, marks)


async def _replay(url: str, which: Mapping[str, object]) -> None:
    """Begin a replay, and wait for its end."""
    async with aiohttp.ClientSession(headers=INTENT, raise_for_status=True) as client:
        async with client.post(url, json=which) as answer:
            number = (await answer.json())["id"]
        while True:
            async with client.get(url) as answer:
                found = {one["id"]: one["state"] for one in (await answer.json())["replays"]}
            if found[number] == "done":
                return
            await asyncio.sleep(LOOK)


def _complaints(what: str, sent: Sequence[EventMark], arrived: Counter[EventMark]) -> list[str]:
    """Return what is wrong with what arrived of the events that were sent."""
    missing, more = set(sent) - arrived.keys(), arrived.keys() - set(sent)
    twice = sum(times - 1 for times in arrived.values())
    wrong = {
        "missing": len(missing), "not asked for": len(more), "repeated": twice,
        "out of order": len(disordered(arrived)),
    }  # fmt: skip
    return [f"{what}: {count} {name}" for name, count in wrong.items() if count]


class _CountingVendor:
    """A vendor in a process of its own, so that it costs the measuring one nothing."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self.port = process, port

    async def ended(self) -> Counter[EventMark]:
        """Stop it; return how often each event arrived, in the order of first arrival."""
        out, _ = await self._process.communicate(b"\n")
        found = (line.split() for line in out.splitlines())
        return Counter(
            {EventMark(int(user), int(number)): int(times) for user, number, times in found}
        )


@asynccontextmanager
async def _counting_vendor() -> AsyncIterator[_CountingVendor]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, cwd=ROOT, limit=1 << 20
    )
    assert process.stdout is not None
    try:
        yield _CountingVendor(process, int(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _count() -> None:
    """Serve as a vendor until a line comes; then print how often each event arrived."""
    async with vendors(NEW) as (vendor,):
        sys.stdout.write(f"{vendor.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
    for mark, times in vendor.accepted.items():
        sys.stdout.write(f"{mark.user} {mark.number} {times}\n")


if __name__ == "__main__":
    uvloop.run(_count())
