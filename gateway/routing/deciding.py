"""Which part of a condition decided, for people who ask why."""

from gateway.routing.condition import Condition, Judgement
from gateway.routing.scene import Scene
from gateway.routing.syntax import Node


def deciding(condition: Condition, scene: Scene) -> str:
    """Return the smallest part of *condition* that decided what it comes to.

    It is given as it is written; the whole where no part alone decided.
    """
    decided = _decided(condition, scene, condition.node)
    return condition.text[decided.start : decided.end]


def _decided(condition: Condition, scene: Scene, node: Node) -> Node:
    result = condition.outcome(node, scene)
    if result.error or node.kind != "operator":
        return node
    if node.name == "!":
        return (
            node if node.parts[0].kind != "operator" else _decided(condition, scene, node.parts[0])
        )
    if node.name == "?:":
        chosen = 1 if condition.outcome(node.parts[0], scene).holds else 2
        return _decided(condition, scene, node.parts[chosen])
    if node.name not in {"&&", "||"}:
        return node
    if (node.name == "&&") == result.holds:  # all of it was needed
        return node
    for part in node.parts:
        if _same(condition.outcome(part, scene), result):
            return _decided(condition, scene, part)
    return node


def _same(one: Judgement, other: Judgement) -> bool:
    return one.holds == other.holds and not one.error
