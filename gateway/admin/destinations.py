"""Destinations: how they are doing; pausing, resuming and draining them."""

import asyncio
import contextlib
import time
from typing import Literal

import msgspec
import structlog

from gateway.admin.context import AdminContext, ApiProblem
from gateway.admin.endpoint import Endpoint, Name, endpoint
from gateway.errors import SpoolError
from gateway.redact import without_password
from gateway.spool import Balance, GivenUp, QueueDepth, Spool
from gateway.suggestions import check_name

UNKNOWN = {404: "There is no such destination."}

_PATIENCE = 1.0
"""Seconds to wait for the balances; a disk that hangs would keep everybody waiting."""

log = structlog.get_logger()


class Accounts(msgspec.Struct, frozen=True):
    """What became of every delivery that was accepted for a destination, restarts included."""

    accepted: int
    delivered: int
    declined: int
    shadowed: int
    dead_letters: int
    """Those that exist."""
    dropped: int
    """Thrown away: dead letters by an operator, or for want of room."""
    pending: int
    """Deliveries that are pending."""
    unaccounted: int
    """Accepted, and none of the others: 0, or something was lost."""


class Destination(msgspec.Struct, frozen=True):
    """A destination, and how it is doing. The counts are since its worker began."""

    name: str
    vendor: str
    url: str
    shadow: bool
    """It only looks on: nothing is sent, and its events are counted apart."""
    state: Literal["delivering", "paused", "half_open", "open"]
    """``open``: its circuit is, and nothing is tried for a while; ``half_open``: one attempt
    probes whether it is well again."""
    reason: str
    """Why it is in trouble; empty where it is not."""
    refuses_reason: str
    """Why no new events are taken for it; empty where they are."""
    paused_until: float | None
    """Unix seconds until which the vendor asked for no attempts; null where it did not."""
    delivered: int
    declined: int
    dead_lettered: int
    """Deliveries that became dead letters since the start, whether the worker or the spool gave
    them up."""
    dropped: int
    """Deliveries that were given up for want of room, without a dead letter, since the start."""
    retried: int
    shadowed: int
    """Events that it looked at, as a shadow."""
    in_flight: int
    """Jobs of its worker in memory."""
    backlog: int
    """Requests in the log that are pending for it, those in flight included."""
    retrying: int
    """Deliveries that wait for their next attempt."""
    parked: int
    """Deliveries that wait behind an earlier one of the same user."""
    dead_letters: int
    oldest: float | None
    """Unix seconds at which the oldest pending event came; null where nothing is pending."""
    concurrency: int
    rate: float | None
    """The most attempts a second; null where there is no limit."""
    max_backlog: int | None
    balance: Accounts | None
    """accepted = delivered + declined + shadowed + dead_letters + dropped + pending + unaccounted;
    null while the disk fails."""


class Destinations(msgspec.Struct, frozen=True):
    """All destinations, in the order of the configuration."""

    destinations: list[Destination]


async def balances(spool: Spool) -> dict[str, Balance]:
    """Return the balances; none while the disk does not serve, for which nobody is to wait."""
    with contextlib.suppress(SpoolError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            return await spool.balances()
    return {}


def _accounts(balance: Balance | None) -> Accounts | None:
    if balance is None:
        return None
    return Accounts(**msgspec.structs.asdict(balance), unaccounted=balance.unaccounted)


def described(
    desk: AdminContext, name: str, depth: QueueDepth, balance: Balance | None
) -> Destination:
    """Return how a destination is doing."""
    worker = desk.worker(name)
    config = desk.gateway.config.destinations[name]
    state = worker.status()
    given_up = desk.gateway.spool.given_up().get(name, GivenUp())
    circuit: Literal["delivering", "half_open", "open"] = (
        "delivering" if state.circuit == "closed" else state.circuit
    )
    return Destination(
        name=name,
        vendor=config.vendor,
        url=without_password(config.settings.url),
        shadow=bool(config.shadow),
        state="paused" if state.paused else circuit,
        reason=state.reason,
        refuses_reason=desk.gateway.refusing().get(name, ""),
        paused_until=time.time() + state.paused_for if state.paused_for else None,
        delivered=state.delivered,
        declined=state.declined,
        dead_lettered=state.dead + given_up.dead,
        dropped=given_up.dropped,
        retried=state.retried,
        shadowed=state.shadowed,
        in_flight=state.in_flight,
        backlog=depth.backlog,
        retrying=depth.retrying,
        parked=depth.parked,
        dead_letters=depth.dead_letters,
        oldest=depth.oldest,
        concurrency=config.concurrency,
        rate=config.rate,
        max_backlog=config.max_backlog,
        balance=_accounts(balance),
    )


async def listed(desk: AdminContext) -> list[Destination]:
    """Return all destinations that have a worker now."""
    depths = await desk.gateway.spool.depths()
    held = await balances(desk.gateway.spool)
    names = [name for name in desk.gateway.config.destinations if name in desk.gateway.workers]
    return [described(desk, n, depths[n], held.get(n)) for n in names if n in depths]


@endpoint("GET", "/destinations")
async def list_destinations(desk: AdminContext) -> Destinations:
    """List the destinations and how they are doing."""
    return Destinations(await listed(desk))


@endpoint("GET", "/destinations/{name}", refuses=UNKNOWN)
async def show_destination(desk: AdminContext, name: Name) -> Destination:
    """Show one destination."""
    return await _shown(desk, name)


async def _shown(desk: AdminContext, name: str) -> Destination:
    depths = await desk.gateway.spool.depths()
    held = await balances(desk.gateway.spool)
    desk.worker(name)  # a reload may have removed it meanwhile
    check_name("destination", name, depths)
    return described(desk, name, depths[name], held.get(name))


@endpoint("POST", "/destinations/{name}/pause", refuses=UNKNOWN)
async def pause_destination(desk: AdminContext, name: Name) -> Destination:
    """Pause a destination.

    What is on its way arrives; everything else waits in the spool until it is resumed, over
    reloads and restarts. The bounds of the spool hold meanwhile.
    """
    desk.worker(name)
    await desk.gateway.spool.pause(name, paused=True)
    desk.worker(name).pause()
    log.info("destination_paused", destination=name)
    return await _shown(desk, name)


@endpoint("POST", "/destinations/{name}/resume", refuses=UNKNOWN)
async def resume_destination(desk: AdminContext, name: Name) -> Destination:
    """Resume a paused destination."""
    desk.worker(name)
    await desk.gateway.spool.pause(name, paused=False)
    desk.worker(name).pause(paused=False)
    log.info("destination_resumed", destination=name)
    return await _shown(desk, name)


@endpoint("POST", "/destinations/{name}/drain", refuses=UNKNOWN | {409: "It is paused."})
async def drain_destination(desk: AdminContext, name: Name) -> Destination:
    """Try everything that is pending for a destination now.

    Retries do not wait for their time, nor attempts for the circuit or for what the vendor asked
    for; the rate limit stays. New events are taken as ever.
    """
    worker = desk.worker(name)
    if worker.paused:
        raise ApiProblem(409, f"{name} is paused; resume it, then drain it")
    await worker.drain()
    log.info("destination_drained", destination=name)
    return await _shown(desk, name)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_destinations,
    show_destination,
    pause_destination,
    resume_destination,
    drain_destination,
)
