"""Measure CPU per rendered order of each vendor: ``python -m tests.bench.rendering``.

The orders are many, so that few of them are in the processor's caches, as in a running gateway.
"""

import argparse
import gc
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from gateway.__main__ import GC_THRESHOLDS
from gateway.event import Event
from gateway.http import Request
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.vendor import Output
from tests.bench import orders
from tests.bench.fan_out import SETTINGS, THREE

ROUNDS = 5


def parsed(count: int) -> list[Event]:
    """Return the events of so many orders."""
    read, now = load_plugins().inputs["segment"]().parse, datetime.now(UTC)
    requests = (
        Request(
            method="POST", url="/v1/track", body=orjson.dumps(orders.order(number)),
            id=f"{number:032x}", received_at=now,
        )
        for number in range(count)
    )  # fmt: skip
    return [event for request in requests for event in read(request)]


def micros(outputs: Sequence[Output], events: Sequence[Event]) -> float:
    """Return CPU µs per event for its requests to all *outputs*: the least of several rounds."""
    renders = [output.render for output in outputs]
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for event in events:
            for render in renders:
                render(event)
        spent.append(time.process_time() - began)
    return min(spent) / len(events) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    events = parsed(parser.parse_args().events)
    outputs = {name: placeholder_output(load_plugins().outputs[name]) for name in SETTINGS}
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for name, output in outputs.items():
        print(f"{name:12}{micros([output], events):6.1f} µs")
    print(f"{'all of ' + str(len(THREE)):12}{micros([outputs[n] for n in THREE], events):6.1f} µs")


if __name__ == "__main__":
    main()
