"""What traces cost.

Run as ``python -m tests.bench.seeing --times N --rounds N``, or as a part of ``make bench``.

A gateway of each setting runs all the while, and they take turns of a second or two, the next
round in the other order: what a shared machine does meanwhile is met by all of them alike. Each
turn is compared with the plain one of its round. Processes differ a little from start to start, so
they are started anew, too.
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
"""Requests per second at which answers are timed: less than any machine of today can do."""
PLAIN, TRACED, ALL = "not traced", "traced", "every one traced"
SETTINGS = {
    PLAIN: "[trace]\nenabled = false\n",
    TRACED: "",
    ALL: "[trace]\nsuccess_rate_limit = 1000000\n",
}
"""What the configuration says of traces, by what that comes to."""
SHARES = {"p50": 0.5, "p99": 0.99}
PAIRS = ((TRACED, PLAIN), (ALL, PLAIN))


class Turn(NamedTuple):
    """What one gateway did in its turn."""

    micros: float
    """CPU µs per request that was accepted, kept, and delivered to one destination."""
    latencies: list[float]
    """Seconds until an answer was there, at `RATE`."""


Turns = Mapping[str, Sequence[Turn]]
"""By setting, round by round."""


class Bench:
    """A gateway of one setting, and its load."""

    def __init__(self, stack: ExitStack, sink: int, setting: str) -> None:
        self._requests = requests_of("chrts")
        running = gateway("chrts", sink, 1, more=SETTINGS[setting])
        self._pid, self._port = stack.enter_context(running)
        load(self._port, self._requests, len(self._requests), CONNECTIONS)

    def turn(self, count: int) -> Turn:
        """Take *count* requests as fast as may be, then some at `RATE`."""
        until_quiet(self._pid)
        before = cpu(self._pid)
        load(self._port, self._requests, count, CONNECTIONS)
        taken = until_quiet(self._pid) - before
        latencies = load(self._port, self._requests, count // 4, CONNECTIONS, RATE)
        return Turn(taken / count * 1e6, latencies)


def turns(sink: int, count: int, rounds: int) -> Turns:
    """Return the turns of gateways that are started for it.

    Args:
        sink: the port of what takes the deliveries.
        count: requests in a turn.
        rounds: turns of each setting.
    """
    found = defaultdict[str, list[Turn]](list)
    with ExitStack() as stack:
        benches = {setting: Bench(stack, sink, setting) for setting in SETTINGS}
        for number in range(rounds):
            for setting in sorted(benches, reverse=number % 2 > 0):
                found[setting].append(benches[setting].turn(count))
    return found


def told(found: Turns) -> Iterator[tuple[str, list[float]]]:
    """Yield what each setting costs and each pair's ratio, by round; latencies as a whole."""
    for setting, taken in found.items():
        yield f"accept + deliver to 1, {setting}", [turn.micros for turn in taken]
    for setting, taken in found.items():
        for name, share in SHARES.items():
            yield f"{setting}: the answer's {name}, ms", [_within(taken, share) * 1e3]
    for one, other in PAIRS:
        both = list(zip(found[one], found[other], strict=True))
        yield f"{one} / {other}", [mine.micros / theirs.micros for mine, theirs in both]
        for name, share in SHARES.items():
            ratio = _within(found[one], share) / _within(found[other], share)
            yield f"{one} / {other}: the answer's {name}", [ratio]


def _within(taken: Sequence[Turn], share: float) -> float:
    """Return the seconds within which a *share* of all the answers came."""
    latencies = sorted(one for turn in taken for one in turn.latencies)
    return latencies[int(len(latencies) * share)]


def main() -> None:
    """Measure, and print medians with the middle half of the rounds."""
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
    for name, values in told(found):
        spread = ""
        if len(values) > 1:
            low, _, high = statistics.quantiles(values, n=4)
            spread = f" (half of the rounds: {low:.2f} to {high:.2f})"
        print(f"{name}: {statistics.median(values):.2f}{spread}")


if __name__ == "__main__":
    main()
