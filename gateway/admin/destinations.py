"""Endpoints for destinations: show, pause, resume and drain them."""

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
from gateway.spool import Balance, GivenUp, QueueDepth, SpoolAdmin
from gateway.suggestions import check_name

UNKNOWN = {404: "There is no such destination."}

_PATIENCE = 1.0
"""Seconds to wait for the balances, since a disk may hang."""

log = structlog.get_logger()


class Accounts(msgspec.Struct, frozen=True):
    """All deliveries that were accepted for a destination, by outcome, across restarts."""

    accepted: int
    delivered: int
    declined: int
    shadowed: int
    dead_letters: int
    """Present dead letters."""
    dropped: int
    """Deleted dead letters, and deliveries dropped for lack of space."""
    pending: int
    """Pending deliveries."""
    unaccounted: int
    """Accepted deliveries with no other outcome: other than 0, some were lost."""


class Destination(msgspec.Struct, frozen=True):
    """A destination and its state. The counts start with its team."""

    name: str
    vendor: str
    preset: str
    """Empty if it has none."""
    url: str
    shadow: bool
    """It is a shadow: nothing is delivered, and its events are counted separately."""
    state: Literal["delivering", "paused", "half_open", "open"]
    """``open``: the circuit breaker is open, and nothing is sent for a while; ``half_open``: one
    attempt probes whether the destination works again."""
    reason: str
    """Why it fails; empty if it does not."""
    refuses_reason: str
    """Why no new events are accepted for it; empty if they are."""
    paused_until: float | None
    """Unix seconds until which the vendor asked for no attempts; null if it did not."""
    delivered: int
    declined: int
    dead_lettered: int
    """Deliveries that became dead letters since the start."""
    dropped: int
    """Deliveries that were dropped for lack of space, without a dead letter, since the start."""
    retried: int
    shadowed: int
    """Events that it compared as a shadow."""
    pending: int
    """Deliveries that are neither finished nor given up."""
    in_flight: int
    """Jobs of its worker in memory."""
    backlog: int
    """Requests in the log that its worker has not finished, including those in flight and those
    with a delivery that retries while an older request is unfinished."""
    retrying: int
    """Deliveries that wait for their next attempt."""
    parked: int
    """Deliveries that wait behind an earlier one of the same user."""
    dead_letters: int
    oldest: float | None
    """Unix seconds at which the oldest pending event arrived; null if nothing is pending."""
    concurrency: int
    rate: float | None
    """Maximum attempts per second; null without a limit."""
    max_backlog: int | None
    balance: Accounts | None
    """accepted = delivered + declined + shadowed + dead_letters + dropped + pending + unaccounted;
    null while the disk fails."""


class Destinations(msgspec.Struct, frozen=True):
    """All destinations, in the order of the configuration."""

    destinations: list[Destination]


async def balances(spool: SpoolAdmin) -> dict[str, Balance]:
    """Return the balances; empty while the disk fails or hangs."""
    with contextlib.suppress(SpoolError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            return await spool.balances()
    return {}


def _accounts(balance: Balance | None) -> Accounts | None:
    if balance is None:
        return None
    return Accounts(**msgspec.structs.asdict(balance), unaccounted=balance.unaccounted)


def described(
    context: AdminContext, name: str, depth: QueueDepth, balance: Balance | None
) -> Destination:
    """Return a destination with its state."""
    team = context.team(name)
    config = context.gateway.config.destinations[name]
    state = team.status()
    given_up = context.gateway.spool.given_up().get(name, GivenUp())
    circuit: Literal["delivering", "half_open", "open"] = (
        "delivering" if state.circuit == "closed" else state.circuit
    )
    return Destination(
        name=name,
        vendor=config.vendor,
        preset=config.preset,
        url=without_password(config.settings.url),
        shadow=bool(config.shadow),
        state="paused" if state.paused else circuit,
        reason=state.reason,
        refuses_reason=context.gateway.refusing().get(name, ""),
        paused_until=time.time() + state.paused_for if state.paused_for else None,
        delivered=state.delivered,
        declined=state.declined,
        dead_lettered=state.dead + given_up.dead,
        dropped=given_up.dropped,
        retried=state.retried,
        shadowed=state.shadowed,
        pending=depth.backlog if balance is None else balance.pending,
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


async def listed(context: AdminContext) -> list[Destination]:
    """Return all destinations that have a team."""
    depths = await context.gateway.spool.depths()
    held = await balances(context.gateway.spool)
    names = [name for name in context.gateway.config.destinations if name in context.gateway.teams]
    return [described(context, n, depths[n], held.get(n)) for n in names if n in depths]


@endpoint("GET", "/destinations")
async def list_destinations(context: AdminContext) -> Destinations:
    """List the destinations with their states."""
    return Destinations(await listed(context))


@endpoint("GET", "/destinations/{name}", refuses=UNKNOWN)
async def show_destination(context: AdminContext, name: Name) -> Destination:
    """Show one destination."""
    return await _shown(context, name)


async def _shown(context: AdminContext, name: str) -> Destination:
    depths = await context.gateway.spool.depths()
    held = await balances(context.gateway.spool)
    context.team(name)  # a reload may have removed it meanwhile
    check_name("destination", name, depths)
    return described(context, name, depths[name], held.get(name))


@endpoint("POST", "/destinations/{name}/pause", refuses=UNKNOWN)
async def pause_destination(context: AdminContext, name: Name) -> Destination:
    """Pause a destination.

    Attempts in progress finish; everything else waits in the spool until the destination is
    resumed, across reloads and restarts. The limits of the spool still apply.
    """
    context.team(name)
    await context.gateway.spool.pause(name, paused=True)
    context.team(name).pause()
    context.gateway.monitor.forget()
    log.info("destination_paused", destination=name)
    return await _shown(context, name)


@endpoint("POST", "/destinations/{name}/resume", refuses=UNKNOWN)
async def resume_destination(context: AdminContext, name: Name) -> Destination:
    """Resume a paused destination."""
    context.team(name)
    await context.gateway.spool.pause(name, paused=False)
    context.team(name).pause(paused=False)
    context.gateway.monitor.forget()
    log.info("destination_resumed", destination=name)
    return await _shown(context, name)


@endpoint("POST", "/destinations/{name}/drain", refuses=UNKNOWN | {409: "It is paused."})
async def drain_destination(context: AdminContext, name: Name) -> Destination:
    """Attempt all pending deliveries of a destination now.

    Waits before retries, an open circuit breaker and a pause requested by the vendor are ignored;
    the rate limit still applies. New events are accepted as usual.
    """
    team = context.team(name)
    if team.paused:
        raise ApiProblem(409, f"{name} is paused; resume it, then drain it")
    await team.drain()
    log.info("destination_drained", destination=name)
    return await _shown(context, name)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_destinations,
    show_destination,
    pause_destination,
    resume_destination,
    drain_destination,
)
