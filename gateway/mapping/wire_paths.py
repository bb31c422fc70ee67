"""Find the path of an event's field in the payload that the event was read from."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.event import Event
from gateway.mapping.row import Row
from gateway.mapping.table import EventMapping

_MEMBER = re.compile(r"\[\d*\]")


def wire_path(
    mapped: EventMapping, payload: Any, event: Event, index: int, path: Sequence[str | int]
) -> str:
    """Return the dotted path in *payload* of the value at *path* in *event*.

    Args:
        mapped: the mapping that read the payload.
        payload: the decoded payload.
        event: an event of it.
        index: index of the event in the payload.
        path: names and positions, starting at the event.

    Returns the path in the event if no row has it.
    """
    names = [step for step in path if isinstance(step, str)]
    members = [str(step) for step in path if isinstance(step, int)]
    table = mapped.table_for(event)
    mine = [] if table is None else sorted(table.said(event), key=_generality)
    rows = [*mine, *sorted(mapped.flat(), key=_generality)]
    spellings = [
        spelling
        for row in rows
        if (rest := _rest(row, names)) is not None
        for spelling in _spellings(row, rest, members, index)
    ]
    own = ".".join(map(str, path)) or "$"
    return next((one for one in spellings if _stands(payload, one)), (*spellings, own)[0])


def _generality(row: Row) -> tuple[bool, int]:
    return row.wire.endswith("*"), -row.event.count(".")


def _rest(row: Row, names: list[str]) -> list[str] | None:
    """Return the part of *names* below the row's field; None if the row has another field."""
    mine = _MEMBER.sub("", row.event).split(".")
    star = row.wire.endswith("*")
    if not star:
        mine = [name for n, name in enumerate(mine) if name != "extra" or n == len(mine) - 1]
    elif mine[-1] == "extra":
        mine.pop()
    if not row.event or names[: len(mine)] != mine:
        return None
    rest = names[len(mine) :]
    return rest or (None if star else [])


def _spellings(row: Row, rest: list[str], members: list[str], index: int) -> Iterator[str]:
    if "[0]" in row.event:
        members = members[1:]
    for wire in row.synonyms:
        own = wire.removesuffix("*").rstrip(".")
        outer = [str(index)] * (own.count("[]") - row.event.count("[]"))
        numbers = [*outer, *members]
        while "[]" in own:
            own = own.replace("[]", f".{numbers.pop(0)}", 1)
        yield ".".join(part for part in (own, *numbers, *rest) if part)


def _stands(payload: Any, path: str) -> bool:
    for step in path.split("."):
        if isinstance(payload, dict) and step in payload:
            payload = payload[step]
        elif isinstance(payload, list) and step.isdigit() and int(step) < len(payload):
            payload = payload[int(step)]
        else:
            return False
    return True
