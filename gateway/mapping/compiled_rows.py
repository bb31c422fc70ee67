"""Rows with resolved paths and types, and the trie of their paths in the payload."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

from gateway.errors import Fault, MappingError, Rejected, Unrenderable
from gateway.event_fields import annotation_at, bare, classes, is_mapping
from gateway.json_text import LongInteger, LongNumber
from gateway.mapping.codecs import AS_IS, NUMBER
from gateway.mapping.row import NestedCodec, Row
from gateway.mapping.struct_builder import groups, split

Path: TypeAlias = tuple[str, ...]

EMPTY: tuple[Any, ...] = ((), {})
PRODUCTS = "properties.products"
SINGLE = f"{PRODUCTS}[0]."
JSON_NAMES = {
    str: "string", int: "integer", LongInteger: "integer", float: "number", LongNumber: "number",
    bool: "boolean", dict: "object", list: "array", type(None): "null",
}  # fmt: skip

NUMERIC: frozenset[type] = frozenset({int, float})
PLAIN: frozenset[type] = NUMERIC | {str, bool, datetime}
READ_AS: Mapping[type, frozenset[type]] = {
    int: frozenset({int, LongInteger}),
    float: frozenset({float, LongInteger, LongNumber}),
}
"""Classes of decoded numbers, by the class in the payload's type."""


def json_name(value: Any) -> str:
    """Return the JSON name of the type of *value*."""
    return JSON_NAMES.get(type(value), type(value).__name__)


def check_products(rows: Iterable[Row]) -> None:
    """Check that only one kind of rows fills the products of an event.

    Raises:
        MappingError: a list and the fields of a single product do; one of them would be lost.
    """
    wires = {row.event: row.wire for row in rows}
    single = next((path for path in wires if path.startswith(SINGLE)), None)
    if PRODUCTS in wires and single:
        raise MappingError(
            f"{wires[single]!r} to {single!r}: the row {wires[PRODUCTS]!r} fills {PRODUCTS!r} too, "
            "and a payload with both would lose one. Leave one of the two out, or put them into "
            "two tables of a Switch"
        )


class CompiledRow:
    """A row with resolved paths and types.

    Attributes:
        paths: its synonyms as tuples of keys.
        key: the only key, if it has one synonym with one key; else empty.
        star: whether it takes all keys that no other row has.
        single: whether it is a field of the event's only product.
        whole: whether an object is its value, and not only a parent of other rows' fields.
        get: reads the value from the event, or from its only product.
        plain: whether its value in the event is text, a number or a time, which are never empty.
        group: the event's group with its field; see `gateway.mapping.struct_builder`.
        variable: path of what it fills: its field, or the mapping that has its field or free keys;
            empty if it is not read.
        keeps: classes of values that are read without conversion.
    """

    __slots__ = (
        "accepts", "decode", "encode", "field", "get", "group", "keeps", "key", "literal", "nested",
        "paths", "plain", "row", "single", "star", "variable", "whole",
    )  # fmt: skip

    def __init__(self, row: Row, wire: type, into: type) -> None:
        annotations = [annotation_at(wire, path) for path in row.synonyms]
        self.row = row
        self.paths: list[Path] = [tuple(path.split(".")) for path in row.synonyms]
        self.star = self.paths[0][-1] == "*"
        self.accepts = frozenset(c for a in annotations for c in classes(a))
        self.nested = row.codec if isinstance(row.codec, NestedCodec) else None
        self.literal = row.codec.name.startswith("always ")
        self.decode: Callable[[Any], Any] | None = (
            None if row.codec is AS_IS or self.nested or self.literal else row.codec.decode
        )
        unchanged = row.codec.encode is AS_IS.encode
        self.encode: Callable[[Any], Any] | None = (
            None if unchanged or self.nested or self.literal else row.codec.encode
        )
        simple = len(self.paths) == 1 and len(self.paths[0]) == 1
        self.key = self.paths[0][0] if simple else ""
        self.group, self.field, self.variable = "", "", ""
        self.keeps = frozenset(row.codec.keeps)
        self.get: Callable[[Any], Any] = row.codec.encode if self.literal else _nothing
        self.single = row.event.startswith(SINGLE)
        self.plain = False
        if row.event:
            target = annotation_at(into, row.event)
            self.plain = classes(target) <= PLAIN
            if row.codec is AS_IS and any(bare(a) is Any for a in annotations):
                self.accepts &= classes(target)
            self._resolve(into, target)
            if row.codec is AS_IS and classes(target) <= NUMERIC:
                self.decode = NUMBER.decode  # long numbers become doubles
                self.keeps = NUMERIC
        self.accepts = frozenset().union(*(READ_AS.get(c, {c}) for c in self.accepts))

        gives = frozenset(row.codec.gives) or self.accepts
        self.whole = dict in self.accepts and (self.nested is not None or dict in gives)

    def _resolve(self, into: type, target: Any) -> None:
        row = self.row
        if self.star:
            if not is_mapping(target):
                raise MappingError(f"{row.wire!r}: {row.event!r} is not a mapping with free keys")
            self.group = row.event
        else:
            self.group, self.field = split(into, row.event)
            self._check(target)
        if not self.literal:
            maps = {group.path for group in groups(into) if group.make is None}
            self.variable = self.group if self.group in maps else row.event
        self.get = getter(row.event.removeprefix(SINGLE))

    def _check(self, target: Any) -> None:
        row = self.row
        wanted = classes(target)
        given = frozenset(row.codec.gives) or self.accepts
        if self.nested:
            given = frozenset({self.nested.gives_class(bare(target))})
        if not given <= wanted:
            bad = ", ".join(sorted(c.__name__ for c in given - wanted))
            raise MappingError(f"{row.wire!r} to {row.event!r}: {bad} does not fit; add a codec")

    @property
    def is_written(self) -> bool:
        """Return whether the row writes anything: a field of the event, or a constant."""
        return self.literal or bool(self.row.event)

    def find(self, payload: dict[str, Any]) -> Any:
        """Return the first synonym's value in *payload*, or None."""
        if self.key:
            return payload.get(self.key)
        for path in self.paths:
            found = _at(payload, path)
            if found is not None:
                return found
        return None

    def beaten(self, payload: dict[str, Any], rank: int) -> bool:
        """Return whether *payload* has a synonym before the one of *rank*."""
        return any(_at(payload, path) is not None for path in self.paths[:rank])

    def wrong(self, value: Any, rank: int = 0) -> Rejected:
        """Return the error for a *value* of the wrong type."""
        wanted = " or ".join(sorted({JSON_NAMES[c] for c in self.accepts if c in JSON_NAMES}))
        reason = f"expected {wanted}, got {json_name(value)}"
        return Rejected(self.row.synonyms[rank], reason, Fault.TYPE, value)

    def missing(self) -> None:
        """Handle a missing value of the event.

        Raises:
            Unrenderable: the row is required.
        """
        if self.row.required and self.row.event:
            raise Unrenderable(f"{self.row.event}: required by {self.row.synonyms[0]}")


compile_row = cache(CompiledRow)
"""Compiles a row once for all tables that have it, with the same types."""


def getter(path: str) -> Callable[[Any], Any]:
    """Return a function that reads *path*; it returns None for a missing value."""
    group, _, key = path.rpartition(".")
    if group == "extra" or group.endswith(".extra") or group == "consent":
        mapping = attrgetter(group)
        return lambda event: mapping(event).get(key)
    return attrgetter(path)


def _at(payload: dict[str, Any], path: Path) -> Any:
    node: Any = payload
    for key in path:
        node = node.get(key) if type(node) is dict else None
    return node


def joined(mine: dict[str, Any], free: dict[str, Any]) -> dict[str, Any]:
    """Return both objects merged; *mine* takes precedence, and neither is changed."""
    both = {**free, **mine}
    for key in mine.keys() & free.keys():
        if type(mine[key]) is dict and type(free[key]) is dict:
            both[key] = joined(mine[key], free[key])
    return both


def _nothing(_: Any) -> None:
    return None


class TrieNode:
    """The keys of rows at one place in the payload.

    Attributes:
        keys: entries by key.
        star: the event's mapping for all other keys at this place; empty if there is none.
    """

    __slots__ = ("keys", "star")

    def __init__(self) -> None:
        self.keys: dict[str, TrieEntry] = {}
        self.star = ""


class TrieEntry(NamedTuple):
    """The meaning of a key in the payload."""

    step: CompiledRow | None = None
    """The row whose path ends here; None if none does."""
    rank: int = 0
    """The index of its synonym."""
    below: TrieNode | None = None


def build_trie(steps: Iterable[CompiledRow]) -> TrieNode:
    """Return the trie of the wire paths of *steps*."""
    root = TrieNode()
    for step in steps:
        for rank, path in enumerate(step.paths):
            node = root
            *above, last = path
            for key in above:
                entry = node.keys.get(key, TrieEntry())
                below = entry.below or TrieNode()
                node.keys[key] = entry._replace(below=below)
                node = below
            if step.star:
                node.star = node.star or step.row.event
            else:
                entry = node.keys.get(last, TrieEntry())
                if entry.step is None:
                    node.keys[last] = TrieEntry(step, rank, entry.below)
    return root
