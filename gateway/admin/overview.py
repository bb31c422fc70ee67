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
    rate: float
    """Events a second, now."""
    unrouted: int
    """Events since the gateway began that no route took."""
    nowhere: float
    """Events a second that no route takes, now."""


class RouteState(msgspec.Struct, frozen=True):
    """A route: from where, to where."""

    name: str
    sources: list[str]
    destinations: list[str]
    conditions: list[str]
    """What must hold for it to take an event; nothing where it takes all."""
    steps: list[str]
    otherwise: bool
    events: int
    """Events that it gave to a destination since the gateway began."""
    rate: float
    """Events a second that it gives to a destination, now."""
    withheld: int
    """Events that its steps kept back since the gateway began."""
    kept_back: float
    """Events a second that its steps keep back, now."""


class DestinationActivity(msgspec.Struct, frozen=True):
    """A destination, and what goes out."""

    destination: Destination
    arrived: int
    """Events that arrived since the gateway began."""
    delivered: float
    """Events a second, now."""
    failed: float
    """Attempts a second that did not arrive, now."""


class Attention(msgspec.Struct, frozen=True):
    """Something that a person should look at."""

    level: Literal["trouble", "notice"]
    text: str
    about: str
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
        DestinationActivity(one, tallies.arrived.get(one.name, 0), *series.delivered(one.name))
        for one in await listed(desk)
    ]
    used = await gateway.spool.size() / config.spool.max_bytes
    found = sorted(
        [*_gateway(desk, used), *(one for exit_ in exits for one in _exit(exit_.destination, now))],
        key=lambda one: one.level != "trouble",
    )
    sources = [
        SourceState(
            name=name,
            vendor=source.vendor,
            mount=source.mount,
            accepted=tallies.taken.get(name, 0),
            rate=series.accepted(name)[0],
            unrouted=tallies.nowhere.get(name, 0),
            nowhere=series.accepted(name)[1],
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
            otherwise=route.fallback,
            events=counts.routed[route.name, "given"],
            rate=series.routed(route.name)[0],
            withheld=counts.routed[route.name, "kept_back"],
            kept_back=series.routed(route.name)[1],
        )
        for route in config.routes
    ]


def _gateway(desk: AdminContext, used: float) -> Iterator[Attention]:
    if trouble := desk.gateway.not_ready_reason():
        yield Attention("trouble", f"Nothing is accepted: {trouble}.", "config")
    for name, why in desk.gateway.refusing().items():
        text = f"{why[0].upper()}{why[1:]}."
        yield Attention("trouble", text, f"destinations/{name}")
    if used >= NEARLY_FULL:
        yield Attention("trouble", f"The spool is {used:.0%} full.", "destinations")
    for route, failed in desk.gateway.router.failures.counts.items():
        events = "event" if failed == 1 else "events"
        text = f"{route} could not be judged for {failed:,} {events}; the log says why."
        yield Attention("notice", text, "config")
    warnings = desk.gateway.config.warnings
    for warning in warnings[:NAMED]:
        yield Attention("notice", f"{warning[0].upper()}{warning[1:]}.", "config")
    if len(warnings) > NAMED:
        text = f"{len(warnings) - NAMED} more warnings of the configuration."
        yield Attention("notice", text, "config")


def _exit(exit_: Destination, now: float) -> Iterator[Attention]:
    about = f"destinations/{exit_.name}"
    owed = exit_.backlog + exit_.retrying + exit_.parked
    if exit_.state in {"open", "probing"}:
        text = f"{exit_.name} is in trouble, {owed:,} wait: {exit_.reason}."
        yield Attention("trouble", text, about)
    elif exit_.state == "paused":
        yield Attention("notice", f"{exit_.name} is paused; {owed:,} wait.", about)
    elif exit_.oldest is not None and now - exit_.oldest > OLD:
        minutes = (now - exit_.oldest) / 60
        text = f"{exit_.name} is {minutes:,.0f} minutes behind; {owed:,} wait."
        yield Attention("notice", text, about)
    if exit_.dead_letters:
        letters = "dead letter" if exit_.dead_letters == 1 else "dead letters"
        text = f"{exit_.name} has {exit_.dead_letters:,} {letters}."
        yield Attention("notice", text, f"dead?destination={exit_.name}")


ENDPOINTS: tuple[Endpoint, ...] = (show_overview,)


class History(msgspec.Struct, frozen=True):
    """The last hour, as far as the gateway ran, the oldest first."""

    every: float
    """Seconds between two samples."""
    sources: dict[str, list[SourceSample]]
    routes: dict[str, list[RouteSample]]
    destinations: dict[str, list[DestinationSample]]


@endpoint("GET", "/series")
async def show_series(desk: AdminContext) -> History:
    """Show the last hour: what sources took, what routes and destinations did."""
    gateway, series = desk.gateway, desk.series
    return History(
        every=EVERY,
        sources={name: list(series.sources[name]) for name in gateway.config.sources},
        routes={one.name: list(series.routes[one.name]) for one in gateway.config.routes},
        destinations={name: list(series.destinations[name]) for name in gateway.workers},
    )


HISTORY_ENDPOINTS: tuple[Endpoint, ...] = (show_series,)
