"""Operations on texts and numbers that Python does as CEL does: they need no library."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.conditions.syntax import CelNode
from gateway.conditions.variables import LONGEST_TEXT, value_of


class DirectOperation(NamedTuple):
    """An operation on texts or numbers that Python does as CEL does."""

    text: str
    """The code, for variables of the type."""
    of: type | None
    """`str` or `float`; None for a variable, which may be either."""
    variables: frozenset[str] = frozenset()
    compares: bool = False
    """Whether the result is true or false."""

    def code(self, otherwise: str) -> str:
        """Return the code, with *otherwise* for variables of other types, and missing ones."""
        guard = _IS_TEXT if self.of is str else _IS_NUMBER
        guards = " and ".join(guard.format(one) for one in sorted(self.variables))
        return f"{self.text} if {guards} else {otherwise}"

    def operand(self, of: type) -> str:
        """Return the code as an operand: numbers of an event are doubles in CEL."""
        return f"float({self.text})" if self.of is None and of is float else self.text


_IS_TEXT = f"type({{0}}) is str and len({{0}}) <= {LONGEST_TEXT}"
_IS_NUMBER = "(type({0}) is float or (type({0}) is int and abs({0}) < 9007199254740992))"
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_ARITHMETIC = frozenset({"-", "*"})
_SIDES = 2


def direct_operation(
    node: CelNode, variables: Mapping[tuple[int, int], str]
) -> DirectOperation | None:
    """Return an operation as Python code; None if only the library can compute it.

    Args:
        node: a part of an expression.
        variables: those of the generated function, by the parts that they stand for.
    """
    name = variables.get((node.start, node.end))
    if name is not None:
        return DirectOperation(name, None, frozenset({name}))
    if node.kind == "literal":
        value = value_of(node)
        return DirectOperation(repr(value), type(value)) if type(value) in {str, float} else None
    known = node.name in _COMPARISONS | _ARITHMETIC | {"+"}
    if node.kind != "operator" or not known or len(node.parts) != _SIDES:
        return None
    left, right = (direct_operation(part, variables) for part in node.parts)
    if left is None or right is None or left.compares or right.compares:
        return None
    of = left.of or right.of or (str if node.name == "+" else None)
    if of is None or {left.of, right.of} - {of, None} or (of is str and node.name in _ARITHMETIC):
        return None
    return DirectOperation(
        f"({left.operand(of)} {node.name} {right.operand(of)})",
        of,
        left.variables | right.variables,
        node.name in _COMPARISONS,
    )
