"""The types of CEL's operators and functions.

They come from the library itself: each operator is run once on sample values of every type of its
operands, so that the result always agrees with the evaluation.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import cel

Types = frozenset[str]

NUMBER = frozenset({"number"})
WHOLE = frozenset({"whole number"})
TEXT = frozenset({"text"})
FLAG = frozenset({"true or false"})
LIST = frozenset({"list"})
MAP = frozenset({"table"})
TIME = frozenset({"time"})
SPAN = frozenset({"duration"})
NOTHING = frozenset({"nothing"})
"""No value: the type of a ``null`` that is one of two choices."""
NUMBERS = NUMBER | WHOLE
ANY = TEXT | NUMBER | FLAG | LIST | MAP
"""Types of JSON values; all numbers of an event are doubles."""

_SAMPLES: Mapping[str, Any] = {
    "text": "a", "number": 1.5, "whole number": 1, "true or false": True, "list": ["a"],
    "table": {"a": 1.5}, "time": datetime(2026, 1, 1, tzinfo=UTC), "duration": timedelta(hours=1),
}  # fmt: skip
OF_CLASS: Mapping[type, Types] = {
    str: TEXT, float: NUMBER, bool: FLAG, list: LIST, dict: MAP, datetime: TIME,
    int: WHOLE, timedelta: SPAN,
}  # fmt: skip


class Function(NamedTuple):
    """A function that conditions may call."""

    gives: Types
    method: bool = False
    """Whether it is called as ``VALUE.name()``."""
    arguments: int = 0
    """Number of arguments, without the value before the dot."""

    def written(self, name: str) -> str:
        """Return a call of the function *name*, as an example."""
        arguments = ", ".join(["VALUE"] * self.arguments)
        return f"VALUE.{name}({arguments})" if self.method else f"{name}({arguments})"


def _parts(*names: str) -> dict[str, Function]:
    return {f"get{name}": Function(WHOLE, method=True) for name in names}


FUNCTIONS: Mapping[str, Function] = {
    "size": Function(WHOLE, arguments=1),
    "contains": Function(FLAG, method=True, arguments=1),
    "startsWith": Function(FLAG, method=True, arguments=1),
    "endsWith": Function(FLAG, method=True, arguments=1),
    "matches": Function(FLAG, method=True, arguments=1),
    "int": Function(WHOLE, arguments=1),
    "double": Function(NUMBER, arguments=1),
    "string": Function(TEXT, arguments=1),
    "timestamp": Function(TIME, arguments=1),
    "duration": Function(SPAN, arguments=1),
    **_parts("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear"),
    **_parts("Hours", "Minutes", "Seconds", "Milliseconds"),
}
"""CEL's standard functions that are useful for events and that the library supports."""


def of_classes(found: Iterable[type]) -> Types:
    """Return the CEL types of values of these classes."""
    return frozenset[str]().union(*(OF_CLASS[one] for one in found))


def describe_types(*operands: Types) -> str:
    """Return types in words."""
    words = ("anything" if kinds >= ANY else " or ".join(sorted(kinds)) for kinds in operands)
    return " and ".join(words)


@cache
def operator_type(sign: str, operands: tuple[Types, ...]) -> Types:
    """Return the result types of an operator; empty if it accepts no such operands."""
    names = ["a", "b"][: len(operands)]
    text = f"{sign}a" if len(operands) == 1 else "a[b]" if sign == "[]" else f"a {sign} b"
    return frozenset[str]().union(*(
        _of_class(result) for result in _tried(text, names, operands)
    ))  # fmt: skip


@cache
def takes(name: str, operands: tuple[Types, ...]) -> bool:
    """Return whether the function *name* accepts operands of these types."""
    names = ["a", "b", "c"][: len(operands)]
    if FUNCTIONS[name].method:
        text = f"{names[0]}.{name}({', '.join(names[1:])})"
    else:
        text = f"{name}({', '.join(names)})"
    return bool(_tried(text, names, operands))


def _tried(text: str, names: Sequence[str], operands: Sequence[Types]) -> list[Any]:
    """Return the results of *text* for all samples of these types that it accepts."""
    program = cel.compile(text)
    results = []
    for kinds in itertools.product(*operands):
        values = {name: _SAMPLES[kind] for name, kind in zip(names, kinds, strict=True)}
        try:
            results.append(program.execute(values))
        except TypeError:
            continue
        except RuntimeError as error:
            if "Undefined" not in str(error):  # it accepts the type, but not this sample
                results.append(None)
        except (LookupError, ArithmeticError):
            results.append(None)
    return results


def _of_class(result: Any) -> Types:
    return ANY if result is None else OF_CLASS[type(result)]
