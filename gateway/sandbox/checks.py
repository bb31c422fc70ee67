"""Check JSON bodies against a vendor's rules.

A check walks the body from ``json_body`` downwards and does not stop at the first problem::

    body = json_body(request)
    body.need("source", OBJECT).need("id", TEXT).filled()
    for event in body.need("events", LIST).each(OBJECT):
        event.need("type", TEXT)
    if body.problems: ...

A field that is absent, or already has a problem, ignores further checks: one cause gives one
problem.
"""

import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum, StrEnum
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import msgspec
import orjson

from gateway.http import Request
from gateway.json_text import LongInteger, LongNumber, loads


class JsonType(Enum):
    """A JSON type; its value is its name in messages."""

    TEXT = "a string"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    OBJECT = "an object"
    LIST = "an array"
    NULL = "null"

    def holds(self, value: Any) -> bool:
        """Return whether a parsed JSON value has this type; a boolean is not a number."""
        return type(value) in _PYTHON[self]


_PYTHON: Final[Mapping[JsonType, tuple[type, ...]]] = {
    JsonType.TEXT: (str,),
    JsonType.INTEGER: (int, LongInteger),
    JsonType.NUMBER: (int, float, LongInteger, LongNumber),
    JsonType.BOOLEAN: (bool,),
    JsonType.OBJECT: (dict,),
    JsonType.LIST: (list,),
    JsonType.NULL: (type(None),),
}

TEXT: Final = JsonType.TEXT
"""A string."""
INTEGER: Final = JsonType.INTEGER
"""A number without a fraction."""
NUMBER: Final = JsonType.NUMBER
"""Any number."""
BOOLEAN: Final = JsonType.BOOLEAN
"""True or false."""
OBJECT: Final = JsonType.OBJECT
"""An object."""
LIST: Final = JsonType.LIST
"""An array."""
NULL: Final = JsonType.NULL
"""Null."""


class ProblemKind(StrEnum):
    """The kinds of problems that vendors report differently."""

    MALFORMED = "malformed"
    MISSING = "missing"
    TYPE = "type"
    BLANK = "blank"
    LENGTH = "length"
    CHOICE = "choice"
    FORMAT = "format"
    CLASH = "clash"


class BodyProblem(msgspec.Struct, frozen=True):
    """A violation of a vendor's documented rules.

    ``rule`` completes the sentence "expected ...". ``value`` is the value that was found, for
    vendors that repeat it; it may be any JSON value.
    """

    path: tuple[str | int, ...]
    wrong: ProblemKind
    rule: str
    value: Any = None

    @property
    def place(self) -> str:
        """Return the path as text: ``events.0.type``, or ``the body`` for the whole body."""
        return ".".join(map(str, self.path)) or "the body"

    @property
    def reason(self) -> str:
        """Return the problem as one line, without the value, which may be personal data."""
        if self.wrong is ProblemKind.MISSING:
            return f"{self.place} is missing: expected {self.rule}"
        return f"{self.place}: expected {self.rule}"


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT


class BodyField:
    """A value in a body, its path, and the list to which its problems are added.

    ``value`` is `ABSENT`, equal to no JSON value, if the field is absent or has a problem.
    """

    __slots__ = ("path", "problems", "value")

    def __init__(
        self, value: Any, path: tuple[str | int, ...], problems: list[BodyProblem]
    ) -> None:
        self.value = value
        self.path = path
        self.problems = problems

    def __bool__(self) -> bool:
        """Return whether the value exists and has the expected type."""
        return self.value is not ABSENT

    def __contains__(self, key: str) -> bool:
        """Return whether this is an object with that key."""
        return isinstance(self.value, dict) and key in self.value

    def need(self, key: str, *kinds: JsonType) -> "BodyField":
        """Return the member ``key``, which is required and must have one of the types ``kinds``."""
        if isinstance(self.value, dict) and key not in self:
            self._note((*self.path, key), ProblemKind.MISSING, _either(kinds), self.value)
        return self.may(key, *kinds)

    def may(self, key: str, *kinds: JsonType) -> "BodyField":
        """Return the member ``key``, which is optional and must have one of the types ``kinds``."""
        if key not in self:
            return BodyField(ABSENT, (*self.path, key), self.problems)
        return BodyField(self.value[key], (*self.path, key), self.problems).of(*kinds)

    def need_one(self, keys: Collection[str], *kinds: JsonType) -> None:
        """Require at least one of ``keys``; each one that exists must not be blank."""
        if self and not any(key in self for key in keys):
            self._note(
                (*self.path, next(iter(keys))), ProblemKind.MISSING, one_of(keys), self.value
            )
        for key in keys:
            self.may(key, *kinds).filled()

    def each(self, *kinds: JsonType) -> list["BodyField"]:
        """Return the items of an array, each of which must have one of the types ``kinds``."""
        items = self.value if isinstance(self.value, list) else ()
        return [
            BodyField(value, (*self.path, index), self.problems).of(*kinds)
            for index, value in enumerate(items)
        ]

    def of(self, *kinds: JsonType) -> Self:
        """Require one of the JSON types ``kinds``; without any, all types are allowed."""
        if self and kinds and not any(kind.holds(self.value) for kind in kinds):
            self.fail(ProblemKind.TYPE, _either(kinds))
        return self

    def filled(self) -> Self:
        """Require that a string is not blank; other types always pass."""
        if isinstance(self.value, str) and not self.value.strip():
            self.fail(ProblemKind.BLANK, "a string that is not empty")
        return self

    def sized(self, most: int) -> Self:
        """Require at most ``most`` characters in a string, or items in an array."""
        if isinstance(self.value, str | list) and len(self.value) > most:
            unit = "characters" if isinstance(self.value, str) else "items"
            self.fail(ProblemKind.LENGTH, f"at most {most} {unit}")
        return self

    def among(self, allowed: Collection[Any]) -> Self:
        """Require one of the ``allowed`` values."""
        if self and self.value not in allowed:
            self.fail(ProblemKind.CHOICE, one_of(allowed))
        return self

    def matches(self, pattern: re.Pattern[str], rule: str) -> Self:
        """Require that the whole string matches ``pattern``; other types pass."""
        if isinstance(self.value, str) and not pattern.fullmatch(self.value):
            self.fail(ProblemKind.FORMAT, rule)
        return self

    def satisfies(self, holds: Callable[[Any], bool], rule: str) -> Self:
        """Require that ``holds`` returns true for the value."""
        if self and not holds(self.value):
            self.fail(ProblemKind.FORMAT, rule)
        return self

    def fail(self, wrong: ProblemKind, rule: str) -> None:
        """Add a problem with this field, and ignore further checks of it."""
        if self:
            self._note(self.path, wrong, rule, self.value)
            self.value = ABSENT

    def clash(self, key: str, rule: str) -> None:
        """Add the problem that the member ``key`` must not occur together with another one."""
        self._note((*self.path, key), ProblemKind.CLASH, rule, self.value)

    def _note(self, path: tuple[str | int, ...], wrong: ProblemKind, rule: str, value: Any) -> None:
        self.problems.append(BodyProblem(path, wrong, rule, value))


def json_body(request: Request) -> BodyField:
    """Return the body for checks; it must be one JSON object."""
    root = BodyField(request.body, (), [])
    try:
        root.value = loads(request.body, mend=False)
    except orjson.JSONDecodeError as error:
        root.fail(ProblemKind.MALFORMED, f"JSON, but {error}")
    return root.of(OBJECT)


def json_labelled(request: Request) -> bool:
    """Return whether the content type is JSON (RFC 8259; RFC 6839 for ``+json``)."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media == "application/json" or (
        media.startswith("application/") and media.endswith("+json")
    )


def query(request: Request) -> BodyField:
    """Return the query's parameters for checks; of repeated names, the last."""
    return BodyField(dict(parse_qsl(request.query, keep_blank_values=True)), (), [])


def one_of(names: Collection[Any]) -> str:
    """Return the names as a list in English: ``a, b or c``."""
    *most, last = map(str, names)
    return f"{', '.join(most)} or {last}" if most else last


def _either(kinds: Collection[JsonType]) -> str:
    return one_of([kind.value for kind in kinds]) if kinds else "any value"


EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
"""An e-mail address, checked superficially: one ``@``, and a dot in the domain."""
