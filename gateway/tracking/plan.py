"""Tracking plans: check events against schemas, and count violations."""

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
"""Seconds between two log lines about the same kind of violation."""
KINDS = 2000
"""Most kinds counted separately, since senders can invent any number; others are `OTHER`."""
LONGEST = 500
"""Characters; longer kinds count as `OTHER`, since senders name the fields."""
OTHER = "other violations"

log = structlog.get_logger()

Key = tuple[str, str, str]
"""Source, name of the schema in the configuration, and kind of violation."""


class ViolationCounter:
    """Counts violations by source, schema and kind; a reload keeps the counts.

    Attributes:
        counts: number of violations by key.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[Key] = Counter()
        self._clock = clock
        self._logged: dict[Key, float] = {}

    def note(self, source: str, schema: str, kind: str, *, request: str, done: str) -> None:
        """Count a violation, and log it at a limited rate.

        Args:
            source: name of the source.
            schema: name of the schema.
            kind: field and problem, without the value.
            request: id of the request.
            done: the action taken: ``allowed``, ``dropped`` or ``refused``.
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
            "plan_violation", source=source, schema=schema, violation=kind[:LONGEST], done=done,
            request=request, times=self.counts[key],
        )  # fmt: skip


ViolationPolicy = Literal["allow", "drop-field", "refuse"]
"""How violations are handled."""
Spelt = Callable[[Event, int, FieldPath], str]
"""Returns the sender's path of a field, given event, index in the request, and path."""

REMEMBERED = 4096
"""Most names whose schema is cached; senders can invent any number of names."""
LONGEST_NAME = 256
"""Characters; longer names are not cached."""
ROUNDS = 4
"""Most rounds of dropping fields; each may reveal violations that others hid."""
NOTHING_DROPPED: Mapping[int, tuple[FieldPath, ...]] = {}
LEFT_OUT = " (dropped)"
"""Suffix of a violation whose field was dropped."""


class NamedSchema(NamedTuple):
    """A schema and its name in the configuration."""

    name: str
    schema: Schema


class PlanResult(NamedTuple):
    """The violations of one event, and the fields to drop."""

    schema: str
    violations: tuple[Violation, ...]
    dropped: tuple[FieldPath, ...] = ()

    def told(self) -> Iterator[tuple[str, bool]]:
        """Yield each violation in words, and whether its field is dropped."""
        wrong = {violation.path for violation in self.violations}
        for violation in self.violations:
            gone = violation.there and _within(violation.path, self.dropped)
            yield f"{violation.place}: {violation.what}", gone
        yield from ((written(path), True) for path in self.dropped if path not in wrong)


class PlannedEvents(NamedTuple):
    """The events of a request after its tracking plan was applied."""

    events: Sequence[Event]
    dropped: Mapping[int, tuple[FieldPath, ...]] = NOTHING_DROPPED
    """The dropped fields by event index."""


class TrackingPlan:
    """The schemas of one source.

    An event is checked against the schema of its name, else of the first matching pattern. For
    events other than ``track`` the type counts as name: ``identify``, ``page`` and so on.

    Args:
        source: name of the source.
        schemas: schemas by name or pattern, in the order of the configuration.
        violations: how violations are handled.
    """

    def __init__(
        self, source: str, schemas: Mapping[str, Schema], violations: ViolationPolicy = "allow"
    ) -> None:
        self.source = source
        self.violations = violations
        self._schemas = schemas
        self._known: dict[str, NamedSchema | None] = {}

    def schema(self, event: Event) -> NamedSchema | None:
        """Return the schema for *event*; None if there is none."""
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
        """Return the violations of *event* and the fields to drop; None if it is valid."""
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
        """Return *events* without the dropped fields.

        Args:
            events: the events of one request.
            spelt: returns the sender's path of a field.
            request: id of the request.
            tally: counts violations, if given.

        Raises:
            Rejected: an event violates the plan, and violations are refused.
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
        """Return the action for a violation: ``refused``, ``dropped`` or ``allowed``."""
        if self.violations == "refuse":
            return "refused"
        can = self.violations == "drop-field" and wrong.there and can_drop(wrong.path)
        return "dropped" if can else "allowed"


def _droppable(event: Event, schema: Schema, wrong: list[Violation]) -> tuple[FieldPath, ...]:
    """Return the paths to drop so that *event* fits *schema*, as far as dropping helps."""
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
    """Return whether *path* is one of *others*, or below one."""
    return any(path[:steps] in others for steps in range(1, len(path) + 1))
