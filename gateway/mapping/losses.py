"""What an event knows and a destination's format cannot say, computed from the tables."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.event import Event
from gateway.mapping.row import NestedCodec, Row

NEVER_LOST = frozenset({"type", "name", "origin", "received_at", "id", "derived"})
"""Fields that are the gateway's own, or that say which table applies."""


class Loss(NamedTuple):
    """One field of an event that does not arrive as it is."""

    path: str
    """In the event, e.g. ``properties.products[].name``."""
    how: str
    """``lost`` or ``coerced``."""
    value: Any
    why: str = ""
    """The reason, for a person, where it is not simply that there is no place for it."""


def losses(event: Event, rows: Iterable[Row], *, same: bool) -> list[Loss]:
    """Return what of *event* a payload made by *rows* does not say, in the order of its fields.

    Args:
        event: what was to be said.
        rows: the rows that wrote the payload, nested ones with their full paths.
        same: the payload is in the format that the event came in, so its leftovers went too.
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


def filled_fields(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted paths of a struct that hold something, with what they hold."""
    for name in value.__struct_fields__:
        path, held = f"{above}{name}", getattr(value, name)
        if held is None:
            continue
        if isinstance(held, msgspec.Struct):
            yield from filled_fields(held, f"{path}.")
        elif isinstance(held, tuple):
            seen: dict[str, Any] = {}
            for member in held:
                for inner, found in filled_fields(member, f"{path}[]."):
                    seen.setdefault(inner, found)
            yield from seen.items()
        elif isinstance(held, Mapping) and name in {"extra", "consent"}:
            yield from ((f"{path}.{key}", inside) for key, inside in held.items())
        else:
            yield path, held


def _is_note(path: str) -> bool:
    """Tell whether a leftover only says how the sender spelled what stands elsewhere."""
    return path.startswith("extra.") and path.endswith(".*")


def _holder(path: str) -> str:
    """Return what holds *path*: a mapping of free keys, which may have dots, or a struct."""
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
