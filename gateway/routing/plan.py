"""Where the events of one request go, as the spool keeps it."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from gateway.spool.values import Deliveries, Routes, numbered

Turn = tuple[str, Literal["given", "kept_back"]]
"""A route's name, and what it did with an event: gave it to a destination, or kept it back."""


class Lead(NamedTuple):
    """One delivery of an event."""

    destination: str
    route: str
    """The route whose steps change it first; empty where none do."""
    way: int = 0
    """How many deliveries of the event the destination gets before this one."""


class Way(NamedTuple):
    """What the routes do with one event."""

    leads: Sequence[Lead] = ()
    """Its deliveries, in the order of the routes."""
    turns: Sequence[Turn] = ()
    """Which routes gave it to a destination, and which kept it back; none where it goes nowhere."""


class Plan(NamedTuple):
    """What an entry of the spool says of deliveries; see `gateway.spool.Entry`."""

    targets: Mapping[str, Deliveries]
    routes: Mapping[str, Mapping[str, Deliveries]]
    turns: Sequence[Sequence[Turn]] = ()
    """Which routes did what, event by event."""


def planned(ways: Sequence[Way]) -> Plan:
    """Return the plan for the deliveries of each event of a request, in order."""
    targets: dict[str, list[int]] = {}
    routes: dict[str, dict[str, list[int]]] = {}
    for index, one in enumerate(ways):
        for to, route, way in one.leads:
            number = numbered(index, way)
            targets.setdefault(to, []).append(number)
            if route:
                routes.setdefault(to, {}).setdefault(route, []).append(number)
    changed: Routes = {
        to: {route: tuple(numbers) for route, numbers in mine.items()}
        for to, mine in routes.items()
    }
    sorted_ = {to: tuple(sorted(numbers)) for to, numbers in targets.items()}
    return Plan(sorted_, changed, [one.turns for one in ways])
