"""The CPU until ``gateway run`` is ready, beside that of importing its two largest libraries.

``python -m tests.bench.start`` measures only this.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.processes import cpu, started

CONFIG = Path(__file__).parents[2] / "config/gateway.toml"
FLOOR = "import aiohttp, uvloop, time; print(time.process_time())"


def ready() -> float:
    """Return the CPU ms of a gateway with all vendors and the console, until it listens."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "gateway.toml")
        text = CONFIG.read_text().replace("127.0.0.1:8080", "127.0.0.1:0")
        path.write_text(text.replace("127.0.0.1:8081", "127.0.0.1:0"))
        with started("gateway", "run", "-c", str(path), marker='"listening"') as (process, _):
            return cpu(process.pid) * 1e3


def imports() -> float:
    """Return the CPU ms of a process that imports aiohttp and uvloop."""
    found = subprocess.run([sys.executable, "-c", FLOOR], capture_output=True, check=True)
    return float(found.stdout) * 1e3


def figures() -> Iterator[tuple[str, float]]:
    """Measure once, and yield each figure."""
    floor, taken = imports(), ready()
    yield "start: CPU ms to import aiohttp and uvloop", floor
    yield "start: CPU ms until the gateway listens", taken
    yield "start / floor", taken / floor


def main() -> None:
    """Measure and print. The first start, which compiles the modules, does not count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    ready()
    found: dict[str, list[float]] = {}
    for _ in range(parser.parse_args().rounds):
        for name, value in figures():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        print(f"{name}: median {statistics.median(values):.2f}, least {min(values):.2f}")


if __name__ == "__main__":
    main()
