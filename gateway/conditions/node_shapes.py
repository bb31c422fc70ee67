"""What the parts of an expression are, by their form alone."""

from collections.abc import Collection, Iterator, Sequence

from gateway.conditions.functions import COALESCE, OWN_FUNCTIONS
from gateway.conditions.syntax import CelNode
from gateway.conditions.variables import value_of


def structural_parts(node: CelNode) -> Sequence[CelNode]:
    """Return the parts of *node* whose values are copied into its own."""
    parts = node.parts
    if node.kind == "list" or (node.kind == "map" and has_plain_keys(node)):
        return parts[1::2] if node.kind == "map" else parts
    if node.kind == "operator" and node.name == "?:":
        return parts[1:]
    if node.macro and node.name == "map":
        return (parts[0], parts[-1])
    if node.macro and node.name == "filter":
        return parts[:1]
    return parts if joins_lists(node) or is_coalesce(node) or _takes_exported(node) else ()


def has_plain_keys(node: CelNode) -> bool:
    """Return whether all keys of a table are texts in quotes."""
    return all(key.kind == "literal" and isinstance(value_of(key), str) for key in node.parts[::2])


LENIENT = frozenset({"&&", "||", "?:", "has"})
"""Operators that may have a result although a value is missing."""


def joins_lists(node: CelNode) -> bool:
    """Return whether *node* is ``LIST + LIST``; a field of any type counts beside a list."""
    return node.kind == "operator" and node.name == "+" and any(map(_is_list, node.parts))


def _is_list(node: CelNode) -> bool:
    if node.kind == "operator" and node.name == "?:":
        return any(map(_is_list, node.parts[1:]))
    return (
        node.kind == "list"
        or (node.macro and node.name in {"map", "filter"})
        or joins_lists(node)
    )  # fmt: skip


def is_coalesce(node: CelNode) -> bool:
    """Return whether *node* is ``coalesce(VALUE, …)``."""
    return node.kind == "call" and not node.method and node.name == COALESCE


def _takes_exported(node: CelNode) -> bool:
    return is_own(node) and OWN_FUNCTIONS[node.name].exported


def is_compiled(node: CelNode) -> bool:
    """Return whether *node* is computed without the library wherever it stands."""
    return is_own(node) or node.macro or joins_lists(node) or chooses(node)


def chooses(node: CelNode) -> bool:
    """Return whether *node* chooses among values in a way that the library does not know."""
    if is_coalesce(node):
        return True
    optional = any(part.kind == "literal" and part.name == "null" for part in node.parts[1:])
    return node.kind == "operator" and node.name == "?:" and optional


def is_own(node: CelNode) -> bool:
    """Return whether *node* is a call of one of the gateway's functions."""
    method = node.method and node.name != "size"
    return node.kind == "call" and not method and node.name in OWN_FUNCTIONS


def root_name(node: CelNode) -> str:
    """Return the name at which a chain of members begins; empty if it is no such chain."""
    while node.kind == "member" or (node.kind == "index" and node.parts[1].kind == "literal"):
        node = node.parts[0]
    return node.name if node.kind == "name" else ""


def certainly_nested(node: CelNode, tables: Collection[tuple[int, int]]) -> bool:
    """Return whether *node* is certainly a table, or a list of tables or of lists.

    Args:
        node: a part of an expression.
        tables: where fields stand that are tables, or lists of them.
    """
    parts = node.parts
    if (node.start, node.end) in tables or node.kind == "map":
        return True
    if node.kind == "list":
        return any(_is_list(part) or certainly_nested(part, tables) for part in parts)
    if node.macro:
        inner = parts[-1] if node.name == "map" else parts[0]
        listed = node.name in {"map", "filter"}
        return listed and (
            certainly_nested(inner, tables) or (inner is not parts[0] and _is_list(inner))
        )
    if node.kind == "operator" and node.name == "?:":
        values = [part for part in parts[1:] if part.name != "null"]
        return all(certainly_nested(part, tables) for part in values)
    return joins_lists(node) and any(certainly_nested(part, tables) for part in parts)


ALWAYS_THERE = frozenset({"event.type", "event.id", "event.received_at"})
"""Fields that no event lacks."""


def moving_members(node: CelNode, text: str) -> Iterator[CelNode]:
    """Yield the members of lists whose absence moves the later members up.

    A member for which the expression asks by ``has`` is left to its author.
    """
    asked = {
        text[one.parts[0].start : one.parts[0].end]
        for one in node.walk()
        if one.kind == "call" and one.name == "has" and one.parts
    }
    for listed in _copied_lists(node):
        for member in listed.parts[:-1]:
            said = text[member.start : member.end]
            if member.kind in {"member", "index"} and said not in asked | ALWAYS_THERE:
                yield member


def _copied_lists(node: CelNode) -> Iterator[CelNode]:
    if node.kind == "list":
        yield node
    for part in structural_parts(node):
        yield from _copied_lists(part)
