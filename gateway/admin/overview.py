"""Endpoints for the overview and the history of the last hour."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from gateway.admin.context import AdminContext
from gateway.admin.destinations import Destination, listed
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.sampler import EVERY, DestinationSample, RouteSample, SourceSample, tallied

OLD = 300.0
"""Seconds after which an old pending event is reported, even without other problems."""
NEARLY_FULL = 0.8
"""Share of ``max_bytes`` above which a warning is shown."""
NAMED = 3
"""Warnings of the configuration that are shown in full."""


class SourceState(msgspec.Struct, frozen=True):
    """A source and its events."""

    name: str
    vendor: str
    mount: str
    accepted: int
    """Events since the start."""
    accepted_rate: float
    """Events per second, now."""
    unrouted: int
    """Events that no route took, since the start."""
    unrouted_rate: float
    """Events per second that no route takes, now."""


class RouteState(msgspec.Struct, frozen=True):
    """A route, with its sources, destinations and events."""

    name: str
    sources: list[str]
    destinations: list[str]
    conditions: list[str]
    """What an event must match; empty if the route takes all events."""
    steps: list[str]
    fallback: bool
    """The route takes only events that no other route takes."""
    routed: int
    """Events that it sent to a destination, since the start."""
    routed_rate: float
    """Events per second that it sends to a destination, now."""
    filtered: int
    """Events that its steps filtered, since the start."""
    filtered_rate: float
    """Events per second that its steps filter, now."""


class DestinationActivity(msgspec.Struct, frozen=True):
    """A destination and its deliveries."""

    destination: Destination
    delivered: int
    """Events delivered since the start."""
    delivered_rate: float
    """Events per second, now."""
    failed_rate: float
    """Failed attempts per second, now."""


class Attention(msgspec.Struct, frozen=True):
    """A problem that an operator should look at."""

    level: Literal["error", "warning"]
    text: str
    page: str
    """The page of the console that shows it, such as ``destinations/crm``."""


class Overview(msgspec.Struct, frozen=True):
    """The state of the whole gateway."""

    now: float
    """Unix seconds of the gateway's clock."""
    attention: list[Attention]
    """Problems, the worst first."""
    sources: list[SourceState]
    routes: list[RouteState]
    destinations: list[DestinationActivity]


@endpoint("GET", "/overview")
async def show_overview(context: AdminContext) -> Overview:
    """Show sources, routes and destinations with their current rates, and problems."""
    gateway, series = context.gateway, context.series
    config = gateway.config
    now = gateway.spool.clock.of_day()
    tallies = tallied(gateway.observer.counts)
    destinations = [
        DestinationActivity(one, tallies.delivered.get(one.name, 0), *series.delivered(one.name))
        for one in await listed(context)
    ]
    used = await gateway.spool.size() / config.spool.max_bytes
    found = sorted(
        [
            *_gateway(context, used),
            *(one for to in destinations for one in _destination(to.destination, now)),
        ],
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
    return Overview(now, found, sources, routes_of(context), destinations)


def routes_of(context: AdminContext) -> list[RouteState]:
    """Return the routes of the configuration in effect."""
    config, counts, series = context.gateway.config, context.gateway.observer.counts, context.series
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


def _gateway(context: AdminContext, used: float) -> Iterator[Attention]:
    if reason := context.gateway.not_ready_reason():
        yield Attention("error", f"The gateway accepts no events: {reason}.", "config")
    for name, why in context.gateway.refusing().items():
        text = f"{why[0].upper()}{why[1:]}."
        yield Attention("error", text, f"destinations/{name}")
    if used >= NEARLY_FULL:
        yield Attention("error", f"The spool is {used:.0%} full.", "destinations")
    for route, failed in context.gateway.router.failures.counts.items():
        events = "event" if failed == 1 else "events"
        text = f"The condition of {route} failed for {failed:,} {events}; the log has the reasons."
        yield Attention("warning", text, "config")
    warnings = context.gateway.config.warnings
    for warning in warnings[:NAMED]:
        yield Attention("warning", f"{warning[0].upper()}{warning[1:]}.", "config")
    if len(warnings) > NAMED:
        text = f"{len(warnings) - NAMED} more configuration warnings."
        yield Attention("warning", text, "config")


def _destination(to: Destination, now: float) -> Iterator[Attention]:
    page = f"destinations/{to.name}"
    pending = to.pending
    if to.state in {"open", "half_open"}:
        text = f"{to.name} is failing, {pending:,} pending: {to.reason}."
        yield Attention("error", text, page)
    elif to.state == "paused":
        yield Attention("warning", f"{to.name} is paused; {pending:,} pending.", page)
    elif to.oldest is not None and now - to.oldest > OLD:
        minutes = (now - to.oldest) / 60
        text = f"{to.name} is {minutes:,.0f} minutes behind; {pending:,} pending."
        yield Attention("warning", text, page)
    if to.dead_letters:
        letters = "dead letter" if to.dead_letters == 1 else "dead letters"
        text = f"{to.name} has {to.dead_letters:,} {letters}."
        yield Attention("warning", text, f"dead-letters?destination={to.name}")


ENDPOINTS: tuple[Endpoint, ...] = (show_overview,)


class History(msgspec.Struct, frozen=True):
    """The last hour, or since the start; the oldest sample first."""

    interval: float
    """Seconds between two samples."""
    sources: dict[str, list[SourceSample]]
    routes: dict[str, list[RouteSample]]
    destinations: dict[str, list[DestinationSample]]


@endpoint("GET", "/history")
async def show_history(context: AdminContext) -> History:
    """Show the last hour of all sources, routes and destinations."""
    gateway, series = context.gateway, context.series
    return History(
        interval=EVERY,
        sources={name: list(series.sources[name]) for name in gateway.config.sources},
        routes={one.name: list(series.routes[one.name]) for one in gateway.config.routes},
        destinations={name: list(series.destinations[name]) for name in gateway.teams},
    )


HISTORY_ENDPOINTS: tuple[Endpoint, ...] = (show_history,)
