"""The last hour, as it was sampled."""

import msgspec

from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.sampling import EVERY, RouteSample, Sample, SourceSample


class History(msgspec.Struct, frozen=True):
    """The last hour, as far as the gateway ran, the oldest first."""

    every: float
    """Seconds between two samples."""
    sources: dict[str, list[SourceSample]]
    routes: dict[str, list[RouteSample]]
    destinations: dict[str, list[Sample]]


@endpoint("GET", "/series")
async def show_series(desk: Desk) -> History:
    """Show the last hour: what sources took, what routes and destinations did."""
    gateway, series = desk.gateway, desk.series
    return History(
        every=EVERY,
        sources={name: list(series.sources[name]) for name in gateway.config.sources},
        routes={one.label: list(series.routes[one.label]) for one in gateway.config.routes},
        destinations={name: list(series.destinations[name]) for name in gateway.workers},
    )


ENDPOINTS: tuple[Endpoint, ...] = (show_series,)
