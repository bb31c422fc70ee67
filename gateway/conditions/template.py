"""Values of the configuration whose texts may be expressions, such as the body of a request.

A text that begins with ``=`` is an expression over ``event``; ``==`` at the beginning stands for a
plain ``=``. Every other value is itself. A missing value leaves its key, or its member of a list,
out. Numbers and text stay as they came; times become ISO 8601.
"""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gateway.conditions.analysis import (
    OF_EVENTS,
    ConditionAnalysis,
    Diagnostic,
    ExpressionAnalysis,
    placed,
)
from gateway.conditions.expression import MARK
from gateway.conditions.syntax import CelNode
from gateway.conditions.template_compiler import (
    FieldUse,
    TemplateCompiler,
    expressions,
    literal,
    structural_parts,
)
from gateway.event import Event


class ValueAnalysis(ExpressionAnalysis):
    """The analysis of an expression whose result becomes part of a payload."""

    gives_value = True

    def conclude(self, node: CelNode) -> None:
        """Allow parts of the event as a whole where they are only copied."""
        self.whole = frozenset(_copied(node))
        super().conclude(node)


def _copied(node: CelNode) -> Iterator[tuple[int, int]]:
    yield node.start, node.end
    for part in structural_parts(node):
        yield from _copied(part)


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
        doubts: what is probably a mistake in it.
        uses: the fields of the event that its value has.
        constant: whether it has no expression, so that `build` returns the same for every event.
        build: returns the value for an event; None if it is missing. It raises `Unrenderable` where
            an expression fails.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        analyses: dict[str, ExpressionAnalysis] = {}
        problems, doubts = [], []
        for where, text in expressions(raw):
            analysis = analyses[text] = ValueAnalysis(text)
            said = f"{where}, " if where else ""
            problems += [f"{said}{_placed(text, remark)}" for remark in analysis.problems]
            doubts += [f"{said}{_placed(text, remark)}" for remark in analysis.doubts]
        if problems:
            raise ValueError("\n".join(problems))
        self.doubts = tuple(doubts)
        self.constant = not analyses
        self.uses: tuple[FieldUse, ...] = ()
        self.build: Callable[[Event], Any]
        if self.constant:
            plain = literal(raw)
            self.build = lambda _: plain
        else:
            compiler = TemplateCompiler(analyses)
            self.build = compiler.function(raw)
            self.uses = tuple(dict.fromkeys(compiler.uses))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads it: any value of the configuration."""
        del source, handler
        return core_schema.no_info_plain_validator_function(cls)


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

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads it: a text of the configuration."""
        del source, handler
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
