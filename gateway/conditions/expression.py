"""Evaluate an expression of any type on given values."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple, Self

import cel
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
from gateway.conditions.condition import failed
from gateway.conditions.types import ANY, OF_CLASS, Types, describe_types
from gateway.conditions.variables import LONGEST_TEXT, MOST, longest, value_extent
from gateway.event_fields import plain
from gateway.mapping.codecs import ISO8601

MARK = "="
"""The sign that begins an expression among the values of the configuration."""


class Computed(NamedTuple):
    """The result of an expression: a value, or why there is none."""

    value: Any = None
    """None if a value that it needs is missing."""
    error: str = ""
    """Why it cannot be computed; empty if it can, or if a value is missing."""


class InputTooLarge(ValueError):
    """A list or table is too long for an expression that looks through lists."""


MOST_MEMBERS = {1: 1000, 2: 100}
"""The most members of a list or table that a named expression looks through, by levels of nested
comprehensions."""


class Computation:
    """A compiled part of an expression that the library evaluates.

    Args:
        text: the part, with variables in place of fields.
        names: the variables, in the order in which their values are passed.
        whole: those whose whole numbers stay such; all others come from an event, whose numbers are
            doubles.
        strict: whether it has no value as soon as one of the variables has none.
        sent: whether the result is for a payload; otherwise a time stays a time, for what is
            computed from it.
    """

    def __init__(
        self, text: str, names: Sequence[str], whole: AbstractSet[str], *, strict: bool, sent: bool
    ) -> None:
        self._execute = cel.compile(text).execute
        self._names = tuple(names)
        self._whole = whole
        self._strict = strict
        self._sent = sent

    def __call__(self, *values: Any) -> Computed:
        """Return the result for the values of the variables; None stands for a missing one."""
        if self._strict and None in values:
            return Computed()
        context: dict[str, Any] = {}
        for name, value in zip(self._names, values, strict=True):
            kind = type(value)
            if kind is str:
                if len(value) > LONGEST_TEXT:
                    return Computed(error=f"a text of {len(value)} characters is too long")
                context[name] = value
            elif kind is int:
                context[name] = value if name in self._whole else float(value)
            elif kind in _AS_THEY_ARE:
                context[name] = value
            elif value is not None:
                count, _ = value_extent(value)
                if count > MOST:
                    what = f"a list or table has more than {MOST} values"
                    return Computed(error=f"the input is too large: {what}")
                context[name] = plain(value)
        try:
            value = self._execute(context)
            kept = not self._sent and type(value) in _AS_THEY_ARE
            return Computed(value if kept else as_json_value(value))
        except Exception as error:  # noqa: BLE001 - any error of the library is one of the expression
            return Computed(error=failed(error).error)


_AS_THEY_ARE = frozenset({float, bool, datetime, timedelta})
_SIMPLE = frozenset({str, float, int, bool})


def as_json_value(value: Any) -> Any:
    """Return a result of the library as a JSON value: times as ISO 8601, durations as seconds."""
    kind = type(value)
    if kind in _SIMPLE or value is None:
        return value
    if kind is datetime:
        return ISO8601.encode(value if value.tzinfo else value.replace(tzinfo=UTC))
    if kind is timedelta:
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): as_json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json_value(inner) for inner in value]
    return value


def known_names(names: Mapping[str, type]) -> KnownNames:
    """Return the names of an expression by the classes of their values; none means the event."""
    if not names:
        return OF_EVENTS
    return KnownNames(event=False, others={name: _kinds(one) for name, one in names.items()})


def _kinds(of: type) -> Types:
    return ANY if of is object else OF_CLASS[of]


class NamedExpression:
    """An expression of the configuration over a few named values, such as a response's.

    Args:
        text: the expression.

    Raises:
        ValueError: it is invalid; the message says where and why.
    """

    names: ClassVar[Mapping[str, type]]
    """The names that it may use, each with the class of its value: `str`, `int`, `dict`, or
    `object` for any JSON value."""
    gives: ClassVar[type] = bool
    """The class of its result: `bool` or `str`."""

    def __init__(self, text: str) -> None:
        known = known_names(self.names)
        kind = ConditionAnalysis if self.gives is bool else ExpressionAnalysis
        analysis, gives = kind(text, known), _kinds(self.gives)
        problems = list(analysis.problems)
        if not problems and not analysis.kinds & gives:
            what = f"is {describe_types(analysis.kinds)}, not {describe_types(gives)}"
            problems.append(Diagnostic(0, what))
        if problems:
            raise ValueError("\n".join(placed(text, remark) for remark in problems))
        self.text = text
        self.doubts = tuple(placed(text, remark) for remark in analysis.doubts)
        """What is probably a mistake in it."""
        self._execute = cel.compile(text).execute
        self._most_members = MOST_MEMBERS.get(analysis.depth)
        """The most members of a list; None, where it looks at single members only."""
        self.looks_through = analysis.depth > 0
        """Whether it has a comprehension, so that it may use several members of a list."""

    def __eq__(self, other: object) -> bool:
        """Return whether both are written the same, so that a reload changes nothing."""
        return type(other) is type(self) and other.text == self.text

    def __hash__(self) -> int:
        """Return a hash of how it is written."""
        return hash(repr(self.text))

    def __repr__(self) -> str:
        """Return how it is written, the same in every process."""
        return f"{type(self).__name__}({self.text!r})"

    def compute(self, values: Mapping[str, Any]) -> Computed:
        """Return the result for the *values* of its names.

        Raises:
            InputTooLarge: one of them is too large for it.
        """
        most = self._most_members
        for name, value in values.items() if most is not None else ():
            if most is not None and longest(value) > most:
                what = f"{name} has a list or table of more than {most} members"
                raise InputTooLarge(f"{what}, which is too long for {self.text!r}")
        try:
            known = {name: one if type(one) is int else plain(one) for name, one in values.items()}
            return Computed(self._execute(known))
        except Exception as error:  # noqa: BLE001 - any error of the library is one of the expression
            return Computed(error=failed(error).error)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether a condition is true; it is not if a value is missing or it fails.

        Raises:
            InputTooLarge: a value is too large for it, so that nobody knows.
        """
        return self.compute(values).value is True

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads it: a text of the configuration."""
        del source, handler
        return core_schema.no_info_after_validator_function(cls.read, core_schema.str_schema())

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the expression in *text*, which may begin with the mark of expressions."""
        return cls(text.removeprefix(MARK))


class TextExpression(NamedExpression):
    """An expression whose result is text."""

    gives = str
