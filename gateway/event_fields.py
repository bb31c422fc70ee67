"""Find, read and write fields of the neutral event by name, and tell their types.

Names are those of `gateway.event`, in snake_case. Under ``properties``, ``traits`` and a product
any other name is allowed and refers to ``extra``. Elsewhere an unknown name is an error. JSON
null counts as missing.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

from gateway.errors import MappingError
from gateway.event import Event, Product, Properties, Traits
from gateway.json_text import LongNumber


@cache
def annotation_at(root: Any, path: str) -> Any:
    """Follow *path* through type hints.

    Args:
        root: a TypedDict or a struct.
        path: dotted; ``name[0]`` enters a tuple; ``*`` is skipped.

    Raises:
        MappingError: a step names no field.
    """
    here = root
    for step in path.split("."):
        here = bare(here)
        if step == "*":
            continue
        if here is Any or get_origin(here) in {dict, Mapping}:
            return Any
        name, indexed, _ = step.partition("[")
        hints = _hints(here) if _has_fields(here) else {}
        if name not in hints:
            label = getattr(here, "__name__", str(here))
            known = ", ".join(hints) or "none"
            raise MappingError(f"{path!r}: {label} has no field {name!r}; it has {known}")
        here = hints[name]
        if indexed:
            here = get_args(bare(here))[0]
    return here


@cache
def classes(annotation: Any) -> frozenset[type]:
    """Return the classes that a value of *annotation* may have, in JSON or in the event."""
    stripped = bare(annotation)
    if stripped is Any:
        return frozenset({str, int, float, bool, dict, list})
    origin = get_origin(stripped)
    if origin in {Union, UnionType}:
        held = (a for a in get_args(stripped) if a is not NoneType)
        return frozenset(c for a in held for c in classes(a))
    if origin is Literal:
        return frozenset(type(value) for value in get_args(stripped))
    if is_typeddict(stripped) or origin is Mapping:
        return frozenset({dict})
    found = origin or stripped
    return frozenset({float, int}) if found is float else frozenset({found})


def bare(annotation: Any) -> Any:
    """Strip ``| None``, ``Required`` and ``NotRequired``."""
    origin = get_origin(annotation)
    if origin in {NotRequired, Required}:
        return bare(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        rest = [a for a in get_args(annotation) if a is not NoneType]
        return bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def is_struct(annotation: Any) -> bool:
    """Return whether *annotation* is a struct class of the event."""
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def is_mapping(annotation: Any) -> bool:
    """Return whether *annotation* is a mapping with free keys."""
    return get_origin(bare(annotation)) in {Mapping, dict}


@cache
def _hints(here: Any) -> dict[str, Any]:
    return get_type_hints(here)


def _has_fields(annotation: Any) -> bool:
    return is_typeddict(annotation) or is_struct(annotation)


FREE: tuple[type, ...] = (Properties, Traits, Product)
"""Structs that allow any further names."""
EACH = "*"
"""The name that means every member of a list or mapping."""
CLOSE = 0.8
"""Similarity to a known name, from 0 to 1, above which a free name is probably a typo."""
ANYTHING = frozenset({str, float, bool, list, dict})


class UnknownField(ValueError):
    """The event has no such field.

    Attributes:
        position: index of the wrong name.
    """

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


class EventField(NamedTuple):
    """A field of the event."""

    names: tuple[str, ...]
    classes: frozenset[type]
    """Classes of its value; `ANYTHING` for a free name. All numbers are float."""
    struct: type | None = None
    """The struct that the field holds, alone or in a list; None for a plain value."""
    free: int = 0
    """Number of free names, counted from the last."""
    hint: str = ""
    """A warning that a free name may be a typo; empty if not."""

    @property
    def path(self) -> str:
        """Return the names as the configuration writes them."""
        return ".".join(self.names)


def find_field(names: Sequence[str]) -> EventField:
    """Return the field at *names*, starting from the event.

    Raises:
        UnknownField: there is no such field.
    """
    here: Any = Event
    for position, name in enumerate(names):
        walked, rest = ".".join(names[:position]), names[position + 1 :]
        if is_struct(here):
            hints = get_type_hints(here)
            if name in hints and not (name == "extra" and here in FREE):
                here = bare(hints[name])
            elif here in FREE and name != "extra":
                close = get_close_matches(name, hints, 1, CLOSE)
                hint = f"did you mean {'.'.join([*names[:position], close[0]])}?" if close else ""
                return EventField(tuple(names), ANYTHING, None, len(rest) + 1, hint)
            else:
                raise UnknownField(position, _unknown(name, walked, here))
        elif get_origin(here) is tuple:
            if name != EACH:
                what = f"{walked} is a list; its members are {walked}.{EACH}"
                raise UnknownField(position, what)
            here = get_args(here)[0]
        elif dict in classes(here) and name:
            kinds = _classes(get_args(here)[1]) if get_origin(here) is Mapping else ANYTHING
            return EventField(tuple(names), ANYTHING if rest else kinds, None, len(rest) + 1)
        else:
            raise UnknownField(position, f"{walked} has no members")
    member = get_args(here)[0] if get_origin(here) is tuple else here
    return EventField(tuple(names), _classes(here), member if is_struct(member) else None)


def _unknown(name: str, walked: str, here: type) -> str:
    known = sorted(n for n in get_type_hints(here) if not (n == "extra" and here in FREE))
    close = get_close_matches(name, known, 1)
    prefix = f"{walked}." if walked else ""
    if name == "extra":
        return f"extra cannot be named; write {prefix}NAME for a field in it"
    meant = f"did you mean {prefix}{close[0]}?" if close else f"known: {', '.join(known)}"
    return f"there is no field {prefix}{name}; {meant}"


def _classes(annotation: Any) -> frozenset[type]:
    if is_struct(annotation):
        return frozenset({dict})
    same: dict[type, type] = {int: float, tuple: list}
    return frozenset(same.get(found, found) for found in classes(annotation))


def make_reader(field: EventField) -> Callable[[Event], Any]:
    """Return a function that reads *field* of an event; it returns None if the field is missing."""
    names, free = field.names, field.free
    if not free:
        return attrgetter(".".join(names))
    typed, own = names[: len(names) - free], names[len(names) - free :]
    struct = find_field(typed).struct
    source: Callable[[Event], Any] = attrgetter(".".join((*typed, "extra") if struct else typed))
    if len(own) == 1:
        (only,) = own

        def read_one(event: Event) -> Any:
            held = source(event)
            return held.get(only) if isinstance(held, Mapping) else None

        return read_one

    def read(event: Event) -> Any:
        held = source(event)
        for name in own:
            if not isinstance(held, Mapping):
                return None
            held = held.get(name)
        return held

    return read


def make_writer(field: EventField) -> Callable[[Event, Any], Event]:
    """Return a function that copies an event with a new value of *field*; None removes it.

    No name of *field* may be `EACH`.
    """
    names, free = field.names, field.free
    first, last = names[0], names[-1]

    if len(names) == 1 and not free:

        def write(event: Event, value: Any) -> Event:
            return msgspec.structs.replace(event, **{first: _default(event, first, value)})

    elif len(names) == PART and not free:

        def write(event: Event, value: Any) -> Event:
            part = getattr(event, first)
            part = msgspec.structs.replace(part, **{last: _default(part, last, value)})
            return msgspec.structs.replace(event, **{first: part})

    elif len(names) == PART and find_field(names[:1]).struct in FREE:

        def write(event: Event, value: Any) -> Event:
            part = getattr(event, first)
            extra = {**part.extra, last: value}
            if value is None:
                del extra[last]
            part = msgspec.structs.replace(part, extra=extra)
            return msgspec.structs.replace(event, **{first: part})

    else:

        def write(event: Event, value: Any) -> Event:
            written: Event = edited(event, names, lambda _: value)
            return written

    return write


PART = 2
"""Number of names of a field such as ``context.ip``."""


def edited(value: Any, names: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """Return a copy of *value* in which *change* is applied to the value at *names*.

    *change* gets None for a missing value, and returns None to remove it. A removed field of a
    struct gets its default.
    """
    if not names:
        return change(value)
    name, rest = names[0], names[1:]
    if isinstance(value, msgspec.Struct):
        if name not in value.__struct_fields__:
            name, rest = "extra", names
        held = getattr(value, name)
        new = edited(held, rest, change)
        if new is held:
            return value
        return msgspec.structs.replace(value, **{name: _default(value, name, new)})
    if isinstance(value, Mapping):
        wanted = tuple(value) if name == EACH else (name,)
        return _edited_table(value, wanted, rest, change)
    if isinstance(value, tuple | list):
        return _edited_list(value, rest, change) if name == EACH else value
    if value is None and name != EACH:
        new = edited(None, rest, change)
        return None if new is None else {name: new}
    return value


def _edited_table(
    table: Mapping[str, Any],
    wanted: Sequence[str],
    rest: Sequence[str],
    change: Callable[[Any], Any],
) -> Mapping[str, Any]:
    made = {name: edited(table.get(name), rest, change) for name in wanted}
    if all(new is table.get(name) for name, new in made.items()):
        return table
    merged = {**table, **made}
    return {name: new for name, new in merged.items() if new is not None or name not in made}


def _edited_list(
    members: Sequence[Any], rest: Sequence[str], change: Callable[[Any], Any]
) -> Sequence[Any]:
    made = [edited(member, rest, change) for member in members]
    if all(new is member for new, member in zip(made, members, strict=True)):
        return members
    left = [new for new in made if new is not None]
    return tuple(left) if isinstance(members, tuple) else left


def _default(struct: msgspec.Struct, name: str, new: Any) -> Any:
    return defaults(type(struct))[name] if new is None else new


@cache
def defaults(struct: type[msgspec.Struct]) -> Mapping[str, Any]:
    """Return the defaults of the fields of *struct*, by name; `msgspec.NODEFAULT` for none."""
    return {
        field.name: field.default_factory()
        if field.default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT
        else field.default
        for field in msgspec.structs.fields(struct)
    }


def plain(value: Any) -> Any:
    """Return *value* for CEL: plain JSON values and times, numbers as doubles.

    Structs become maps without missing fields; the fields in ``extra`` join the others.
    """
    kind = type(value)
    if kind is str or kind is float or kind is bool or value is None:
        return value
    if kind is int or isinstance(value, LongNumber):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items() if member is not None}
    if isinstance(value, tuple | list):
        return [plain(member) for member in value]
    if not isinstance(value, msgspec.Struct):
        return value
    known = {name: getattr(value, name) for name in value.__struct_fields__ if name != "extra"}
    known = {name: plain(held) for name, held in known.items() if held is not None}
    return plain(getattr(value, "extra", {})) | known
