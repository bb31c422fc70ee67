"""What can never be reached: warnings, since it works and is probably not meant."""

from collections.abc import Collection, Iterator, Sequence

from gateway.config.problems import Report
from gateway.config.routing import ConsentConfig, RouteConfig
from gateway.config.steps import Consent

Numbered = tuple[int, RouteConfig]


def check_reach(
    routes: Sequence[RouteConfig],
    sources: Collection[str],
    destinations: Collection[str],
    report: Report,
) -> None:
    """Warn of dead routes, and of sources and destinations that no living route touches."""
    living: list[Numbered] = []
    numbered = list(enumerate(routes, start=1))
    for number, route in numbered:
        why = next(_deaths(route, living, numbered), "")
        if why:
            report.warning(f"routes.{number}", "", f"is never taken: {why}")
        else:
            living.append((number, route))
    every = any(route.sources is None for _, route in living)
    left = {name for _, route in living for name in route.sources or ()}
    reached = {name for _, route in living for name in route.to}
    for name in sources:
        if not every and name not in left:
            what = "no route leaves it, so that its events are accepted and go nowhere; add one"
            report.warning(f"sources.{name}", "", what)
    for name in destinations:
        if name not in reached:
            what = "no route leads to it, so that it gets no events; add one"
            report.warning(f"destinations.{name}", "", what)


def _deaths(
    route: RouteConfig, earlier: Sequence[Numbered], every: Sequence[Numbered]
) -> Iterator[str]:
    """Yield why *route* gets no event; *earlier* are the living routes before it."""
    if route.otherwise:
        for number, other in every:
            if not other.otherwise and _covers(other, route):
                yield f"it takes what no other route takes, and #{number} takes all of that"
        earlier = [(number, other) for number, other in earlier if other.otherwise]
    else:
        earlier = [(number, other) for number, other in earlier if not other.otherwise]
    covering = [(number, other) for number, other in earlier if _covers(other, route)]
    for number, other in covering:
        if other.stop:
            yield f"#{number} takes all of its events and stops there"
    won = {to for _, other in covering if not other.also for to in other.to}
    if not route.also and not route.stop and set(route.to) <= won:
        numbers = ", ".join(f"#{number}" for number, other in covering if not other.also)
        yield (
            f"{numbers} gives all of its events to the same destinations before; write "
            f"also = true to deliver both"
        )


def _covers(one: RouteConfig, other: RouteConfig) -> bool:
    """Tell whether *one* takes every event that *other* could take."""
    return (
        one.when is None
        and _holds(one.sources, other.sources)
        and _holds(one.types, other.types)
        and (one.names == ("*",) or _holds(one.names, other.names))
    )


def _holds(one: Collection[str] | None, other: Collection[str] | None) -> bool:
    return one is None or (other is not None and set(one) >= set(other))


def check_consent(
    routes: Sequence[RouteConfig], consent: ConsentConfig | None, report: Report
) -> None:
    """Warn of consent that is remembered and never asked for."""
    asked = any(isinstance(step, Consent) for route in routes for step in route.steps)
    if consent is not None and consent.remember is not None and not asked:
        report.warning("consent", "remember", "no route has a consent step that would ask for it")
