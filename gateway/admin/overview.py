"""The overview and the history of the last hour."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from gateway.admin.context import AdminContext
from gateway.admin.destinations import Destination, listed
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.sampler import EVERY, DestinationSample, RouteSample, SourceSample, tallied

OLD = 300.0
"""Seconds after which a pending event is worth a look, though nothing else is wrong."""
NEARLY_FULL = 0.8
"""Share of ``max_bytes`` that is worth a look."""
NAMED = 3
"""Warnings of the configuration that are told by themselves."""


class SourceState(msgspec.Struct, frozen=True):
    """A source, and what comes in."""

    name: str
    vendor: str
    mount: str
    accepted: int
    """Events since the gateway began."""
    accepted_rate: float
    """Events a second, now."""
    unrouted: int
    """Events since the gateway began that no route took."""
    unrouted_rate: float
    """Events a second that no route takes, now."""


class RouteState(msgspec.Struct, frozen=True):
    """A route: from where, to where."""

    name: str
    sources: list[str]
    destinations: list[str]
    conditions: list[str]
    """What must hold for it to take an event; nothing where it takes all."""
    steps: list[str]
    fallback: bool
    """It takes what no other route takes."""
    routed: int
    """Events that it let through to a destination since the gateway began."""
    routed_rate: float
    """Events a second that it lets through to a destination, now."""
    filtered: int
    """Events that its steps stopped since the gateway began."""
    filtered_rate: float
    """Events a second that its steps stop, now."""


class DestinationActivity(msgspec.Struct, frozen=True):
    """A destination, and what goes out."""

    destination: Destination
    delivered: int
    """Events that arrived since the gateway began."""
    delivered_rate: float
    """Events a second, now."""
    failed_rate: float
    """Attempts a second that did not arrive, now."""


class Attention(msgspec.Struct, frozen=True):
    """Something that a person should look at."""

    level: Literal["error", "warning"]
    text: str
    page: str
    """The page of the console where it is to be seen, such as ``destinations/crm``."""


class Overview(msgspec.Struct, frozen=True):
    """The whole gateway at a glance."""

    now: float
    """Unix seconds, by the gateway's clock."""
    attention: list[Attention]
    """What needs looking at, the worst first."""
    sources: list[SourceState]
    routes: list[RouteState]
    destinations: list[DestinationActivity]


@endpoint("GET", "/overview")
async def show_overview(desk: AdminContext) -> Overview:
    """Show sources, routes and destinations with their present rates, and what is wrong."""
    gateway, series = desk.gateway, desk.series
    config = gateway.config
    now = gateway.spool.clock.of_day()
    tallies = tallied(gateway.observer.counts)
    exits = [
        DestinationActivity(one, tallies.delivered.get(one.name, 0), *series.delivered(one.name))
        for one in await listed(desk)
    ]
    used = await gateway.spool.size() / config.spool.max_bytes
    found = sorted(
        [*_gateway(desk, used), *(one for exit_ in exits for one in _exit(exit_.destination, now))],
        key=lambda one: one.level != "error",
    )
    sources = [
        SourceState(
            name=name,
            vendor=source.vendor,
            mount=source.mount,
            accepted=tallies.taken.get(name, 0),
            accepted_rate=series.accepted(name)[0],
            unrouted=tallies.unrouted.get(name, 0),
            unrouted_rate=series.accepted(name)[1],
        )
        for name, source in config.sources.items()
    ]
    return Overview(now, found, sources, routes_of(desk), exits)


def routes_of(desk: AdminContext) -> list[RouteState]:
    """Return the routes, as the configuration in effect has them."""
    config, counts, series = desk.gateway.config, desk.gateway.observer.counts, desk.series
    return [
        RouteState(
            name=route.name,
            sources=list(config.sources if route.sources is None else route.sources),
            destinations=list(route.to),
            conditions=[
                *([" or ".join(route.types)] if route.types else []),
                *([" or ".join(route.names)] if route.names else []),
                *([" ".join(route.when.split())] if route.when else []),
            ],
            steps=[step.word for step in route.steps],
            fallback=route.fallback,
            routed=counts.routed[route.name, "routed"],
            routed_rate=series.routed(route.name)[0],
            filtered=counts.routed[route.name, "filtered"],
            filtered_rate=series.routed(route.name)[1],
        )
        for route in config.routes
    ]


def _gateway(desk: AdminContext, used: float) -> Iterator[Attention]:
    if reason := desk.gateway.not_ready_reason():
        yield Attention("error", f"The gateway accepts no events: {reason}.", "config")
    for name, why in desk.gateway.refusing().items():
        text = f"{why[0].upper()}{why[1:]}."
        yield Attention("error", text, f"destinations/{name}")
    if used >= NEARLY_FULL:
        yield Attention("error", f"The spool is {used:.0%} full.", "destinations")
    for route, failed in desk.gateway.router.failures.counts.items():
        events = "event" if failed == 1 else "events"
        text = f"The condition of {route} failed for {failed:,} {events}; the log has the reasons."
        yield Attention("warning", text, "config")
    warnings = desk.gateway.config.warnings
    for warning in warnings[:NAMED]:
        yield Attention("warning", f"{warning[0].upper()}{warning[1:]}.", "config")
    if len(warnings) > NAMED:
        text = f"{len(warnings) - NAMED} more configuration warnings."
        yield Attention("warning", text, "config")


def _exit(exit_: Destination, now: float) -> Iterator[Attention]:
    about = f"destinations/{exit_.name}"
    owed = exit_.backlog + exit_.retrying + exit_.parked
    if exit_.state in {"open", "half_open"}:
        text = f"{exit_.name} is failing, {owed:,} pending: {exit_.reason}."
        yield Attention("error", text, about)
    elif exit_.state == "paused":
        yield Attention("warning", f"{exit_.name} is paused; {owed:,} pending.", about)
    elif exit_.oldest is not None and now - exit_.oldest > OLD:
        minutes = (now - exit_.oldest) / 60
        text = f"{exit_.name} is {minutes:,.0f} minutes behind; {owed:,} pending."
        yield Attention("warning", text, about)
    if exit_.dead_letters:
        letters = "dead letter" if exit_.dead_letters == 1 else "dead letters"
        text = f"{exit_.name} has {exit_.dead_letters:,} {letters}."
        yield Attention("warning", text, f"dead-letters?destination={exit_.name}")


ENDPOINTS: tuple[Endpoint, ...] = (show_overview,)


class History(msgspec.Struct, frozen=True):
    """The last hour, as far as the gateway ran, the oldest first."""

    interval: float
    """Seconds between two samples."""
    sources: dict[str, list[SourceSample]]
    routes: dict[str, list[RouteSample]]
    destinations: dict[str, list[DestinationSample]]


@endpoint("GET", "/history")
async def show_history(desk: AdminContext) -> History:
    """Show the last hour: what sources took, what routes and destinations did."""
    gateway, series = desk.gateway, desk.series
    return History(
        interval=EVERY,
        sources={name: list(series.sources[name]) for name in gateway.config.sources},
        routes={one.name: list(series.routes[one.name]) for one in gateway.config.routes},
        destinations={name: list(series.destinations[name]) for name in gateway.workers},
    )


HISTORY_ENDPOINTS: tuple[Endpoint, ...] = (show_history,)
