"""Measure what an open console costs: ``python -m tests.bench.console --turns N --starts N``.

A console (live tail and overview) is opened and closed in turns beside one gateway. Each turn with
it is compared with the mean of the turns before and after it, so neither a machine whose speed
drifts nor differences between processes favour one side. Each turn without the console is compared
with its neighbours in the same way, which shows the error of the comparison itself.
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
"""Requests per second of the second comparison: at this load the tail has a larger share."""
ADMIN = '[admin]\nlisten = "{address}"\n'


class Turn(NamedTuple):
    """The measurements of one turn."""

    micros: float
    """CPU µs per request that is accepted, stored, and delivered to one destination."""
    latencies: list[float]
    """Seconds until each response."""


class Bench:
    """A gateway, its load, and a console that can be opened."""

    def __init__(self, stack: ExitStack, sink: int) -> None:
        address = free_address()
        admin = ADMIN.format(address=address)
        self._requests = requests_of("chrts")
        self._pid, self._port = stack.enter_context(gateway("chrts", sink, 1, more=admin))
        command = ("tests.bench.console_user", f"http://{address}/api/v1")
        self._watcher, _ = stack.enter_context(started(*command, stdin=subprocess.PIPE))

    def turn(self, count: int, rate: float | None) -> Turn:
        """Send *count* requests, as fast as possible or at *rate* per second."""
        before = until_quiet(self._pid)
        latencies = load(self._port, self._requests, count, CONNECTIONS, rate)
        return Turn((until_quiet(self._pid) - before) / count * 1e6, latencies)

    def alternating(self, turns: int, count: int, rate: float | None) -> Iterator[Turn]:
        """Yield turns alternately with the console closed and open; first and last are closed."""
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
    """Return a loopback address with a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def compared(
    sink: int, turns: int, count: int, rate: float | None
) -> Iterator[tuple[str, list[float]]]:
    """Yield, by name, the ratios of an event's cost with an open console to that without.

    Args:
        sink: the port of the server that takes the deliveries.
        turns: the number of turns with an open console.
        count: requests per turn.
        rate: requests per second; None for as fast as possible.
    """
    with ExitStack() as stack:
        taken = list(Bench(stack, sink).alternating(turns, count, rate))
    micros = [turn.micros for turn in taken]
    how = "as fast as possible" if rate is None else f"at {rate:g} a second"
    yield f"console open / closed, {how}", beside(micros[0::2], micros[1::2])
    yield f"console closed / closed, {how}", beside(micros[0::4], micros[2::4])
    for name, some in (("closed", taken[0::2]), ("open", taken[1::2])):
        latencies = sorted(one for turn in some for one in turn.latencies)
        late = latencies[int(len(latencies) * 0.99)] * 1e3
        yield f"console {name}, {how}: latency p99, ms", [late]


def beside(outer: Sequence[float], inner: Sequence[float]) -> list[float]:
    """Return each *inner* value divided by the mean of its two *outer* neighbours."""
    around = itertools.pairwise(outer)
    return [one / (sum(two) / 2) for one, two in zip(inner, around, strict=False)]


def sure(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median (by order statistics)."""
    half = 0.98 * math.sqrt(len(values))
    low, high = (round(len(values) / 2 + sign * half) for sign in (-1, 1))
    ordered = sorted(values)
    return ordered[max(low, 0)], ordered[min(high, len(values) - 1)]


def several(text: str) -> int:
    """Return the number in *text*; a closed turn is compared with the next two closed ones."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("must be at least 2")
    return number


def main() -> None:
    """Measure and print medians with confidence intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--turns", type=several, default=20, help="at least 2")
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
