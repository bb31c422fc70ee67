"""Which field became which: payloads and events as lists of fields, linked by the tables' rows."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gateway.mapping import Row
from gateway.secret_names import without_secrets

MOST = 400
"""Fields of one payload that are shown."""

DEEPEST = 100
"""Levels of a payload whose fields are shown."""
TOO_DEEP = "(nested too deeply to be shown)"

_INDEX = re.compile(r"\[\d+\]")


class Field(msgspec.Struct, frozen=True):
    """One value of a payload or an event."""

    path: str
    """Such as ``items[0].price``."""
    value: Any
    """Text, number, truth value or null; an empty object or array."""
    link: str = ""
    """The field of the event that it says, such as ``properties.products[].price``; empty where
    it says none."""


def flattened(value: Any, above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the paths of all leaves of JSON values, and what they hold; of what is too deep, none.

    JSON may be nested deeper than Python calls functions.
    """
    if depth > DEEPEST and isinstance(value, dict | list):
        yield above, TOO_DEEP
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flattened(inner, f"{above}.{name}" if above else name, depth + 1)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from flattened(inner, f"{above}[{index}]", depth + 1)
    else:
        yield above or "$", value


def general(path: str) -> str:
    """Return a path without its indexes: ``items[].price``."""
    return _INDEX.sub("[]", path)


def event_fields(event: Any) -> list[Field]:
    """Return the fields of an event, which are what others link to."""
    return [Field(path, value, general(path)) for path, value in _some(without_secrets(event))]


def payload_fields(payload: Any, rows: Iterable[Row]) -> list[Field]:
    """Return the fields of a vendor's payload, each with the field of the event that it says."""
    links, clean = Links(rows), without_secrets(payload)
    return [Field(path, value, links.find(general(path))) for path, value in _some(clean)]


def _some(value: Any) -> Iterator[tuple[str, Any]]:
    for number, found in enumerate(flattened(value)):
        if number >= MOST:
            return
        yield found


class Links:
    """Rows, as a way from paths of a payload to paths of the event."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._exact: dict[str, str] = {}
        self._stars: dict[str, str] = {}
        for row in rows:
            event = general(row.event)
            for path in row.synonyms:
                if path.endswith("*"):
                    self._stars.setdefault(path.removesuffix("*").removesuffix("."), event)
                else:
                    self._exact.setdefault(general(path), event)

    def find(self, path: str) -> str:
        """Return the field of the event that *path* says; what no row maps is its ``extra``."""
        if path in self._exact:
            return self._exact[path]
        for above, rest in _above(path):
            if (event := self._exact.get(above)) is not None:
                return f"{event}{rest}" if event else ""
            if (event := self._stars.get(above)) is not None:
                return f"{event}{rest}" if event else ""
        return f"extra.{path}"


def _above(path: str) -> Iterator[tuple[str, str]]:
    """Yield what holds *path*, the nearest first, and the way down from there; last, all of it."""
    for found in reversed(list(re.finditer(r"\.|\[\]", path))):
        yield path[: found.start()], path[found.start() :]
    yield "", f".{path}"
