"""Where the events of one request go, as the spool keeps it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.spool.values import Deliveries, Routes, numbered


class Lead(NamedTuple):
    """One delivery of an event."""

    destination: str
    route: str
    """The route whose steps change it first; empty where none do."""
    way: int = 0
    """How many deliveries of the event the destination gets before this one."""


class Plan(NamedTuple):
    """What an entry of the spool says of deliveries; see `gateway.spool.Entry`."""

    targets: Mapping[str, Deliveries]
    routes: Mapping[str, Mapping[str, Deliveries]]


def planned(events: Iterable[Iterable[Lead]]) -> Plan:
    """Return the plan for the deliveries of each event of a request, in order."""
    targets: dict[str, list[int]] = {}
    routes: Routes = {}
    for index, leads in enumerate(events):
        for to, route, way in leads:
            number = numbered(index, way)
            targets.setdefault(to, []).append(number)
            if route:
                mine = routes.setdefault(to, {})
                mine[route] = (*mine.get(route, ()), number)
    return Plan({to: tuple(sorted(numbers)) for to, numbers in targets.items()}, routes)
