"""Measure CPU per request and event, as ratios to floors of the same run: ``make bench``.

Each figure is the median of several rounds. A round measures the gateway and the floors, so a
machine whose speed drifts favours neither.
"""

import argparse
import socket
import statistics
import subprocess
import time

from rich.console import Console
from rich.table import Table

from tests.bench import acceptance, cluster, console, fan_out, routing, start, traces
from tests.bench.gateways import (
    CONNECTIONS,
    QUIET,
    delivering,
    gateway,
    requests_of,
    until_quiet,
)
from tests.bench.load import load
from tests.bench.processes import cpu, started
from tests.bench.relay import relayed

TURNS = 6
"""Turns of each gateway in a round, for the cost of traces and of the console."""


def server_floor(request: list[bytes], count: int) -> float:
    """Return the CPU µs per request of a bare aiohttp server that echoes JSON."""
    with started("tests.bench.floors", "echo") as (process, line):
        load(int(line), request, count // 10, CONNECTIONS)
        before = cpu(process.pid)
        load(int(line), request, count, CONNECTIONS)
        return (cpu(process.pid) - before) / count * 1e6


def client_floor(sink: int, count: int) -> float:
    """Return the CPU µs per post of a bare aiohttp client."""
    command = ("tests.bench.floors", "client", str(sink), str(count))
    with started(*command, stdin=subprocess.PIPE) as (process, _):
        assert process.stdin is not None
        assert process.stdout is not None
        before = cpu(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        return (cpu(process.pid) - before) / count * 1e6


def draining(vendor: str, count: int) -> tuple[float, float]:
    """Return CPU µs per event and events per second while a backlog is delivered."""
    requests = requests_of(vendor)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        closed = reserved.getsockname()[1]
    with gateway(vendor, closed, 1, eager=True) as (pid, port):
        load(port, requests, count, CONNECTIONS)
        until_quiet(pid)
        before, began = cpu(pid), time.perf_counter()
        with started("tests.bench.floors", "sink", str(closed)):
            taken = until_quiet(pid) - before
            seconds = time.perf_counter() - began - QUIET
    return taken / count * 1e6, count / seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count, figures = options.requests, dict[str, list[float]]()
    acceptance.show(acceptance.rounds(options.rounds, count), count)
    fan_out.show(fan_out.rounds(fan_out.CASES, options.rounds, count), fan_out.CASES, count)
    cluster.show(cluster.measured(options.rounds, count // 2), count // 2)

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    for _ in range(options.rounds):
        floor = server_floor(requests_of("chrts"), count)
        note("server floor: bare aiohttp, JSON echo", floor)
        with started("tests.bench.floors", "sink") as (_, line):
            sink = int(line)
            client = client_floor(sink, count)
            note("client floor: bare aiohttp, one post", client)
            for fan in (1, 3):
                taken = delivering("chrts", sink, fan, count)
                note(f"accept + deliver to {fan}", taken)
                note(f"accept + deliver to {fan} / floor", taken / (floor + fan * client))
            for name, values in traces.figures(traces.turns(sink, count // 4, TURNS)):
                note(name, statistics.median(values))
            for name, values in console.compared(sink, TURNS, count // 4, None):
                note(name, statistics.median(values))
        for name, value in relayed(count // 4):
            note(name, value)
        for name, value in start.figures():
            note(name, value)
        taken = routing.micros()
        note("20 routes, 5 steps", taken)
        note("20 routes, 5 steps / floor", taken / floor)
        taken, rate = draining("chrts", count)
        note("deliver from backlog", taken)
        note("deliver from backlog / floor", taken / client)
        note("backlog: events delivered per second", rate)
    _print(figures, count, options.rounds)


def _print(figures: dict[str, list[float]], count: int, rounds: int) -> None:
    table = Table(title=f"{count} requests, {CONNECTIONS} connections, median of {rounds} rounds")
    for heading in ("", "CPU µs", "ratio to floor", "min to max"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, values in figures.items():
        if ":" in name and " floor:" not in name:
            continue
        middle = statistics.median(values)
        spread = f"{min(values):.2f} to {max(values):.2f}"
        if " / " in name:
            table.add_row(f"  {name}", "", f"{middle:.2f}", spread)
        else:
            table.add_row(name, f"{middle:.1f}", "", spread)
    Console().print(table)
    for name, values in figures.items():
        if ":" in name and " floor:" not in name:
            print(f"{name}: {statistics.median(values):.2f}")


if __name__ == "__main__":
    main()
