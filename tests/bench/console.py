"""What somebody at the console costs: ``python -m tests.bench.console --turns N --starts N``.

The console, its live tail and its overview, is opened and closed in turns beside one and the same
gateway. Each turn with it is compared with the mean of the one before and the one after: so a
machine whose speed drifts favours neither, nor do two processes that differ. Each turn without it
is compared in the same way with its neighbours, which tells what the comparison itself can tell.
"""

import argparse
import itertools
import math
import socket
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tests.bench.gateways import CONNECTIONS, gateway, requests_of, until_quiet
from tests.bench.load import load
from tests.bench.processes import started

RATE = 400.0
"""Requests per second of the second comparison: a load at which the tail shows a larger share."""
ADMIN = '[admin]\nlisten = "{address}"\n'


class Turn(NamedTuple):
    """What the gateway did in one turn."""

    micros: float
    """CPU µs per request that was accepted, kept, and delivered to one destination."""
    latencies: list[float]
    """Seconds until an answer was there."""


class Bench:
    """A gateway, its load, and somebody who may come to look."""

    def __init__(self, stack: ExitStack, sink: int) -> None:
        address = free_address()
        admin = ADMIN.format(address=address)
        self._requests = requests_of("chrts")
        self._pid, self._port = stack.enter_context(gateway("chrts", sink, 1, more=admin))
        command = ("tests.bench.watching", f"http://{address}/api/v1")
        self._watcher, _ = stack.enter_context(started(*command, stdin=subprocess.PIPE))

    def turn(self, count: int, rate: float | None) -> Turn:
        """Take *count* requests, as fast as may be or at a *rate* per second."""
        before = until_quiet(self._pid)
        latencies = load(self._port, self._requests, count, CONNECTIONS, rate)
        return Turn((until_quiet(self._pid) - before) / count * 1e6, latencies)

    def alternating(self, turns: int, count: int, rate: float | None) -> Iterator[Turn]:
        """Yield turns without anybody at the console, and with, and so on; the last one without."""
        self.turn(count, rate)
        for _ in range(turns):
            yield self.turn(count, rate)
            self._tell("open")
            yield self.turn(count, rate)
            self._tell("closed")
        yield self.turn(count, rate)

    def _tell(self, answer: str) -> None:
        told, said = self._watcher.stdin, self._watcher.stdout
        assert told is not None
        assert said is not None
        told.write("\n")
        told.flush()
        assert said.readline().strip() == answer


def free_address() -> str:
    """Return an address that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def compared(
    sink: int, turns: int, count: int, rate: float | None
) -> Iterator[tuple[str, list[float]]]:
    """Yield by turn what an event costs with somebody at the console, to what it costs without.

    Args:
        sink: the port of what takes the deliveries.
        turns: those with somebody at the console.
        count: requests in a turn.
        rate: requests per second; None for as fast as may be.
    """
    with ExitStack() as stack:
        taken = list(Bench(stack, sink).alternating(turns, count, rate))
    micros = [turn.micros for turn in taken]
    how = "as fast as may be" if rate is None else f"at {rate:g} a second"
    yield f"console open / closed, {how}", beside(micros[0::2], micros[1::2])
    yield f"console closed / closed, {how}", beside(micros[0::4], micros[2::4])
    for name, some in (("closed", taken[0::2]), ("open", taken[1::2])):
        latencies = sorted(one for turn in some for one in turn.latencies)
        late = latencies[int(len(latencies) * 0.99)] * 1e3
        yield f"console {name}, {how}: the answer's p99, ms", [late]


def beside(outer: Sequence[float], inner: Sequence[float]) -> list[float]:
    """Return each of the *inner* to the mean of the two of the *outer* beside it."""
    around = itertools.pairwise(outer)
    return [one / (sum(two) / 2) for one, two in zip(inner, around, strict=False)]


def sure(values: Sequence[float]) -> tuple[float, float]:
    """Return between which values the median is, 19 times out of 20 (by order statistics)."""
    half = 0.98 * math.sqrt(len(values))
    low, high = (round(len(values) / 2 + sign * half) for sign in (-1, 1))
    ordered = sorted(values)
    return ordered[max(low, 0)], ordered[min(high, len(values) - 1)]


def main() -> None:
    """Measure, and print medians and how sure they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--starts", type=int, default=8)
    options = parser.parse_args()
    found = defaultdict[str, list[float]](list)
    with started("tests.bench.floors", "sink") as (_, line):
        for _ in range(options.starts):
            for rate in (None, RATE):
                share = 1.0 if rate is None else 0.4
                count = int(options.requests * share)
                for name, values in compared(int(line), options.turns, count, rate):
                    found[name] += values
    for name, values in found.items():
        low, high = sure(values)
        spread = f" (95 %: {low:.3f} to {high:.3f}, of {len(values)})" if " / " in name else ""
        print(f"{name}: {statistics.median(values):.3f}{spread}")


if __name__ == "__main__":
    main()
