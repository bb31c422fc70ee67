"""Mutate every row of the tables, and report mutants that no test detects.

Every row is dropped, misspelt, and swapped with every row beside it that the types allow. A
misspelt path is misspelt in the payload's type too: an author who misreads the vendor's
documentation makes the same mistake in both, and the check at the start cannot find it.

A row in several tables is changed in all of them if it is written once: on one line of one module,
or, if that is unknown, in the same words.

    python -m pytest -p gateway.testing.mutation
    python -m pytest -p gateway.testing.mutation --mutants "drop "      only names with this text

The collected tests run once without a mutant, and must pass. Then each mutant of the tables that
their suites test is applied, and the tests run until one fails. A mutant that no test detects has
survived; the session fails if there is one. Single tests are not reported. Tests with random data
do not take part. Mutants of the rows that vendors share (`gateway.plugin.spec`) are made only with
``--shared-rows``.

A mutant that changes nothing may be listed in ``equivalent-mutants.txt`` in the folder of the
suite's samples, under a comment with the reason. A listed mutant that is detected is an error.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypedDict, get_type_hints, is_typeddict

import pytest
from _pytest.runner import runtestprotocol

from gateway.errors import MappingError
from gateway.event_fields import bare
from gateway.mapping import Row, Switch, Table
from gateway.mapping.row import NestedCodec
from gateway.plugin.vendor import Input, Vendor

_LINES: dict[int, tuple[Row, str]] = {}
"""By the row's id; the row is stored too, so that its id is not reused."""


def watch_rows() -> None:
    """Record where rows are created from now on; tables that were imported before are unknown.

    A row that is copied from another one (`dataclasses.replace`) has the line of that one.
    """
    make = Row.__init__

    def made(row: Row, *args: Any, **kwargs: Any) -> None:
        make(row, *args, **kwargs)
        caller = sys._getframe(1)  # noqa: SLF001 - the cheapest way to ask who calls
        if caller.f_globals["__name__"] != "dataclasses":
            _LINES[id(row)] = row, f"{caller.f_code.co_filename}:{caller.f_lineno}"
            return
        (like,) = (value for value in caller.f_locals.values() if isinstance(value, Row))
        if id(like) in _LINES:
            _LINES[id(row)] = row, _LINES[id(like)][1]

    setattr(Row, "__init__", made)  # noqa: B010 - mypy knows that a class has one already


def line_of(row: Row) -> str:
    """Return the file and line of *row*, relative to the working directory if possible.

    Empty if it is unknown.
    """
    _, line = _LINES.get(id(row), (None, ""))
    here = f"{Path.cwd()}/"
    return line.removeprefix(here)


class RowLocation(NamedTuple):
    """A row in the source: the same text on the same line, in tables of the same kind."""

    wire: str
    event: str
    how: str
    """The codec's name, and the nested table if there is one; equal codecs count as one."""
    required: bool
    into: type
    line: str
    """Its file and line; empty if unknown."""
    shared: bool
    """Whether it comes from `gateway.plugin.spec`."""


def place_of(row: Row, table: Table) -> RowLocation:
    """Return the location of *row* in *table*."""
    codec = row.codec
    how = f"{codec.name} #{id(codec.table)}" if isinstance(codec, NestedCodec) else codec.name
    return RowLocation(row.wire, row.event, how, row.required, table.into, line_of(row), row.shared)


class RowMutation(NamedTuple):
    """The paths of a changed row."""

    wire: str
    event: str


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: the change and the row, in one line.
        changes: the changed rows; None drops a row.
        misspelt: a wire path, and its misspelling in the payload's type.
    """

    name: str
    changes: Mapping[RowLocation, RowMutation | None]
    misspelt: tuple[str, str] | None = None

    @property
    def where(self) -> str:
        """Return the files and lines of the changed rows, as far as known."""
        return ", ".join(dict.fromkeys(filter(None, (place.line for place in self.changes))))

    @property
    def shared(self) -> bool:
        """Return whether all changed rows are shared by vendors."""
        return all(place.shared for place in self.changes)


def tables_of(vendors: Iterable[Vendor]) -> list[Table]:
    """Return all tables in the packages of *vendors*, nested ones included."""
    found: dict[int, Table] = {}
    for vendor in vendors:
        _gather(vendor.endpoints, found)
        for module in _modules(type(vendor).__module__):
            _gather(vars(module), found)
    return list(found.values())


def mutants(tables: Sequence[Table], *, read: bool = True) -> Iterator[Mutant]:
    """Yield the possible mutants of *tables*; the types reject some of them.

    Args:
        tables: the tables; they are not changed.
        read: whether payloads are parsed with them. If not, synonyms after the first have no
            effect.
    """
    places: dict[RowLocation, None] = {}
    pairs: dict[tuple[RowLocation, RowLocation], None] = {}
    for table in tables:
        here = [place_of(row, table) for row in table.rows]
        places |= dict.fromkeys(here)
        for one, other in combinations(sorted(here, key=_order), 2):
            pairs[one, other] = None
    for place in places:
        yield Mutant(f"drop {_told(place)}", {place: None})
        yield from _respelt(place, read=read)
    for one, other in pairs:
        if one.event != other.event:
            yield _swapped(one, other)


@contextmanager
def made(mutant: Mutant, tables: Iterable[Table]) -> Iterator[None]:
    """Apply *mutant* to the rows of *tables* within the context.

    Raises:
        MappingError: the types reject it, so the gateway would not start with it.
    """
    kept: list[tuple[Table, dict[str, Any]]] = []
    try:
        for table in tables:
            rows = list(_rows(mutant, table))
            kept.append((table, dict(vars(table))))
            if tuple(rows) != table.rows:
                vars(table).update(vars(_rebuilt(mutant, table, rows)))
            table.forget_compiled()  # also of those around a changed one
        yield
    finally:
        for table, before in kept:
            vars(table).clear()
            vars(table).update(before)


def _rows(mutant: Mutant, table: Table) -> Iterator[Row]:
    for row in table.rows:
        place = place_of(row, table)
        if place not in mutant.changes:
            yield row
        elif (change := mutant.changes[place]) is not None:
            yield replace(row, wire=change.wire, event=change.event)


def _rebuilt(mutant: Mutant, table: Table, rows: list[Row]) -> Table:
    wire = table.wire
    if mutant.misspelt is not None:
        path, wrong = mutant.misspelt
        wire = _spelt(wire, path.split("."), wrong.split("."))
    return Table(
        wire, rows, event=table.event, into=table.into, items=table.items,
        split_products=table.split_products,
        strict=table.strict,
    )  # fmt: skip


def _spelt(wire: Any, path: list[str], wrong: list[str]) -> Any:
    """Return the TypedDict *wire* with a field *wrong* of the same type as the one at *path*."""
    if not is_typeddict(bare(wire)):
        return wire
    hints = get_type_hints(bare(wire))
    (key, *below), (other, *further) = path, wrong
    hints[other] = _spelt(hints[key], below, further) if key == other and below else hints[key]
    return TypedDict("Misspelt", hints, total=False)  # type: ignore[operator]  # made of another's fields


def _respelt(place: RowLocation, *, read: bool) -> Iterator[Mutant]:
    """Yield mutants of *place* with a path misspelt, missing, or at another position."""
    spellings = place.wire.split("|")
    told = _told(place)
    for path in spellings if read else spellings[:1]:
        wrong = _wrong(path)
        if wrong:
            wire = "|".join(wrong if other == path else other for other in spellings)
            change = RowMutation(wire, place.event)
            yield Mutant(f"misspell {path!r} in {told}", {place: change}, (path, wrong))
    for fewer in combinations(spellings, len(spellings) - 1):
        if fewer and (read or fewer[0] != spellings[0]):
            change = RowMutation("|".join(fewer), place.event)
            yield Mutant(f"leave only {change.wire!r} of {told}", {place: change})
    for turned in list(permutations(spellings))[1:]:
        if not read and turned[0] == spellings[0]:
            continue
        change = RowMutation("|".join(turned), place.event)
        yield Mutant(f"read and write {change.wire!r} for {told}", {place: change})
    if _is_free(place.event):
        change = RowMutation(place.wire, f"{place.event}x")
        yield Mutant(f"misspell {place.event!r} in {told}", {place: change})


def _is_free(path: str) -> bool:
    """Return whether the last key of *path* is free, so that no type checks it."""
    above = path.rpartition(".")[0]
    return above in {"extra", "consent"} or above.endswith(".extra")


def _swapped(one: RowLocation, other: RowLocation) -> Mutant:
    return Mutant(
        f"swap {_told(one)} and {_told(other)}",
        {one: RowMutation(one.wire, other.event), other: RowMutation(other.wire, one.event)},
    )


def _told(place: RowLocation) -> str:
    how = place.how.partition(" #")[0]
    told = f"{place.wire} = {place.event or 'CONSUMED'}"
    return f"[{told}, {how}]" if how else f"[{told}]"


def _order(place: RowLocation) -> tuple[str, str, str, str]:
    return place.wire, place.event, place.how, place.line


def _wrong(path: str) -> str:
    """Return *path* with its last key misspelt; empty for a bare star."""
    *above, last = path.split(".")
    if last != "*":
        return ".".join([*above, f"{last}x"])
    return ".".join([*above[:-1], f"{above[-1]}x", "*"]) if above else ""


def _modules(name: str) -> list[ModuleType]:
    package = name.rpartition(".")[0] or name
    return [
        module
        for known, module in list(sys.modules.items())
        if known == package or known.startswith(f"{package}.")
    ]


def _gather(value: Any, found: dict[int, Table]) -> None:
    """Add every table in *value* to *found*."""
    if isinstance(value, Table):
        if id(value) not in found:
            found[id(value)] = value
            _gather([row.codec for row in value.rows], found)
            _gather(value.items, found)
    elif isinstance(value, NestedCodec):
        _gather(value.table, found)
    elif isinstance(value, Switch):
        _gather([*value.tables.values(), value.otherwise], found)
    elif isinstance(value, Mapping):
        _gather(list(value.values()), found)
    elif isinstance(value, list | tuple):
        for member in value:
            _gather(member, found)


watch_rows()  # before a vendor's tables are imported
REPORT = pytest.StashKey[list[str]]()
DRAWING = frozenset({"gateway.testing.fuzz", "gateway.testing.delivery_suite"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--mutants`` and ``--shared-rows``."""
    parser.addoption("--mutants", default="", help="Only mutants with this text in their names.")
    parser.addoption("--shared-rows", action="store_true", help="Also mutants of shared rows.")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Test all mutants instead of running the tests once."""
    if session.testsfailed or session.config.option.collectonly:
        return False
    vendors = list(_vendors(session.items))
    tables = tables_of(vendors)
    read = any(isinstance(vendor, Input) for vendor in vendors)
    if not tables:
        raise pytest.UsageError("none of these tests is in a suite with an input or an output")
    began = time.monotonic()
    hunt = MutationRun([item for item in session.items if not _draws(item)])
    option = session.config.option
    made_up = (m for m in mutants(tables, read=read) if option.shared_rows or not m.shared)
    chosen = [mutant for mutant in made_up if option.mutants in mutant.name]
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
    """Print the results."""
    for line in config.stash.get(REPORT, []):
        terminalreporter.write_line(line)


class MutationRun:
    """The tests, ordered by duration and by which detected a mutant last.

    Attributes:
        killed: how many mutants a test detected.
        stopped: how many mutants the types rejected.
    """

    def __init__(self, items: Sequence[pytest.Item]) -> None:
        self.killed = 0
        self.stopped = 0
        taken: dict[pytest.Item, float] = {}
        for item in items:
            began = time.perf_counter()
            if _fails(item):
                raise pytest.UsageError(f"{item.nodeid} fails without a mutant; fix it first")
            taken[item] = time.perf_counter() - began
        self._items = sorted(items, key=taken.__getitem__)

    def notices(self, mutant: Mutant, tables: Iterable[Table]) -> bool:
        """Return whether a test fails while *mutant* is applied to *tables*."""
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
    """Return whether the test uses random data, so that it may detect a mutant only sometimes."""
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
    """Return the names of the mutants that are listed as equivalent."""
    found: set[str] = set()
    for suite in _suites(items):
        path = (getattr(suite, "samples", None) or Path()) / "equivalent-mutants.txt"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            found.update(line for line in lines if line and not line.startswith("#"))
    return found
