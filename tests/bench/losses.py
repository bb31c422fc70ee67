"""Measure CPU per event of loss counting and of shadows: ``python -m tests.bench.losses``.

The counter samples ten events a second and skips the others, so it has two figures.
"""

import asyncio
import math
import statistics
import time
from functools import partial

import click

from gateway.delivery.connection import OnEnd
from gateway.delivery.job import Job
from gateway.delivery.renderer import Renderer
from gateway.errors import TransportError
from gateway.http import Request
from gateway.losses.field_outcomes import LossCounter
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.shadow import ShadowSender
from gateway.shadow.tally import ShadowTally
from gateway.spool import DeliveryRef, Entry
from gateway.testing.samples import EVENTS

PASSING = 1e-9
LOOKING = 1e12


def micros(vendor: str, per_second: float, rounds: int = 50) -> float:
    """Return CPU µs per event offered to a loss counter (median of rounds, the kit's events)."""
    meter = LossCounter(placeholder_output(load_plugins().outputs[vendor]), per_second, math.inf)
    told = [partial(lambda event: event, event) for event in EVENTS]
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        for event in told:
            meter.offer(event)
        spent.append(time.process_time() - began)
    return statistics.median(spent) / len(EVENTS) * 1e6


async def shadow_micros(vendor: str, rounds: int = 20) -> float:
    """Return CPU µs per event in a shadow (median of rounds, the kit's events)."""
    rendering = Renderer(placeholder_output(load_plugins().outputs[vendor]))
    sender = ShadowSender("new", rendering, NoTransport(), ShadowTally())
    entry = Entry("r", "shop", Request(method="POST", url="/"), {"new": (0,)}, "segment")
    jobs = [Job(DeliveryRef(1, 0), entry, event) for event in EVENTS]
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        for job in jobs:
            looked = asyncio.Event()
            sender.send([job], lambda _, looked=looked: looked.set())
            await looked.wait()
        spent.append(time.process_time() - began)
    return statistics.median(spent) / len(EVENTS) * 1e6


class NoTransport:
    """Refuses to send: a shadow sends nothing."""

    def post(self, request: Request, on_end: OnEnd, *, whole: bool = False) -> None:
        """Fail."""
        why = TransportError("connect", f"{request.url} {whole}")
        asyncio.get_running_loop().call_soon(on_end, why)

    async def close(self) -> None:
        """Do nothing."""


if __name__ == "__main__":
    for name in sorted(load_plugins().outputs):
        passed, looked = micros(name, PASSING), micros(name, LOOKING)
        shadow = asyncio.run(shadow_micros(name))
        click.echo(
            f"{name:<14}{passed:6.2f} µs skipped {looked:6.0f} µs sampled "
            f"{shadow:6.0f} µs in a shadow"
        )
