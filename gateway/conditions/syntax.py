"""Parse CEL expressions into nodes with their positions in the text.

The library that evaluates CEL exposes neither field paths nor positions, so this module parses the
text itself (https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax). The library
compiles the text afterwards, so it has the last word on valid CEL.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["literal", "name", "member", "index", "call", "operator", "list", "map"]
MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
DEEPEST = 40
"""Most levels of brackets."""

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
"""Words and signs of other languages, and their CEL equivalents."""
_RUN = re.compile(r"\w+|[=<>!&|~]+")


class CelSyntaxError(ValueError):
    """The text is not a valid expression.

    Attributes:
        at: position of the error, counted from 0.
    """

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True, slots=True)
class CelNode:
    """A part of an expression, from ``start`` up to ``end`` in its text.

    The first part of a ``method`` call is the value before the dot. The parts of a map are keys and
    values in turn.
    """

    kind: Kind
    start: int
    end: int
    name: str = ""
    parts: tuple["CelNode", ...] = ()
    method: bool = False

    @property
    def macro(self) -> bool:
        """Return whether it is a comprehension: a loop over members."""
        return self.kind == "call" and self.method and self.name in MACROS

    def walk(self) -> Iterator["CelNode"]:
        """Yield the node and all nodes below it."""
        yield self
        for part in self.parts:
            yield from part.walk()


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> CelNode:
    """Return the root node of the expression *text*.

    Raises:
        CelSyntaxError: the text is not a valid expression.
    """
    try:
        reading = _Reading(list(_tokens(text)))
        found = reading.expression()
        reading.end()
    except CelSyntaxError as error:
        raise CelSyntaxError(error.at, f"{error}{_meant(text, error.at)}") from None
    return found


def _meant(text: str, at: int) -> str:
    """Return a hint if another language's sign or word is at *at*, or right before it."""
    if text[at : at + 1] in {"'", '"'}:
        return "; the text that starts here has no closing quote"
    around = [run for run in _RUN.finditer(text) if run.start() <= at and run.end() >= at - 1]
    for run in reversed(around):
        if run[0].lower() in _HABITS:
            return f"; write {_HABITS[run[0].lower()]} instead of {run[0]}"
    return ""


def place(text: str, at: int) -> str:
    """Return position *at* of *text* for people: lines and columns count from 1."""
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
            raise CelSyntaxError(at, f"unexpected {text[at]!r}")
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
            raise CelSyntaxError(self._next.start, f"expected {sign!r}, found {self._found()}")
        return self._take()

    def _found(self) -> str:
        return repr(self._next.text) if self._next.text else "the end"

    def end(self) -> None:
        """Check that the text ends here."""
        if self._next.kind != "end":
            what = f"expected the end of the expression, found {self._found()}"
            raise CelSyntaxError(self._next.start, what)

    def expression(self) -> CelNode:
        """Parse and return the expression that starts here."""
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
            raise CelSyntaxError(self._next.start, f"more than {DEEPEST} signs in a row")
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
                raise CelSyntaxError(word.start, "expected a name after the dot")
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
            )  # the brackets are part of the node
        if token.text in {"[", "{"} and token.kind == "sign":
            self._at -= 1
            parts, end = self._list(token.text)
            return CelNode("list" if token.text == "[" else "map", token.start, end, parts=parts)
        self._at -= 1
        raise CelSyntaxError(token.start, f"expected a value, found {self._found()}")

    def _list(self, opens: str) -> tuple[tuple[CelNode, ...], int]:
        """Return the comma-separated parts in brackets, and the end of the brackets."""
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
