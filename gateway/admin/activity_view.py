"""The endpoint for what happened lately: totals and points for small charts."""

from collections.abc import Iterable, Sequence

import msgspec

from gateway.admin.activity import (
    MINUTE,
    WINDOWS,
    DestinationCount,
    MinuteCounts,
    SourceCount,
    WindowName,
    quantile,
)
from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, endpoint


class ActivityQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of the past is shown."""

    window: WindowName = "1h"


class SourceActivity(msgspec.Struct, frozen=True):
    """A source's window."""

    accepted: int
    """Events."""
    refused: int
    """Requests."""
    accepted_points: list[int]


class DeliveryActivity(msgspec.Struct, frozen=True):
    """A destination's window."""

    delivered: int
    failed: int
    """Failed attempts."""
    dead: int
    """Deliveries that became dead letters."""
    failed_share: float | None
    """Share of failed attempts from 0 to 1; null without attempts."""
    delay_p50: float | None
    """Approximate median in seconds from a request's arrival until its event was delivered; null
    without deliveries."""
    delay_p95: float | None
    """The same for the 95th percentile."""
    delivered_points: list[int]
    failed_points: list[int]


class ActivityWindow(msgspec.Struct, frozen=True):
    """What happened within a window of time."""

    window: WindowName
    start: float
    """Unix seconds at which the first point begins."""
    interval: float
    """Seconds of each point; the last one is not over."""
    accepted: list[int]
    """Events, by point."""
    refused: list[int]
    """Requests, by point."""
    delivered: list[int]
    """Deliveries, by point."""
    dead: list[int]
    """Deliveries that became dead letters, by point."""
    delay_p50: float | None
    """Approximate median delay of all deliveries in seconds; null without any."""
    delay_p95: float | None
    sources: dict[str, SourceActivity]
    destinations: dict[str, DeliveryActivity]


@endpoint("GET", "/activity")
async def show_activity(context: AdminContext, query: ActivityQuery) -> ActivityWindow:
    """Show what happened in the last quarter, hour or day, also before a restart."""
    config = context.gateway.config
    await context.series.record()
    points = context.activity.points(query.window)
    total = MinuteCounts(0)
    for point in points:
        total.add(point)
    delays = _together(total.destinations.values()).delays
    return ActivityWindow(
        window=query.window,
        start=points[0].at * MINUTE,
        interval=WINDOWS[query.window][1] * MINUTE,
        accepted=[sum(one.accepted for one in point.sources.values()) for point in points],
        refused=[sum(one.refused for one in point.sources.values()) for point in points],
        delivered=[sum(one.delivered for one in point.destinations.values()) for point in points],
        dead=[sum(one.dead for one in point.destinations.values()) for point in points],
        delay_p50=quantile(delays, 0.5),
        delay_p95=quantile(delays, 0.95),
        sources={name: _source(name, total, points) for name in config.sources},
        destinations={name: _destination(name, total, points) for name in config.destinations},
    )


def _together(counts: Iterable[DestinationCount]) -> DestinationCount:
    found = DestinationCount()
    for one in counts:
        found.add(one)
    return found


def _source(name: str, total: MinuteCounts, points: Sequence[MinuteCounts]) -> SourceActivity:
    mine, none = total.sources.get(name, SourceCount()), SourceCount()
    return SourceActivity(
        mine.accepted, mine.refused, [point.sources.get(name, none).accepted for point in points]
    )


def _destination(
    name: str, total: MinuteCounts, points: Sequence[MinuteCounts]
) -> DeliveryActivity:
    mine, none = total.destinations.get(name, DestinationCount()), DestinationCount()
    tried = mine.delivered + mine.failed
    return DeliveryActivity(
        delivered=mine.delivered,
        failed=mine.failed,
        dead=mine.dead,
        failed_share=mine.failed / tried if tried else None,
        delay_p50=quantile(mine.delays, 0.5),
        delay_p95=quantile(mine.delays, 0.95),
        delivered_points=[point.destinations.get(name, none).delivered for point in points],
        failed_points=[point.destinations.get(name, none).failed for point in points],
    )


ENDPOINTS: tuple[Endpoint, ...] = (show_activity,)
