"""Choose the first of several conditions that holds for an event."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.conditions.analysis import OF_EVENTS
from gateway.conditions.condition import Condition, Predicate
from gateway.conditions.template import EventCondition
from gateway.conditions.variables import InputBuilder, VariableSet
from gateway.event import Event

REMEMBERED = 1024
"""Most kinds of events for which the parts of conditions about kinds are remembered."""
LONGEST_NAME = 256
"""Characters; kinds with a longer name are not remembered."""


class _Candidates(NamedTuple):
    """The conditions that may hold for events of one kind, with what is left of each."""

    left: Sequence[tuple[int, Predicate | None]]
    stage: InputBuilder


class FirstMatch:
    """Conditions in order; None stands for one that always holds."""

    def __init__(self, conditions: Sequence[EventCondition | None]) -> None:
        self._slots = VariableSet()
        self._conditions = [
            None if one is None else Condition(one.text, self._slots, OF_EVENTS)
            for one in conditions
        ]
        self._known: dict[tuple[str, str | None], _Candidates] = {}

    def index(self, event: Event) -> int | None:
        """Return the position of the first condition that holds; None if none does.

        Raises:
            ValueError: a condition cannot be evaluated; the message has the condition.
        """
        key = (event.type, event.name)
        found = self._known.get(key)
        if found is None:
            found = self._candidates(event)
            if len(event.name or "") <= LONGEST_NAME:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[key] = found
        scene = None
        for number, predicate in found.left:
            if predicate is None:
                return number
            scene = scene or found.stage.scene("", event)
            answer = predicate.ask(scene)
            if answer is True:
                return number
            if answer is not False:
                raise ValueError(f"{predicate.text}: {answer}")
        return None

    def _candidates(self, event: Event) -> _Candidates:
        left: list[tuple[int, Predicate | None]] = []
        for number, condition in enumerate(self._conditions):
            rest = True if condition is None else condition.of_kind("", event)
            if rest is True:
                left.append((number, None))
                break
            if rest is not False:
                left.append((number, rest))
        names = (predicate.names for _, predicate in left if predicate is not None)
        return _Candidates(left, self._slots.stage(frozenset[str]().union(*names)))
