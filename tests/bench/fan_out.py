"""Measure orders from acceptance to delivery, beside the floor program.

Run as ``python -m tests.bench.fan_out``; ``make bench`` includes it.

The gateway and the floor program run on one core, load and sinks on the other. A round runs each
case and its floor one after the other; the figure is the median of the rounds' ratios of CPU time
per event, since rates change with whatever else the machine does.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
import trustme
from rich.console import Console
from rich.table import Table

from tests.bench import orders
from tests.bench.gateways import CONNECTIONS, until_quiet
from tests.bench.load import load
from tests.bench.processes import cpu, started

CORE = 0
"""The core of what is measured; load and sinks have the others."""
WARM_UP = 2000
"""Requests before a measurement."""
SETTINGS = {
    "chrts": 'api_key = "bench"',
    "growlytics": 'api_key = "bench"',
    "tracardi": 'source_id = "bench"',
    "segment": 'write_key = "bench"',
}
THREE = ("chrts", "growlytics", "tracardi")
STEPS = 'steps = [{ hash = ["traits.email", "user_id"] }, { drop = ["context.ip"] }]'


class Case(NamedTuple):
    """What is sent, and to whom."""

    name: str
    vendors: tuple[str, ...]
    load: str = "orders"
    """``orders``, ``smallest`` or ``batches``."""
    route: str = ""
    """Further lines of the route."""
    more: str = ""
    """Further lines of the configuration."""
    tls: bool = False
    floor: bool = True
    """Compare with the floor program, not with the first case."""


CASES = (
    Case("1 to 3", THREE),
    Case("1 to 1", ("chrts",)),
    Case("1 to 3, smallest event", THREE, "smallest"),
    Case("1 to 3, batches of ten", THREE, "batches", floor=False),
    Case("1 to 3, TLS", THREE, tls=True, floor=False),
    Case("1 to 1, same vendor passed through", ("segment",)),
    Case("1 to 1, two steps", ("chrts",), route=STEPS),
    Case("1 to 3, no traces", THREE, more="[trace]\nenabled = false\n", floor=False),
    Case("1 to 3, batches of ten, no traces", THREE, "batches",
         more="[trace]\nenabled = false\n", floor=False),
)  # fmt: skip
BATCH = 10


class Figures(NamedTuple):
    """What one run of one program took."""

    micros: float
    """CPU µs per event."""
    rate: float
    """Events accepted per second."""
    kept_up: float
    """Deliveries per accepted event and destination while the load lasted."""


def requests(kind: str, events: int) -> Sequence[bytes]:
    """Return requests that hold so many events."""
    if kind == "batches":
        return list(orders.batches(events // BATCH, BATCH))
    return list(orders.singles(events, orders.smallest if kind == "smallest" else orders.order))


def configuration(folder: Path, case: Case, sinks: Sequence[int]) -> Path:
    """Write the gateway's configuration of a case."""
    scheme = "https" if case.tls else "http"
    text = f'[server]\nlisten = "127.0.0.1:0"\n[spool]\npath = "{folder / "spool"}"\n'
    text += '[sources.shop]\nvendor = "segment"\nkeys = "any"\n'
    for vendor, port in zip(case.vendors, sinks, strict=True):
        text += f'[destinations.{vendor}]\nvendor = "{vendor}"\n{SETTINGS[vendor]}\n'
        text += f'url = "{scheme}://127.0.0.1:{port}"\n'
    text += f"[[routes]]\nto = {list(case.vendors)!r}\n".replace("'", '"')
    text += f'name = "all"\n{case.route}\n{case.more}'
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


class Sinks(NamedTuple):
    """Ports that take deliveries."""

    plain: Sequence[int]
    tls: Sequence[int]
    authority: str
    """The file of the certificate authority."""


@contextmanager
def sinks() -> Iterator[Sinks]:
    """Run three sinks without TLS and three with it."""
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        trusted, served = Path(made, "authority.pem"), Path(made, "sink.pem")
        authority.cert_pem.write_to_path(str(trusted))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(served))
        ports = []
        for place in range(2 * len(THREE)):
            tls = (str(served),) if place >= len(THREE) else ()
            sink = started("tests.bench.floors", "sink", "0", *tls, off_core=CORE)
            ports.append(int(stack.enter_context(sink)[1]))
        yield Sinks(ports[: len(THREE)], ports[len(THREE) :], str(trusted))


@contextmanager
def gateway(case: Case, ports: Sinks) -> Iterator[tuple[int, int]]:
    """Run a gateway of its own core; yield its process id and port."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = (ports.tls if case.tls else ports.plain)[: len(case.vendors)]
        path = configuration(Path(folder), case, chosen)
        command = ("gateway", "run", "--config", str(path))
        environ = {"SSL_CERT_FILE": ports.authority} if case.tls else {}
        running = started(*command, marker='"listening"', core=CORE, environ=environ)
        with running as (process, line):
            yield process.pid, orjson.loads(line)["port"]


@contextmanager
def floor(destinations: int, ports: Sinks) -> Iterator[tuple[int, int]]:
    """Run the floor program; yield its process id and port."""
    chosen = [str(port) for port in ports.plain[:destinations]]
    with started("tests.bench.floor", *chosen, core=CORE) as (process, line):
        yield process.pid, int(line)


def measured(running: tuple[int, int], sent: Sequence[bytes], events: int) -> Figures:
    """Return what a program takes for so many events, until all are delivered."""
    pid, port = running
    load(port, sent, min(WARM_UP, len(sent)), CONNECTIONS)
    before, began = until_quiet(pid), time.perf_counter()
    load(port, sent, len(sent), CONNECTIONS)
    seconds, under_load = time.perf_counter() - began, cpu(pid) - before
    taken = until_quiet(pid) - before
    return Figures(taken / events * 1e6, events / seconds, under_load / taken)


def rounds(cases: Sequence[Case], count: int, events: int) -> dict[str, list[tuple[float, ...]]]:
    """Return CPU µs, ratio, rate and the share of the work done under load, by case and round."""
    found: dict[str, list[tuple[float, ...]]] = {case.name: [] for case in cases}
    loads = {kind: requests(kind, events) for kind in dict.fromkeys(case.load for case in cases)}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - {CORE} or before)
    with sinks() as ports:
        for _ in range(count):
            first = None
            for case in cases:
                beside = first
                if case.floor or beside is None:
                    with floor(len(case.vendors), ports) as running:
                        beside = measured(running, loads[case.load], events)
                with gateway(case, ports) as running:
                    figures = measured(running, loads[case.load], events)
                first = first or figures
                ratio = figures.micros / beside.micros
                found[case.name].append((figures.micros, ratio, figures.rate, figures.kept_up))
    os.sched_setaffinity(0, before)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases with this in their names")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name]
    show(rounds(cases, options.rounds, options.events), cases, options.events)


def show(found: dict[str, list[tuple[float, ...]]], cases: Sequence[Case], events: int) -> None:
    """Print the medians, and the lowest and highest ratio."""
    title = f"{events} events, medians of {len(next(iter(found.values())))} rounds"
    table = Table("", "CPU µs / event", "ratio", "min to max", "events / s",
                  "work done under load", title=title)  # fmt: skip
    for case in cases:
        micros, ratios, rates, kept = zip(*found[case.name], strict=True)
        to = "floor" if case.floor else "1 to 3"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        table.add_row(
            case.name, f"{statistics.median(micros):.0f}",
            f"{statistics.median(ratios):.2f} x {to}", spread,
            f"{statistics.median(rates):.0f}", f"{statistics.median(kept):.0%}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
