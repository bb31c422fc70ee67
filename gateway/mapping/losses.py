"""Compute the losses of an event in a destination's format, from the tables."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from gateway.event import Event
from gateway.mapping.row import NestedCodec, Row

NEVER_LOST = frozenset({"type", "name", "origin", "received_at", "id", "derived"})
"""The gateway's own fields, and fields that select the table."""


_LEAVES = frozenset({str, int, float, bool, datetime})
"""Types of most values; none of them has fields."""


class Loss(NamedTuple):
    """One field of an event that is missing or changed in a payload."""

    path: str
    """Path in the event, such as ``properties.products[].name``."""
    how: str
    """``lost`` or ``coerced``."""
    value: Any
    why: str = ""
    """The reason, for people; empty if the format just has no such field."""


def losses(event: Event, rows: Iterable[Row], *, same: bool) -> list[Loss]:
    """Return the losses of *event* in a payload made by *rows*, in the order of its fields.

    Args:
        event: the event.
        rows: the rows that wrote the payload, nested ones with their full paths.
        same: whether the event came in the same format; then its unmapped fields are restored.
    """
    said: dict[str, Row] = {}
    for row in rows:
        if not row.event:
            continue
        said.setdefault(row.event.replace("[0]", "[]"), row)
    lists = any(isinstance(row.codec, NestedCodec) and row.codec.many for row in said.values())
    found = []
    for path, value in filled_fields(event):
        if path in NEVER_LOST or _is_note(path) or (same and "extra" in path.split(".")):
            continue
        teller = said.get(path) or said.get(_holder(path))
        if teller is None or isinstance(teller.codec, NestedCodec):
            found.append(Loss(path, "lost", value))
        elif path in said and _coerced(teller, value):
            found.append(Loss(path, "coerced", value))
    if not lists and len(event.properties.products) > 1 and _single(said):
        found.append(Loss("properties.products[1:]", "lost", event.properties.products[1:]))
    return found


def filled_fields(value: Any, above: str = "") -> list[tuple[str, Any]]:
    """Return dotted path and value of the fields of a struct that are set."""
    found: list[tuple[str, Any]] = []
    _add_filled(value, above, found)
    return found


def _add_filled(value: Any, above: str, found: list[tuple[str, Any]]) -> None:
    for name in value.__struct_fields__:
        held = getattr(value, name)
        if held is None:
            continue
        path = above + name
        if type(held) in _LEAVES:
            found.append((path, held))
        elif isinstance(held, msgspec.Struct):
            _add_filled(held, f"{path}.", found)
        elif isinstance(held, tuple):
            seen: dict[str, Any] = {}
            for member in held:
                for field, inner in filled_fields(member, f"{path}[]."):
                    seen.setdefault(field, inner)
            found += seen.items()
        elif isinstance(held, Mapping) and name in {"extra", "consent"}:
            found += ((f"{path}.{key}", inside) for key, inside in held.items())
        else:
            found.append((path, held))


def _is_note(path: str) -> bool:
    """Return whether an unmapped field only has the sender's spelling of mapped fields."""
    return path.startswith("extra.") and path.endswith(".*")


def _holder(path: str) -> str:
    """Return the parent of *path*: a mapping, whose keys may have dots, or a struct."""
    mark = ".consent" if path.startswith("consent.") else ".extra"
    above, found, _ = f".{path}".partition(f"{mark}.")
    return f"{above}{mark}"[1:] if found else path.rpartition(".")[0]


def _single(said: Mapping[str, Row]) -> bool:
    return any(path.startswith("properties.products[]") for path in said)


def _coerced(row: Row, value: Any) -> bool:
    if row.wire.endswith("*"):
        return False
    try:
        return bool(row.codec.decode(row.codec.encode(value)) != value)
    except (ValueError, TypeError):
        return True
