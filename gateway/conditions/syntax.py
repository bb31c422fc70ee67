"""The syntax of CEL, as far as conditions need it: what an expression is made of, and where.

The library that evaluates CEL gives away neither paths nor places; this reads them off the text
(https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax). What it takes is
compiled by the library afterwards, so the library has the last word on what is CEL.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["literal", "name", "member", "index", "call", "operator", "list", "map"]
MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
DEEPEST = 40
"""Levels of brackets."""

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<comment>//[^\n]*)
    | (?P<text>[rRbB]{0,2}(?:\"{3}(?:.|\n)*?\"{3}|'{3}(?:.|\n)*?'{3}))
    | (?P<raw>[bB]?[rR][bB]?(?:"[^"\n]*"|'[^'\n]*'))
    | (?P<quoted>[bB]?(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])
    )""",
    re.VERBOSE,
)
_LEVELS = (
    frozenset({"||"}),
    frozenset({"&&"}),
    frozenset({"<", "<=", ">=", ">", "==", "!=", "in"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_HABITS = {
    **dict.fromkeys(("=", "===", "is"), "=="),
    **dict.fromkeys(("<>", "!==", "~="), "!="),
    **dict.fromkeys(("&", "and"), "&&"),
    **dict.fromkeys(("|", "or"), "||"),
    "not": "!",
    "like": ".contains(...) or .matches(...)",
}
"""What other languages write, and CEL's way."""
_RUN = re.compile(r"\w+|[=<>!&|~]+")


class CelSyntaxError(ValueError):
    """The text is no expression.

    Attributes:
        at: where, counted from 0.
    """

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True, slots=True)
class CelNode:
    """A part of an expression, from ``start`` up to ``end`` in its text.

    A call's first part is what stands before the dot where it is a ``method``; a map's parts are
    keys and values in turn.
    """

    kind: Kind
    start: int
    end: int
    name: str = ""
    parts: tuple["CelNode", ...] = ()
    method: bool = False

    @property
    def macro(self) -> bool:
        """Tell whether it goes over the members of something."""
        return self.kind == "call" and self.method and self.name in MACROS

    def walk(self) -> Iterator["CelNode"]:
        """Yield it and everything in it."""
        yield self
        for part in self.parts:
            yield from part.walk()


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> CelNode:
    """Return what *text* is made of.

    Raises:
        NotCel: it is no expression.
    """
    try:
        reading = _Reading(list(_tokens(text)))
        found = reading.expression()
        reading.end()
    except CelSyntaxError as error:
        raise CelSyntaxError(error.at, f"{error}{_meant(text, error.at)}") from None
    return found


def _meant(text: str, at: int) -> str:
    """Return a hint where another language's sign or word stands at *at*, or right before."""
    if text[at : at + 1] in {"'", '"'}:
        return "; a text that begins here does not end"
    around = [run for run in _RUN.finditer(text) if run.start() <= at and run.end() >= at - 1]
    for run in reversed(around):
        if run[0].lower() in _HABITS:
            return f"; write {_HABITS[run[0].lower()]} instead of {run[0]}"
    return ""


def place(text: str, at: int) -> str:
    """Return where position *at* of *text* is, for people: lines and columns count from 1."""
    line, column = text.count("\n", 0, at), at - (text.rfind("\n", 0, at) + 1) + 1
    return f"line {line + 1}, column {column}" if "\n" in text.strip() else f"column {at + 1}"


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        if text[at:].isspace():
            break
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise CelSyntaxError(at, f"{text[at]!r} belongs to no expression")
        group = str(found.lastgroup)
        if group != "comment":
            kind = "text" if group in {"raw", "quoted"} else group
            yield _Token(kind, found[group], *found.span(group))
        at = found.end()
    yield _Token("end", "", len(text), len(text))


class _Reading:
    """Reads tokens from left to right."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _is(self, *signs: str) -> bool:
        return self._next.kind in {"sign", "word"} and self._next.text in signs

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _expect(self, sign: str) -> _Token:
        if not self._is(sign):
            raise CelSyntaxError(self._next.start, f"{self._said()} stands where {sign!r} should")
        return self._take()

    def _said(self) -> str:
        return repr(self._next.text) if self._next.text else "the end"

    def end(self) -> None:
        """Pass the end of the text."""
        if self._next.kind != "end":
            raise CelSyntaxError(
                self._next.start, f"{self._said()} stands where the expression should end"
            )

    def expression(self) -> CelNode:
        """Return the expression that begins here."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise CelSyntaxError(self._next.start, f"brackets are nested more than {DEEPEST} deep")
        first = self._binary(0)
        if self._is("?"):
            self._take()
            yes = self.expression()
            self._expect(":")
            no = self.expression()
            first = CelNode("operator", first.start, no.end, "?:", (first, yes, no))
        self._depth -= 1
        return first

    def _binary(self, level: int) -> CelNode:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while self._is(*_LEVELS[level]):
            sign = self._take().text
            right = self._binary(level + 1)
            left = CelNode("operator", left.start, right.end, sign, (left, right))
        return left

    def _unary(self) -> CelNode:
        if not self._is("!", "-"):
            return self._chain()
        self._depth += 1
        if self._depth > DEEPEST:
            raise CelSyntaxError(self._next.start, f"signs are repeated more than {DEEPEST} times")
        sign = self._take()
        inner = self._unary()
        self._depth -= 1
        return CelNode("operator", sign.start, inner.end, sign.text, (inner,))

    def _chain(self) -> CelNode:
        node = self._primary()
        while self._is(".", "["):
            if self._take().text == "[":
                inner = self.expression()
                end = self._expect("]").end
                node = CelNode("index", node.start, end, parts=(node, inner))
                continue
            word = self._take()
            if word.kind != "word":
                raise CelSyntaxError(word.start, "a name should follow the dot")
            if self._is("("):
                arguments, end = self._list("(")
                node = CelNode("call", node.start, end, word.text, (node, *arguments), method=True)
            else:
                node = CelNode("member", node.start, word.end, word.text, (node,))
        return node

    def _primary(self) -> CelNode:
        token = self._take()
        if token.kind in {"text", "number"}:
            return CelNode("literal", token.start, token.end, token.text)
        if token.kind == "word" and token.text != "in":
            if token.text in {"true", "false", "null"}:
                return CelNode("literal", token.start, token.end, token.text)
            if self._is("("):
                arguments, end = self._list("(")
                return CelNode("call", token.start, end, token.text, arguments)
            return CelNode("name", token.start, token.end, token.text)
        if token.text == "(" and token.kind == "sign":
            inner = self.expression()
            end = self._expect(")").end
            return CelNode(
                inner.kind, token.start, end, inner.name, inner.parts, inner.method
            )  # its own brackets belong to it
        if token.text in {"[", "{"} and token.kind == "sign":
            self._at -= 1
            parts, end = self._list(token.text)
            return CelNode("list" if token.text == "[" else "map", token.start, end, parts=parts)
        self._at -= 1
        raise CelSyntaxError(token.start, f"{self._said()} stands where a value should")

    def _list(self, opens: str) -> tuple[tuple[CelNode, ...], int]:
        """Return what stands in brackets, separated by commas, and where they end."""
        self._take()
        found: list[CelNode] = []
        while not self._is(_CLOSES[opens]):
            found.append(self.expression())
            if opens == "{":
                self._expect(":")
                found.append(self.expression())
            if not self._is(_CLOSES[opens]):
                self._expect(",")
        return tuple(found), self._take().end
