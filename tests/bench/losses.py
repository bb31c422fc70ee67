"""What counting losses costs an event, and what a shadow does: ``python -m tests.bench.losses``.

The meter looks at ten events a second and lets the others pass, so there are two figures of it.
"""

import asyncio
import statistics
import time
from functools import partial

import click

from gateway.delivery.job import Job
from gateway.delivery.rendering import Rendering
from gateway.errors import TransportError
from gateway.exchange import Request, Response
from gateway.losses.meter import LossMeter
from gateway.placeholder import placeholder
from gateway.plugins import load
from gateway.shadow import ShadowSender
from gateway.shadow.tally import Tally
from gateway.spool import Entry, Mark
from gateway.testing.events import EVENTS

PASSING = 1e-9
LOOKING = 1e12


def micros(vendor: str, per_second: float, rounds: int = 50) -> float:
    """Return CPU µs per event offered to a meter, over the kit's events: the rounds' median."""
    meter = LossMeter(placeholder(load().outputs[vendor]), per_second)
    told = [partial(lambda event: event, event) for event in EVENTS]
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        for event in told:
            meter.offer(event)
        spent.append(time.process_time() - began)
    return statistics.median(spent) / len(EVENTS) * 1e6


async def shadow_micros(vendor: str, rounds: int = 20) -> float:
    """Return CPU µs per event that a shadow looks at, over the kit's events: the rounds' median."""
    rendering = Rendering(placeholder(load().outputs[vendor]))
    sender = ShadowSender("new", rendering, NoTransport(), Tally())
    entry = Entry("r", "shop", Request(method="POST", url="/"), {"new": (0,)}, "segment")
    jobs = [Job(Mark(1, 0), entry, event) for event in EVENTS]
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        for job in jobs:
            await sender.send([job])
        spent.append(time.process_time() - began)
    return statistics.median(spent) / len(EVENTS) * 1e6


class NoTransport:
    """Carries nothing, and is not asked to."""

    async def send(self, request: Request, *, whole: bool = False) -> Response:
        """Refuse: a shadow does not send."""
        raise TransportError("connect", f"{request.url} {whole}")

    async def close(self) -> None:
        """Have nothing to close."""


if __name__ == "__main__":
    for name in sorted(load().outputs):
        passed, looked = micros(name, PASSING), micros(name, LOOKING)
        shadow = asyncio.run(shadow_micros(name))
        click.echo(
            f"{name:<14}{passed:6.2f} µs passed by {looked:6.0f} µs looked at "
            f"{shadow:6.0f} µs in a shadow"
        )
