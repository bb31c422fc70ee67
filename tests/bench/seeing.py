"""What it costs to see: traces on and off, and somebody at the console.

Run as ``python -m tests.bench.seeing --requests N --rounds N``, or as a part of ``make bench``.
What is compared follows one another, in turn the one and the other first, so that a machine whose
speed drifts favours neither.
"""

import argparse
import socket
import statistics
from collections.abc import Iterator

from tests.bench.gateways import Delivering, delivering
from tests.bench.processes import started

TRACING = {
    "not traced": "[trace]\non = false\n",
    "traced": "",
    "every one traced": "[trace]\nsuccesses_per_second = 1000000\n",
}
"""What the configuration says of traces, by what that comes to."""


def traced(sink: int, count: int, *, backwards: bool = False) -> Iterator[tuple[str, float]]:
    """Yield what an event costs, and how long answers take, by what is kept of its way."""
    found = dict[str, Delivering]()
    for name in sorted(TRACING, reverse=backwards):
        found[name] = delivering("chrts", sink, 1, count, TRACING[name])
    off = found["not traced"]
    for name in TRACING:
        yield f"accept + deliver to 1, {name}", found[name].micros
    for name in ("traced", "every one traced"):
        yield f"{name} / not traced", found[name].micros / off.micros
        yield f"{name} / not traced: the answer's p50", found[name].half / off.half
        yield f"{name} / not traced: the answer's p99", found[name].most / off.most


def watched(sink: int, count: int, *, backwards: bool = False) -> Iterator[tuple[str, float]]:
    """Yield what an event costs while nobody and while somebody has the console open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    admin = f'[admin]\nlisten = "{address}"\n'
    found = dict[bool, Delivering]()
    for seen in (True, False) if backwards else (False, True):
        watch = f"http://{address}/api/v1" if seen else ""
        found[seen] = delivering("chrts", sink, 1, count, admin, watch=watch)
    yield "accept + deliver to 1, watched", found[True].micros
    yield "watched / not watched", found[True].micros / found[False].micros
    yield "watched / not watched: the answer's p50", found[True].half / found[False].half
    yield "watched / not watched: the answer's p99", found[True].most / found[False].most


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    figures = dict[str, list[float]]()
    with started("tests.bench.floors", "sink") as (_, line):
        for number in range(options.rounds):
            for measure in (watched, traced):
                for name, value in measure(int(line), options.requests, backwards=number % 2 > 0):
                    figures.setdefault(name, []).append(value)
    for name, values in figures.items():
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name}: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
