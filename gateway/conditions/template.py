"""Values of the configuration whose texts may be expressions, such as the body of a request.

A text that begins with ``=`` is an expression over ``event``; ``==`` at the beginning stands for a
plain ``=``. Every other value is itself. A missing value leaves its key, or its member of a list,
out. Numbers and text stay as they came; times become ISO 8601.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gateway.conditions.analysis import (
    OF_EVENTS,
    ConditionAnalysis,
    Diagnostic,
    ExpressionAnalysis,
    KnownNames,
    placed,
)
from gateway.conditions.expression import MARK, known_names
from gateway.conditions.field_uses import FieldUse
from gateway.conditions.node_shapes import certainly_nested, moving_members, structural_parts
from gateway.conditions.syntax import CelNode
from gateway.conditions.template_compiler import (
    TemplateCompiler,
    expressions,
    is_expression,
    literal,
    texts,
)
from gateway.conditions.template_runtime import ALL_MEMBERS, MOST_MEMBERS
from gateway.conditions.types import FLAG
from gateway.event_fields import EACH, UnknownField, find_field


class ValueAnalysis(ExpressionAnalysis):
    """The analysis of an expression whose result becomes part of a payload."""

    gives_value = True
    too_long = (
        f"lists of more than {MOST_MEMBERS[1]} members, or of more than {MOST_MEMBERS[2]} in those"
    )

    def __init__(self, text: str, names: KnownNames = OF_EVENTS) -> None:
        super().__init__(text, names)

    def conclude(self, node: CelNode) -> None:
        """Allow parts of the event as a whole where they are only copied."""
        self.whole = frozenset(_copied(node))
        super().conclude(node)
        for part in () if self.problems else moving_members(node, self.text):
            said = self.text[part.start : part.end]
            what = f"where {said} is missing, the members after it move up"
            self.doubts.append(Diagnostic(part.start, f"{what}; write coalesce({said}, '')"))

    @property
    def nested(self) -> bool:
        """Return whether the value is certainly a table, or a list of tables or lists."""
        tables = {
            (use.start, use.end)
            for use in self.uses
            if not use.has and (use.field.struct is not None or use.field.classes == {dict})
        }
        return self.node is not None and certainly_nested(self.node, tables)


def _copied(node: CelNode, *, whole: bool = True) -> Iterator[tuple[int, int]]:
    """Yield where a part of the event may stand as a whole; a comprehension cannot run over it."""
    if whole:
        yield node.start, node.end
    for part in structural_parts(node):
        yield from _copied(part, whole=not (node.macro and part is node.parts[0]))


def _placed(text: str, remark: Diagnostic) -> str:
    """Return a remark with its position in the value, which begins with the mark."""
    return placed(f"{MARK}{text}", remark._replace(at=remark.at + len(MARK)))


class Template:
    """A value of the configuration in which expressions may be.

    Args:
        raw: as in the TOML file.

    Raises:
        ValueError: an expression is invalid; the message says where and why, a line for each.

    Attributes:
        raw: as given.
        analyses: of its expressions.
        doubts: what is probably a mistake in it.
        uses: the fields of the event that its value has.
        constant: whether it has no expression, so that `build` always returns the same.
        build: returns the value for an event, or for the values of `names` in their order; None if
            it is missing. It raises `Unrenderable` where an expression fails.
    """

    names: ClassVar[Mapping[str, type]] = {}
    """The names that its expressions use, each with the class of its value (`object` for any); if
    empty, they use ``event``."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        analyses: dict[str, ValueAnalysis] = {}
        problems, doubts = [], []
        for where, text in expressions(raw):
            analysis = analyses[text] = ValueAnalysis(text, known_names(self.names))
            said = f"{where}, " if where else ""
            problems += [f"{said}{_placed(text, remark)}" for remark in analysis.problems]
            doubts += [f"{said}{_placed(text, remark)}" for remark in analysis.doubts]
        doubts += _forgotten(raw, tuple(self.names) or ("event",))
        self.analyses = tuple(analyses.values())
        self.check(problems, doubts)
        if problems:
            raise ValueError("\n".join(problems))
        self.doubts = tuple(doubts)
        self.constant = not analyses
        self.uses: tuple[FieldUse, ...] = ()
        self.build: Callable[..., Any]
        if self.constant:
            plain = literal(raw)
            self.build = lambda *_: plain
        else:
            compiler = TemplateCompiler(analyses, tuple(self.names) or ("event",))
            self.build = compiler.function(raw)
            self.uses = tuple(dict.fromkeys(compiler.uses))

    def __eq__(self, other: object) -> bool:
        """Return whether both are written the same, so that a reload changes nothing."""
        return type(other) is type(self) and other.raw == self.raw

    def __hash__(self) -> int:
        """Return a hash of how it is written."""
        return hash(repr(self.raw))

    def __repr__(self) -> str:
        """Return how it is written, the same in every process."""
        return f"{type(self).__name__}({self.raw!r})"

    def check(self, problems: list[str], doubts: list[str]) -> None:
        """Add what else is wrong or doubtful about the value."""

    def nested_keys(self) -> Iterator[str]:
        """Yield the keys of a table whose values are certainly tables, or lists with some in them.

        No form, query or header can carry these.
        """
        known = {analysis.text: analysis.nested for analysis in self.analyses}
        for key, value in self.raw.items():
            for one in value if isinstance(value, list) else [value]:
                inner = isinstance(one, dict) or (one is not value and isinstance(one, list))
                if inner or (key != ALL_MEMBERS and is_expression(one) and known[one[1:]]):
                    yield key
                    break

    def is_condition(self) -> bool:
        """Return whether its expressions may be true or false."""
        return all(analysis.kinds & FLAG for analysis in self.analyses)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads it: any value of the configuration."""
        del source, handler
        return core_schema.no_info_plain_validator_function(cls)


def _forgotten(raw: Any, names: tuple[str, ...]) -> Iterator[str]:
    """Yield a doubt for each plain text that is probably an expression without its ``=``."""
    for where, text in texts(raw):
        root, *path = text.split(".")
        if root not in names or not path or not all(one.isidentifier() for one in path):
            continue
        if root == "event":
            try:
                find_field(path)
            except UnknownField:
                continue
        said = f"{where}, " if where else ""
        yield f'{said}"{text}" is sent as this text; write "={text}" for the value'


class EventTable(Template):
    """A table with fields of the neutral event, whose values may be expressions over `names`."""

    def check(self, problems: list[str], doubts: list[str]) -> None:
        """Add unknown fields, and free ones that are probably misspelt."""
        if not isinstance(self.raw, dict):
            problems.append('must be a table, such as { name = "Order Completed" }')
            return
        for path in _paths(self.raw, ()):
            if path == ("type",):
                continue
            try:
                hint = find_field(path).hint
            except UnknownField as error:
                problems.append(str(error))
            else:
                doubts += [f"{'.'.join(path)}: {hint}"] if hint else []


def _paths(raw: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the fields in a table, of lists and of values of its own."""
    for key, one in raw.items():
        if isinstance(one, dict) and one:
            yield from _paths(one, (*above, key))
        elif isinstance(one, list):
            for member in one:
                if isinstance(member, dict):
                    yield from _paths(member, (*above, key, EACH))
        else:
            yield (*above, key)


class EventCondition:
    """A condition over ``event``, as that of a route.

    Args:
        text: the condition.

    Raises:
        ValueError: it is invalid; the message says where and why.
    """

    def __init__(self, text: str) -> None:
        analysis = ConditionAnalysis(text, OF_EVENTS)
        if analysis.problems:
            raise ValueError("\n".join(placed(text, remark) for remark in analysis.problems))
        self.text = text
        self.doubts = tuple(placed(text, remark) for remark in analysis.doubts)
        """What is probably a mistake in it."""

    def __eq__(self, other: object) -> bool:
        """Return whether both are written the same, so that a reload changes nothing."""
        return type(other) is type(self) and other.text == self.text

    def __hash__(self) -> int:
        """Return a hash of how it is written."""
        return hash(repr(self.text))

    def __repr__(self) -> str:
        """Return how it is written, the same in every process."""
        return f"{type(self).__name__}({self.text!r})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads it: a text of the configuration."""
        del source, handler
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
