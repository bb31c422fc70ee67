"""Which fields steps may change, and what they may put there.

Every function raises ValueError, in words for the person who wrote the configuration.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from gateway.json_text import LongNumber
from gateway.routing.fields import Field, find

Plain: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any]
"""What TOML and JSON have in common, without null."""

FIXED = frozenset({"type", "id", "received_at", "origin"})
"""Fields that say what the event is; no step changes them."""
TIMES = frozenset({"timestamp", "sent_at"})


def field_at(path: object) -> Field:
    """Return the field at *path*, if steps may change it."""
    if not isinstance(path, str) or not path:
        raise ValueError('must name a field; write "properties.total"')
    names = path.split(".")
    if not all(names):
        raise ValueError(f"{path!r} has an empty name; write it like properties.total")
    if names[0] == "event":
        raise ValueError(f"{path} names the event; steps write {'.'.join(names[1:]) or 'a field'}")
    field = find(names)
    if names[0] in FIXED:
        raise ValueError(f"{path} says what the event is, and stays as it is")
    return field


def whole(path: object) -> Field:
    """Return a field, or a whole part of the event, that may be removed."""
    field = field_at(path)
    if field.names[-1:] == ("*",) and field.struct is None:
        raise ValueError(f"{path} names the members of a list; name the list")
    return field


def _value(path: object) -> Field:
    field = field_at(path)
    if field.struct is not None:
        raise ValueError(f"{path} is a part of the event, not a field; name one in it")
    if field.names[0] in TIMES:
        raise ValueError(f"{path} is a time; the step timestamp changes it")
    return field


def textual(path: object) -> Field:
    """Return a field that may hold text."""
    field = _value(path)
    if str not in field.classes:
        raise ValueError(f"{path} never holds text")
    return field


def hashable(path: object) -> Field:
    """Return a field that may hold what a hash is made of."""
    return textual(path)


def source_of(path: object) -> str:
    """Return the path of a field whose value steps may read and replace."""
    return _value(path).path


def settable(path: object, value: object) -> Field:
    """Return a field that may hold *value*."""
    field = _value(path)
    if not fits(field, value):
        known = ", ".join(sorted(_WORDS[one] for one in field.classes))
        raise ValueError(f"{path} takes {known}, not {value!r}")
    return field


def checked_map(source: object, target: object) -> None:
    """Check that the value at *source* may be put at *target*."""
    one, other = field_at(source), _value(target)
    if "*" in other.names:
        raise ValueError(f"{target} is many fields; name one")
    if "*" in one.names:
        raise ValueError(f"{source} is many fields; name one")
    if one.struct is not None or not one.classes & other.classes:
        raise ValueError(f"{source} cannot be put at {target}, which holds something else")


def category(name: object) -> None:
    """Check the name of a category of consent."""
    if not isinstance(name, str) or not name:
        raise ValueError('must be a category of consent; write "advertising"')


def fits(field: Field, value: Any) -> bool:
    """Tell whether *field* may hold *value*."""
    found: type = type(value)
    if found is int or issubclass(found, LongNumber):
        found = float
    if isinstance(value, Mapping):
        found = dict
    return found in field.classes


_WORDS: Mapping[type, str] = {
    str: "text", float: "a number", bool: "true or false", list: "a list", dict: "a table",
}  # fmt: skip
