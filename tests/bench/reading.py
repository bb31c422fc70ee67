"""Measure CPU per request of reading, by vendor: ``python -m tests.bench.reading``.

Each vendor reads its documentation's example and, in its own format, the order of the other
benchmarks. ``decode`` parses the body, ``read`` makes events, ``client`` adds the client's data.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import click
import orjson
from msgspec.structs import replace

from gateway.http import ClientInfo, Request
from gateway.ingest.events import with_client
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.vendor import Input
from gateway.verdict import Declined
from tests.bench.orders import order

CALLS = 2000
ROUNDS = 7
CLIENT = ClientInfo(ip="203.0.113.7")


def micros(call: Callable[[], Any]) -> float:
    """Return CPU µs of one *call*: the smallest of several rounds."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            call()
        spent.append(time.process_time() - began)
    return min(spent) / CALLS * 1e6


def requests(vendor: str) -> Iterator[tuple[str, Request]]:
    """Yield the example of *vendor*, and an order in its format; both with a client."""
    plugins = load_plugins()
    segment = plugins.inputs["segment"]()
    made = replace(segment.example, body=orjson.dumps(order(1)))
    if vendor != "segment":
        (event,) = segment.parse(made)
        rendered = placeholder_output(plugins.outputs[vendor]).render(event)
        assert not isinstance(rendered, Declined)
        path = rendered.url.partition("://")[2].partition("/")[2]
        made = replace(rendered, url=f"/{path}")
    for name, request in (("example", plugins.inputs[vendor].example), ("order", made)):
        yield name, replace(request, id="r", client=CLIENT)


def measured(reads: Input, request: Request) -> tuple[float, float, float]:
    """Return CPU µs of decoding *request*, reading its payload, and adding its client."""
    payload = reads.decode(request)
    events = reads.read(request, payload)
    return (
        micros(lambda: reads.decode(request)),
        micros(lambda: reads.read(request, payload)),
        micros(lambda: with_client(events, request)),
    )


if __name__ == "__main__":
    for each in sorted(load_plugins().inputs):
        for label, like in requests(each):
            decode, read, client = measured(load_plugins().inputs[each](), like)
            click.echo(
                f"{each:<13}{label:<8} decode {decode:5.1f}  read {read:5.1f}  client {client:4.1f}"
                f"  together {decode + read + client:6.1f} µs"
            )
