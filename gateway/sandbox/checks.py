"""A small vocabulary for checking JSON bodies, from which each vendor's rules are written.

A rule walks a body from ``json_body`` downwards and never stops at the first problem::

    body = json_body(request)
    body.need("source", OBJECT).need("id", TEXT).filled()
    for event in body.need("events", LIST).each(OBJECT):
        event.need("type", TEXT)
    if body.problems: ...

A place that is absent, or already known to be wrong, takes every further check in silence:
one cause gives one problem.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum, StrEnum
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import msgspec
import orjson

from gateway.http import Request
from gateway.json_text import LongInteger, LongNumber, loads


class JsonType(Enum):
    """A JSON type, as a person reads it."""

    TEXT = "a string"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    OBJECT = "an object"
    LIST = "an array"
    NULL = "null"

    def holds(self, value: Any) -> bool:
        """Tell whether a parsed JSON value is of this type; a boolean is no number."""
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

TEXT, INTEGER, NUMBER, BOOLEAN, OBJECT, LIST, NULL = JsonType


class ProblemKind(StrEnum):
    """What kind of problem a place has, as far as vendors word them differently."""

    MALFORMED = "malformed"
    MISSING = "missing"
    TYPE = "type"
    BLANK = "blank"
    LENGTH = "length"
    CHOICE = "choice"
    FORMAT = "format"
    CLASH = "clash"


class BodyProblem(msgspec.Struct, frozen=True):
    """Something that a vendor's document rules out.

    ``rule`` completes the sentence "expected ...". ``value`` is what was found there, for the
    vendors that echo it; it may be any JSON value.
    """

    path: tuple[str | int, ...]
    wrong: ProblemKind
    rule: str
    value: Any = None

    @property
    def place(self) -> str:
        """Return the path for people: ``events.0.type``, ``the body`` for the whole of it."""
        return ".".join(map(str, self.path)) or "the body"

    @property
    def reason(self) -> str:
        """Return the problem as one line; values stay out of it, they may be personal."""
        if self.wrong is ProblemKind.MISSING:
            return f"{self.place} is missing: expected {self.rule}"
        return f"{self.place}: expected {self.rule}"


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT


class BodyField:
    """A value in a body, where it stands, and the list that its problems go to."""

    __slots__ = ("path", "problems", "value")

    def __init__(
        self, value: Any, path: tuple[str | int, ...], problems: list[BodyProblem]
    ) -> None:
        self.value = value
        self.path = path
        self.problems = problems

    def __bool__(self) -> bool:
        """Tell whether there is a value of the expected type here."""
        return self.value is not ABSENT

    def __contains__(self, key: str) -> bool:
        """Tell whether this is an object with that key, whatever its value."""
        return isinstance(self.value, dict) and key in self.value

    def need(self, key: str, *kinds: JsonType) -> "BodyField":
        """Return the member ``key``, which must be there and be of one of ``kinds``."""
        if isinstance(self.value, dict) and key not in self:
            self._note((*self.path, key), ProblemKind.MISSING, _either(kinds), self.value)
        return self.may(key, *kinds)

    def may(self, key: str, *kinds: JsonType) -> "BodyField":
        """Return the member ``key``, which must be of one of ``kinds`` if it is there at all."""
        if key not in self:
            return BodyField(ABSENT, (*self.path, key), self.problems)
        return BodyField(self.value[key], (*self.path, key), self.problems).of(*kinds)

    def need_one(self, keys: Collection[str], *kinds: JsonType) -> None:
        """Require at least one of ``keys``; every one that is there must be filled."""
        if self and not any(key in self for key in keys):
            self._note(
                (*self.path, next(iter(keys))), ProblemKind.MISSING, one_of(keys), self.value
            )
        for key in keys:
            self.may(key, *kinds).filled()

    def each(self, *kinds: JsonType) -> Iterator["BodyField"]:
        """Yield the items of an array, which must be of one of ``kinds``."""
        for index, value in enumerate(self.value if isinstance(self.value, list) else ()):
            yield BodyField(value, (*self.path, index), self.problems).of(*kinds)

    def of(self, *kinds: JsonType) -> Self:
        """Require one of the JSON types ``kinds``; none means any type."""
        if self and kinds and not any(kind.holds(self.value) for kind in kinds):
            self.fail(ProblemKind.TYPE, _either(kinds))
        return self

    def filled(self) -> Self:
        """Require that a string has more than white space in it; other types always do."""
        if isinstance(self.value, str) and not self.value.strip():
            self.fail(ProblemKind.BLANK, "a string that is not empty")
        return self

    def sized(self, most: int) -> Self:
        """Require at most so many characters of a string, or items of an array."""
        if isinstance(self.value, str | list) and len(self.value) > most:
            unit = "characters" if isinstance(self.value, str) else "items"
            self.fail(ProblemKind.LENGTH, f"at most {most} {unit}")
        return self

    def among(self, allowed: Collection[Any]) -> Self:
        """Require one of the values ``allowed``."""
        if self and self.value not in allowed:
            self.fail(ProblemKind.CHOICE, one_of(allowed))
        return self

    def matches(self, pattern: re.Pattern[str], rule: str) -> Self:
        """Require that the whole of a string matches; other types pass."""
        if isinstance(self.value, str) and not pattern.fullmatch(self.value):
            self.fail(ProblemKind.FORMAT, rule)
        return self

    def satisfies(self, holds: Callable[[Any], bool], rule: str) -> Self:
        """Require what ``holds`` says of the value."""
        if self and not holds(self.value):
            self.fail(ProblemKind.FORMAT, rule)
        return self

    def fail(self, wrong: ProblemKind, rule: str) -> None:
        """Note a problem here, and take further checks in silence."""
        if self:
            self._note(self.path, wrong, rule, self.value)
            self.value = ABSENT

    def clash(self, key: str, rule: str) -> None:
        """Note that the member ``key`` must not stand beside another one."""
        self._note((*self.path, key), ProblemKind.CLASH, rule, self.value)

    def _note(self, path: tuple[str | int, ...], wrong: ProblemKind, rule: str, value: Any) -> None:
        self.problems.append(BodyProblem(path, wrong, rule, value))


def json_body(request: Request) -> BodyField:
    """Return the body as the place to check from; it must be one JSON object."""
    root = BodyField(request.body, (), [])
    try:
        root.value = loads(request.body, mend=False)
    except orjson.JSONDecodeError as error:
        root.fail(ProblemKind.MALFORMED, f"JSON, but {error}")
    return root.of(OBJECT)


def json_labelled(request: Request) -> bool:
    """Tell whether the content type says JSON (RFC 8259, RFC 6839 for ``+json``)."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media == "application/json" or (
        media.startswith("application/") and media.endswith("+json")
    )


def query(request: Request) -> BodyField:
    """Return the query's parameters, the last of each name, as a place to check from."""
    return BodyField(dict(parse_qsl(request.query, keep_blank_values=True)), (), [])


def one_of(names: Collection[Any]) -> str:
    """Return the names as a person lists them: ``a, b or c``."""
    *most, last = map(str, names)
    return f"{', '.join(most)} or {last}" if most else last


def _either(kinds: Collection[JsonType]) -> str:
    return one_of([kind.value for kind in kinds]) if kinds else "any value"


EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
"""An address as far as a syntax check is worth it: one ``@``, a dot in the domain."""
