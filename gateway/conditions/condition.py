"""A compiled condition: evaluate it, and find the part that decided.

Each field becomes a variable, so that it is converted once per event for all conditions. A missing
field is an undefined variable: a condition that needs it is false, unless another part decides
(``a || b`` is true if ``b`` is).

The part about source, type and name alone (``event.type == "track" && ...``) is split off, so that
it is evaluated once for all events that share them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cel

from gateway.conditions.analysis import OF_ROUTES, ConditionAnalysis, KnownNames, placed
from gateway.conditions.syntax import CelNode
from gateway.conditions.variables import MOST, PREFIX, ConditionInput, VariableSet
from gateway.event import Event

YES, NO = frozenset({True}), frozenset({False})
EITHER = YES | NO
KIND = frozenset({"source", "type", "name"})
"""Fields that all events of one kind share."""


class Evaluation(NamedTuple):
    """The result of a condition for one event."""

    holds: bool
    missing: str = ""
    """The missing variable or member that decided; empty if none did."""
    error: str = ""
    """Why the evaluation failed; empty if it did not."""


_UNDEFINED = "Undefined variable or function: '"
_MISSING = f"{_UNDEFINED}{PREFIX}"


class Predicate:
    """A compiled condition, or some parts of one that must all hold.

    Attributes:
        names: the variables that it uses.
    """

    def __init__(self, condition: "Condition", nodes: Sequence[CelNode]) -> None:
        self._condition = condition
        self.names = frozenset(name for node in nodes for name in condition.names_in(node))
        self._needed = frozenset[str]().union(*(condition.needs(node, YES) for node in nodes))
        self._execute = condition.program(nodes).execute
        self._widest = condition.study.widest if condition.study.depth else MOST

    @property
    def text(self) -> str:
        """Return the whole condition that it is, or is a part of."""
        return self._condition.text

    def ask(self, scene: ConditionInput) -> bool | str:
        """Return whether it holds, or the error if the evaluation fails."""
        if scene.excess or scene.widest > self._widest:
            too_much = self.too_much(scene)
            if too_much:
                return too_much
        if not self._needed <= scene.known:
            return False
        try:
            result = self._execute(scene.context)
        except Exception as error:  # noqa: BLE001 - any error of the library is an error of the condition
            return failed(error).error or False
        return result if result is True or result is False else _neither(result)

    def lacks(self, scene: ConditionInput) -> str:
        """Return the first needed variable that the event lacks; empty if it has all."""
        return min(self._needed - scene.known, default="")

    def too_much(self, scene: ConditionInput) -> str:
        """Return which field of the event is too large for it; empty if none is."""
        path = self._condition.path
        for name in sorted(self.names):
            if name in scene.excess:
                return f"{path(name)} is too large: {scene.excess[name]}"
            width = scene.widths.get(name, 0)
            if width > self._widest:
                return f"{path(name)} has {width} members; at most {self._widest} are allowed"
        return ""


class Condition:
    """A condition, such as that of a route.

    Args:
        text: the expression.
        slots: the variables of all conditions that are evaluated together.
        names: the names that it may use.

    Raises:
        ValueError: the expression is invalid; the message says where and why.
    """

    def __init__(self, text: str, slots: VariableSet, names: KnownNames = OF_ROUTES) -> None:
        study = ConditionAnalysis(text, names)
        if study.problems or study.node is None:
            raise ValueError("; ".join(placed(text, remark) for remark in study.problems))
        self.text = text
        self.study = study
        self.node: CelNode = study.node
        self._slots = slots
        self._parts: dict[tuple[int, int], cel.Program] = {}
        self._uses = {(use.start, use.end): slots.name(use) for use in study.uses}
        self.names = frozenset(self._uses.values())
        for name in self.names:
            slots.ask(name, study.members)
        self.whole = Predicate(self, [self.node])
        parts = list(_conjuncts(self.node))
        common = [node for node in parts if self._fields_in(node) <= KIND]
        rest = [node for node in parts if node not in common]
        self._common = Predicate(self, common) if common else None
        self._rest = Predicate(self, rest) if common and rest else None

    def of_kind(self, source: str, event: Event) -> "Predicate | bool":
        """Return the rest of the condition for all events of a kind; a bool if nothing is left.

        Args:
            source: their source.
            event: one of them; all have its type and name.
        """
        if self._common is None:
            return self.whole
        answer = self._common.ask(self._slots.stage(self._common.names).scene(source, event))
        if isinstance(answer, str):
            return self.whole
        return False if answer is False else self._rest or True

    def program(self, nodes: Sequence[CelNode]) -> cel.Program:
        """Return parts of the expression, joined by ``&&`` and compiled with the variables."""
        texts = []
        for node in nodes:
            text = self.text[node.start : node.end]
            for (start, end), name in sorted(self._uses.items(), reverse=True):
                if node.start <= start and end <= node.end:
                    text = f"{text[: start - node.start]} {name} {text[end - node.start :]}"
            texts.append(text if len(nodes) == 1 else f"({text})")
        return cel.compile(" && ".join(texts))

    def names_in(self, node: CelNode) -> Iterator[str]:
        """Yield the variables that a part of the condition uses."""
        for (start, end), name in self._uses.items():
            if node.start <= start and end <= node.end:
                yield name

    def _fields_in(self, node: CelNode) -> frozenset[str]:
        return frozenset(
            use.field.path
            for use in self.study.uses
            if node.start <= use.start and use.end <= node.end
        )

    def path(self, missing: str) -> str:
        """Return a missing field, as the condition writes it."""
        return self._slots.path(missing) if missing.startswith(PREFIX) else missing

    def judge(self, scene: ConditionInput) -> Evaluation:
        """Evaluate the condition; the result names a missing field or an error."""
        answer = self.whole.ask(scene)
        if isinstance(answer, str):
            return Evaluation(holds=False, error=answer)
        lacks = "" if answer else self.whole.lacks(scene)
        return Evaluation(holds=False, missing=lacks) if lacks else self.outcome(self.node, scene)

    def outcome(self, node: CelNode, scene: ConditionInput) -> Evaluation:
        """Evaluate a part of the condition."""
        place = (node.start, node.end)
        try:
            program = self._parts.get(place)
            if program is None:
                program = self._parts[place] = self.program([node])
            result = program.execute(scene.context)
        except Exception as error:  # noqa: BLE001 - any error of the library is an error of the condition
            return failed(error)
        if result is True or result is False:
            return Evaluation(holds=result)
        return Evaluation(holds=False, error=_neither(result))

    def needs(self, node: CelNode, outcomes: frozenset[bool]) -> frozenset[str]:
        """Return the variables that *node* needs to have any of the *outcomes*."""
        use = self._uses.get((node.start, node.end))
        if use is not None:
            return frozenset({use})
        if outcomes == EITHER:
            return self.needs(node, YES) & self.needs(node, NO)
        if node.kind == "operator" and node.name == "!":
            return self.needs(node.parts[0], EITHER - outcomes)
        if node.kind == "operator" and node.name in {"&&", "||"}:
            one, other = (self.needs(part, outcomes) for part in node.parts)
            return one | other if (node.name == "&&") == (outcomes == YES) else one & other
        if node.macro or (node.kind == "operator" and node.name == "?:"):
            return self.needs(node.parts[0], EITHER)
        return frozenset[str]().union(*(self.needs(part, EITHER) for part in node.parts))


def _conjuncts(node: CelNode) -> Iterator[CelNode]:
    """Yield the parts that must all hold for *node* to hold."""
    if node.kind == "operator" and node.name == "&&":
        for part in node.parts:
            yield from _conjuncts(part)
    else:
        yield node


def failed(error: Exception) -> Evaluation:
    """Return the result of an expression that raised *error*."""
    said = str(error)
    if said.startswith(_MISSING):
        return Evaluation(holds=False, missing=said.split("'", 2)[1])
    if said.startswith(_UNDEFINED):  # what the library says of a function with another type, too
        name = said.split("'", 2)[1]
        return Evaluation(holds=False, error=f"{name} does not take a value of this type")
    if isinstance(error, LookupError):  # a missing member of a list or table
        return Evaluation(holds=False, missing=str(error.args[0]))
    first = said.partition("\n")[0].partition(". ")[0]
    if first in _TEXT_AND_NUMBER:
        first += "; string(...) makes a number a text"
    return Evaluation(holds=False, error=first or type(error).__name__)


_TEXT_AND_NUMBER = frozenset(
    f"Unsupported operation: {both}" for both in ("string + float", "float + string")
)


def _neither(result: object) -> str:
    return f"the result {result!r:.80} is neither true nor false"


def deciding_part(condition: Condition, scene: ConditionInput) -> str:
    """Return the text of the smallest part of *condition* that decided its result.

    It is the whole condition if no single part decided.
    """
    decided = _decided(condition, scene, condition.node)
    return condition.text[decided.start : decided.end]


def _decided(condition: Condition, scene: ConditionInput, node: CelNode) -> CelNode:
    result = condition.outcome(node, scene)
    if result.error or node.kind != "operator":
        return node
    if node.name == "!":
        return (
            node if node.parts[0].kind != "operator" else _decided(condition, scene, node.parts[0])
        )
    if node.name == "?:":
        chosen = 1 if condition.outcome(node.parts[0], scene).holds else 2
        return _decided(condition, scene, node.parts[chosen])
    if node.name not in {"&&", "||"}:
        return node
    if (node.name == "&&") == result.holds:  # both sides were needed
        return node
    for part in node.parts:
        if _same(condition.outcome(part, scene), result):
            return _decided(condition, scene, part)
    return node


def _same(one: Evaluation, other: Evaluation) -> bool:
    return one.holds == other.holds and not one.error
