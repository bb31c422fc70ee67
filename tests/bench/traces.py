"""Measure what traces cost: ``python -m tests.bench.traces --times N --rounds N``.

One gateway per setting runs all the time. They take turns of a second or two, in reverse order in
every other round, so other load on the machine affects all of them alike. Each turn is compared
with the turn without traces of its round. Processes differ a little from start to start, so they
are restarted several times. ``make bench`` includes it.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tests.bench.gateways import CONNECTIONS, gateway, requests_of, until_quiet
from tests.bench.load import load
from tests.bench.processes import cpu, started

RATE = 400.0
"""Requests per second at which latency is measured: far below what any machine can do."""
PLAIN, TRACED, ALL = "not traced", "traced", "every one traced"
SETTINGS = {
    PLAIN: "[trace]\nenabled = false\n",
    TRACED: "",
    ALL: "[trace]\nsuccess_rate_limit = 1000000\n",
}
"""The lines of the configuration, by setting."""
SHARES = {"p50": 0.5, "p99": 0.99}
PAIRS = ((TRACED, PLAIN), (ALL, PLAIN))


class Turn(NamedTuple):
    """The measurements of one gateway's turn."""

    micros: float
    """CPU µs per request that is accepted, stored, and delivered to one destination."""
    latencies: list[float]
    """Seconds until each response, at `RATE`."""


Turns = Mapping[str, Sequence[Turn]]
"""Turns by setting, one per round."""


class Bench:
    """A gateway with one setting, and its load."""

    def __init__(self, stack: ExitStack, sink: int, setting: str) -> None:
        self._requests = requests_of("chrts")
        running = gateway("chrts", sink, 1, more=SETTINGS[setting])
        self._pid, self._port = stack.enter_context(running)
        load(self._port, self._requests, len(self._requests), CONNECTIONS)

    def turn(self, count: int) -> Turn:
        """Send *count* requests as fast as possible, then a quarter as many at `RATE`."""
        until_quiet(self._pid)
        before = cpu(self._pid)
        load(self._port, self._requests, count, CONNECTIONS)
        taken = until_quiet(self._pid) - before
        latencies = load(self._port, self._requests, count // 4, CONNECTIONS, RATE)
        return Turn(taken / count * 1e6, latencies)


def turns(sink: int, count: int, rounds: int) -> Turns:
    """Start a gateway per setting and return their turns.

    Args:
        sink: the port of the server that takes the deliveries.
        count: requests per turn.
        rounds: turns per setting.
    """
    found = defaultdict[str, list[Turn]](list)
    with ExitStack() as stack:
        benches = {setting: Bench(stack, sink, setting) for setting in SETTINGS}
        for number in range(rounds):
            for setting in sorted(benches, reverse=number % 2 > 0):
                found[setting].append(benches[setting].turn(count))
    return found


def figures(found: Turns) -> Iterator[tuple[str, list[float]]]:
    """Yield figures by name: costs and ratios of pairs per round, latencies over all rounds."""
    for setting, taken in found.items():
        yield f"accept + deliver to 1, {setting}", [turn.micros for turn in taken]
    for setting, taken in found.items():
        for name, share in SHARES.items():
            yield f"{setting}: latency {name}, ms", [_within(taken, share) * 1e3]
    for one, other in PAIRS:
        both = list(zip(found[one], found[other], strict=True))
        yield f"{one} / {other}", [mine.micros / theirs.micros for mine, theirs in both]
        for name, share in SHARES.items():
            ratio = _within(found[one], share) / _within(found[other], share)
            yield f"{one} / {other}: latency {name}", [ratio]


def _within(taken: Sequence[Turn], share: float) -> float:
    """Return the latency quantile *share*, in seconds."""
    latencies = sorted(one for turn in taken for one in turn.latencies)
    return latencies[int(len(latencies) * share)]


def main() -> None:
    """Measure and print medians with the interquartile range of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--times", type=int, default=4)
    options = parser.parse_args()
    found = defaultdict[str, list[Turn]](list)
    with started("tests.bench.floors", "sink") as (_, line):
        for _ in range(options.times):
            for setting, taken in turns(int(line), options.requests, options.rounds).items():
                found[setting] += taken
    for name, values in figures(found):
        spread = ""
        if len(values) > 1:
            low, _, high = statistics.quantiles(values, n=4)
            spread = f" (interquartile range: {low:.2f} to {high:.2f})"
        print(f"{name}: {statistics.median(values):.2f}{spread}")


if __name__ == "__main__":
    main()
