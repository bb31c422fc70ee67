"""Mutate every row of the tables and report what no test notices.

Every row is dropped, misspelt, and exchanged with every row beside it that the types allow. A
misspelt path is misspelt in the payload's type, too: whoever misreads a vendor's document writes
both alike, and the check at start-up cannot tell.

A row that stands in several tables is changed in all of them if it is written once: on one line
of one module, or, where that is not known, in the same words.

    python -m pytest -p gateway.testing.mutation
    python -m pytest -p gateway.testing.mutation --mutants "drop "      those whose names say that

The collected tests run once as they are, and must pass. Then each mutant of the tables that
their suites test (`gateway.testing.mutation`) is put in place, and the tests run until one
fails. What no test notices is a survivor; the session fails if there is any. No test reports
by itself. Tests that draw their data by chance do not take part. A mistake in the rows that
`gateway.plugin.spec` shares is no vendor's: such mutants are made with ``--shared-rows`` only.

A mutant that changes nothing may stand in ``equivalent-mutants.txt`` in the folder of the suite's
samples, under a comment that says why. One that does not survive has no place there.
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
"""By the row's id; the row itself is kept so that no other gets that id."""


def watch_rows() -> None:
    """Note from now on where rows are made; tables that were imported before are unknown.

    A row that is made of another one (`dataclasses.replace`) is written where that one is.
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
    """Return the file and the line of *row*, relative to the working directory if it is in it.

    Empty where that is not known.
    """
    _, line = _LINES.get(id(row), (None, ""))
    here = f"{Path.cwd()}/"
    return line.removeprefix(here)


class RowLocation(NamedTuple):
    """A row as it is written: the same words on the same line, in tables of the same kind."""

    wire: str
    event: str
    how: str
    """The codec's name, and the table below if it has one: two codecs made alike are one."""
    required: bool
    into: type
    line: str
    """Its file and line; empty where that is not known."""
    shared: bool
    """Whether it is one of `gateway.plugin.spec`'s."""


def place_of(row: Row, table: Table) -> RowLocation:
    """Return where *row* of *table* is written."""
    codec = row.codec
    how = f"{codec.name} #{id(codec.table)}" if isinstance(codec, NestedCodec) else codec.name
    return RowLocation(row.wire, row.event, how, row.required, table.into, line_of(row), row.shared)


class RowMutation(NamedTuple):
    """What becomes of one row."""

    wire: str
    event: str


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: what it does to which row, in one line.
        changes: what becomes of which rows; None drops one.
        misspelt: a wire path, and how the payload's type spells it in this mutant.
    """

    name: str
    changes: Mapping[RowLocation, RowMutation | None]
    misspelt: tuple[str, str] | None = None

    @property
    def where(self) -> str:
        """Return the files and lines of the rows that it changes, as far as they are known."""
        return ", ".join(dict.fromkeys(filter(None, (place.line for place in self.changes))))

    @property
    def shared(self) -> bool:
        """Tell whether all rows that it changes are ones that vendors share."""
        return all(place.shared for place in self.changes)


def tables_of(vendors: Iterable[Vendor]) -> list[Table]:
    """Return every table that the packages of *vendors* hold, nested ones too."""
    found: dict[int, Table] = {}
    for vendor in vendors:
        _gather(vendor.endpoints, found)
        for module in _modules(type(vendor).__module__):
            _gather(vars(module), found)
    return list(found.values())


def mutants(tables: Sequence[Table], *, read: bool = True) -> Iterator[Mutant]:
    """Yield the mistakes that can be made in *tables*; some are stopped at start-up.

    Args:
        tables: not changed.
        read: whether payloads are read by them. Where they are only written, a synonym that is
            not the first is no mistake whatever it is.
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
    """Put *mutant* in place of the rows of *tables*, for as long as the context lasts.

    Raises:
        MappingError: the types do not allow it, so that the gateway would not start with it.
    """
    kept: list[tuple[Table, dict[str, Any]]] = []
    try:
        for table in tables:
            rows = list(_rows(mutant, table))
            if tuple(rows) != table.rows:
                kept.append((table, dict(vars(table))))
                vars(table).update(vars(_rebuilt(mutant, table, rows)))
        yield
    finally:
        for table, before in kept:
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
        wire, rows, event=table.says, into=table.into, items=table.each, split_products=table.apart,
        strict=table.strict,
    )  # fmt: skip


def _spelt(wire: Any, path: list[str], wrong: list[str]) -> Any:
    """Return the TypedDict *wire* with a further field, *wrong*, of the type of that at *path*."""
    if not is_typeddict(bare(wire)):
        return wire
    hints = get_type_hints(bare(wire))
    (key, *below), (other, *further) = path, wrong
    hints[other] = _spelt(hints[key], below, further) if key == other and below else hints[key]
    return TypedDict("Misspelt", hints, total=False)  # type: ignore[operator]  # made of another's fields


def _respelt(place: RowLocation, *, read: bool) -> Iterator[Mutant]:
    """Yield *place* with each of its spellings wrong, missing, or in another's turn."""
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
    """Tell whether the last key of *path* is a free one, which no type can check."""
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
    """Return *path* with its last key misspelt; nothing for a bare star."""
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
    """Add to *found* every table that *value* holds."""
    if isinstance(value, Table):
        if id(value) not in found:
            found[id(value)] = value
            _gather([row.codec for row in value.rows], found)
            _gather(value.each, found)
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
    """Add ``--mutants``."""
    parser.addoption("--mutants", default="", help="Only mutants with this text in their names.")
    parser.addoption("--shared-rows", action="store_true", help="Mutants of shared rows, too.")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Hunt for survivors instead of running the tests once."""
    if session.testsfailed or session.config.option.collectonly:
        return False
    vendors = list(_vendors(session.items))
    tables = tables_of(vendors)
    read = any(isinstance(vendor, Input) for vendor in vendors)
    if not tables:
        raise pytest.UsageError("no suite with an input or an output is among these tests")
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
    """Print what was found."""
    for line in config.stash.get(REPORT, []):
        terminalreporter.write_line(line)


class MutationRun:
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
        path = (getattr(suite, "samples", None) or Path()) / "equivalent-mutants.txt"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            found.update(line for line in lines if line and not line.startswith("#"))
    return found
