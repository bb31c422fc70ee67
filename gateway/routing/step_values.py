"""Steps on values: set, default, copy, drop, keep, map."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.config.steps import Copy, Default, Drop, Keep, Map, Set, fits
from gateway.event import NOTHING, Context, Event, Product, Properties, Traits
from gateway.event_fields import EACH, edited, find_field, make_reader, make_writer
from gateway.json_text import dumps

Change = Callable[[Event], Event]

KEPT: Mapping[str, Any] = {
    "properties": Properties(), "traits": Traits(), "context": Context(), "consent": NOTHING,
    "extra": NOTHING,
}  # fmt: skip
"""The parts that a ``keep`` step clears, with their empty values."""


def without_leftovers(event: Event) -> Event:
    """Return *event* without its unmapped fields.

    They may contain a hidden value once more under a vendor's name, and an output of the same
    vendor would send it.
    """
    return msgspec.structs.replace(event, extra=NOTHING) if event.extra else event


def edit(path: str, change: Callable[[Any], Any]) -> Change:
    """Return a change of the value at *path*."""
    names = path.split(".")
    if EACH in names:

        def edit_each(event: Event) -> Event:
            changed: Event = edited(event, names, change)
            return changed

        return edit_each
    field = find_field(names)
    read, write = make_reader(field), make_writer(field)

    def edit_event(event: Event) -> Event:
        held = read(event)
        new = change(held)
        return event if new is held else write(event, new)

    return edit_event


def in_turn(changes: Sequence[Change]) -> Change:
    """Return one change that makes several changes in order."""
    if len(changes) == 1:
        return changes[0]

    def change_event(event: Event) -> Event:
        for change in changes:
            event = change(event)
        return event

    return change_event


def set_values(step: Set) -> Change:
    """Return the change of a ``set`` step."""

    def always(value: Any) -> Callable[[Any], Any]:
        return lambda _: value

    return in_turn([edit(path, always(_written(path, value))) for path, value in step.set.items()])


def default_values(step: Default) -> Change:
    """Return the change of a ``default`` step."""

    def unless_there(value: Any) -> Callable[[Any], Any]:
        return lambda held: value if held is None else held

    return in_turn([
        edit(path, unless_there(_written(path, value))) for path, value in step.default.items()
    ])  # fmt: skip


def _written(path: str, value: Any) -> Any:
    """Return *value* in the type of the field: numbers of known fields are doubles."""
    field = find_field(path.split("."))
    typed = not field.free and float in field.classes
    return float(value) if typed and type(value) is int else value


def copy_values(step: Copy) -> Change:
    """Return the change of a ``copy`` step."""
    return in_turn([_copy(source, target) for source, target in step.copy_.items()])


def _copy(source: str, target: str) -> Change:
    into = find_field(target.split("."))
    read, write = make_reader(find_field(source.split("."))), make_writer(into)

    def copy_event(event: Event) -> Event:
        value = read(event)
        return event if value is None or not fits(into, value) else write(event, value)

    return copy_event


def drop_values(step: Drop) -> Change:
    """Return the change of a ``drop`` step."""
    return in_turn([without_leftovers, *(edit(path, lambda _: None) for path in step.drop)])


def keep_values(step: Keep) -> Change:
    """Return the change of a ``keep`` step."""
    trees: dict[str, Any] = {}
    for path in step.keep:
        here = trees
        *above, last = path.split(".")
        for name in above:
            here = here.setdefault(name, {})
            if here is None:
                break
        else:
            here[last] = None

    def keep_event(event: Event) -> Event:
        left = {
            part: _kept(getattr(event, part), trees[part]) if part in trees else empty
            for part, empty in KEPT.items()
        }
        return msgspec.structs.replace(event, **left)

    return keep_event


def _kept(value: Any, tree: Mapping[str, Any] | None) -> Any:
    """Return the parts of *value* that *tree* names; None in *tree* means everything below."""
    if tree is None:
        return value
    if isinstance(value, msgspec.Struct):
        typed = value.__struct_fields__
        left = {n: _kept(getattr(value, n), below) for n, below in tree.items() if n in typed}
        free = {n: below for n, below in tree.items() if n not in typed}
        if free and isinstance(value, Properties | Traits | Product):
            left["extra"] = _kept(value.extra, free)
        return type(value)(**left)
    if isinstance(value, Mapping):
        if "*" in tree:
            return {name: _kept(held, tree["*"]) for name, held in value.items()}
        return {n: _kept(value[n], below) for n, below in tree.items() if n in value}
    if isinstance(value, tuple | list):
        return type(value)(_kept(member, tree.get("*", {})) for member in value)
    return None


def map_value(step: Map) -> Change:
    """Return the change of a ``map`` step."""
    table = step.table or {}
    source, into = find_field(step.map.split(".")), find_field((step.to or step.map).split("."))
    results = {key: _written(into.path, value) for key, value in table.items()}
    keeps = step.unknown == "keep"

    def looked_up(value: Any) -> Any:
        found = results.get(value if type(value) is str else key_of(value))
        return (value if keeps else None) if found is None else found

    if step.to is None:
        return edit(step.map, lambda held: None if held is None else looked_up(held))
    read, write = make_reader(source), make_writer(into)

    def map_event(event: Event) -> Event:
        value = read(event)
        result = None if value is None else looked_up(value)
        return event if result is None or not fits(into, result) else write(event, result)

    return map_event


def key_of(value: Any) -> str:
    """Return the table key of a value that is not text: JSON, whole numbers without fraction."""
    if type(value) is float and value.is_integer():
        value = int(value)
    try:
        return dumps(value).decode()
    except TypeError:
        return json.dumps(value, default=str)
