"""Determine for each field of an event whether a destination gets it, and count losses."""

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import structlog

from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.json_text import is_too_deep
from gateway.losses.reviewed import FREE, named, takes_anything, why
from gateway.mapping import NEVER_LOST, Loss, Row, filled_fields
from gateway.plugin.vendor import Output, Vendor
from gateway.verdict import Declined

How: TypeAlias = Literal["kept", "coerced", "lost"]

PART = re.compile(r"\[|\.")

NO_PLACE = "has no place for it"
"""The reason of most losses."""
QUOTED = re.compile(r"(?<!\w)'[^']*'")


class FieldOutcome(NamedTuple):
    """The outcome of one field."""

    path: str
    """The path in the event, such as ``properties.products[].name``."""
    how: How
    value: Any
    """The value in the event; of the first item, if the field is in a list."""
    to: str
    """The path in the vendor's payload; empty if the field is lost, or no row writes it."""
    why: str
    """Why the field is lost or coerced; empty if it is kept."""


def field_outcomes(output: Output, event: Event) -> list[FieldOutcome]:
    """Return the outcome of each field of *event*, in the order of its fields.

    The gateway's own fields are left out. The list is empty if *output* declines the event, or if
    the event has no other field.

    Raises:
        Unrenderable: *event* cannot be sent to *output*.
    """
    call = output.select(event)
    if isinstance(call, Declined):
        return []
    rows, free = _rows_by_path(call.table.said(call.event)), takes_anything(call)
    losses = {loss.path: loss for loss in output.losses(event)}
    found, used = [], set()
    for path, value in filled_fields(event):
        if path in NEVER_LOST:
            continue
        loss = losses.get(path) or _whole(path, losses)
        if loss is not None:
            used.add(loss.path)
        row = rows.get(path) or rows.get(_free(path))
        outcome = _outcome(output.name, path, value, loss, row)
        if outcome.how == "lost" and (reason := why(output, event, path, free=free)):
            outcome = outcome._replace(why=reason)
        found.append(outcome)
    parts = (loss for path, loss in losses.items() if path not in used)
    return found + [_outcome(output.name, loss.path, loss.value, loss, None) for loss in parts]


def lossy_fields(output: Output, event: Event) -> set[tuple[str, How]]:
    """Return the `named` fields of *event* that are lost or coerced: what to count, no reasons.

    Raises:
        Unrenderable: *event* cannot be sent to *output*.
    """
    losses = {loss.path: loss for loss in output.losses(event)}
    found: set[tuple[str, How]] = set()
    left = dict(losses)
    for path, _ in filled_fields(event) if losses else ():
        if path in NEVER_LOST:
            continue
        loss = losses.get(path) or _whole(path, losses)
        if loss is not None:
            left.pop(loss.path, None)
            found.add((named(path), _how(loss)))
    return found | {(named(path), _how(loss)) for path, loss in left.items()}


def _how(loss: Loss) -> How:
    return "coerced" if loss.how == "coerced" else "lost"


def derived(output: Output, event: Event) -> dict[str, str]:
    """Return the fields that *output* adds to *event*, each with the fields it follows from."""
    call = output.select(event)
    return {} if isinstance(call, Declined) else dict(call.event.derived)


def with_reasons(output: Output, event: Event) -> list[Loss]:
    """Return the losses of *event* at *output*, each with its reason."""
    call = output.select(event)
    if isinstance(call, Declined):
        return []
    rows, free = _rows_by_path(call.table.said(call.event)), takes_anything(call)
    fields = {path for path, _ in filled_fields(event)} - NEVER_LOST
    return [
        loss if reason is None else loss._replace(why=reason)
        for loss in output.losses(event)
        for reason in [_reason(output, event, loss, rows, fields, free=free)]
    ]


def _reason(  # noqa: PLR0913 - all that a reason depends on
    output: Output,
    event: Event,
    loss: Loss,
    rows: Mapping[str, Row],
    fields: Collection[str],
    *,
    free: bool,
) -> str | None:
    """Return the reason for *loss*; None for that of a whole, whose fields have the reasons."""
    path, row = loss.path, None
    if path in fields:
        if loss.how == "lost" and (reason := why(output, event, path, free=free)):
            return reason
        row = rows.get(path) or rows.get(_free(path))
    elif any(field.startswith((f"{path}.", f"{path}[")) for field in fields):
        return None
    return _outcome(output.name, path, loss.value, loss, row).why


def spellings(vendor: Vendor) -> dict[str, str]:
    """Return the event's fields with their wire paths in *vendor*'s payloads.

    The first place counts. Free keys have the name that `named` gives them.
    """
    rows = (row for mapped in vendor.endpoints.values() for row in mapped.flat())
    return {path: row.synonyms[0] for path, row in _rows_by_path(rows).items()}


def spelt(path: str, known: Mapping[str, str]) -> str:
    """Return the wire path of the event's *path* according to `spellings`; empty if unknown."""
    mark = FREE.search(path)
    wire = known.get(path) or known.get(_free(path), "")
    if mark is None or not wire.endswith("*"):
        return wire or (path[mark.end(2) + 1 :] if mark and not mark[1] else "")
    return wire[:-1] + path[mark.end(2) + 1 :]


def reason_of(said: str) -> str:
    """Replace quoted values in a reason by "…", so that equal reasons can be counted together."""
    return QUOTED.sub("'…'", said)


def _rows_by_path(rows: Any) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        if row.event:
            path = row.event.replace("[0]", "[]")
            found.setdefault(f"{path}.*" if row.wire.endswith("*") else path, row)
    return found


def _free(path: str) -> str:
    """Return the key of `_rows_by_path` for the free keys that *path* is one of."""
    mark = FREE.search(path)
    return f"{path[: mark.end(2)]}.*" if mark else path


def _whole(path: str, losses: Mapping[str, Loss]) -> Loss | None:
    """Return the loss of the whole that *path* is a part of."""
    wholes = (path[: mark.start()] for mark in PART.finditer(path))
    return next((losses[whole] for whole in wholes if whole in losses), None)


def _outcome(
    vendor: str, path: str, value: Any, loss: Loss | None, row: Row | None
) -> FieldOutcome:
    to = "" if row is None else _place(path, row)
    if loss is None:
        return FieldOutcome(path, "kept", value, to, "")
    if loss.why:
        return FieldOutcome(path, _how(loss), value, to if loss.how == "coerced" else "", loss.why)
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
    """Return the wire path where *row* writes the event's *path*."""
    wire = row.synonyms[0]
    if not wire.endswith("*"):
        return wire
    mark = FREE.search(path)
    return wire[:-1] + path[mark.end(2) + 1 :] if mark else wire


PER_SECOND = 10
"""Events per second that are examined at most; each takes 0.02 to 0.2 ms."""
SHARE = 1 / 1000
"""Share of a core's time that this takes at most, for each destination."""

log = structlog.get_logger()


class LossCounter:
    """Counts the losses of delivered events at one destination.

    It examines only some events per second; for the others it only reads the clock. Free keys count
    as one field, so the number of counters is at most twice the number of event fields.

    Args:
        output: the output of the destination.
        per_second: how many events are examined per second at most.
        share: of a core's time that this takes at most.
    """

    def __init__(
        self, output: Output, per_second: float = PER_SECOND, share: float = SHARE
    ) -> None:
        self.looked = 0
        """The number of examined events."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """The number of examined events by field and ``lost`` or ``coerced``."""
        self._output = output
        self._every = 1 / per_second
        self._share = share
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Return whether rate and share permit to examine an event at monotonic *now*."""
        return now >= self._next

    def offer(self, event: Callable[[], Event]) -> None:
        """Examine a delivered event if rate and share permit it."""
        now = time.monotonic()
        if not self.is_due(now):
            return
        began = time.thread_time()
        self._examine(event)
        self._next = now + max(self._every, (time.thread_time() - began) / self._share)

    def _examine(self, event: Callable[[], Event]) -> None:
        try:
            found = lossy_fields(self._output, event())
        except Unrenderable:
            return
        except Exception as error:
            if not is_too_deep(error):
                log.exception("plugin_failed", vendor=self._output.name, step="losses")
            return
        self.looked += 1
        self.counts.update(found)
