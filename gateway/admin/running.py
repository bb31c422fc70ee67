"""The gateway itself: whether it is well, its spool, its configuration, its document."""

import asyncio
import time
from importlib.metadata import version
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from gateway.admin.configured import tables
from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.config import load
from gateway.errors import ConfigError
from gateway.spool import Depth

log = structlog.get_logger()


class Status(msgspec.Struct, frozen=True):
    """How the gateway is."""

    version: str
    ready: bool
    trouble: str
    """Why it is not ready; empty where it is."""
    started: float
    """Unix seconds."""
    now: float
    """Unix seconds, by the gateway's clock."""
    config: str
    """The configuration file."""
    sources: int
    destinations: int


class Orphan(msgspec.Struct, frozen=True):
    """A destination that is not configured any more, and what is still owed to it."""

    name: str
    depth: Depth


class SpoolState(msgspec.Struct, frozen=True):
    """The spool, and how full it is."""

    path: str
    bytes: int
    """In use, dead letters included."""
    max_bytes: int
    position: int
    """Requests written since the spool was made."""
    trouble: str
    """Why it takes nothing; empty where it does."""
    depths: dict[str, Depth]
    """By destination."""
    orphans: list[Orphan]


class Running(msgspec.Struct, frozen=True):
    """The configuration that is in effect, every default filled in, without credentials."""

    path: str
    files: list[str]
    tables: Annotated[dict[str, Any], Meta(description="As the file has them, as JSON.")]
    warnings: list[str]
    """What is suspicious and allowed, one sentence each."""


class Checked(msgspec.Struct, frozen=True):
    """What `gateway check` says of the file as it is now."""

    problems: list[str]
    """Why it cannot be used; nothing where it can."""
    warnings: list[str]
    differs: bool
    """It says something else than what is in effect."""


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload changed."""

    added: list[str]
    """Destinations."""
    changed: list[str]
    removed: list[str]
    unheeded: list[str]
    """Keys that take effect at the next start only."""


@endpoint("GET", "/status")
async def show_status(desk: Desk) -> Status:
    """Tell how the gateway is."""
    gateway = desk.gateway
    trouble = gateway.trouble()
    return Status(
        version=version("cdp-gateway"),
        ready=trouble is None,
        trouble=trouble or "",
        started=desk.started,
        now=time.time(),
        config=str(gateway.config.path),
        sources=len(gateway.config.sources),
        destinations=len(gateway.config.destinations),
    )


@endpoint("GET", "/spool")
async def show_spool(desk: Desk) -> SpoolState:
    """Show the spool: how full it is, and what is pending for whom."""
    spool, config = desk.gateway.spool, desk.gateway.config.spool
    orphans = await spool.orphans()
    depths = await spool.depths()
    return SpoolState(
        path=str(config.path),
        bytes=await spool.size(),
        max_bytes=config.max_bytes,
        position=spool.position(),
        trouble=spool.health() or "",
        depths={name: depth for name, depth in depths.items() if name not in orphans},
        orphans=[Orphan(name, depth) for name, depth in orphans.items()],
    )


@endpoint("GET", "/config")
async def show_config(desk: Desk) -> Running:
    """Show the configuration that is in effect."""
    config = desk.gateway.config
    return Running(
        path=str(config.path),
        files=[str(path) for path in config.files.read],
        tables=tables(config),
        warnings=list(config.warnings),
    )


@endpoint("GET", "/config/check")
async def check_config(desk: Desk) -> Checked:
    """Check the configuration file as it is now, without putting it into effect."""
    config, registry = desk.gateway.config, desk.gateway.registry
    try:
        found = await asyncio.to_thread(load, config.path, registry, listen=config.server.listen)
    except ConfigError as error:
        return Checked(error.problems, [], differs=True)
    return Checked([], list(found.warnings), differs=found != config)


@endpoint("POST", "/config/reload", refuses={422: "The file has problems; nothing has changed."})
async def reload_config(desk: Desk) -> Reloaded:
    """Put the configuration file into effect as it is now, as SIGHUP does."""
    log.info("reload_asked")
    changes = await desk.reloading.now()
    return Reloaded(changes.added, changes.changed, changes.removed, changes.unheeded)


ENDPOINTS: tuple[Endpoint, ...] = (
    show_status,
    show_spool,
    show_config,
    check_config,
    reload_config,
)
