"""How deliveries stand: what was tried, and what the spool says besides.

The spool gives deliveries up by itself, and an operator replays or drops what was given up. So a
dead letter that is there is a delivery's present state, whatever was tried before.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from gateway.spool import Letters
from gateway.trace.interface import Parsed, Trace, Tried
from gateway.trace.standing import End, Held

MOST = 100
"""Dead letters of one event that are told."""
LONGEST = 10
"""Digits of an event's number, at most."""


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


def ends(trace: Trace, event: Parsed, held: Held | None) -> Iterator[End]:
    """Yield how each delivery of *event* stands.

    First those that were tried, then those that the spool gave up untried or still has, then those
    that are only known from what the routes said.

    Args:
        trace: of its request.
        event: one of it.
        held: what the spool has of the request; None where it could not be asked.
    """
    letters, standings = held or Held((), ())
    tries: dict[tuple[str, int], list[Tried]] = {}
    for tried in trace.tries:
        if tried.event == event.event:
            tries.setdefault((tried.destination, tried.way), []).append(tried)
    mine = {(one.destination, one.way): one for one in letters if one.event == event.event}
    stands = {(one.destination, one.way): one for one in standings if one.event == event.event}
    for key in dict.fromkeys((*tries, *mine, *stands, *_given(event))):
        made, letter, stand = tries.get(key, ()), mine.get(key), stands.get(key)
        told = (*made[-1:], *filter(None, (letter, stand)))
        yield End(key[0], told[0].route if told else "", made, letter, stand)


def _given(event: Parsed) -> Iterator[tuple[str, int]]:
    """Yield who gets *event*, with how many deliveries of it the destination gets before."""
    ways = Counter[str]()
    for decided in event.decisions:
        for to in decided.gives:
            yield to, ways[to]
            ways[to] += 1
