"""A pytest plugin: run the tests against every mistake in the tables, and report survivors.

    python -m pytest -p gateway.testing.mutate
    python -m pytest -p gateway.testing.mutate --mutants "drop "      those whose names say that

The collected tests run once as they are, and must pass. Then each mutant of the tables that
their suites test (`gateway.testing.mutation`) is put in place, and the tests run until one
fails. What no test notices is a survivor; the session fails if there is any. No test reports
by itself. Tests that draw their data by chance do not take part.

A mutant that changes nothing may stand in ``equivalent-mutants.txt`` in the folder of the suite's
samples, under a comment that says why. One that does not survive has no place there.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from gateway.errors import MappingError
from gateway.mapping import Table
from gateway.plugin import Vendor
from gateway.testing.mutation import Mutant, made, mutants, tables_of
from gateway.testing.written import watch_rows

watch_rows()  # before a vendor's tables are imported
REPORT = pytest.StashKey[list[str]]()
DRAWING = frozenset({"gateway.testing.anything", "gateway.testing.delivery"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--mutants``."""
    parser.addoption("--mutants", default="", help="Only mutants with this text in their names.")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Hunt for survivors instead of running the tests once."""
    if session.testsfailed or session.config.option.collectonly:
        return False
    tables = tables_of(_vendors(session.items))
    if not tables:
        raise pytest.UsageError("no suite with an input or an output is among these tests")
    began = time.monotonic()
    hunt = Hunt([item for item in session.items if not _draws(item)])
    chosen = [m for m in mutants(tables) if session.config.option.mutants in m.name]
    found = [mutant for mutant in chosen if not hunt.notices(mutant, tables)]
    allowed = _equivalent(session.items) & {mutant.name for mutant in chosen}
    wrong = [f"SURVIVED {m.name} {m.where}".rstrip() for m in found if m.name not in allowed]
    noticed = allowed - {mutant.name for mutant in found}
    wrong += [f"NOT EQUIVALENT, for a test notices {name}" for name in sorted(noticed)]
    took = time.monotonic() - began
    sums = (
        f"{hunt.killed} mutants noticed, {hunt.stopped} stopped at start-up, {len(allowed)} "
        f"equivalent, {len(wrong)} wrong, in {took:.0f} s"
    )
    session.config.stash[REPORT] = [*wrong, sums]
    session.testsfailed = len(wrong)
    return True


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was found."""
    for line in config.stash.get(REPORT, []):
        terminalreporter.write_line(line)


class Hunt:
    """The tests, those first that are quick and noticed a mistake lately.

    Attributes:
        killed: how many mutants some test noticed.
        stopped: how many would not let the gateway start.
    """

    def __init__(self, items: Sequence[pytest.Item]) -> None:
        self.killed = 0
        self.stopped = 0
        taken: dict[pytest.Item, float] = {}
        for item in items:
            began = time.perf_counter()
            if _fails(item):
                raise pytest.UsageError(f"{item.nodeid} fails without any mistake in the tables")
            taken[item] = time.perf_counter() - began
        self._items = sorted(items, key=taken.__getitem__)

    def notices(self, mutant: Mutant, tables: Iterable[Table]) -> bool:
        """Tell whether some test fails while *mutant* stands in *tables*."""
        try:
            with made(mutant, tables):
                killer = next((item for item in self._items if _fails(item)), None)
        except MappingError:
            self.stopped += 1
            return True
        if killer is None:
            return False
        self.killed += 1
        self._items.remove(killer)
        self._items.insert(0, killer)
        return True


def _fails(item: pytest.Item) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=None)
    return any(report.failed for report in reports)


def _draws(item: pytest.Item) -> bool:
    """Tell whether chance has a part in the test, so that what it notices once it may miss."""
    function = getattr(item, "function", None)
    drawn = getattr(function, "is_hypothesis_test", False)
    return drawn or getattr(function, "__module__", "") in DRAWING


def _suites(items: Iterable[pytest.Item]) -> list[type]:
    return list(dict.fromkeys(suite for item in items if (suite := getattr(item, "cls", None))))


def _vendors(items: Iterable[pytest.Item]) -> Iterator[Vendor]:
    """Yield the vendors that the suites of *items* test."""
    for suite in _suites(items):
        halves = (getattr(suite, half, None) for half in ("input", "output"))
        yield from (half for half in halves if isinstance(half, Vendor))


def _equivalent(items: Iterable[pytest.Item]) -> set[str]:
    """Return the names of the mutants that are said to change nothing."""
    found: set[str] = set()
    for suite in _suites(items):
        path = getattr(suite, "samples", Path()) / "equivalent-mutants.txt"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            found.update(line for line in lines if line and not line.startswith("#"))
    return found
