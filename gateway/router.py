"""Which destinations an event goes to, and why."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from gateway.config import RouteConfig
from gateway.event import Event

REMEMBERED = 4096
"""How many combinations of source, type and name keep their answer; names are the senders' own,
so the number of combinations is not ours to bound."""


class Decision(NamedTuple):
    """What one route says of one event."""

    route: str
    destinations: tuple[str, ...]
    """Where the route leads, whether or not it is taken."""
    taken: bool
    reason: str


class Router:
    """The routes of a configuration."""

    def __init__(self, routes: Sequence[RouteConfig]) -> None:
        self._routes = tuple(routes)
        self._known: dict[tuple[str, str, str | None], tuple[str, ...]] = {}

    def route(self, source: str, event: Event) -> tuple[str, ...]:
        """Return the destinations of *event*, each once, in the order of the routes."""
        key = (source, event.type, event.name)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            taken = [d for d in self.explain(source, event) if d.taken]
            found = tuple(dict.fromkeys(to for d in taken for to in d.destinations))
            self._known[key] = found
        return found

    def explain(self, source: str, event: Event) -> list[Decision]:
        """Return what each route says of *event*, in order, each with its reason."""
        return [
            Decision(route.label, route.to, *_judge(route, source, event)) for route in self._routes
        ]


def _judge(route: RouteConfig, source: str, event: Event) -> tuple[bool, str]:
    if route.sources is not None and source not in route.sources:
        return False, f"not from {', '.join(route.sources)}"
    if route.types is not None and event.type not in route.types:
        return False, f"{event.type} is none of the types {', '.join(route.types)}"
    if route.names is not None:
        name = event.name or ""
        glob = next((glob for glob in route.names if fnmatchcase(name, glob)), None)
        if glob is None:
            return False, f"{name!r} matches none of the names {', '.join(route.names)}"
        return True, f"{name!r} matches {glob!r}"
    return True, "every event of the source" if route.types is None else f"it is a {event.type}"
