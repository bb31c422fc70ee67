"""Mistakes in a vendor's tables, made on purpose: would its tests notice?

Every row is dropped, misspelt, and exchanged with every row beside it that the types allow. A
misspelt path is misspelt in the payload's type, too: whoever misreads a vendor's document writes
both alike, and the check at start-up cannot tell.

A row that stands in several tables is changed in all of them if it is written once: on one line
of one module, or, where that is not known, in the same words.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from types import ModuleType
from typing import Any, NamedTuple, TypedDict, get_type_hints, is_typeddict

from gateway.mapping import Row, Switch, Table
from gateway.mapping.nested import Nested
from gateway.mapping.paths import bare
from gateway.plugin import Vendor
from gateway.testing.written import line_of


class Place(NamedTuple):
    """A row as it is written: the same words on the same line, in tables of the same kind."""

    wire: str
    event: str
    how: str
    """The codec's name, and the table below if it has one: two codecs made alike are one."""
    required: bool
    into: type
    line: str
    """Its file and line; empty where that is not known."""


def place_of(row: Row, table: Table) -> Place:
    """Return where *row* of *table* is written."""
    codec = row.codec
    how = f"{codec.name} #{id(codec.table)}" if isinstance(codec, Nested) else codec.name
    return Place(row.wire, row.event, how, row.required, table.into, line_of(row))


class Change(NamedTuple):
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
    changes: Mapping[Place, Change | None]
    misspelt: tuple[str, str] | None = None

    @property
    def where(self) -> str:
        """Return the files and lines of the rows that it changes, as far as they are known."""
        return ", ".join(dict.fromkeys(filter(None, (place.line for place in self.changes))))


def tables_of(vendors: Iterable[Vendor]) -> list[Table]:
    """Return every table that the packages of *vendors* hold, nested ones too."""
    found: dict[int, Table] = {}
    for vendor in vendors:
        _gather(vendor.endpoints, found)
        for module in _modules(type(vendor).__module__):
            _gather(vars(module), found)
    return list(found.values())


def mutants(tables: Sequence[Table]) -> Iterator[Mutant]:
    """Yield the mistakes that can be made in *tables*; some are stopped at start-up."""
    places: dict[Place, None] = {}
    pairs: dict[tuple[Place, Place], None] = {}
    for table in tables:
        here = [place_of(row, table) for row in table.rows]
        places |= dict.fromkeys(here)
        for one, other in combinations(sorted(here, key=_order), 2):
            pairs[one, other] = None
    for place in places:
        yield Mutant(f"drop {_told(place)}", {place: None})
        yield from _respelt(place)
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
        wire, rows, says=table.says, into=table.into, each=table.each, apart=table.apart,
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


def _respelt(place: Place) -> Iterator[Mutant]:
    """Yield *place* with each of its spellings wrong, missing, or in another's turn."""
    spellings = place.wire.split("|")
    told = _told(place)
    for path in spellings:
        wrong = _wrong(path)
        if wrong:
            wire = "|".join(wrong if other == path else other for other in spellings)
            change = Change(wire, place.event)
            yield Mutant(f"misspell {path!r} in {told}", {place: change}, (path, wrong))
    for fewer in combinations(spellings, len(spellings) - 1):
        if fewer:
            change = Change("|".join(fewer), place.event)
            yield Mutant(f"leave only {change.wire!r} of {told}", {place: change})
    for turned in list(permutations(spellings))[1:]:
        change = Change("|".join(turned), place.event)
        yield Mutant(f"read and write {change.wire!r} for {told}", {place: change})
    if _is_free(place.event):
        change = Change(place.wire, f"{place.event}x")
        yield Mutant(f"misspell {place.event!r} in {told}", {place: change})


def _is_free(path: str) -> bool:
    """Tell whether the last key of *path* is a free one, which no type can check."""
    above = path.rpartition(".")[0]
    return above in {"extra", "consent"} or above.endswith(".extra")


def _swapped(one: Place, other: Place) -> Mutant:
    return Mutant(
        f"swap {_told(one)} and {_told(other)}",
        {one: Change(one.wire, other.event), other: Change(other.wire, one.event)},
    )


def _told(place: Place) -> str:
    how = place.how.partition(" #")[0]
    told = f"{place.wire} = {place.event or 'CONSUMED'}"
    return f"[{told}, {how}]" if how else f"[{told}]"


def _order(place: Place) -> tuple[str, str, str, str]:
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
    elif isinstance(value, Nested):
        _gather(value.table, found)
    elif isinstance(value, Switch):
        _gather([*value.tables.values(), value.otherwise], found)
    elif isinstance(value, Mapping):
        _gather(list(value.values()), found)
    elif isinstance(value, list | tuple):
        for member in value:
            _gather(member, found)
