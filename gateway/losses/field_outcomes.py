"""What becomes of each field of an event at a destination, and how often it is lost."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import structlog

from gateway.event import Event
from gateway.json_text import is_too_deep
from gateway.losses.reviewed import FREE, named, takes_anything, why
from gateway.mapping import NEVER_LOST, Loss, Row, filled_fields
from gateway.plugin.vendor import Output, Vendor
from gateway.verdict import Declined

How: TypeAlias = Literal["kept", "coerced", "lost"]

PART = re.compile(r"\[|\.")

NO_PLACE = "has no place for it"
"""Why most fields are lost."""
QUOTED = re.compile(r"(?<!\w)'[^']*'")


class FieldOutcome(NamedTuple):
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


def field_outcomes(output: Output, event: Event) -> list[FieldOutcome]:
    """Return what becomes of each field that *event* has, in the order of its fields.

    Fields that are the gateway's own are not among them. It is empty where *output* declines the
    event, and where no field is left to speak of.
    """
    call = output.select(event)
    if isinstance(call, Declined):
        return []
    rows, free = _told(call.table.said(call.event)), takes_anything(call)
    told = {loss.path: loss for loss in output.losses(event)}
    found, used = [], set()
    for path, value in filled_fields(event):
        if path in NEVER_LOST:
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
    call = output.select(event)
    return {} if isinstance(call, Declined) else dict(call.event.derived)


def with_reasons(output: Output, event: Event) -> list[Loss]:
    """Return the losses of *event* at *output*, each with the reason."""
    reasons = {fate.path: fate.why for fate in field_outcomes(output, event)}
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


def _fate(vendor: str, path: str, value: Any, loss: Loss | None, row: Row | None) -> FieldOutcome:
    to = "" if row is None else _place(path, row)
    if loss is None:
        return FieldOutcome(path, "kept", value, to, "")
    if loss.how == "coerced" and loss.why:
        return FieldOutcome(path, "coerced", value, to, loss.why)
    if loss.how == "coerced":
        how = f" as {row.codec.name}" if row is not None and row.codec.name else ""
        where = f" to {to}" if to else ""
        why = f"converted{where}{how}; the original value cannot be recovered"
        return FieldOutcome(path, "coerced", value, to, why)
    if path.endswith("[1:]"):
        return FieldOutcome(path, "lost", value, "", f"{vendor} takes one product per event here")
    if row is not None:
        return FieldOutcome(path, "lost", value, "", f"beyond what {vendor} takes at {to}")
    return FieldOutcome(path, "lost", value, "", f"{vendor} {NO_PLACE}")


def _place(path: str, row: Row) -> str:
    """Return where *row* writes what the event has at *path*."""
    wire = row.synonyms[0]
    if not wire.endswith("*"):
        return wire
    mark = FREE.search(path)
    return wire[:-1] + path[mark.end(2) + 1 :] if mark else wire


PER_SECOND = 10
"""Events a second that are looked at: 0.03 to 0.25 ms each, however many are delivered."""

log = structlog.get_logger()


class LossCounter:
    """Counts what delivered events lost at one destination.

    It looks at no more than some events a second, so that it costs a reading of the clock for
    each of the others. Free keys count as one field, so that there are no more counts than the
    event has fields, times two.

    Args:
        output: the destination's.
        per_second: how many events are looked at.
    """

    def __init__(self, output: Output, per_second: float = PER_SECOND) -> None:
        self.looked = 0
        """Events that were looked at."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """Field, and ``lost`` or ``coerced``, to the events among them of which that is true."""
        self._output = output
        self._every = 1 / per_second
        self._next = 0.0

    def offer(self, event: Callable[[], Event]) -> None:
        """Look at a delivered event, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        try:
            found = field_outcomes(self._output, event())
        except Exception as error:
            if not is_too_deep(error):
                log.exception("plugin_failed", vendor=self._output.name, step="losses")
            return
        self.looked += 1
        self.counts.update({(named(f.path), f.how) for f in found if f.how != "kept"})
