"""What can be known of a condition before any event comes: its fields, its mistakes, its cost."""

import cel

from gateway.routing import kinds
from gateway.routing.inference import DEEPEST, WIDEST, Inference, Remark
from gateway.routing.kinds import FLAG
from gateway.routing.syntax import Node, NotCel, parse, place

LONGEST = 2000
"""Characters of a condition."""


class Study(Inference):
    """What is known of a condition; nothing but problems where it cannot be used.

    Attributes:
        node: what it is made of; None where it is no CEL.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.node: Node | None = None
        if len(text) > LONGEST:
            self.wrong(LONGEST, f"is longer than {LONGEST} characters; split the route")
            return
        try:
            self.node = parse(text)
        except NotCel as error:
            self.wrong(error.at, str(error))
            return
        self._conclude(self.node)
        if not self.problems:
            try:
                cel.compile(text)
            except ValueError as error:
                self.wrong(0, str(error).partition("\n")[0])

    def _conclude(self, node: Node) -> None:
        found = self.kinds_of(node, {}, 0)
        if found and not found & FLAG and not self.problems:
            self.wrong(node.start, f"gives {kinds.said(found)}; a condition is true or false")
        if self.depth == DEEPEST:
            what = (
                f"comprehensions stand in each other: that takes time, so that lists of more than "
                f"{WIDEST[DEEPEST]} members make it fail"
            )
            self.doubts.append(Remark(node.start, what))
        if not self.uses and not self.problems:
            self.doubts.append(Remark(node.start, "refers to nothing of the event"))

    @property
    def widest(self) -> int:
        """Return how many members a list may have."""
        return WIDEST[min(self.depth, DEEPEST)]


def placed(text: str, remark: Remark) -> str:
    """Return a remark with its place in *text*."""
    return f"{place(text, remark.at)}: {remark.what}"
