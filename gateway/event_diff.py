"""What differs between two values, path by path: events before and after a step, bodies."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.event import EMPTY, Event, as_json

MISSING: Any = object()
"""Stands where there is nothing."""


class Difference(NamedTuple):
    """One path whose value differs; `GONE` where there is none."""

    path: str
    before: Any
    after: Any


def diff_events(before: Event, after: Event) -> list[Difference]:
    """Return what differs between two events, in the order of their fields.

    What a step leaves alone is the same object in both, and is not looked into.
    """
    names = [n for n in Event.__struct_fields__ if getattr(before, n) is not getattr(after, n)]
    if not names:
        return []
    names = ["type", *(name for name in names if name != "type")]  # so that neither is empty
    return diff_json(_json(before, names), _json(after, names))


def _json(event: Event, names: Iterable[str]) -> dict[str, Any]:
    """Return some fields of *event* as `as_json` has them."""
    found = {name: as_json(getattr(event, name)) for name in names}
    return {k: v for k, v in found.items() if v is not None and v not in EMPTY}


def diff_json(before: Any, after: Any) -> list[Difference]:
    """Return what differs between two JSON values, those of *before* first."""
    if before is after:
        return []
    first, second = dict(leaf_values(before)), dict(leaf_values(after))
    return [
        Difference(path, first.get(path, MISSING), second.get(path, MISSING))
        for path in dict.fromkeys([*first, *second])
        if not json_equal(first.get(path, MISSING), second.get(path, MISSING))
    ]


def json_equal(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same; true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def leaf_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted paths of all that is no table and no list; an empty one counts."""
    if isinstance(value, Mapping) and value:
        for name, held in value.items():
            yield from leaf_values(held, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and value:
        for number, held in enumerate(value):
            yield from leaf_values(held, f"{path}[{number}]")
    else:
        yield path or "$", value
