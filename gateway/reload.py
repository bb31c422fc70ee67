"""A new configuration for a running gateway, without dropping a connection or an event."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.config import Config, DestinationConfig, load
from gateway.errors import ConfigError, GatewayError, SpoolError
from gateway.routing.router import Router
from gateway.upstream import Place

if TYPE_CHECKING:
    from gateway.app import Gateway

log = structlog.get_logger()


class Changes(NamedTuple):
    """What a new configuration means for the destinations."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unheeded: list[str]
    """Keys that take effect at the next start only. ``listen`` is one too, and is not looked at:
    the command line may have overruled it."""


def changes(old: Config, new: Config, running: Mapping[str, DestinationConfig]) -> Changes:
    """Return what differs between two configurations, and from the destinations that run."""
    before, after = running, new.destinations
    unheeded = [
        f"[server] {k}" for k in ("max_body", "metrics") if _differ(old.server, new.server, k)
    ]
    if (old.admin and old.admin.listen) != (new.admin and new.admin.listen):
        unheeded.append("[admin] listen")
    for table in ("spool", "trace", "log"):
        one, other = getattr(old, table), getattr(new, table)
        unheeded += [f"[{table}] {k}" for k in type(one).model_fields if _differ(one, other, k)]
    return Changes(
        added=[name for name in after if name not in before],
        changed=[name for name in after if name in before and after[name] != before[name]],
        removed=[name for name in before if name not in after],
        unheeded=unheeded,
    )


def _differ(old: object, new: object, key: str) -> bool:
    return bool(getattr(old, key) != getattr(new, key))


async def reload(gateway: "Gateway", new: Config) -> Changes:
    """Put *new* into effect.

    New destinations begin before a route leads to them; routes and sources change at one
    instant; then what was removed or changed is settled and ended. What is still owed to a
    removed destination stays in the spool.

    Raises:
        SpoolError: the spool cannot take the new destinations; nothing has changed then.
    """
    router = await asyncio.to_thread(Router, new.routes, gateway.router.failures)
    if not gateway.accepting:
        raise SpoolError(f"not started: {gateway.trouble()}; reload again when it has")
    before = {name: worker.configured for name, worker in gateway.workers.items()}
    found = changes(gateway.config, new, before)
    made = {n: gateway.make_worker(n, new.destinations[n]) for n in found.added + found.changed}
    try:
        await gateway.register({**before, **new.destinations})
        paused = await gateway.spool.paused()
        for name in found.added:
            gateway.begin(made[name], paused=name in paused)
        told = gateway.config.alerts
        gateway.put_in_force(new, router)
        if new.alerts != told:
            await gateway.alerting.follow(new.alerts)
        await gateway.upstreams.keep(
            Place(source.url, source.relay_timeout) for source in new.sources.values() if source.url
        )
        await _each(gateway.exchange(made[name]) for name in found.changed)
        await _each(gateway.end(name) for name in found.removed)
    finally:
        unused = [worker for worker in made.values() if worker not in gateway.workers.values()]
        await asyncio.gather(*(worker.sender.close() for worker in unused))
    try:
        await gateway.register(new.destinations)
        await gateway.report_orphans()
    except SpoolError as error:  # the next reload, or the next start, does it again
        log.warning("removed_destinations_kept", reason=str(error))
    for key in found.unheeded:
        log.warning("needs_a_restart", key=key)
    log.info(
        "reloaded",
        added=found.added,
        changed=found.changed,
        removed=found.removed,
        sources=len(new.sources),
        routes=len(new.routes),
    )
    return found


async def _each(works: Iterable[Awaitable[None]]) -> None:
    """Do all *works* together, each to its end; raise what one of them raised."""
    for ended in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended


class Reloading:
    """Reads the configuration file again when asked, one request at a time."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._again = False
        self.refused = False
        """The files as they were last read are not in effect."""

    @property
    def config(self) -> Config:
        """Return the configuration in effect."""
        return self._gateway.config

    def ask(self) -> None:
        """Reload now, or once more after the reload that is under way."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._reload())

    async def settled(self) -> None:
        """Wait for the reload that is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])
        async with self._turn:
            pass

    async def now(self) -> Changes:
        """Reload, after the reload that is under way; return what changed.

        Raises:
            ConfigError: the file has problems; nothing has changed.
            GatewayError: the spool cannot take the new destinations; nothing has changed.
        """
        gateway = self._gateway
        async with self._turn:
            refused = True
            try:
                listen = gateway.config.server.listen
                path = gateway.config.path
                new = await asyncio.to_thread(load, path, gateway.registry, listen=listen)
                changes = await reload(gateway, new)
                refused = False
            except ConfigError as error:
                log.warning("not_reloaded", problems=error.problems)
                raise
            except GatewayError as error:
                log.warning("not_reloaded", reason=str(error))
                raise
            finally:
                self.refused = refused
            return changes

    async def _reload(self) -> None:
        while True:
            self._again = False
            with contextlib.suppress(GatewayError):  # said in the log
                await self.now()
            if not self._again:
                return
