"""The fields that conditions use, and their values for one event."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import cel
import msgspec

from gateway.conditions.syntax import CelNode
from gateway.event import Event
from gateway.event_fields import EventField, make_reader, plain


class FieldReference(NamedTuple):
    """A use of a field in a condition."""

    start: int
    end: int
    field: EventField
    has: bool = False
    """Whether it only tests that the field exists: ``has(...)``."""


def reference_path(node: CelNode) -> list[CelNode] | None:
    """Return the members from ``event`` down to *node*; None if *node* is not a field of it.

    The name of a member is in ``name``, even if it is written in brackets.
    """
    found: list[CelNode] = []
    while node.kind in {"member", "index"}:
        if node.kind == "index":
            key = node.parts[1]
            text = value_of(key) if key.kind == "literal" else None
            if not isinstance(text, str):
                return None
            found.append(CelNode("index", key.start, key.end, text))
        else:
            found.append(node)
        node = node.parts[0]
    return found[::-1] if node.kind == "name" and node.name == "event" else None


def value_of(literal: CelNode) -> Any:
    """Return the value of a literal; None if the library does not accept it."""
    try:
        return cel.evaluate(literal.name)
    except ValueError:
        return None


LONGEST_TEXT = 16 * 1024
"""Most characters of a text in a condition's input."""
MOST = 1000
"""Most values of a list or table in a condition's input, including nested ones."""
PREFIX = "__f"
"""Prefix of variable names; conditions must not use it."""

_SIMPLE = frozenset({int, float, bool})


class ConditionInput(NamedTuple):
    """The values of one event for the evaluation of conditions."""

    context: cel.Context
    known: AbstractSet[str]
    """The defined variables: fields that the event has."""
    widths: Mapping[str, int]
    """The largest number of members of a list or table, by variable."""
    widest: int
    """The largest of these numbers."""
    excess: Mapping[str, str]
    """Variables with too large values, and their sizes in words."""


class _Slot:
    """One variable."""

    def __init__(self, name: str, field: EventField, *, has: bool) -> None:
        self.name = name
        self.field = field
        self.has = has
        self.read: Callable[[Event], Any] = make_reader(field)
        self.members: set[str] | None = set() if field.struct and not has else None
        """The members of its structs that conditions use; None for all."""


class VariableSet:
    """The variables of all conditions of a router."""

    def __init__(self) -> None:
        self._slots: dict[tuple[tuple[str, ...], bool], _Slot] = {}
        self._by_name: dict[str, _Slot] = {}

    def name(self, use: FieldReference) -> str:
        """Return the variable for a field, or for its existence."""
        if use.field.path == "source":
            return "source"
        key = (use.field.names, use.has)
        if key not in self._slots:
            slot = _Slot(f"{PREFIX}{len(self._slots)}", use.field, has=use.has)
            self._slots[key] = self._by_name[slot.name] = slot
        return self._slots[key].name

    def ask(self, name: str, members: frozenset[str] | None) -> None:
        """Add used members of the structs in a variable; None for all members."""
        slot = self._by_name.get(name)
        if slot is not None and slot.members is not None:
            slot.members = None if members is None else slot.members | members

    def path(self, name: str) -> str:
        """Return the field of a variable, as a condition writes it."""
        return f"event.{self._by_name[name].field.path}"

    def stage(self, names: Iterable[str]) -> "InputBuilder":
        """Return the builder of inputs with the variables *names*."""
        known = frozenset(names)
        return InputBuilder([slot for name, slot in self._by_name.items() if name in known], known)


class InputBuilder:
    """Makes condition inputs with the same variables for any event."""

    def __init__(self, slots: Sequence[_Slot], names: AbstractSet[str]) -> None:
        self._asks_source = "source" in names
        self._there = [(slot.name, slot.read) for slot in slots if slot.has]
        self._slots = [(slot.name, slot.read, slot) for slot in slots if not slot.has]

    def scene(self, source: str, event: Event) -> ConditionInput:
        """Return the condition input for *event*."""
        values: dict[str, Any] = {"source": source} if self._asks_source else {}
        widths: dict[str, int] = {}
        excess: dict[str, str] = {}
        for name, read in self._there:
            value = read(event)
            values[name] = value is not None and value != ()
        for name, read, slot in self._slots:
            value = read(event)
            if value is None:
                continue
            kind = type(value)
            if kind is str:
                if len(value) <= LONGEST_TEXT:
                    values[name] = value
                else:
                    excess[name] = f"a text of {len(value)} characters"
            elif kind in _SIMPLE:
                values[name] = value if kind is bool else float(value)
            else:
                if slot.members is not None:
                    value = [_asked(one, slot.members) for one in value[: MOST + 1]]
                count, width = value_extent(value)
                if count <= MOST:
                    values[name] = plain(value)
                    widths[name] = width
                else:
                    excess[name] = f"more than {MOST} values"
        widest = max(widths.values()) if widths else 0
        return ConditionInput(cel.Context(values), values.keys(), widths, widest, excess)


def _asked(struct: msgspec.Struct, members: Iterable[str]) -> dict[str, Any]:
    typed, free = struct.__struct_fields__, getattr(struct, "extra", {})
    found = {name: getattr(struct, name) if name in typed else free.get(name) for name in members}
    return {name: value for name, value in found.items() if value is not None}


def value_extent(value: Any) -> tuple[int, int]:
    """Return the number of values in *value*, and the largest number of members of a list.

    Counting stops soon after `MOST`.
    """
    kind = type(value)
    if kind is str:
        return 1 + len(value) // 64, 0
    if kind in _SIMPLE:
        return 1, 0
    if isinstance(value, Mapping):
        members: Sequence[Any] = list(value.values())
    elif isinstance(value, tuple | list):
        members = value
    elif isinstance(value, msgspec.Struct):
        return value_extent(msgspec.structs.asdict(value))
    else:
        return 1, 0
    count, widest = 1, len(members)
    for member in members:
        more, width = value_extent(member)
        count, widest = count + more, max(widest, width)
        if count > MOST:
            break
    return count, widest


def longest(value: Any) -> int:
    """Return the largest number of members of a list or table in a JSON value."""
    found, inner = 0, [value]
    while inner:
        one = inner.pop()
        if isinstance(one, dict):
            found = max(found, len(one))
            inner.extend(one.values())
        elif isinstance(one, list):
            found = max(found, len(one))
            inner.extend(one)
    return found
