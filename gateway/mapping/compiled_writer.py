"""Writers: the rows of a table as one Python function, which makes a payload of an event.

Each part of the event, such as ``context.page``, and each object in the payload has a variable.
A part in which nothing is set is the default of its field, and its rows are skipped together.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import chain, groupby
from typing import Any, NamedTuple

from msgspec import Struct

from gateway.event import Event
from gateway.event_fields import defaults
from gateway.mapping.compiled_rows import EMPTY, SINGLE, CompiledRow, Path, joined
from gateway.mapping.generated import define, indented
from gateway.mapping.row import NestedTable, Writer

MAPPINGS = frozenset({"extra", "consent"})
"""Names of the event's parts that are mappings."""


class WriterPlan(NamedTuple):
    """What a writer writes, in this order."""

    name: str
    """Name of the table, for tracebacks."""
    into: type
    """The struct that it reads."""
    rows: Sequence[CompiledRow]
    """The rows but those that take free keys."""
    items: tuple[str, Callable[[Any], NestedTable | None]] | None
    """Key of the list of events, and a function that returns the table of one of them."""
    stars: Sequence[tuple[CompiledRow, frozenset[str]]]
    """The rows that take free keys, each with the keys that it leaves to the other rows."""


def compile_writer(plan: WriterPlan) -> Writer:
    """Return a function that writes *plan*.

    The function raises Unrenderable if the event lacks a required field.
    """
    source = _Source(plan)
    lines = ["def write(event, same):", *indented(source.lines())]
    writer: Writer = define("write", lines, source.names, f"writer of {plan.name}")
    return writer


class _Source:
    """Generates the lines of one writer.

    Attributes:
        names: what the lines refer to.
    """

    def __init__(self, plan: WriterPlan) -> None:
        self.names: dict[str, Any] = {"EMPTY": EMPTY}
        self._plan = plan
        self._parts: dict[Path, str] = {(): "event"}
        """Variables of the event's parts that were read so far, by path."""
        paths = [row.paths[0] for row in plan.rows if row.is_written]
        whole = {*paths, *([(plan.items[0],)] if plan.items else [])}
        stars = [star.paths[0] for star, _ in plan.stars]
        objects = dict.fromkeys(p[:size] for p in (*paths, *stars) for size in range(1, len(p)))
        self._objects = {
            path: f"into{number}"
            for number, path in enumerate(objects)
            if not any(path[:size] in whole for size in range(1, len(path) + 1))
        }
        """Variables of the payload's objects that no row writes as a whole, by path."""

    def lines(self) -> Iterator[str]:
        """Yield the lines after the first."""
        plan = self._plan
        yield "payload = {}"
        yield from (f"{into} = None" for into in self._objects.values())
        if any(row.single for row in (*plan.rows, *(star for star, _ in plan.stars))):
            yield "products = event.properties.products"
            yield "product = products[0] if products else None"
        numbered = [(n, row) for n, row in enumerate(plan.rows) if row.is_written]
        for part, rows in groupby(numbered, lambda pair: _part(pair[1])):
            yield from self._rows(part, list(rows))
        if plan.items is not None:
            self.names["table_for"] = plan.items[1]
            yield "table = table_for(event)"
            yield "listed = [] if table is None else [table.writer(event, same)]"
            yield f"payload[{plan.items[0]!r}] = listed"
        for number, (star, claimed) in enumerate(plan.stars):
            self.names |= {"joined": joined, f"claimed{number}": claimed}
            yield from self._read_part(_part(star))
            yield f"if free := {self._value(star)}:"
            yield from indented(self._star(star.paths[0][:-1], f"claimed{number}"))
        if plan.into is not Event and not plan.stars:
            self.names["claimed"] = {row.field for row in plan.rows if row.group == "extra"}
            yield "if same:"
            yield "    left = {k: v for k, v in event.extra.items() if k not in claimed}"
            yield "    payload = {**left, **payload}"
        yield "return payload"

    def _rows(self, part: Path, rows: Sequence[tuple[int, CompiledRow]]) -> Iterator[str]:
        """Yield the lines of rows that read the same *part* of the event."""
        yield from self._read_part(part)
        lines = [line for number, row in rows for line in self._row(row, number)]
        default = _default(self._plan.into, part)
        if len(rows) == 1 or default is None or any(row.row.required for _, row in rows):
            yield from lines
            return
        name = f"no_{self._parts[part]}"
        self.names[name] = default
        yield f"if {self._parts[part]} is not {name}:"
        yield from indented(lines)

    def _row(self, row: CompiledRow, number: int) -> Iterator[str]:
        """Yield the lines that write one row."""
        if row.literal:
            self.names[f"constant{number}"] = row.get(None)
        value = f"constant{number}" if row.literal else self._value(row)
        if row.plain:
            yield f"if (value := {value}) is not None:"
        else:
            yield f"if (value := {value}) or (value is not None and value not in EMPTY):"
        lines = self._put(row.paths[0])
        if row.encode is not None:
            self.names[f"encode{number}"] = row.encode
            yield f"    value = encode{number}(value)"
        if row.nested is not None:
            self.names[f"write{number}"] = row.nested.table.writer
            if row.nested.many:
                yield "    members, value = value, []"
                yield "    for member in members:"
                yield f"        value.append(write{number}(member, same))"
            else:
                yield "    value = value[0] if type(value) is tuple else value"
                yield f"    value = write{number}(value, same)"
            lines = chain(["if value:"], indented(lines))
        yield from indented(lines)
        if row.row.required and row.row.event:
            self.names[f"missing{number}"] = row.missing
            yield "else:"
            yield f"    missing{number}()"

    def _star(self, path: Path, claimed: str) -> Iterator[str]:
        """Yield the lines that write free keys, but those that other rows have, below *path*."""
        into, made = self._place(path)
        yield from made
        yield f"into = {into}"
        yield "for key, value in free.items():"
        yield f"    if value is not None and key not in {claimed}:"
        yield "        if (mine := into.get(key)) is None:"
        yield "            into[key] = value"
        yield "        elif type(mine) is dict and type(value) is dict:"
        yield "            into[key] = joined(mine, value)"

    def _read_part(self, part: Path) -> Iterator[str]:
        """Yield the lines that read *part* of the event, unless it was read before."""
        if part not in self._parts:
            yield from self._read_part(part[:-1])
            self._parts[part] = "_".join(part)
            yield f"{self._parts[part]} = {self._parts[part[:-1]]}.{part[-1]}"

    def _value(self, row: CompiledRow) -> str:
        """Return the expression for the value of *row*; the part that holds it is read."""
        if row.single:
            path = row.row.event.removeprefix(SINGLE)
            above, _, key = path.rpartition(".")
            holder = f"product.{above}" if above else "product"
            return f"None if product is None else {_member(holder, above, key)}"
        above, _, key = row.row.event.rpartition(".")
        return _member(self._parts[_part(row)], above.rpartition(".")[2], key)

    def _put(self, path: Path) -> Iterator[str]:
        """Yield the lines that write the value at *path*."""
        into, made = self._place(path[:-1])
        yield from made
        yield f"{into}[{path[-1]!r}] = value"

    def _place(self, path: Path) -> tuple[str, Iterator[str]]:
        """Return the expression for the object at *path*, and the lines that make what is in it."""
        own = [path[:size] for size in range(1, len(path) + 1) if path[:size] in self._objects]
        into = self._objects[own[-1]] if own else "payload"
        shared = "".join(f".setdefault({key!r}, {{}})" for key in path[len(own) :])
        return f"{into}{shared}", self._object(own[-1]) if own else iter(())

    def _object(self, path: Path) -> Iterator[str]:
        """Yield the lines that make the object at *path*, unless it was made before."""
        into, above = self._objects[path], "payload"
        yield f"if {into} is None:"
        if len(path) > 1:
            above = self._objects[path[:-1]]
            yield from indented(self._object(path[:-1]))
        yield f"    {into} = {above}[{path[-1]!r}] = {{}}"


def _part(row: CompiledRow) -> Path:
    """Return the path of the part of the event that holds the value of *row*."""
    return () if row.single else tuple(row.row.event.split(".")[:-1])


def _default(struct: type, part: Path) -> Any:
    """Return the default of *part* in *struct*, one object; None if it is no struct."""
    found = reduce(getattr, part[1:], defaults(struct)[part[0]]) if part else None
    return found if isinstance(found, Struct) else None


def _member(holder: str, name: str, key: str) -> str:
    """Return the expression for *key* of *holder*, a part with this *name*."""
    return f"{holder}.get({key!r})" if name in MAPPINGS else f"{holder}.{key}"
