"""Measure programs of others under the benchmark's orders: ``make bench-peers``.

They and the gateway run on one core, load and sinks on the others. For each case all programs are
started, and then take turns; the figures are medians of their turns. The programs do much less
than the gateway: the table says for each whether it keeps events.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import fan_out
from tests.bench.fan_out import THREE, WARM_UP, Case, Figures, Running, Sinks
from tests.bench.gateways import CONNECTIONS
from tests.bench.load import load
from tests.bench.peers.programs import PEERS, Missing
from tests.bench.processes import CORE, free_port, off_core

CASES = (Case("1 to 1", THREE[:1]), Case("1 to 3", THREE))
OURS = {
    "this gateway": "yes: they are on the disk before it answers, and until they are delivered",
    "floor program": "yes: they are on the disk before it answers; it retries nothing",
}
FOLDER = Path("var/peers")
"""Where the programs are unpacked."""


@contextmanager
def running(name: str, programs: dict[str, Path], case: Case, sinks: Sinks) -> Iterator[Running]:
    """Run a program in front of the sinks of a case; yield its process id and port."""
    if name == "this gateway":
        with fan_out.gateway(case, sinks) as found:
            yield found
    elif name == "floor program":
        with fan_out.floor(case, sinks) as found:
            yield found
    else:
        peer = next(peer for peer in PEERS if peer.name == name)
        chosen = sinks.plain[: len(case.vendors)]
        with (
            tempfile.TemporaryDirectory() as folder,
            peer.run(programs[name], Path(folder), chosen, CORE) as found,
        ):
            yield found


def available(folder: Path) -> dict[str, Path]:
    """Return the peers that can be had and start, by name; print a line for each other one."""
    found: dict[str, Path] = {}
    for peer in PEERS:
        try:
            program = peer.get(folder.resolve() / peer.name.split()[0].lower())
            with (
                tempfile.TemporaryDirectory() as made,
                peer.run(program, Path(made), [free_port()], CORE),
            ):
                found[peer.name] = program
        except (Missing, RuntimeError) as why:
            print(f"{peer.name} is left out: {' '.join(str(why).split())}")
    return found


def measured(
    case: Case, programs: dict[str, Path], rounds: int, events: int
) -> dict[str, list[Figures]]:
    """Return the figures of each program's turns."""
    names = (*OURS, *programs)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    sent = fan_out.requests("orders", events)
    with fan_out.sinks() as sinks, ExitStack() as stack:
        started = {
            name: stack.enter_context(running(name, programs, case, sinks)) for name in names
        }
        for name in names:
            load(started[name].port, sent, min(WARM_UP, events), CONNECTIONS)
        for _ in range(rounds):
            for name in names:
                found[name].append(fan_out.turn(case, started[name], sent, events))
    return found


def main() -> None:
    """Get the programs, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    programs = available(FOLDER)
    with off_core(CORE):
        found = {case: measured(case, programs, options.rounds, options.events) for case in CASES}
    title = f"{options.events} orders, medians of {options.rounds} turns, all on one core"
    table = Table("", title=title)
    for case in CASES:
        table.add_column(f"{case.name}: events / s", justify="right")
        table.add_column("CPU µs / event", justify="right")
        table.add_column("x floor", justify="right")
    for name in (*OURS, *programs):
        table.add_row(name, *(text for case in CASES for text in _columns(found[case], name)))
    console = Console()
    console.print(table)
    console.print("Does it keep events durably?")
    for name, durable in {**OURS, **{peer.name: peer.durable for peer in PEERS}}.items():
        console.print(f"  {name}: {durable}", soft_wrap=True)


def _columns(found: dict[str, list[Figures]], name: str) -> tuple[str, ...]:
    """Return events per second, CPU per event, and the median ratio of a turn to the floor's."""
    turns, floors = found[name], found["floor program"]
    rate = statistics.median(one.rate for one in turns)
    micros = statistics.median(one.micros for one in turns)
    pairs = zip(turns, floors, strict=True)
    ratio = statistics.median(one.micros / floor.micros for one, floor in pairs)
    return f"{rate:.0f}", f"{micros:.0f}", f"{ratio:.2f}"


if __name__ == "__main__":
    main()
