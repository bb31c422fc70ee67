"""Attack a gateway of a default configuration, measure bystanders: ``python -m tests.siege``."""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.siege.attacks import SIEGES
from tests.siege.measurements import HEAD, besiege

FILES = 8192
"""File descriptors for the connections of an attack and of the gateway."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def allow_files() -> None:
    """Raise the limit of open files for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


async def run(seconds: float, only: str) -> int:
    """Run every siege; return how many slowed or lost bystanders' events too much."""
    broken = 0
    say(HEAD)
    for siege in SIEGES:
        if only not in siege.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = await besiege(Path(folder), siege, without=seconds, beside=seconds)
        say(found.row())
        slow = found.beside.p99 > found.alone.p99 + siege.within
        broken += bool(slow or found.refused or found.beside.missing)
    say(f"{'BROKEN' if broken else 'held'}: {broken} of the attacks harmed bystanders")
    return broken


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="seconds of each measurement")
    parser.add_argument("--only", default="", help="only attacks with this text in their names")
    options = parser.parse_args()
    allow_files()
    return 1 if uvloop.run(run(options.seconds, options.only)) else 0


if __name__ == "__main__":
    sys.exit(main())
