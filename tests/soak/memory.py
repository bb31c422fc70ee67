"""Measure a gateway's memory in a long outage, then check that everything arrives."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.process import GatewayProcess, gateway_process
from tests.soak.ledger import Judgement, dead_letters, judge, left_over, owed
from tests.soak.load import pour
from tests.soak.marks import EventMark, config
from tests.soak.vendor import Vendor

BOUND = 200
"""Limit of the gateway's memory in MiB."""
EVERY = 0.25
"""Seconds between two samples."""
DELIVERY = 'retry_min = "100ms"\nretry_max = "2s"\ntimeout = "5s"\n'
PADDING = "x" * 300
"""Makes events about as large as real ones."""
DRAIN = 3600.0
"""Seconds within which everything must be delivered."""


def resident(process: int) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if "VmRSS" in line)


@dataclass
class Sampled:
    """The resident memory of a process over time, in MiB."""

    samples: list[float] = field(default_factory=list)

    async def sample(self, process: GatewayProcess) -> None:
        """Sample until cancelled."""
        while True:
            self.samples.append(resident(process.process.pid))
            await asyncio.sleep(EVERY)

    @property
    def most(self) -> float:
        """Return the highest sample."""
        return max(self.samples)


@dataclass
class Outage:
    """The result of an outage."""

    judgement: Judgement
    accepting: Sampled
    draining: Sampled
    accept_rate: float
    """Events per second."""
    drain_rate: float
    """Deliveries per second, all destinations together."""

    @property
    def most(self) -> float:
        """Return the highest resident memory, in MiB."""
        return max(self.accepting.most, self.draining.most)

    def table(self) -> str:
        """Return the figures as text."""
        quarter = max(1, len(self.accepting.samples) // 4)
        steps = ", ".join(f"{mib:.0f}" for mib in self.accepting.samples[::quarter])
        return (
            f"{self.judgement.table()}\n"
            f"memory while accepting: {steps}, at most {self.accepting.most:.0f} MiB; "
            f"while draining at most {self.draining.most:.0f} MiB\n"
            f"accepted {self.accept_rate:.0f} events/s; drained {self.drain_rate:.0f} deliveries/s"
        )


async def outage(folder: Path, vendors: list[Vendor], events: int, users: int) -> Outage:
    """Accept *events* while every vendor is down, then deliver them and judge."""
    for vendor in vendors:
        await vendor.down()
    spool = folder / "spool"
    path = folder / "gateway.toml"
    path.write_text(config(str(spool), {v.name: v.port for v in vendors}, DELIVERY))
    accepting, draining = Sampled(), Sampled()
    async with gateway_process(path) as gateway:
        loop = asyncio.get_running_loop()
        watching = loop.create_task(accepting.sample(gateway))
        began = time.monotonic()
        sent = await pour(gateway.url, events, users, padding=PADDING)
        accepted_in = time.monotonic() - began
        watching.cancel()
        watching = loop.create_task(draining.sample(gateway))
        began = time.monotonic()
        late = await _drain(vendors, sent)
        drained_in = time.monotonic() - began
        watching.cancel()
        gateway.process.terminate()
        await gateway.ended()
    verdict = judge(sent, (), vendors, dead_letters(spool), once=True)
    verdict.complaints += late
    pending = await left_over(spool)
    verdict.complaints += [f"{name}: still pending: {depth}" for name, depth in pending.items()]
    deliveries = sum(len(vendor.accepted) for vendor in vendors)
    return Outage(verdict, accepting, draining, events / accepted_in, deliveries / drained_in)


async def _drain(vendors: list[Vendor], sent: list[EventMark]) -> list[str]:
    """Start the vendors and wait for everything; return complaints about late ones."""
    late = []
    for vendor in vendors:
        await vendor.up()
    for vendor in vendors:
        much = len(owed(sent, vendor.name))
        try:
            await vendor.until(
                lambda v, much=much: len(v.accepted) >= much and not v.answering,  # type: ignore[misc]  # bound now
                DRAIN,
            )
        except TimeoutError:
            late.append(f"{vendor.name}: not drained in {DRAIN:g} s")
    return late
