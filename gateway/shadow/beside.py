"""What a test account said of an event, beside what became of it where it was really sent."""

from collections import OrderedDict
from typing import NamedTuple

from gateway.exchange import Declined, Delivered, Verdict
from gateway.shadow.tally import Tally

REMEMBERED = 10_000
"""Events of which one side is known; of an older one nothing is compared any more."""


class _Sides(NamedTuple):
    """What is known of one event, by destination."""

    shadows: dict[str, str]
    others: dict[str, str]


class Beside:
    """Brings both sides of an event together, in whichever order they come.

    Args:
        tally: takes the pairs.
    """

    def __init__(self, tally: Tally) -> None:
        self.wanted = False
        """Some shadow has a test account."""
        self._tally = tally
        self._events: OrderedDict[str, _Sides] = OrderedDict()

    def answered(self, shadow: str, event_id: str, how: str, at: float) -> None:
        """Note how a shadow's test account took an event."""
        sides = self._sides(event_id)
        sides.shadows[shadow] = how
        for other, verdict in sides.others.items():
            self._tally.beside(shadow, other, f"{verdict}, {how}", at)

    def settled(
        self, destination: str, event_id: str, verdict: Verdict | Declined, at: float
    ) -> None:
        """Note how an event ended where it was really sent."""
        if isinstance(verdict, Declined):
            return
        said = "delivered" if isinstance(verdict, Delivered) else "refused"
        sides = self._sides(event_id)
        sides.others[destination] = said
        for shadow, how in sides.shadows.items():
            self._tally.beside(shadow, destination, f"{said}, {how}", at)

    def _sides(self, event_id: str) -> _Sides:
        sides = self._events.get(event_id)
        if sides is None:
            if len(self._events) >= REMEMBERED:
                self._events.popitem(last=False)
            sides = self._events[event_id] = _Sides({}, {})
        return sides
