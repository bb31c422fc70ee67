"""``python -m tests.soak``: all weather at once for a while, or a long outage."""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import uvloop

from tests.soak.chaos import DELIVERY, PATIENT, Chaos, End, Weather
from tests.soak.faults import Clock, small_disk
from tests.soak.ledger import Judgement
from tests.soak.marks import DESTINATIONS
from tests.soak.memory import BOUND, outage
from tests.soak.operator import ACTS
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
LEAVES = 0.002
"""How likely it is that a client goes away without waiting for its answer."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def weather(seed: int) -> Weather:
    """Return what happens in the run of *seed*: everything, in an order of its own."""
    dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
    return Weather(
        acts=dice.sample(ACTS, len(ACTS)),
        dislikes=True,
        bursts=True,
        leaves=LEAVES,
        delivery=DELIVERY if seed % 2 else PATIENT,
    )


class Totals:
    """What all runs together come to."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.complaints = 0

    def add(self, chaos: Chaos, verdict: Judgement, rounds: int) -> None:
        """Add what a run found."""
        self.complaints += len(verdict.complaints)
        self.sums.update(
            rounds=rounds,
            events=len(chaos.load.acknowledged),
            reloads=chaos.reloads,
            crashes=chaos.crashes,
            lost=sum(count.lost for count in verdict.counts.values()),
            duplicated=sum(count.duplicates for count in verdict.counts.values()),
        )
        self.sums["out of order"] += sum(count.disordered for count in verdict.counts.values())

    def line(self) -> str:
        """Return the sums as text."""
        names = "rounds", "events", "reloads", "crashes", "lost", "duplicated", "out of order"
        kept = "BROKEN" if self.complaints else "kept"
        return f"{kept}: " + ", ".join(f"{self.sums[name]} {name}" for name in names)


async def soak(minutes: float, seed: int) -> int:
    """Run rounds for so long; return how many complaints there were."""
    until = time.monotonic() + 60 * minutes
    totals = Totals()
    while time.monotonic() < until:
        await run(seed, until, totals)
        seed += 1
    say(totals.line())
    return totals.complaints


async def run(seed: int, until: float, totals: Totals) -> None:
    """Run `CHECKED` rounds on one spool, or fewer where the time is over, and judge."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clock = Clock(folder / "offset") if seed % 4 == JUMPY else None
        small = seed % 4 == FULL and os.geteuid() == 0
        disk = stack.enter_context(small_disk(folder / "disk", DISK)) if small else None
        async with vendors(*DESTINATIONS, seed=seed) as made:
            chaos = Chaos(folder, made, USERS, seed, clock=clock, disk=disk, weather=weather(seed))
            chaos.load.start()
            ends: tuple[End, ...] = ("kill", "term", "kill", "kill")
            rounds = 0
            while rounds < CHECKED and (not rounds or time.monotonic() < until):
                end = "term" if seed % 3 == 0 else ends[rounds % len(ends)]
                found = await chaos.round(end, EVENTS)
                rounds += 1
                say(f"{rounds:5} {found.end} {found.acknowledged:6} {' '.join(found.moods)}")
            verdict = await chaos.settle()
    totals.add(chaos, verdict, rounds)
    sky = "the clock jumped" if clock else "the disk was full" if disk else "clock and disk fine"
    acts = ", ".join(f"{times} {what}" for what, times in sorted(chaos.operator.done.items()))
    say(
        f"seed {seed}: {chaos.crashes} crashes, {chaos.reloads} reloads ({acts}), "
        f"{chaos.bursts} bursts, {chaos.load.left} clients left, {sky}\n{verdict.table()}"
    )


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
