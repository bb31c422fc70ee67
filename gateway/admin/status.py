"""Endpoints for the gateway's state and its configuration: show, check and reload it."""

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import structlog
from msgspec import Meta
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.admin.config_text import (
    ConfigChange,
    ConfigFile,
    ConfigFinding,
    changes,
    placed,
    read_files,
    secret_keys,
)
from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.conditions.expression import NamedExpression
from gateway.conditions.template import Template
from gateway.conditions.template_compiler import is_expression
from gateway.config import Config
from gateway.config.changes import diff_configs, restart_required
from gateway.config.loader.load import load
from gateway.config.models import TABLES, keys_of, redactor_of
from gateway.config.types import SHOWN_HEADERS
from gateway.errors import ConfigError
from gateway.plugin.quantities import Quantity, QuantityKind, shown
from gateway.redact import HIDDEN, without_secrets, without_url_secrets
from gateway.spool import QueueDepth


def plain(value: Any, kind: QuantityKind | None = None) -> Any:
    """Return a part of the configuration as in the file, without credentials."""
    if kind is not None and isinstance(value, int | float):
        return shown(value, kind)
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, Template):
        return without_secrets(plain(value.raw))
    if isinstance(value, NamedExpression):
        return value.text
    if isinstance(value, BaseModel):
        return _table(value)
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        return without_url_secrets(value)
    return value if isinstance(value, bool | int | float | None) else str(value)


def tables(config: Config) -> dict[str, Any]:
    """Return the tables of *config* as in the file."""
    found = {name: getattr(config, name) for name in TABLES}
    return {name: plain(table) for name, table in found.items() if table is not None}


def _table(table: BaseModel) -> dict[str, Any]:
    names = type(table).model_fields
    keyed = zip(names, keys_of(type(table)).items(), strict=True)
    held = {key: plain(getattr(table, name), kind_of(field)) for name, (key, field) in keyed}
    if isinstance(held.get("headers"), dict):
        held["headers"] = {name: _header(name, one) for name, one in held["headers"].items()}
    settings = held.pop("settings", {})
    return {**held, **settings}


def _header(name: str, value: Any) -> Any:
    """Return the value of a header as far as it cannot be a credential."""
    harmless = name.lower() in SHOWN_HEADERS | {"content-type"}
    return value if harmless or is_expression(value) else HIDDEN


def kind_of(field: FieldInfo) -> QuantityKind | None:
    """Return the kind of quantity that a field holds; None if it holds none."""
    within = (mark for part in get_args(field.annotation) for mark in get_args(part))
    marks = (mark for mark in (*field.metadata, *within) if isinstance(mark, Quantity))
    return next((mark.kind for mark in marks), None)


log = structlog.get_logger()


class Status(msgspec.Struct, frozen=True):
    """Whether the gateway is ready, and when it started."""

    name: str
    """What operators call the gateway."""
    node: str
    """Its name in its cluster; empty if it is alone."""
    version: str
    ready: bool
    not_ready_reason: str
    """Empty if it is ready."""
    started: float
    """Unix seconds."""
    now: float
    """Unix seconds of the gateway's clock."""
    config: str
    """The configuration file."""
    sources: int
    destinations: int
    restart_required: list[str]
    """Keys that the last reload changed and that take effect at the next start only."""


class Orphan(msgspec.Struct, frozen=True):
    """A destination that is no longer configured, and its pending deliveries."""

    name: str
    depth: QueueDepth


class SpoolState(msgspec.Struct, frozen=True):
    """The spool and its size."""

    path: str
    """Its folder, or its name and NATS servers."""
    bytes: int
    """Used bytes, dead letters included."""
    max_bytes: int
    position: int
    """Requests written since the spool was created."""
    not_ready_reason: str
    """Why it accepts no requests; empty if it does."""
    depths: dict[str, QueueDepth]
    """By destination."""
    orphans: list[Orphan]


class RunningConfig(msgspec.Struct, frozen=True):
    """The configuration in effect, with all defaults and without credentials."""

    path: str
    files: list[str]
    tables: Annotated[dict[str, Any], Meta(description="As the file has them, as JSON.")]
    warnings: list[str]
    """One sentence for each suspicious but allowed setting."""


class ReloadResult(msgspec.Struct, frozen=True):
    """The result of a reload."""

    added: list[str]
    """Named as in the file, such as `destinations.crm`, `routes.orders`, `plans.shop`,
    `admin.operators.alice` or `alerts`; values are not shown."""
    changed: list[str]
    """A list of suppressed people that changed is `suppression`; an order, `routes (their order)`.
    """
    removed: list[str]
    restart_required: list[str]
    """Keys that differ from those in effect and take effect at the next start only."""


class ConfigCheck(msgspec.Struct, frozen=True):
    """The result of `gateway check` for the present file."""

    problems: list[ConfigFinding]
    """Why it is invalid; empty if it is valid."""
    warnings: list[ConfigFinding]
    differs: bool
    """It differs from the configuration in effect."""
    changes: list[ConfigChange]
    """The settings that differ; empty if the file is invalid. Credentials are left out."""
    reload: ReloadResult
    """What a reload would change, credentials too, by name."""
    files: list[ConfigFile]
    """The file, and the files that it includes."""


@endpoint("GET", "/status")
async def show_status(context: AdminContext) -> Status:
    """Show whether the gateway is ready, and when it started."""
    gateway = context.gateway
    reason = gateway.not_ready_reason()
    return Status(
        name=gateway.config.server.name or socket.gethostname(),
        node=gateway.spool.node,
        version=version("cdp-gateway"),
        ready=reason is None,
        not_ready_reason=reason or "",
        started=context.started,
        now=time.time(),
        config=str(gateway.config.path),
        sources=len(gateway.config.sources),
        destinations=len(gateway.config.destinations),
        restart_required=restart_required(gateway.started_with, gateway.config),
    )


@endpoint("GET", "/spool")
async def show_spool(context: AdminContext) -> SpoolState:
    """Show the spool: its size, and the backlog of each destination."""
    spool, config = context.gateway.spool, context.gateway.config.spool
    orphans = await spool.orphans()
    depths = await spool.depths()
    return SpoolState(
        path=config.place,
        bytes=await spool.size(),
        max_bytes=config.max_bytes,
        position=max((shard.position() for shard in spool.shards), default=0),
        not_ready_reason=spool.health() or "",
        depths={name: depth for name, depth in depths.items() if name not in orphans},
        orphans=[Orphan(name, depth) for name, depth in orphans.items()],
    )


@endpoint("GET", "/config")
async def show_config(context: AdminContext) -> RunningConfig:
    """Show the configuration in effect."""
    config = context.gateway.config
    return RunningConfig(
        path=str(config.path),
        files=[str(path) for path in config.files.read],
        tables=tables(config),
        warnings=list(config.warnings),
    )


@endpoint("GET", "/config/check")
async def check_config(context: AdminContext) -> ConfigCheck:
    """Check the present configuration file without applying it."""
    return await asyncio.to_thread(_checked, context)


def _checked(context: AdminContext) -> ConfigCheck:
    config, registry = context.gateway.config, context.gateway.registry
    keys, redactor = secret_keys(registry), context.gateway.observer.redactor
    paths: Sequence[Path] = list(dict.fromkeys([config.path, *config.files.read]))
    try:
        found = load(config.path, registry, listen=config.server.listen)
    except ConfigError as error:
        problems = [placed(text, paths) for text in error.problems]
        return ConfigCheck(
            problems,
            [],
            differs=True,
            changes=[],
            reload=ReloadResult([], [], [], []),
            files=read_files(paths, redactor, keys),
        )
    paths = found.files.read
    running = {name: team.configured for name, team in tuple(context.gateway.teams.items())}
    started = context.gateway.started_with
    result = ReloadResult(*diff_configs(config, found, started, running))
    return ConfigCheck(
        problems=[],
        warnings=[placed(text, paths) for text in found.warnings],
        differs=result != ReloadResult([], [], [], []),
        changes=list(changes(tables(config), tables(found))),
        reload=result,
        files=read_files(paths, redactor.combined_with(redactor_of(found)), keys),
    )


def _changes(_: Mapping[str, Any], answer: ReloadResult) -> str:
    named = msgspec.to_builtins(answer)
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in named.items() if names)


@endpoint(
    "POST",
    "/config/reload",
    refuses={422: "The file is invalid; nothing has changed."},
    detail=_changes,
)
async def reload_config(context: AdminContext) -> ReloadResult:
    """Apply the present configuration file, as SIGHUP does."""
    log.info("reload_requested")
    found = await context.reloading.reload_now()
    context.gateway.monitor.forget()
    return ReloadResult(*found)


ENDPOINTS: tuple[Endpoint, ...] = (
    show_status,
    show_spool,
    show_config,
    check_config,
    reload_config,
)
