"""The wire side of a table, laid out so that one walk over a payload finds every field.

The walk costs as much as the payload has keys, however many rows the table has.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.errors import Fault, Rejected
from gateway.mapping.shape import Built
from gateway.mapping.step import Step, json_name


class Node:
    """The keys that some row names at one place in the payload.

    Attributes:
        keys: a key to the step that ends here, if any, which of its synonyms this is, and the
            keys below.
        star: the event's mapping that takes whatever else stands here; empty for none.
    """

    __slots__ = ("keys", "star")

    def __init__(self) -> None:
        self.keys: dict[str, Entry] = {}
        self.star = ""


class Entry(NamedTuple):
    """What a key of the payload means."""

    step: Step | None = None
    """The step that ends here, if any does."""
    rank: int = 0
    """Which of its synonyms this is."""
    below: Node | None = None
    fast: Step | None = None
    """The step again, if its value is taken as it is."""


def trie(steps: Iterable[Step]) -> Node:
    """Return the rows of *steps* by the keys of their wire paths."""
    root = Node()
    for step in steps:
        for rank, path in enumerate(step.paths):
            node = root
            *above, last = path
            for key in above:
                entry = node.keys.get(key, Entry())
                below = entry.below or Node()
                node.keys[key] = entry._replace(below=below, fast=None)
                node = below
            if step.star:
                node.star = node.star or step.row.event
            else:
                entry = node.keys.get(last, Entry())
                if entry.step is None:
                    fast = step if step.fast and not rank and entry.below is None else None
                    node.keys[last] = Entry(step, rank, entry.below, fast)
    return root


class Walk:
    """One walk over one payload.

    Args:
        payload: the whole of it.
        built: takes the values that are found.
        strict: a value of the wrong type refuses the payload instead of being left over.
    """

    __slots__ = ("built", "payload", "strict")

    def __init__(self, payload: dict[str, Any], built: Built, *, strict: bool) -> None:
        self.payload = payload
        self.built = built
        self.strict = strict

    def over(self, here: dict[str, Any], node: Node, place: str = "") -> dict[str, Any]:
        """Take what *node* names of *here*; return what is left over. A null says nothing.

        Raises:
            Rejected: a value is not what the vendor takes.
        """
        rest: dict[str, Any] = {}
        keys, built = node.keys, self.built
        for key, value in here.items():
            if value is None:
                continue
            entry = keys.get(key)
            if entry is None:
                rest[key] = value
            else:
                fast = entry[3]
                if fast is not None and type(value) in fast.accepts:
                    group = built.get(fast.group)
                    if group is None:
                        built[fast.group] = {fast.field: value}
                    else:
                        group[fast.field] = value
                    continue
                left = self._key(entry, value, place + key)
                if left is not None:
                    rest[key] = left
        if node.star and rest:
            target = self.built.setdefault(node.star, {})
            for key, value in rest.items():
                target.setdefault(key, value)
            return {}
        return rest

    def _key(self, entry: Entry, value: Any, place: str) -> Any:
        """Return what is left over of the *value* of a key that some row names; None for none."""
        step, rank, below, _ = entry
        inside = below if type(value) is dict else None
        if step is not None and (inside is None or step.whole):
            left = None if self.take(step, rank, value) else value
            if inside is not None:
                self.over(value, inside, f"{place}.")
            return left
        if inside is not None:
            return self.over(value, inside, f"{place}.") or None
        if self.strict:
            raise Rejected(place, f"expected object, got {json_name(value)}", Fault.TYPE, value)
        return value

    def take(self, step: Step, rank: int, value: Any) -> bool:  # noqa: C901 - one case a line
        """Note *value* for the event; tell whether it is taken care of.

        Raises:
            Rejected: it is not what the vendor takes.
        """
        if step.literal:
            return True
        if rank and step.beaten(self.payload, rank):
            return False
        must = step.row.required or self.strict
        if type(value) not in step.accepts:
            if must:
                raise step.wrong(value, rank)
            return False
        if not step.field:
            return True
        if step.nested is not None:
            if not (must or step.nested.fits(value)):
                return False
            value = step.nested.read(value, step.row.synonyms[rank])
        elif step.decode is not None:
            try:
                value = step.decode(value)
            except ValueError as error:
                if must:
                    place = step.row.synonyms[rank]
                    raise Rejected(place, str(error), Fault.VALUE, value) from error
                return False
        self._note(step, value)
        return True

    def _note(self, step: Step, value: Any) -> None:
        group = self.built.get(step.group)
        if group is None:
            self.built[step.group] = {step.field: value}
        else:
            group[step.field] = value
