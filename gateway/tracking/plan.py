"""A source's plan: a schema per event name, and what becomes of violations."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from gateway.errors import Rejected
from gateway.event import Event
from gateway.tracking.amend import droppable, in_order, without
from gateway.tracking.schema import Schema
from gateway.tracking.tally import Tally
from gateway.tracking.view import view
from gateway.tracking.violations import Path, Violation, written

Violations = Literal["allow", "drop-field", "refuse"]
"""What becomes of violations."""
Spelt = Callable[[Event, int, Path], str]
"""An event, its index in the request and a path in it, to the path as the sender spells it."""

REMEMBERED = 4096
"""How many names keep their schema; names are the senders' own, so their number is not ours."""
LONGEST_NAME = 256
"""Characters of a name up to which it does."""
ROUNDS = 4
"""How often an event is looked at again after a drop; each may uncover what others hid."""
NOTHING_DROPPED: Mapping[int, tuple[Path, ...]] = {}
LEFT_OUT = " (left out)"
"""Stands behind the words for what is wrong with a field that goes no further."""


class Planned(NamedTuple):
    """A schema and the name by which the configuration has it."""

    name: str
    schema: Schema


class Found(NamedTuple):
    """What one event's schema says of it."""

    schema: str
    violations: tuple[Violation, ...]
    dropped: tuple[Path, ...] = ()

    def told(self) -> Iterator[tuple[str, bool]]:
        """Yield what is wrong in words, each with whether it is left out for that."""
        wrong = {violation.path for violation in self.violations}
        for violation in self.violations:
            gone = violation.there and _within(violation.path, self.dropped)
            yield f"{violation.place}: {violation.what}", gone
        yield from ((written(path), True) for path in self.dropped if path not in wrong)


class Kept(NamedTuple):
    """What goes on of a request's events."""

    events: Sequence[Event]
    dropped: Mapping[int, tuple[Path, ...]] = NOTHING_DROPPED
    """An event's index to what is left out of it."""


class Plan:
    """The schemas of one source.

    An event is judged by the schema of its name, else by the first pattern that fits. The name of
    an event that is not tracked is its type: ``identify``, ``page`` and so on.

    Args:
        source: its name.
        schemas: by name or pattern, in the order of the configuration.
        violations: what becomes of them.
    """

    def __init__(
        self, source: str, schemas: Mapping[str, Schema], violations: Violations = "allow"
    ) -> None:
        self.source = source
        self.violations = violations
        self._schemas = schemas
        self._known: dict[str, Planned | None] = {}

    def schema(self, event: Event) -> Planned | None:
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
        planned = None if found is None else Planned(found, self._schemas[found])
        if len(name) <= LONGEST_NAME:
            self._known[name] = planned
        return planned

    def judge(self, event: Event) -> Found | None:
        """Return what is wrong with *event*, and what would be left out; None for nothing."""
        planned = self.schema(event)
        if planned is None:
            return None
        seen = view(event)
        if planned.schema.fits(seen):
            return None
        wrong = planned.schema.violations(seen)
        drops = self.violations == "drop-field"
        dropped = _droppable(event, planned.schema, wrong) if drops else ()
        return Found(planned.name, tuple(wrong), dropped)

    def keeps(
        self, events: Sequence[Event], spelt: Spelt, request: str, tally: Tally | None
    ) -> Kept:
        """Return what goes on of *events*.

        Args:
            events: those of one request.
            spelt: how the sender spells a path.
            request: its id.
            tally: counts what is wrong; None where nobody counts.

        Raises:
            Rejected: an event is not as planned, and such are refused.
        """
        kept, dropped = list(events), dict[int, tuple[Path, ...]]()
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
                kept[index] = without(event, found.dropped)
        return Kept(kept, dropped) if dropped else Kept(events)

    def _note(self, found: Found, request: str, tally: Tally) -> None:
        for wrong in found.violations:
            done = self.done(wrong)
            tally.note(self.source, found.schema, wrong.kind, request=request, done=done)

    def done(self, wrong: Violation) -> str:
        """Return what becomes of a violation: ``refused``, ``dropped`` or ``allowed``."""
        if self.violations == "refuse":
            return "refused"
        can = self.violations == "drop-field" and wrong.there and droppable(wrong.path)
        return "dropped" if can else "allowed"


def _droppable(event: Event, schema: Schema, wrong: list[Violation]) -> tuple[Path, ...]:
    """Return the paths without which *event* fits *schema*, as far as leaving out can do that."""
    dropped: list[Path] = []
    for _ in range(ROUNDS):
        paths = in_order(v.path for v in wrong if v.there and droppable(v.path))
        left = without(event, paths)
        if left is event:
            break
        dropped += paths
        event, wrong = left, schema.violations(view(left))
    return tuple(dropped)


def _within(path: Path, others: Collection[Path]) -> bool:
    """Tell whether *path* is one of *others*, or below one."""
    return any(path[:steps] in others for steps in range(1, len(path) + 1))
