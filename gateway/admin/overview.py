"""Endpoints for the overview and the history of the last hour."""

import msgspec

from gateway.admin.context import AdminContext
from gateway.admin.destinations import Destination, listed
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.sampler import EVERY, DestinationSample, RouteSample, SourceSample, tallied
from gateway.observability.health_model import GatewayHealth


class SourceState(msgspec.Struct, frozen=True):
    """A source and its events."""

    name: str
    vendor: str
    preset: str
    """Empty if it has none."""
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


class Overview(msgspec.Struct, frozen=True):
    """The state of the whole gateway."""

    now: float
    """Unix seconds of the gateway's clock."""
    started: float
    """Unix seconds at which the gateway started."""
    stored: int
    """Requests written since the spool was created."""
    health: GatewayHealth
    """The states of all parts, and problems, the worst first."""
    sources: list[SourceState]
    routes: list[RouteState]
    destinations: list[DestinationActivity]


@endpoint("GET", "/overview")
async def show_overview(context: AdminContext) -> Overview:
    """Show sources, routes and destinations with their current rates, and their health."""
    gateway, series = context.gateway, context.series
    config = gateway.config
    now = gateway.spool.clock.of_day()
    tallies = tallied(gateway.observer.counts)
    destinations = [
        DestinationActivity(one, tallies.delivered.get(one.name, 0), *series.delivered(one.name))
        for one in await listed(context)
    ]
    sources = [
        SourceState(
            name=name,
            vendor=source.vendor,
            preset=source.preset,
            mount=source.mount,
            accepted=tallies.taken.get(name, 0),
            accepted_rate=series.accepted(name)[0],
            unrouted=tallies.unrouted.get(name, 0),
            unrouted_rate=series.accepted(name)[1],
        )
        for name, source in config.sources.items()
    ]
    health = await gateway.monitor.read()
    return Overview(
        now=now,
        started=context.started,
        stored=max((shard.position() for shard in gateway.spool.shards), default=0),
        health=health,
        sources=sources,
        routes=routes_of(context),
        destinations=destinations,
    )


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
