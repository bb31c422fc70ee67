"""Remove fields from an event."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.event import NOTHING, Event
from gateway.event_fields import defaults
from gateway.tracking.schema import FieldPath

KEPT = frozenset({"type", "name"})
"""Fields that are never dropped, because they identify the kind of event."""


def can_drop(path: FieldPath) -> bool:
    """Return whether the field at *path* can be dropped from an event."""
    return bool(path) and path[0] not in KEPT


def without_fields(event: Event, paths: Iterable[FieldPath]) -> Event:
    """Return *event* without the fields at *paths*; each path is valid after the removals before.

    Unmapped fields are removed too: they may contain a dropped value once more under a vendor's
    name, and an output of the same vendor would send it.
    """
    left = event
    for path in paths:
        left = _dropped(left, path)
    return event if left is event else msgspec.structs.replace(left, extra=NOTHING)


def in_order(paths: Iterable[FieldPath]) -> list[FieldPath]:
    """Return *paths* in an order in which no removal changes the meaning of a later path.

    Later members of a list come before earlier ones; paths inside another path are left out.
    """
    wanted = set(paths)
    outer = [p for p in wanted if not any(p[:n] in wanted for n in range(1, len(p)))]
    return sorted(outer, key=lambda p: [(-s, "") if isinstance(s, int) else (0, s) for s in p])


def _dropped(value: Any, path: Sequence[str | int]) -> Any:
    """Return *value* without the value at *path*; the same object if there is none."""
    step, rest = path[0], path[1:]
    if isinstance(value, msgspec.Struct):
        return _out_of_struct(value, str(step), path)
    if isinstance(value, Mapping):
        if step not in value:
            return value
        if not rest:
            return {name: held for name, held in value.items() if name != step}
        return {**value, step: _dropped(value[step], rest)}
    if isinstance(value, tuple | list) and isinstance(step, int) and step < len(value):
        instead = [_dropped(value[step], rest)] if rest else []
        return type(value)((*value[:step], *instead, *value[step + 1 :]))
    return value


def _out_of_struct(struct: msgspec.Struct, name: str, path: Sequence[str | int]) -> Any:
    usual = defaults(type(struct))
    changes: dict[str, Any] = {}
    if name in usual:
        held = getattr(struct, name)
        new = _dropped(held, path[1:]) if path[1:] else usual[name]
        if new is not held:
            changes[name] = new
    free = getattr(struct, "extra", NOTHING)
    if name != "extra" and name in free:
        changes["extra"] = _dropped(free, path)
    return msgspec.structs.replace(struct, **changes) if changes else struct
