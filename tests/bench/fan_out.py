"""Measure orders from acceptance to delivery, beside the floor program.

Run as ``python -m tests.bench.fan_out``; ``make bench`` includes it.

Each case has something to compare with: the floor program, or the gateway in another case. The two
have as many requests under way to a sink. They run on one core, load and sinks on the other, and
take turns. The figure is the median of the rounds' ratios of CPU time per event, since rates change
with whatever else the machine does.
"""

import argparse
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
import trustme
from rich.console import Console
from rich.table import Table

from gateway.admin.auth import CSRF_HEADER
from tests.bench import orders
from tests.bench.console import free_address
from tests.bench.floor import IN_FLIGHT
from tests.bench.gateways import CONNECTIONS, QUIET, until_quiet
from tests.bench.load import load
from tests.bench.processes import CORE, cpu, off_core, started

WARM_UP = 2000
"""Requests before a measurement."""
TURNS = 2
"""Turns of each program in a round. They take seconds, since traces have a rate per second."""
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
    spool: str = ""
    """Further lines of ``[spool]``."""
    tls: bool = False
    beside: "Case | None" = None
    """What it is compared with; None is the floor program."""
    reply: bool = False
    """Answer with the response of the vendor, or of the sink."""
    backlog: bool = False
    """Measure only the deliveries, from the disk: all are accepted while destinations pause."""


UNTRACED = "[trace]\nenabled = false\n"
SINGLES = Case("1 to 3", THREE)
BATCHES = Case("1 to 3, batches of ten", THREE, "batches", beside=SINGLES)
CASES = (
    SINGLES,
    Case("1 to 1", ("chrts",)),
    Case("1 to 3, smallest event", THREE, "smallest"),
    BATCHES,
    Case("1 to 3, TLS", THREE, tls=True, beside=SINGLES),
    Case("1 to 1, same vendor passed through", ("segment",)),
    Case("1 to 1, the vendor's reply is returned", ("segment",), reply=True),
    Case("1 to 1, two steps", ("chrts",), route=STEPS),
    Case("1 to 3, from the backlog", THREE, backlog=True, beside=SINGLES),
    Case("1 to 3, traces on / off", THREE, beside=SINGLES._replace(name="off", more=UNTRACED)),
    Case("1 to 3, batches of ten, traces on / off", THREE, "batches",
         beside=BATCHES._replace(name="off", more=UNTRACED)),
)  # fmt: skip
BATCH = 10


class Running(NamedTuple):
    """A program under measurement."""

    pid: int
    port: int
    admin: str = ""
    """The address of the gateway's admin API, if it has one."""


class Figures(NamedTuple):
    """What one run of one program took."""

    micros: float
    """CPU µs per event."""
    rate: float
    """Events accepted per second."""
    kept_up: float
    """Deliveries per accepted event and destination while the load lasted."""


Loads = Mapping[str, Sequence[bytes]]
"""The requests of each kind."""


def requests(kind: str, events: int) -> Sequence[bytes]:
    """Return requests that hold so many events."""
    if kind == "batches":
        return list(orders.batches(events // BATCH, BATCH))
    return list(orders.singles(events, orders.smallest if kind == "smallest" else orders.order))


def configuration(folder: Path, case: Case, sinks: Sequence[int], admin: str) -> Path:
    """Write the gateway's configuration of a case."""
    scheme = "https" if case.tls else "http"
    text = '[server]\nlisten = "127.0.0.1:0"\n'
    text += f'[spool]\npath = "{folder / "spool"}"\n{case.spool}'
    text += '[sources.shop]\nvendor = "segment"\nkeys = "any"\n'
    text += 'respond = "upstream"\nrespond_timeout = "10s"\n' if case.reply else ""
    for vendor, port in zip(case.vendors, sinks, strict=True):
        text += f'[destinations.{vendor}]\nvendor = "{vendor}"\n{SETTINGS[vendor]}\n'
        text += f'url = "{scheme}://127.0.0.1:{port}"\nconcurrency = {IN_FLIGHT}\n'
    text += f"[[routes]]\nto = {list(case.vendors)!r}\n".replace("'", '"')
    text += f'name = "all"\n{case.route}\n{case.more}'
    if admin:
        text += f'[admin]\nlisten = "{admin}"\n'
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
def gateway(case: Case, ports: Sinks, core: int = CORE) -> Iterator[Running]:
    """Run a gateway on one *core*."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = (ports.tls if case.tls else ports.plain)[: len(case.vendors)]
        admin = free_address() if case.backlog else ""
        path = configuration(Path(folder), case, chosen, admin)
        command = ("gateway", "run", "--config", str(path))
        environ = {"SSL_CERT_FILE": ports.authority} if case.tls else {}
        running = started(*command, marker='"listening"', core=core, environ=environ)
        with running as (process, line):
            yield Running(process.pid, orjson.loads(line)["port"], admin)


@contextmanager
def floor(case: Case, ports: Sinks) -> Iterator[Running]:
    """Run the floor program."""
    chosen = [*map(str, ports.plain[: len(case.vendors)]), *(["reply"] if case.reply else [])]
    with started("tests.bench.floor", *chosen, core=CORE) as (process, line):
        yield Running(process.pid, int(line))


def turn(case: Case, running: Running, sent: Sequence[bytes], events: int) -> Figures:
    """Return what a program takes for so many events, until all are delivered."""
    pid, port = running.pid, running.port
    if case.backlog:
        each_destination(running.admin, case.vendors, "pause")
        load(port, sent, len(sent), CONNECTIONS)
        before, began = until_quiet(pid), time.perf_counter()
        each_destination(running.admin, case.vendors, "resume")
        taken = until_quiet(pid) - before
        return Figures(taken / events * 1e6, events / (time.perf_counter() - began - QUIET), 1.0)
    before, began = until_quiet(pid), time.perf_counter()
    load(port, sent, len(sent), CONNECTIONS)
    seconds, under_load = time.perf_counter() - began, cpu(pid) - before
    taken = until_quiet(pid) - before
    return Figures(taken / events * 1e6, events / seconds, under_load / taken)


def each_destination(admin: str, vendors: Sequence[str], action: str) -> None:
    """Pause or resume every destination by the admin API."""
    for vendor in vendors:
        url = f"http://{admin}/api/v1/destinations/{vendor}/{action}"
        with urllib.request.urlopen(urllib.request.Request(url, b"", {CSRF_HEADER: "1"})):
            pass


def compared(case: Case, ports: Sinks, loads: Loads, events: int) -> tuple[Figures, Figures]:
    """Return the means of a case's turns, and of those of what it is compared with."""
    beside = case.beside
    sent = loads[case.load], loads[beside.load if beside else case.load]
    other = gateway(beside, ports) if beside else floor(case, ports)
    turns: tuple[list[Figures], list[Figures]] = ([], [])
    with other as second, gateway(case, ports) as first:
        programs = first, second
        cases = case, beside or case._replace(backlog=False)
        for which in (0, 1):
            load(programs[which].port, sent[which], min(WARM_UP, len(sent[which])), CONNECTIONS)
        for number in range(TURNS):
            for which in (0, 1) if number % 2 else (1, 0):
                turns[which].append(turn(cases[which], programs[which], sent[which], events))
    return _mean(turns[0]), _mean(turns[1])


def _mean(turns: Sequence[Figures]) -> Figures:
    return Figures(*map(statistics.mean, zip(*turns, strict=True)))


def rounds(
    cases: Sequence[Case], count: int, events: int
) -> dict[str, list[tuple[Figures, Figures]]]:
    """Return the figures of each case and of what it is compared with, by case and round.

    Args:
        cases: the cases.
        count: rounds.
        events: events of each program in each round.
    """
    found: dict[str, list[tuple[Figures, Figures]]] = {case.name: [] for case in cases}
    kinds = {one.load for case in cases for one in (case, case.beside or case)}
    events //= TURNS
    loads = {kind: requests(kind, events) for kind in kinds}
    with off_core(CORE), sinks() as ports:
        for _ in range(count):
            for case in cases:
                found[case.name].append(compared(case, ports, loads, events))
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


def show(
    found: dict[str, list[tuple[Figures, Figures]]], cases: Sequence[Case], events: int
) -> None:
    """Print the medians, and the lowest and highest ratio."""
    title = f"{events} events in {TURNS} turns, medians of {len(next(iter(found.values())))} rounds"
    table = Table("", "CPU µs / event", "compared with", "its µs", "ratio", "min to max",
                  "events / s", "work done under load", title=title)  # fmt: skip
    for case in cases:
        mine, others = zip(*found[case.name], strict=True)
        ratios = [one.micros / other.micros for one, other in found[case.name]]
        table.add_row(
            case.name,
            f"{_median(mine, 'micros'):.0f}",
            case.beside.name if case.beside else "floor",
            f"{_median(others, 'micros'):.0f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{_median(mine, 'rate'):.0f}",
            f"{_median(mine, 'kept_up'):.0%}",
        )
    Console().print(table)


def _median(figures: Sequence[Figures], name: str) -> float:
    return statistics.median(getattr(one, name) for one in figures)


if __name__ == "__main__":
    main()
