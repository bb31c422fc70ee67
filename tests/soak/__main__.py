"""``python -m tests.soak``: the obligation ledger for a while, or a long outage."""

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop

from tests.soak.chaos import Chaos, End
from tests.soak.faults import Clock, small_disk
from tests.soak.marks import DESTINATIONS
from tests.soak.memory import BOUND, outage
from tests.soak.vendor import vendors

USERS = 40
EVENTS = 4000
"""Acknowledged events per round, at most."""
JUMPY, FULL = 2, 3
"""Of four runs, the one whose clock jumps and the one whose disk is full for moments."""
DISK = 48
"""MiB of that disk."""
CHECKED = 8
"""Rounds after which all is let settle and judged, and a new spool begun."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def soak(minutes: float, seed: int) -> int:
    """Run rounds for so long; return how many complaints there were."""
    until = time.monotonic() + 60 * minutes
    complaints = rounds = acknowledged = crashes = 0
    while time.monotonic() < until:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            clock = Clock(folder / "offset") if seed % 4 == JUMPY else None
            small = seed % 4 == FULL and os.geteuid() == 0
            disk = stack.enter_context(small_disk(folder / "disk", DISK)) if small else None
            async with vendors(*DESTINATIONS, seed=seed) as made:
                chaos = Chaos(folder, made, USERS, seed, clock=clock, disk=disk)
                chaos.load.start()
                ends: tuple[End, ...] = ("kill", "term", "kill", "kill")
                for number in range(CHECKED):
                    end = "term" if seed % 3 == 0 else ends[number % len(ends)]
                    found = await chaos.round(end, EVENTS)
                    rounds += 1
                    say(f"{rounds:5} {found.end} {found.acknowledged:6} {' '.join(found.moods)}")
                verdict = await chaos.settle()
        acknowledged += len(chaos.load.acknowledged)
        crashes += chaos.crashes
        complaints += len(verdict.complaints)
        what = (
            "the clock jumped" if clock else "the disk was full" if disk else "clock and disk fine"
        )
        say(f"seed {seed}, {chaos.crashes} crashes, {what}\n{verdict.table()}")
        seed += 1
    say(
        f"{'BROKEN' if complaints else 'kept'}: {complaints} complaints; {rounds} rounds, "
        f"{crashes} crashes, {acknowledged} events acknowledged"
    )
    return complaints


async def remember(events: int, users: int) -> int:
    """Run a long outage; return how many complaints there were."""
    with tempfile.TemporaryDirectory() as folder:
        async with vendors(*DESTINATIONS[:3]) as made:
            found = await outage(Path(folder), made, events, users)
    say(found.table())
    return len(found.judgement.complaints) + (found.most > BOUND)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="of the dice")
    parser.add_argument(
        "--memory", type=int, metavar="N", nargs="?", const=1_000_000,
        help="an outage of N events instead, one million unless told",
    )  # fmt: skip
    parser.add_argument("--users", type=int, default=5000, help="how many people those are of")
    asked = parser.parse_args()
    work = remember(asked.memory, asked.users) if asked.memory else soak(asked.minutes, asked.seed)
    return 1 if uvloop.run(work) else 0


if __name__ == "__main__":
    sys.exit(main())
