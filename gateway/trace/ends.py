"""How deliveries stand: what was tried, and what the spool says besides.

The spool gives deliveries up by itself, and an operator replays or drops what was given up. So a
dead letter that is there is a delivery's present state, whatever was tried before.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.letter import Letter
from gateway.spool import Letters
from gateway.trace.interface import Parsed, Trace, Tried

MOST = 100
"""Dead letters of one event that are told."""
LONGEST = 10
"""Digits of an event's number, at most."""


class End(NamedTuple):
    """One event on its way to one destination."""

    destination: str
    route: str
    """The route whose steps it takes; empty where it takes none, or is not known to."""
    tries: Sequence[Tried]
    """In the order in which they happened; none where nothing happened so far."""
    letter: Letter | None
    """Its dead letter, while there is one."""

    @property
    def gone(self) -> bool:
        """Tell whether it was given up, and its dead letter is not there any more."""
        return self.letter is None and bool(self.tries) and self.tries[-1].outcome == "dead"


def asks(trace: Trace, events: Iterable[Parsed]) -> Iterator[Letters]:
    """Yield which dead letters to ask for where those of *events* of a request are wanted."""
    for event in events:
        index = event.event.rpartition("-")[2]
        yield Letters(request=trace.request, event=int(index))


def meant(identity: str) -> Iterator[Letters]:
    """Yield which dead letters *identity* may mean: a request's id, or an event's."""
    yield Letters(request=identity)
    request, _, index = identity.rpartition("-")
    if request and index.isdecimal() and len(index) < LONGEST:
        yield Letters(request=request, event=int(index))


def ends(trace: Trace, event: Parsed, letters: Collection[Letter]) -> Iterator[End]:
    """Yield how each delivery of *event* stands.

    First those that were tried, then those that the spool gave up untried, then those that wait.

    Args:
        trace: of its request.
        event: one of it.
        letters: the dead letters that are kept of the request.
    """
    tries: dict[tuple[str, int], list[Tried]] = {}
    for tried in trace.tries:
        if tried.event == event.event:
            tries.setdefault((tried.destination, tried.way), []).append(tried)
    mine = {(one.destination, one.way): one for one in letters if one.event == event.event}
    for key in dict.fromkeys((*tries, *mine)):
        made, letter = tries.get(key, ()), mine.get(key)
        route = made[-1].route if made else letter.route if letter else ""
        yield End(key[0], route, made, letter)
    yield from (End(to, "", (), None) for to, way in _given(event) if (to, way) not in tries | mine)


def _given(event: Parsed) -> Iterator[tuple[str, int]]:
    """Yield who gets *event*, with how many deliveries of it the destination gets before."""
    ways = Counter[str]()
    for decided in event.decisions:
        for to in decided.gives:
            yield to, ways[to]
            ways[to] += 1
