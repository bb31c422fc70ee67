"""Measure what accepting costs, beside a bare aiohttp server that echoes the same bodies.

Run as ``python -m tests.bench.acceptance``; ``make bench`` includes it.

Every destination is paused, so requests are read, routed and stored, and nothing is delivered. The
gateway and the bare server run on one core, the load on the other. A round runs both one after the
other for each input; the figures are medians of the rounds.

The targets: CPU per request at most 1.8 times the bare server's, and at half of the gateway's
highest rate a 99th percentile of less than twice the bare server's at the same rate.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from gateway.plugin.registry import load_plugins
from tests.bench import orders
from tests.bench.console import ADMIN, free_address
from tests.bench.fan_out import each_destination
from tests.bench.gateways import CLOSED_PORT, CONNECTIONS, configuration, requests_of, until_quiet
from tests.bench.load import load
from tests.bench.processes import CORE, off_core, started

WARM_UP = 2000
"""Requests before a measurement."""
ORDERS = "segment, orders of 1 KB"
DESTINATION = "d0"


class Figures(NamedTuple):
    """The cost and the latency of one server."""

    micros: float
    """CPU µs per request."""
    rate: float
    """Requests per second, each sent when the response before it arrived."""
    p99: float
    """99th percentile of the latency in ms, at the rate that was asked for."""


Server = AbstractContextManager[tuple[int, int]]
"""A running server: its process id and its port."""


def inputs() -> Mapping[str, tuple[str, Callable[[int], Sequence[bytes]]]]:
    """Return, by name, the vendor of an input and a function that makes its requests."""
    found: dict[str, tuple[str, Callable[[int], Sequence[bytes]]]] = {
        vendor: (vendor, lambda _, vendor=vendor: requests_of(vendor))
        for vendor in sorted(load_plugins().inputs)
    }
    found[ORDERS] = ("segment", lambda count: list(orders.singles(count)))
    return found


@contextmanager
def paused_gateway(vendor: str) -> Iterator[tuple[int, int]]:
    """Run a gateway whose destination is paused; yield its process id and port."""
    admin = free_address()
    with tempfile.TemporaryDirectory() as folder:
        more = ADMIN.format(address=admin)
        path = configuration(Path(folder), vendor, CLOSED_PORT, 1, more=more)
        command = ("gateway", "run", "--config", str(path))
        with started(*command, marker='"listening"', core=CORE) as (process, line):
            each_destination(admin, [DESTINATION], "pause")
            yield process.pid, orjson.loads(line)["port"]


@contextmanager
def bare_server() -> Iterator[tuple[int, int]]:
    """Run the bare server; yield its process id and port."""
    with started("tests.bench.floors", "echo", core=CORE) as (process, line):
        yield process.pid, int(line)


def measured(server: Server, sent: Sequence[bytes], count: int, rate: float | None) -> Figures:
    """Return the figures of a server; without a *rate* (per second), it is half of its highest."""
    with server as (pid, port):
        load(port, sent, min(WARM_UP, count), CONNECTIONS)
        before, began = until_quiet(pid), time.perf_counter()
        load(port, sent, count, CONNECTIONS)
        highest = count / (time.perf_counter() - began)
        taken = until_quiet(pid) - before
        latencies = load(port, sent, count, CONNECTIONS, rate or highest / 2)
    return Figures(taken / count * 1e6, highest, latencies[int(count * 0.99)] * 1e3)


Round = tuple[Figures, Figures]
"""The figures of the gateway and of the bare server."""


def rounds(count: int, requests: int, only: str = "") -> dict[str, list[Round]]:
    """Return the figures of each round by input, whose name contains *only*."""
    found: dict[str, list[Round]] = {}
    chosen = {name: made for name, made in inputs().items() if only in name}
    with off_core(CORE):
        for _ in range(count):
            for name, (vendor, make) in chosen.items():
                sent = make(requests)
                gateway = measured(paused_gateway(vendor), sent, requests, None)
                bare = measured(bare_server(), sent, requests, gateway.rate / 2)
                found.setdefault(name, []).append((gateway, bare))
    return found


def show(found: Mapping[str, Sequence[Round]], requests: int) -> None:
    """Print the medians, and the lowest and highest ratio."""
    title = f"accept only: {requests} requests, medians of {len(next(iter(found.values())))} rounds"
    table = Table("", "CPU µs / request", "x bare server", "min to max", "requests / s",
                  "p99 ms at half load", "x bare server", title=title)  # fmt: skip
    for name, both in found.items():
        ratios = [gateway.micros / bare.micros for gateway, bare in both]
        late = [gateway.p99 / bare.p99 for gateway, bare in both]
        ours = [gateway for gateway, _ in both]
        table.add_row(
            name, f"{statistics.median(one.micros for one in ours):.0f}",
            f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{statistics.median(one.rate for one in ours):.0f}",
            f"{statistics.median(one.p99 for one in ours):.2f}", f"{statistics.median(late):.2f}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="inputs with this in their names")
    options = parser.parse_args()
    show(rounds(options.rounds, options.requests, options.only), options.requests)


if __name__ == "__main__":
    main()
