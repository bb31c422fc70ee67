"""What counting losses costs an event: ``python -m tests.bench.losses``.

The meter looks at ten events a second and lets the others pass, so there are two figures.
"""

import statistics
import time
from functools import partial

import click

from gateway.losses.meter import LossMeter
from gateway.placeholder import placeholder
from gateway.plugins import load
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


if __name__ == "__main__":
    for name in sorted(load().outputs):
        passed, looked = micros(name, PASSING), micros(name, LOOKING)
        click.echo(f"{name:<14}{passed:6.2f} µs passed by  {looked:6.0f} µs looked at")
