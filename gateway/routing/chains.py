"""Where a condition refers to fields of the event."""

from typing import Any, NamedTuple

import cel

from gateway.routing.fields import Field
from gateway.routing.syntax import Node


class Use(NamedTuple):
    """Where a condition refers to a field."""

    start: int
    end: int
    field: Field
    has: bool = False
    """It only asks whether the field is there."""


def chain_of(node: Node) -> list[Node] | None:
    """Return the members from ``event`` down to *node*; None where it is none of the event's.

    A member's name stands in ``name``, also where it is written in brackets.
    """
    found: list[Node] = []
    while node.kind in {"member", "index"}:
        if node.kind == "index":
            key = node.parts[1]
            text = value_of(key) if key.kind == "literal" else None
            if not isinstance(text, str):
                return None
            found.append(Node("index", key.start, key.end, text))
        else:
            found.append(node)
        node = node.parts[0]
    return found[::-1] if node.kind == "name" and node.name == "event" else None


def value_of(literal: Node) -> Any:
    """Return what a literal stands for; None where the library does not know it."""
    try:
        return cel.evaluate(literal.name)
    except ValueError:
        return None
