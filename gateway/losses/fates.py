"""What becomes of every field of one event at one destination."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from gateway.event import Event
from gateway.exchange import Declined
from gateway.losses.naming import FREE, membered, named
from gateway.losses.reviewed import takes_anything, why
from gateway.mapping import SILENT, Loss, Row, filled
from gateway.plugin import Output, Vendor

How: TypeAlias = Literal["kept", "coerced", "lost"]

PART = re.compile(r"\[|\.")
__all__ = [
    "NO_PLACE",
    "Fate",
    "How",
    "derived",
    "fates",
    "membered",
    "named",
    "reason_of",
    "spellings",
    "spelt",
    "with_reasons",
]

NO_PLACE = "has no place for it"
"""Why most fields are lost."""
QUOTED = re.compile(r"(?<!\w)'[^']*'")


class Fate(NamedTuple):
    """What becomes of one field."""

    path: str
    """In the event, e.g. ``properties.products[].name``."""
    how: How
    value: Any
    """What the event has there; of a list's members, the first one's."""
    to: str
    """Where the vendor's payload has it; empty where it is lost, or where no row says."""
    why: str
    """Why it is lost or coerced, for a person; empty where it is kept."""


def fates(output: Output, event: Event) -> list[Fate]:
    """Return what becomes of each field that *event* has, in the order of its fields.

    Fields that are the gateway's own are not among them. It is empty where *output* declines the
    event, and where no field is left to speak of.
    """
    call = output.choose(event)
    if isinstance(call, Declined):
        return []
    rows, free = _told(call.table.said(call.event)), takes_anything(call)
    told = {loss.path: loss for loss in output.losses(event)}
    found, used = [], set()
    for path, value in filled(event):
        if path in SILENT:
            continue
        loss = told.get(path) or _whole(path, told)
        if loss is not None:
            used.add(loss.path)
        row = rows.get(path) or rows.get(_free(path))
        fate = _fate(output.name, path, value, loss, row)
        if fate.how == "lost" and (reason := why(output, event, path, free=free)):
            fate = fate._replace(why=reason)
        found.append(fate)
    parts = (loss for path, loss in told.items() if path not in used)
    return found + [_fate(output.name, loss.path, loss.value, loss, None) for loss in parts]


def derived(output: Output, event: Event) -> dict[str, str]:
    """Return what *output* is told although nobody said it, to what it follows from."""
    call = output.choose(event)
    return {} if isinstance(call, Declined) else dict(call.event.derived)


def with_reasons(output: Output, event: Event) -> list[Loss]:
    """Return the losses of *event* at *output*, each with the reason."""
    reasons = {fate.path: fate.why for fate in fates(output, event)}
    return [loss._replace(why=reasons.get(loss.path, loss.why)) for loss in output.losses(event)]


def spellings(vendor: Vendor) -> dict[str, str]:
    """Return the fields of the event to where *vendor*'s payloads have them, the first place.

    Free keys stand under the name that `named` gives them.
    """
    rows = (row for mapped in vendor.endpoints.values() for row in mapped.flat())
    return {path: row.synonyms[0] for path, row in _told(rows).items()}


def spelt(path: str, known: Mapping[str, str]) -> str:
    """Return where a payload has the event's *path*, by `spellings`; empty where it is unknown."""
    mark = FREE.search(path)
    wire = known.get(path) or known.get(_free(path), "")
    if mark is None or not wire.endswith("*"):
        return wire or (path[mark.end(2) + 1 :] if mark and not mark[1] else "")
    return wire[:-1] + path[mark.end(2) + 1 :]


def reason_of(said: str) -> str:
    """Return a reason without what it quotes of the event, so that alike reasons are counted."""
    return QUOTED.sub("'…'", said)


def _told(rows: Any) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        if row.event:
            path = row.event.replace("[0]", "[]")
            found.setdefault(f"{path}.*" if row.wire.endswith("*") else path, row)
    return found


def _free(path: str) -> str:
    """Return the mapping of free keys that has *path*, as `_told` has it."""
    mark = FREE.search(path)
    return f"{path[: mark.end(2)]}.*" if mark else path


def _whole(path: str, told: Mapping[str, Loss]) -> Loss | None:
    """Return what is said of the whole that *path* is a part of."""
    wholes = (path[: mark.start()] for mark in PART.finditer(path))
    return next((told[whole] for whole in wholes if whole in told), None)


def _fate(vendor: str, path: str, value: Any, loss: Loss | None, row: Row | None) -> Fate:
    to = "" if row is None else _place(path, row)
    if loss is None:
        return Fate(path, "kept", value, to, "")
    if loss.how == "coerced" and loss.why:
        return Fate(path, "coerced", value, to, loss.why)
    if loss.how == "coerced":
        how = f" as {row.codec.name}" if row is not None and row.codec.name else ""
        where = f" to {to}" if to else ""
        why = f"converted{where}{how}; the original value cannot be recovered"
        return Fate(path, "coerced", value, to, why)
    if path.endswith("[1:]"):
        return Fate(path, "lost", value, "", f"{vendor} takes one product per event here")
    if row is not None:
        return Fate(path, "lost", value, "", f"beyond what {vendor} takes at {to}")
    return Fate(path, "lost", value, "", f"{vendor} {NO_PLACE}")


def _place(path: str, row: Row) -> str:
    """Return where *row* writes what the event has at *path*."""
    wire = row.synonyms[0]
    if not wire.endswith("*"):
        return wire
    mark = FREE.search(path)
    return wire[:-1] + path[mark.end(2) + 1 :] if mark else wire
