"""Measure CPU per rendered order of each vendor: ``python -m tests.bench.rendering``.

The orders are many, so that few of them are in the processor's caches, as in a running gateway.
A running gateway also does other work between two requests, which takes the code out of the caches:
the second figure is the time of one rendering after such work.
"""

import argparse
import gc
import json
import re
import socket
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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
AFTER_WORK = 2000
"""Orders that are rendered after other work."""
ORDER = ("order_id", "total", "revenue", "shipping", "tax", "currency", "coupon")
PRODUCT = ("product_id", "sku", "name", "category", "brand", "price", "quantity")
LIKE_CHRTS = {
    "url": "https://http.example",
    "auth": {"bearer": "placeholder"},
    "requests": [
        {"when": 'event.type == "identify"', "body": {"uid": "=event.user_id"}},
        {
            "when": 'event.type == "track"',
            "path": "/event/track",
            "body": {
                "uid": "=event.user_id",
                "anonymousId": "=event.anonymous_id",
                "name": "=event.name",
                "properties": {
                    **{key: f"=event.properties.{key}" for key in ORDER},
                    "products": "=event.properties.products.map(p, {"
                    + ", ".join(f"'{key}': p.{key}" for key in PRODUCT)
                    + "})",
                    "timestamp": "=event.timestamp",
                    "page_url": "=event.context.page.url",
                    "utm_campaign": "=event.context.campaign.name",
                    "utm_source": "=event.context.campaign.source",
                    "utm_medium": "=event.context.campaign.medium",
                },
            },
        },
    ],
}
"""A configuration that sends an order as chrts gets it."""


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


@contextmanager
def other_work() -> Iterator[Callable[[int], None]]:
    """Yield a function that does what has nothing to do with rendering: about 200 KB of it."""
    texts = [json.dumps({str(key): "x" * key for key in range(place, 80)}) for place in range(50)]
    block = bytes(range(256)) * 1024
    first, second = socket.socketpair()
    with first, second, closing(sqlite3.connect(":memory:")) as base:
        base.execute("CREATE TABLE log (number, text)")

        def work(number: int) -> None:
            text = texts[number % len(texts)]
            json.loads(text)
            base.execute("INSERT INTO log VALUES (?, ?)", (number, text))
            re.sub(r"\d+", "", text)
            first.send(block[:700])
            second.recv(1000)
            block.translate(None)
            sorted(text)

        yield work


def micros_after_work(output: Output, events: Sequence[Event]) -> float:
    """Return the median time in µs of one rendering after other work."""
    spent = []
    with other_work() as work:
        for number, event in enumerate(events):
            work(number)
            began = time.perf_counter_ns()
            output.render(event)
            spent.append(time.perf_counter_ns() - began)
    return statistics.median(spent) / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    events = parsed(parser.parse_args().events)
    kinds = load_plugins().outputs
    outputs = {name: placeholder_output(kinds[name]) for name in SETTINGS}
    outputs["http"] = kinds["http"](kinds["http"].Config.model_validate(LIKE_CHRTS))
    outputs["http, whole"] = placeholder_output(kinds["http"])
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for name, output in outputs.items():
        after = micros_after_work(output, events[:AFTER_WORK])
        print(f"{name:12}{micros([output], events):6.1f} µs, after other work {after:6.1f} µs")
    print(f"{'all of ' + str(len(THREE)):12}{micros([outputs[n] for n in THREE], events):6.1f} µs")


if __name__ == "__main__":
    main()
