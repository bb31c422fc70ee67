"""``python -m tests.mutation``: mistakes in the core, and which of them no test notices.

Each mistake is made in a copy of the tree, and the tests that cover its module run there until
one fails. What none notices is a survivor. A mistake that changes nothing that is promised may
stand in ``accepted.txt``, under a comment that says why.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path

from tests.mutation.covering import modules
from tests.mutation.mutants import Mutant, made, mutants
from tests.mutation.tree import Tree

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).parent / "accepted.txt"
SLACK = 60.0
"""Seconds that tests may take longer with a mistake than without."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def accepted() -> set[str]:
    """Return the names of the mistakes that nobody need notice."""
    lines = ACCEPTED.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


class Hunt:
    """Looks for survivors in several copies of the tree at the same time."""

    def __init__(self, tree: Path, folder: Path, workers: int) -> None:
        self.covering = modules(tree)
        self.counts: Counter[str] = Counter()
        self.survivors: list[Mutant] = []
        self.noticed: list[Mutant] = []
        self._trees = [Tree(tree, folder / str(number)) for number in range(workers)]
        self._limits: dict[tuple[str, ...], float] = {}

    def all(self) -> list[Mutant]:
        """Return every mistake that can be made, of the copy as it was taken."""
        first = self._trees[0].folder
        return [one for path in self.covering for one in mutants(path, (first / path).read_text())]

    async def check(self, chosen: list[Mutant]) -> None:
        """Run the tests that cover the *chosen* mistakes without any.

        Raises:
            RuntimeError: one fails.
        """
        queue = iter(sorted({self.covering[one.path] for one in chosen}))
        await _share(self._baseline(tree, queue) for tree in self._trees)

    async def _baseline(self, tree: Tree, queue: Iterator[tuple[str, ...]]) -> None:
        for tests in queue:
            began = time.monotonic()
            ran = await tree.test(tests, 3600)
            if ran.failed:
                raise RuntimeError(f"these fail without any mistake:\n{ran.said[-3000:]}")
            self._limits[tests] = 2 * (time.monotonic() - began) + SLACK

    async def run(self, chosen: list[Mutant], seconds: float) -> None:
        """Try the *chosen* one after the other, and begin none after so many *seconds*."""
        queue, until = iter(chosen), time.monotonic() + seconds
        await _share(self._work(tree, queue, until) for tree in self._trees)

    async def _work(self, tree: Tree, queue: Iterator[Mutant], until: float) -> None:
        for mutant in queue:
            if time.monotonic() > until:
                self.counts["not tried"] += 1
                continue
            await self._try(tree, mutant)

    async def _try(self, tree: Tree, mutant: Mutant) -> None:
        tests, began = self.covering[mutant.path], time.monotonic()
        before = (tree.folder / mutant.path).read_text()
        tree.write(mutant.path, made(mutant, before))
        try:
            ran = await tree.test(tests, self._limits[tests])
        finally:
            tree.write(mutant.path, before)
        how = "hung" if ran.timed_out else "noticed" if ran.failed else "SURVIVED"
        self.counts[how] += 1
        (self.noticed if ran.failed else self.survivors).append(mutant)
        say(f"{how:9}{time.monotonic() - began:6.1f} s  {mutant.line:4} {mutant.name}")


async def _share(works: Iterable[Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def hunt(count: int, seed: int, minutes: float, only: str, workers: int) -> int:
    """Try a sample of mistakes; return how many verdicts are wrong."""
    with tempfile.TemporaryDirectory(prefix="gateway-mutation-") as folder:
        found = Hunt(ROOT, Path(folder), workers)
        every = [one for one in found.all() if only in one.name]
        dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        chosen = dice.sample(every, min(count, len(every)))
        say(f"{len(chosen)} of {len(every)} mistakes, seed {seed}")
        await found.check(chosen)
        await found.run(chosen, 60 * minutes)
    allowed = accepted()
    survivors = [one for one in found.survivors if one.name not in allowed]
    wrong = [f"SURVIVED, line {one.line}: {one.name}" for one in survivors]
    noticed = {one.name for one in found.noticed} & allowed
    wrong += [f"NOTICED, so it has no place in {ACCEPTED.name}: {name}" for name in noticed]
    excused = len(found.survivors) - len(survivors)
    counts = ", ".join(f"{number} {what}" for what, number in sorted(found.counts.items()))
    say("\n".join([*sorted(wrong), f"{counts}, of them {excused} accepted; {len(wrong)} wrong"]))
    return len(wrong)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--mutants", type=int, default=60, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--minutes", type=float, default=10, help="after which none is begun")
    parser.add_argument("--only", default="", help="those with this text in their names")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    asked = parser.parse_args()
    work = hunt(asked.mutants, asked.seed, asked.minutes, asked.only, asked.workers)
    return 1 if asyncio.run(work) else 0


if __name__ == "__main__":
    sys.exit(main())
