"""Mutate the core and list the mutants that no test notices: ``python -m tests.mutation``.

Each mutant is one change in a copy of the tree. The tests that cover its module (``targets.py``)
run there until one fails. A mutant that passes all of them survives: either a test is missing, or
the change breaks no promise. Add the latter to ``accepted.txt``, by name, under a comment with the
reason. Samples leave accepted mutants out; ``--accepted`` tries only these.

Each line of the output has the result, the seconds, the line in the module, and the mutant's name.
To repeat a mutant, use ``--only`` with a part of its name. To look at it, make the change by hand.
Use an idle machine: on a busy one, tests that wait may fail, which counts as noticed.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import Mutant, mutants, mutated
from tests.mutation.targets import modules
from tests.mutation.tree import Tree

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).parent / "accepted.txt"
SLACK = 60.0
"""Extra seconds that tests may take with a mutant."""


def say(text: str) -> None:
    """Print a line without buffering."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def accepted() -> set[str]:
    """Return the names of the accepted mutants."""
    lines = ACCEPTED.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


class Baseline(NamedTuple):
    """Seconds that each test file takes on the unchanged tree."""

    seconds: dict[str, float]

    def ordered(self, tests: Iterable[str]) -> list[str]:
        """Return *tests*, quickest first."""
        return sorted(tests, key=self.seconds.__getitem__)

    def limit(self, tests: Iterable[str]) -> float:
        """Return the seconds after which *tests* count as hanging."""
        return SLACK + 2 * sum(self.seconds[test] for test in tests)


class MutationRun:
    """Tries mutants in several copies of the tree at once, and collects the survivors."""

    def __init__(self, tree: Path, folder: Path, workers: int) -> None:
        self.covering = modules(tree)
        self.counts: Counter[str] = Counter()
        self.survivors: list[Mutant] = []
        self._trees = [Tree(tree, folder / str(number)) for number in range(workers)]
        self._baseline = Baseline({})

    def all(self) -> list[Mutant]:
        """Return every possible mutant of the copied tree."""
        first = self._trees[0].folder
        return [one for path in self.covering for one in mutants(path, (first / path).read_text())]

    async def check(self, chosen: list[Mutant]) -> None:
        """Run and time the tests that cover the *chosen* mutants on the unchanged tree.

        Raises:
            RuntimeError: a test fails.
        """
        queue = iter(sorted({test for one in chosen for test in self.covering[one.path]}))
        await _share(self._time(tree, queue) for tree in self._trees)

    async def _time(self, tree: Tree, queue: Iterator[str]) -> None:
        for test in queue:
            began = time.monotonic()
            ran = await tree.test([test], 3600)
            if ran.failed:
                raise RuntimeError(f"{test} fails on the unchanged tree:\n{ran.said[-3000:]}")
            self._baseline.seconds[test] = took = time.monotonic() - began
            say(f"unchanged{took:6.1f} s       {test}")

    async def run(self, chosen: list[Mutant], seconds: float) -> None:
        """Try the *chosen* mutants; start none after *seconds*."""
        queue, until = iter(chosen), time.monotonic() + seconds
        await _share(self._work(tree, queue, until) for tree in self._trees)

    async def _work(self, tree: Tree, queue: Iterator[Mutant], until: float) -> None:
        for mutant in queue:
            if time.monotonic() > until:
                self.counts["not tried"] += 1
                continue
            await self._try(tree, mutant)

    async def _try(self, tree: Tree, mutant: Mutant) -> None:
        tests, began = self._baseline.ordered(self.covering[mutant.path]), time.monotonic()
        before = (tree.folder / mutant.path).read_text()
        tree.write(mutant.path, mutated(mutant, before))
        try:
            ran = await tree.test(tests, self._baseline.limit(tests))
        finally:
            tree.write(mutant.path, before)
        how = "hung" if ran.timed_out else "noticed" if ran.failed else "SURVIVED"
        self.counts[how] += 1
        if not ran.failed:
            self.survivors.append(mutant)
        say(f"{how:9}{time.monotonic() - began:6.1f} s  {mutant.line:4} {mutant.name}")


async def _share(works: Iterable[Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


class Options(argparse.Namespace):
    """The command line's options."""

    mutants: int
    seed: int
    minutes: float
    only: str
    accepted: bool
    workers: int

    def choose(self, every: list[Mutant], allowed: set[str]) -> list[Mutant]:
        """Return the sample of *every* mutant to try.

        Mutants are ordered by a hash of seed and name, so a sample stays nearly the same while the
        code changes.
        """
        fit = [m for m in every if self.only in m.name and (m.name in allowed) == self.accepted]
        return sorted(fit, key=lambda m: _place(self.seed, m.name))[: self.mutants]


def _place(seed: int, name: str) -> bytes:
    return blake2b(f"{seed} {name}".encode()).digest()


async def sample(options: Options) -> int:
    """Try a sample of mutants; return how many results need work."""
    allowed = accepted()
    with tempfile.TemporaryDirectory(prefix="gateway-mutation-") as folder:
        found = MutationRun(ROOT, Path(folder), options.workers)
        every = found.all()
        chosen = options.choose(every, allowed)
        say(f"{len(chosen)} of {len(every)} mutants, seed {options.seed}")
        began = time.monotonic()
        await found.check(chosen)
        say(f"the tests take {time.monotonic() - began:.0f} s on the unchanged tree")
        await found.run(chosen, 60 * options.minutes)
    gone = sorted(allowed - {one.name for one in every})
    wrong = [f"GONE, remove it from {ACCEPTED.name}: {name}" for name in gone]
    if options.accepted:
        noticed = sorted({one.name for one in chosen} - {one.name for one in found.survivors})
        wrong += [f"NOTICED, remove it from {ACCEPTED.name}: {name}" for name in noticed]
    else:
        wrong += [f"SURVIVED, line {one.line}: {one.name}" for one in sorted(found.survivors)]
    counts = ", ".join(f"{number} {what}" for what, number in sorted(found.counts.items()))
    say("\n".join([*wrong, f"{counts}; {len(wrong)} wrong"]))
    return len(wrong)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mutants", type=int, default=60, help="number of mutants to try")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    parser.add_argument("--minutes", type=float, default=10, help="start none after this time")
    parser.add_argument("--only", default="", help="only mutants with this text in their names")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--accepted", action="store_true", help="only the mutants in accepted.txt")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the test processes end too
    return 1 if asyncio.run(sample(parser.parse_args(namespace=Options()))) else 0


if __name__ == "__main__":
    sys.exit(main())
