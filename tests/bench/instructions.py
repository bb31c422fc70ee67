"""Count the machine instructions of each Python function of the gateway per order.

Run as ``python -m tests.bench.instructions``; it needs valgrind, a C compiler and CPython 3.11.

Instructions hardly depend on what else the machine does, so they show small changes and where the
work is. A function's figure includes what it calls. Only the event loop's thread is counted.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench import fan_out
from tests.bench.load import load
from tests.bench.processes import cpu, started

CONNECTIONS = 16
SETTLED = 0.3
"""A process that uses fewer CPU seconds than this in a second is idle; valgrind slows it down."""
QUIET_LOG = "[log]\nsuccess_rate_limit = 0\n"
"""Logging and traces are limited per second, so a slow gateway would do them for each order."""
FRAMES = Path(__file__).with_name("frames.c")


class Function(NamedTuple):
    """The figures of one Python function."""

    name: str
    instructions: float
    """Thousands per order, with those of the functions that it calls."""
    calls: float
    """Calls per order."""


def compile_frames(folder: Path) -> None:
    """Compile the extension that runs each code object's frames by a function of its own."""
    include = sysconfig.get_path("include")
    options = ("-O1", "-fno-optimize-sibling-calls", "-shared", "-fPIC", f"-I{include}")
    target = str(folder / "frames.so")
    subprocess.run(["cc", *options, str(FRAMES), "-o", target], check=True)  # noqa: S607 - on the path


def run_gateway(folder: Path) -> None:
    """Run the gateway of the configuration in *folder*; SIGUSR1 starts the extension.

    SIGUSR2 writes the names of the functions that have run.
    """
    sys.path.insert(0, str(folder))
    import frames  # type: ignore[import-not-found]  # noqa: PLC0415 - it was compiled just now

    from gateway.cli import main as cli  # noqa: PLC0415 - only here

    codes: list[CodeType] = []
    signal.signal(signal.SIGUSR1, lambda *_: codes.append(frames.start()))

    def write(*_: object) -> None:
        names = [f"{Path(c.co_filename).name} {c.co_qualname}" for c in frames.start()]
        (folder / "new").write_text(json.dumps(names))
        (folder / "new").rename(folder / "names")

    signal.signal(signal.SIGUSR2, write)
    cli(["run", "--config", str(folder / "gateway.toml")], prog_name="gateway")


def run_under_valgrind(folder: Path) -> None:
    """Become valgrind, which runs the gateway of the configuration in *folder*."""
    counting = f"--callgrind-out-file={folder / 'counts'}"
    command = ["valgrind", "--tool=callgrind", "--separate-threads=yes", counting]
    command += [sys.executable, "-m", "tests.bench.instructions", "--gateway", str(folder)]
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


def functions(folder: Path, orders: int) -> list[Function]:
    """Return the figures of each function that was counted, the most expensive first."""
    names = json.loads((folder / "names").read_text())
    costs, calls = Counter[int](), Counter[int]()
    for number, cost, count in counted((folder / "counts.1-01").read_text()):
        costs[number] += cost
        calls[number] += count
    return [
        Function(names[number], cost / orders / 1000, calls[number] / orders)
        for number, cost in costs.most_common()
    ]


def counted(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield the number, some instructions and some calls of functions in a callgrind file.

    https://valgrind.org/docs/manual/cl-format.html
    """
    known: dict[str, int | None] = {}
    current: int | None = None
    for line in text.splitlines():
        kind, _, rest = line.partition("=")
        if kind in {"fn", "cfn"}:
            key, _, name = rest.partition(" ")
            if name:
                found = re.match(r"py_1([0-7]{4})", name)
                known[key] = int(found[1], 8) if found else None
            if kind == "fn":
                current = known[key]
            else:
                called = known[key]
        elif kind == "calls" and called is not None:
            yield called, 0, int(rest.split()[0])
        elif current is not None and line[:1] in "0123456789+-*" and " " in line:
            yield current, int(line.split()[1]), 0


def until_idle(pid: int) -> None:
    """Wait until a process is idle."""
    before = cpu(pid)
    while True:
        time.sleep(1)
        now = cpu(pid)
        if now - before < SETTLED:
            return
        before = now


def measured(vendors: tuple[str, ...], kind: str, count: int) -> list[Function]:
    """Return the figures of each function for *count* requests of a *kind* to *vendors*."""
    more = fan_out.UNTRACED + QUIET_LOG
    case = fan_out.Case("instructions", vendors, more=more)
    sent = fan_out.requests(kind, 2 * count * (fan_out.BATCH if kind == "batches" else 1))
    with tempfile.TemporaryDirectory() as made, fan_out.sinks() as ports:
        folder = Path(made)
        compile_frames(folder)
        fan_out.configuration(folder, case, ports.plain[: len(vendors)], "")
        command = ("tests.bench.instructions", "--valgrind", made)
        with started(*command, marker='"listening"') as (process, line):
            port = orjson.loads(line)["port"]
            os.kill(process.pid, signal.SIGUSR1)
            load(port, sent[:count], count, CONNECTIONS)
            until_idle(process.pid)
            control("-z", process.pid)
            load(port, sent[count:], count, CONNECTIONS)
            until_idle(process.pid)
            control("-d", process.pid)
            os.kill(process.pid, signal.SIGUSR2)
            while not (folder / "names").exists():
                time.sleep(0.1)
        return functions(folder, count)


def control(what: str, pid: int) -> None:
    """Set the counters of a process under callgrind to zero (``-z``), or write them (``-d``)."""
    quiet = subprocess.DEVNULL
    subprocess.run(["callgrind_control", what, str(pid)], check=True, stdout=quiet, stderr=quiet)  # noqa: S607 - on the path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--vendors", default=",".join(fan_out.THREE), help="where they go")
    parser.add_argument("--load", default="orders", help="orders, smallest or batches")
    parser.add_argument("--most", type=int, default=60, help="functions to show")
    parser.add_argument("--gateway", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--valgrind", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gateway:
        run_gateway(options.gateway)
    elif options.valgrind:
        run_under_valgrind(options.valgrind)
    else:
        show(
            measured(tuple(options.vendors.split(",")), options.load, options.orders)[
                : options.most
            ]
        )


def show(found: list[Function]) -> None:
    """Print the figures."""
    table = Table("function", "thousands of instructions", "calls", title="per request")
    for one in found:
        table.add_row(one.name, f"{one.instructions:.1f}", f"{one.calls:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
