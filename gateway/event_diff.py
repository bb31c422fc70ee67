"""Compare two events or two JSON values, path by path."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.event import EMPTY, Event, as_json

MISSING: Any = object()
"""Marks a missing value."""


class Difference(NamedTuple):
    """One path whose value differs; `MISSING` on the side that lacks it."""

    path: str
    before: Any
    after: Any


def diff_events(before: Event, after: Event) -> list[Difference]:
    """Return the differences between two events, in the order of their fields.

    A part that is the same object in both is skipped, so an unchanged part costs nothing.
    """
    names = [n for n in Event.__struct_fields__ if getattr(before, n) is not getattr(after, n)]
    if not names:
        return []
    names = ["type", *(name for name in names if name != "type")]  # an empty table is a leaf
    return diff_json(_json(before, names), _json(after, names))


def _json(event: Event, names: Iterable[str]) -> dict[str, Any]:
    """Return the fields *names* of *event* as `as_json` does."""
    found = {name: as_json(getattr(event, name)) for name in names}
    return {k: v for k, v in found.items() if v is not None and v not in EMPTY}


def diff_json(before: Any, after: Any) -> list[Difference]:
    """Return the differences between two JSON values; paths of *before* come first."""
    if before is after:
        return []
    first, second = dict(leaf_values(before)), dict(leaf_values(after))
    return [
        Difference(path, first.get(path, MISSING), second.get(path, MISSING))
        for path in dict.fromkeys([*first, *second])
        if not json_equal(first.get(path, MISSING), second.get(path, MISSING))
    ]


def json_equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal; true is not 1, and 1 equals 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def leaf_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and value of every leaf; an empty object or list is a leaf."""
    if isinstance(value, Mapping) and value:
        for name, held in value.items():
            yield from leaf_values(held, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and value:
        for number, held in enumerate(value):
            yield from leaf_values(held, f"{path}[{number}]")
    else:
        yield path or "$", value
