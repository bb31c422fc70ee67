"""Run the obligation ledger under all faults, an outage or a replay: ``python -m tests.soak``."""

import argparse
import datetime as dt
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from operator import add
from pathlib import Path

import uvloop

from tests.cluster.servers import nats_servers
from tests.soak.chaos import DELIVERY, PATIENT, Chaos, End, FurtherFaults
from tests.soak.cluster import ACTS as CLUSTER_ACTS
from tests.soak.cluster import FAULTS, NODES, ClusterChaos, table
from tests.soak.faults import Clock, small_disk
from tests.soak.ledger import Count, Judgement
from tests.soak.marks import DESTINATIONS
from tests.soak.memory import BOUND, outage
from tests.soak.operator import ACTS
from tests.soak.replays import replay
from tests.soak.vendor import vendors

USERS = 40
EVENTS = 1500
"""Acknowledged events per round, at most."""
JUMPY, FULL = 2, 3
"""Which of every four runs has a clock that jumps, and which a disk that fills up."""
DISK = 48
"""Size of that disk in MiB."""
CHECKED = 6
"""Rounds on one spool; then the run settles and is judged."""
ALONE = 60.0
"""Seconds of live traffic without the replay, before it and after it."""
SLOWER = 1.5
"""How much longer the 99th percentile of live events may take beside a replay."""
PAUSE = 0.2
"""Seconds between a response and the user's next request, so that vendors keep up."""
LEAVES = 0.002
"""Probability that a client leaves without waiting for the response."""

NOTHING = Count(0, 0, 0, 0, 0, 0, 0)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def further_faults(seed: int) -> FurtherFaults:
    """Return the faults of the run with *seed*: all of them, in random order."""
    dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
    return FurtherFaults(
        acts=dice.sample(ACTS, len(ACTS)),
        dislikes=True,
        bursts=True,
        leaves=LEAVES,
        delivery=DELIVERY if seed % 2 else PATIENT,
        pause=PAUSE,
    )


class Totals:
    """Sums over all runs; runs themselves are not kept."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.sums: Counter[str] = Counter()
        self.counts: dict[str, Count] = {}
        self.complaints = 0

    def add(self, chaos: Chaos, verdict: Judgement) -> None:
        """Add a run's result."""
        self.complaints += len(verdict.complaints)
        self.sums.update(
            events=len(chaos.load.acknowledged), reloads=chaos.reloads, crashes=chaos.crashes
        )
        for name, count in verdict.counts.items():
            known = self.counts.get(name, NOTHING)
            self.counts[name] = Count(*map(add, known, count))

    def text(self) -> str:
        """Return the sums as text: per destination, then in total."""
        counts = Judgement(self.counts)
        lost = sum(count.lost for count in self.counts.values())
        disordered = sum(count.disordered for count in self.counts.values())
        sums = ", ".join(f"{self.sums[name]} {name}" for name in ("events", "reloads", "crashes"))
        passed = dt.timedelta(seconds=round(time.monotonic() - self.began))
        kept = f"BROKEN, {self.complaints} complaints" if self.complaints else "kept"
        return (
            f"total:\n{counts.table()}\n{kept}: {sums}, {lost} lost, "
            f"{counts.duplicates} duplicated, {disordered} out of order, "
            f"in {self.sums['runs']} runs of {self.sums['rounds']} rounds and {passed}"
        )


async def soak(minutes: float, seed: int) -> int:
    """Run for *minutes*; return the number of complaints.

    A failed run is a complaint, and the next run starts.
    """
    totals = Totals()
    until = totals.began + 60 * minutes
    try:
        while time.monotonic() < until:
            totals.sums["runs"] += 1
            try:
                await run(seed, until, totals)
            except Exception as error:  # noqa: BLE001 - any failure ends one run only
                totals.complaints += 1
                say(f"seed {seed} failed:\n{''.join(traceback.format_exception(error))}")
            seed += 1
    finally:
        say(totals.text())
    return totals.complaints


async def run(seed: int, until: float, totals: Totals) -> None:
    """Run up to `CHECKED` rounds on one spool until *until*, and judge."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clock = Clock(folder / "offset") if seed % 4 == JUMPY else None
        small = seed % 4 == FULL and os.geteuid() == 0
        disk = stack.enter_context(small_disk(folder / "disk", DISK)) if small else None
        async with vendors(*DESTINATIONS, seed=seed) as made:
            chaos = Chaos(
                folder, made, USERS, seed, clock=clock, disk=disk, further=further_faults(seed)
            )
            async with chaos.load.running():
                ends: tuple[End, ...] = ("kill", "term", "kill", "kill")
                rounds = 0
                while rounds < CHECKED and (not rounds or time.monotonic() < until):
                    end = "term" if seed % 3 == 0 else ends[rounds % len(ends)]
                    found = await chaos.round(end, EVENTS)
                    rounds += 1
                    totals.sums["rounds"] += 1
                    say(f"{rounds:5} {found.end} {found.acknowledged:6} {' '.join(found.states)}")
                verdict = await chaos.settle()
    totals.add(chaos, verdict)
    environment = (
        "the clock jumped" if clock else "the disk was full" if disk else "clock and disk fine"
    )
    acts = ", ".join(f"{times} {what}" for what, times in sorted(chaos.operator.done.items()))
    say(
        f"seed {seed}: {chaos.crashes} crashes, {chaos.reloads} reloads ({acts}), "
        f"{chaos.bursts} bursts, {chaos.load.left} clients left, {environment}\n{verdict.table()}"
    )


async def cluster_soak(minutes: float, seed: int) -> int:
    """Run clusters for *minutes*; return the number of complaints."""
    until, complaints, totals = time.monotonic() + 60 * minutes, 0, Counter[str]()
    while time.monotonic() < until:
        dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            try:
                with nats_servers(folder / "nats", sync_always=True, parted=True) as servers:
                    async with vendors(*DESTINATIONS, seed=seed) as made:
                        chaos = ClusterChaos(folder, servers, made, USERS, seed)
                        async with chaos.running():
                            for fault in dice.sample(FAULTS, len(FAULTS)):
                                say(f"{await chaos.round(fault, dice.choice(CLUSTER_ACTS))}")
                            verdict = await chaos.settle()
            except Exception as error:  # noqa: BLE001 - any failure ends one run only
                complaints += 1
                say(f"seed {seed} failed:\n{''.join(traceback.format_exception(error))}")
            else:
                complaints += len(verdict.complaints)
                totals.update(events=len(chaos.load.acknowledged), faults=len(chaos.reports))
                totals.update(lost=sum(count.lost for count in verdict.counts.values()))
                totals.update(disordered=sum(c.disordered for c in verdict.counts.values()))
                totals.update(duplicates=verdict.duplicates)
                say(f"seed {seed}:\n{table(chaos.reports)}\n{verdict.table()}")
        seed += 1
    say(f"total: {complaints} complaints, {dict(totals)}")
    return complaints


async def remember(events: int, users: int) -> int:
    """Run a long outage; return the number of complaints."""
    with tempfile.TemporaryDirectory() as folder:
        async with vendors(*DESTINATIONS[:3]) as made:
            found = await outage(Path(folder), made, events, users)
    say(found.table())
    return len(found.judgement.complaints) + (found.most > BOUND)


async def travel(events: int, users: int, rate: float | None) -> int:
    """Replay events beside live traffic; return the number of complaints."""
    with tempfile.TemporaryDirectory() as folder:
        found = await replay(Path(folder), events, users, alone=ALONE, rate=rate)
    say(found.table())
    slower = sum(ratio > SLOWER for ratio in found.ratios)
    return len(found.complaints) + slower + (found.memory.most > BOUND)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="duration")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run")
    parser.add_argument(
        "--memory", type=int, metavar="N", nargs="?", const=1_000_000,
        help="run an outage of N events instead (default: one million)",
    )  # fmt: skip
    parser.add_argument(
        "--replay", type=int, metavar="N", nargs="?", const=1_000_000,
        help="replay N events beside live traffic instead (default: one million)",
    )  # fmt: skip
    parser.add_argument("--rate", type=float, help="most events per second of the replay")
    parser.add_argument(
        "--users", type=int, default=5000, help="number of users in the outage or the replay"
    )
    parser.add_argument("--nodes", type=int, choices=(1, NODES), default=1, help="of a cluster")
    asked = parser.parse_args()
    if asked.memory:
        work = remember(asked.memory, asked.users)
    elif asked.replay:
        work = travel(asked.replay, asked.users, asked.rate)
    elif asked.nodes == NODES:
        work = cluster_soak(asked.minutes, asked.seed)
    else:
        work = soak(asked.minutes, asked.seed)
    return 1 if uvloop.run(work) else 0


if __name__ == "__main__":
    sys.exit(main())
