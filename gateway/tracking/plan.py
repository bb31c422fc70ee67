"""Tracking plans: check events, count violations."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import structlog

from gateway.errors import Rejected
from gateway.event import Event
from gateway.tracking.field_removal import can_drop, in_order, without_fields
from gateway.tracking.schema import FieldPath, Schema, Violation, as_schema_input, written

QUIET = 60.0
"""Seconds in which one kind of violation is logged once."""
KINDS = 2000
"""Kinds that are told apart; further ones count as `OTHER`. Senders can invent new ones."""
LONGEST = 500
"""Characters of a kind that is told apart; fields are named by senders."""
OTHER = "other violations"

log = structlog.get_logger()

Key = tuple[str, str, str]
"""The source, the schema's name in the configuration, and what is wrong with which field."""


class ViolationCounter:
    """What was wrong, by source, schema and kind. It outlives reloads.

    Attributes:
        counts: how often.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[Key] = Counter()
        self._clock = clock
        self._logged: dict[Key, float] = {}

    def note(self, source: str, schema: str, kind: str, *, request: str, done: str) -> None:
        """Count a violation, and log it if none of its kind was logged lately.

        Args:
            source: the source's name.
            schema: the schema's name.
            kind: what is wrong, without any value in it.
            request: the id of the request.
            done: what became of it: ``allowed``, ``dropped`` or ``refused``.
        """
        key = (source, schema, kind)
        if key not in self.counts and (len(self.counts) >= KINDS or len(kind) > LONGEST):
            key = (source, schema, OTHER)
        self.counts[key] += 1
        now = self._clock()
        quiet = now - self._logged.get(key, -QUIET) < QUIET
        write = log.debug if quiet else log.warning
        if not quiet:
            self._logged[key] = now
        write(
            "not_as_planned", source=source, schema=schema, violation=kind[:LONGEST], done=done,
            request=request, times=self.counts[key],
        )  # fmt: skip


ViolationPolicy = Literal["allow", "drop-field", "refuse"]
"""What becomes of violations."""
Spelt = Callable[[Event, int, FieldPath], str]
"""An event, its index in the request and a path in it, to the path as the sender spells it."""

REMEMBERED = 4096
"""How many names keep their schema; names are the senders' own, so their number is not ours."""
LONGEST_NAME = 256
"""Characters of a name up to which it does."""
ROUNDS = 4
"""How often an event is looked at again after a drop; each may uncover what others hid."""
NOTHING_DROPPED: Mapping[int, tuple[FieldPath, ...]] = {}
LEFT_OUT = " (left out)"
"""Stands behind the words for what is wrong with a field that goes no further."""


class NamedSchema(NamedTuple):
    """A schema and the name by which the configuration has it."""

    name: str
    schema: Schema


class PlanResult(NamedTuple):
    """What one event's schema says of it."""

    schema: str
    violations: tuple[Violation, ...]
    dropped: tuple[FieldPath, ...] = ()

    def told(self) -> Iterator[tuple[str, bool]]:
        """Yield what is wrong in words, each with whether it is left out for that."""
        wrong = {violation.path for violation in self.violations}
        for violation in self.violations:
            gone = violation.there and _within(violation.path, self.dropped)
            yield f"{violation.place}: {violation.what}", gone
        yield from ((written(path), True) for path in self.dropped if path not in wrong)


class PlannedEvents(NamedTuple):
    """What goes on of a request's events."""

    events: Sequence[Event]
    dropped: Mapping[int, tuple[FieldPath, ...]] = NOTHING_DROPPED
    """An event's index to what is left out of it."""


class TrackingPlan:
    """The schemas of one source.

    An event is judged by the schema of its name, else by the first pattern that fits. The name of
    an event that is not tracked is its type: ``identify``, ``page`` and so on.

    Args:
        source: its name.
        schemas: by name or pattern, in the order of the configuration.
        violations: what becomes of them.
    """

    def __init__(
        self, source: str, schemas: Mapping[str, Schema], violations: ViolationPolicy = "allow"
    ) -> None:
        self.source = source
        self.violations = violations
        self._schemas = schemas
        self._known: dict[str, NamedSchema | None] = {}

    def schema(self, event: Event) -> NamedSchema | None:
        """Return the schema by which *event* is judged; None where none is for it."""
        name = (event.name or "") if event.type == "track" else event.type
        try:
            return self._known[name]
        except KeyError:
            pass
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found = name if name in self._schemas else None
        found = found or next((g for g in self._schemas if fnmatchcase(name, g)), None)
        planned = None if found is None else NamedSchema(found, self._schemas[found])
        if len(name) <= LONGEST_NAME:
            self._known[name] = planned
        return planned

    def judge(self, event: Event) -> PlanResult | None:
        """Return what is wrong with *event*, and what would be left out; None for nothing."""
        planned = self.schema(event)
        if planned is None:
            return None
        seen = as_schema_input(event)
        if planned.schema.fits(seen):
            return None
        wrong = planned.schema.violations(seen)
        drops = self.violations == "drop-field"
        dropped = _droppable(event, planned.schema, wrong) if drops else ()
        return PlanResult(planned.name, tuple(wrong), dropped)

    def apply(
        self, events: Sequence[Event], spelt: Spelt, request: str, tally: ViolationCounter | None
    ) -> PlannedEvents:
        """Return what goes on of *events*.

        Args:
            events: those of one request.
            spelt: how the sender spells a path.
            request: its id.
            tally: counts what is wrong; None where nobody counts.

        Raises:
            Rejected: an event is not as planned, and such are refused.
        """
        kept, dropped = list(events), dict[int, tuple[FieldPath, ...]]()
        for index, event in enumerate(events):
            found = self.judge(event)
            if found is None:
                continue
            if tally is not None:
                self._note(found, request, tally)
            if self.violations == "refuse":
                first = found.violations[0]
                place = spelt(event, index, first.path)
                raise Rejected(place, first.what, first.fault, first.value)
            if found.dropped:
                dropped[index] = found.dropped
                kept[index] = without_fields(event, found.dropped)
        return PlannedEvents(kept, dropped) if dropped else PlannedEvents(events)

    def _note(self, found: PlanResult, request: str, tally: ViolationCounter) -> None:
        for wrong in found.violations:
            done = self.done(wrong)
            tally.note(self.source, found.schema, wrong.kind, request=request, done=done)

    def done(self, wrong: Violation) -> str:
        """Return what becomes of a violation: ``refused``, ``dropped`` or ``allowed``."""
        if self.violations == "refuse":
            return "refused"
        can = self.violations == "drop-field" and wrong.there and can_drop(wrong.path)
        return "dropped" if can else "allowed"


def _droppable(event: Event, schema: Schema, wrong: list[Violation]) -> tuple[FieldPath, ...]:
    """Return the paths without which *event* fits *schema*, as far as leaving out can do that."""
    dropped: list[FieldPath] = []
    for _ in range(ROUNDS):
        paths = in_order(v.path for v in wrong if v.there and can_drop(v.path))
        left = without_fields(event, paths)
        if left is event:
            break
        dropped += paths
        event, wrong = left, schema.violations(as_schema_input(left))
    return tuple(dropped)


def _within(path: FieldPath, others: Collection[FieldPath]) -> bool:
    """Tell whether *path* is one of *others*, or below one."""
    return any(path[:steps] in others for steps in range(1, len(path) + 1))
