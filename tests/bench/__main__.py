"""CPU per request and event, as ratios to floors measured in the same run: ``make bench``.

Each figure is the median of several rounds; a round measures the floors beside the gateway, so
that a machine whose speed drifts does not favour either.
"""

import argparse
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from gateway.plugins import load as load_plugins
from tests.bench import routing
from tests.bench.load import http, load
from tests.bench.processes import cpu, started
from tests.bench.relay import relayed

CONNECTIONS = 32
USERS = 500
CLOSED_PORT = 9
"""The discard port: nothing listens there, so a destination's circuit opens and stays open."""
RETRIES = 'retry_min = "100ms"\nretry_max = "400ms"\n'
TRACING = {
    "not traced": "[trace]\non = false\n",
    "traced": "",
    "every one traced": "[trace]\nsuccesses_per_second = 1000000\n",
}
"""What the configuration says of traces, by what that comes to."""
QUIET = 0.5
SETTLED = 0.01
"""CPU seconds in `QUIET` seconds below which a process is done with its work."""


def requests_of(vendor: str) -> list[bytes]:
    """Return the vendor's example request as it goes over the wire, from many users."""
    reads = load_plugins().inputs[vendor]()
    example = reads.example
    user = reads.parse(example)[0].user_key
    headers = {"content-type": "application/json", **example.headers}
    bodies = (
        example.body.replace(orjson.dumps(user), orjson.dumps(f"user-{number:05}"))
        for number in range(USERS)
    )
    return [http(example.url, body, headers) for body in bodies]


def configuration(
    folder: Path, vendor: str, port: int, destinations: int, *, eager: bool = False, more: str = ""
) -> Path:
    """Write a configuration of one source and some destinations at *port*."""
    text = f'[server]\nlisten = "127.0.0.1:0"\n[spool]\npath = "{folder / "spool"}"\n'
    text += f'[sources.shop]\nvendor = "{vendor}"\nkeys = "any"\n'
    names = [f"d{n}" for n in range(destinations)]
    for name in names:
        text += f'[destinations.{name}]\nvendor = "chrts"\napi_key = "bench"\n'
        text += f'url = "http://127.0.0.1:{port}"\n{RETRIES if eager else ""}'
    text += f"[[routes]]\nto = {orjson.dumps(names).decode()}\n{more}"
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


@contextmanager
def gateway(
    vendor: str, port: int, destinations: int, *, eager: bool = False, more: str = ""
) -> Iterator[tuple[int, int]]:
    """Run a gateway, *eager* to try again; yield its process id and port."""
    with tempfile.TemporaryDirectory() as folder:
        path = configuration(Path(folder), vendor, port, destinations, eager=eager, more=more)
        command = ("gateway", "run", "--config", str(path))
        with started(*command, marker='"listening"') as (process, line):
            yield process.pid, orjson.loads(line)["port"]


def until_quiet(pid: int) -> float:
    """Wait until a process has nothing left to do; return its CPU seconds by then."""
    before = cpu(pid)
    while True:
        time.sleep(QUIET)
        now = cpu(pid)
        if now - before < SETTLED:
            return now
        before = now


def server_floor(request: list[bytes], count: int) -> float:
    """Return the CPU µs per request of a bare aiohttp server that echoes JSON."""
    with started("tests.bench.floors", "echo") as (process, line):
        load(int(line), request, count // 10, CONNECTIONS)
        before = cpu(process.pid)
        load(int(line), request, count, CONNECTIONS)
        return (cpu(process.pid) - before) / count * 1e6


def floor_latency(rate: float, count: int) -> tuple[float, float]:
    """Return p50 and p99 in ms of the bare server's answers at *rate* requests per second."""
    with started("tests.bench.floors", "echo") as (_, line):
        found = load(int(line), requests_of("chrts"), count, CONNECTIONS, rate)
    return found[len(found) // 2] * 1e3, found[int(len(found) * 0.99)] * 1e3


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


class Accepting(NamedTuple):
    """What accepting costs and how long an answer takes."""

    micros: float
    """CPU µs per request."""
    rate: float
    """Requests per second, as fast as answers came."""
    half: float
    """Median of the answer's latency in ms, at half of that rate."""
    most: float
    """Its 99th percentile."""


def accepting(vendor: str, count: int) -> Accepting:
    """Measure requests that are accepted and kept, and delivered nowhere yet."""
    requests = requests_of(vendor)
    with gateway(vendor, CLOSED_PORT, 1) as (pid, port):
        load(port, requests, count // 10, CONNECTIONS)
        before, began = until_quiet(pid), time.perf_counter()
        load(port, requests, count, CONNECTIONS)
        rate = count / (time.perf_counter() - began)
        taken = cpu(pid) - before
        latencies = load(port, requests, count // 2, CONNECTIONS, rate / 2)
    half, most = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    return Accepting(taken / count * 1e6, rate, half * 1e3, most * 1e3)


def draining(vendor: str, count: int) -> tuple[float, float]:
    """Return CPU µs and events per second of a backlog that is delivered from the spool."""
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


def delivering(
    vendor: str, sink: int, destinations: int, count: int, more: str = "", *, watch: str = ""
) -> float:
    """Return CPU µs per request that is accepted, kept, and delivered to each destination.

    With *watch* somebody reads the live tail at that address meanwhile.
    """
    request = requests_of(vendor)
    with (
        gateway(vendor, sink, destinations, more=more) as (pid, port),
        started("tests.bench.watching", watch, marker="watching") if watch else nullcontext(),
    ):
        load(port, request, count // 10, CONNECTIONS)
        before = until_quiet(pid)
        load(port, request, count, CONNECTIONS)
        return (until_quiet(pid) - before) / count * 1e6


def traced(sink: int, count: int) -> Iterator[tuple[str, float]]:
    """Yield what an event costs by what is kept of its way, one setting right after the other."""
    found = {
        name: delivering("chrts", sink, 1, count, setting) for name, setting in TRACING.items()
    }
    for name, micros in found.items():
        yield f"accept + deliver to 1, {name}", micros
    for name in ("traced", "every one traced"):
        yield f"{name} / not traced", found[name] / found["not traced"]


def watched(sink: int, count: int) -> Iterator[tuple[str, float]]:
    """Yield what an event costs while nobody and while somebody reads the live tail."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    admin = f'[admin]\nlisten = "{address}"\n'
    alone = delivering("chrts", sink, 1, count, admin)
    tail = f"http://{address}/api/v1/tail"
    seen = delivering("chrts", sink, 1, count, admin, watch=tail)
    yield "accept + deliver to 1, watched", seen
    yield "watched / not watched", seen / alone


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count, figures = options.requests, dict[str, list[float]]()

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    for _ in range(options.rounds):
        floor = server_floor(requests_of("chrts"), count)
        note("server floor: bare aiohttp, JSON echo", floor)
        for vendor in sorted(load_plugins().inputs):
            found = accepting(vendor, count)
            note(f"accept {vendor}", found.micros)
            note(f"accept {vendor} / floor", found.micros / floor)
            note(f"{vendor}: requests accepted per second", found.rate)
            note(f"{vendor}: answer at half of that, p50 ms", found.half)
            note(f"{vendor}: answer at half of that, p99 ms", found.most)
            if vendor == "chrts":
                half, most = floor_latency(found.rate / 2, count // 2)
                note(f"{vendor}: p50 / that of the bare server at the same rate", found.half / half)
                note(f"{vendor}: p99 / that of the bare server at the same rate", found.most / most)
        with started("tests.bench.floors", "sink") as (_, line):
            sink = int(line)
            client = client_floor(sink, count)
            note("client floor: bare aiohttp, one post", client)
            for fan in (1, 3):
                taken = delivering("chrts", sink, fan, count)
                note(f"accept + deliver to {fan}", taken)
                note(f"accept + deliver to {fan} / floor", taken / (floor + fan * client))
            for name, value in (*traced(sink, count), *watched(sink, count)):
                note(name, value)
        for name, value in relayed(count // 4):
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
        if ":" in name and not name.startswith(("server", "client")):
            continue
        middle = statistics.median(values)
        spread = f"{min(values):.2f} to {max(values):.2f}"
        if " / " in name:
            table.add_row(f"  {name}", "", f"{middle:.2f}", spread)
        else:
            table.add_row(name, f"{middle:.1f}", "", spread)
    Console().print(table)
    for name, values in figures.items():
        if ":" in name and not name.startswith(("server", "client")):
            print(f"{name}: {statistics.median(values):.2f}")


if __name__ == "__main__":
    main()
