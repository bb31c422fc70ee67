"""Compose the running gateway: sources, spool, workers, and the HTTP server."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from shutil import disk_usage

import structlog
from aiohttp import web

from gateway.config import Config, DestinationConfig
from gateway.config.changes import (
    ConfigChanges,
    delivery_digest,
    destinations_in,
    diff_configs,
)
from gateway.config.inputs import stored_input, stored_inputs
from gateway.delivery import Team, Worker
from gateway.delivery.authorization import make_authorized_transport
from gateway.delivery.file_transport import FileTransport
from gateway.delivery.renderer import make_renderer
from gateway.delivery.sender import Sender
from gateway.errors import SpoolError
from gateway.event import Event
from gateway.ingest.client import TrustedProxies
from gateway.ingest.configured import limits_of, make_source_index, upstream_address
from gateway.ingest.connection_limits import Guard
from gateway.ingest.connections import Server
from gateway.ingest.events import parse_if_possible, parse_stored
from gateway.ingest.file_relay import FileCache
from gateway.ingest.hand_over import HandOver
from gateway.ingest.off_loop import TurnQueue
from gateway.ingest.receiver import Receiver
from gateway.ingest.relay import UpstreamPool
from gateway.ingest.sources import SourceIndex
from gateway.ingest.suppression import suppression_of
from gateway.ingest.upstream_reply import UpstreamReplies
from gateway.observability.alerts import AlertWatcher
from gateway.observability.health import health_pages
from gateway.observability.health_monitor import HealthMonitor
from gateway.observability.observer import Observer, record_settings
from gateway.observability.status import LastReload
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Input, Output
from gateway.redact import Redactor
from gateway.replay.runner import ReplayRunner
from gateway.routing.consent import ConsentMemory
from gateway.routing.router import Router
from gateway.routing.steps import StepChain
from gateway.shadow.recorder import ShadowRecorder, bounds_of, shadow_delivery
from gateway.spool import DiskFull, Entry, Shard, Spool, SpoolNotice, Unreachable
from gateway.spools import make_spool
from gateway.trace.from_spool import EvictionRecorder
from gateway.trace.of_cluster import ClusterTraces
from gateway.tracking import ViolationCounter
from gateway.verdict import Declined, Verdict

LOADING = 2.0
"""Seconds that a start waits for the backlog of every destination to be counted."""
AGAIN = 1.0
"""Seconds between two attempts to start on a full disk."""
ROOM = 1024 * 1024
"""Free bytes on a disk below which a failed start is attributed to a full disk."""

log = structlog.get_logger()


class Gateway:
    """All parts of the gateway, made from a configuration.

    Attributes:
        started_with: the configuration at the start; some keys have its values until the end.
        sources: finds the source of a request.
        suppression: whose events are left out; None for nobody's.
        router: decides which destinations an event goes to.
        spool: the durable log.
        consents: the stored consent of users.
        shadows: the counts of shadow destinations.
        teams: one per destination.
        replays: deliver retained events again.
        replies: the vendors' responses that clients wait for.
        observer: metrics, log and traces.
        traces: the stored traces, of all gateways that share the spool.
        monitor: judges the health of all parts.
        evictions: records what the spool gives up by itself.
        tally: counts events that violate a tracking plan.
        guard: keeps client connections within their limits.
        accepting: new events are accepted.
        stopping: it will soon accept no more.
        last_reload: the result of the last reload.
        on_config: called whenever another configuration takes effect.
    """

    def __init__(self, config: Config, registry: PluginRegistry) -> None:
        self.config = self.started_with = config
        self.registry = registry
        self.accepting = self.stopping = False
        self.on_config: list[Callable[[], None]] = []
        self.last_reload = LastReload(True, time.time())  # noqa: FBT003 - a field
        self._starting = "starting or stopping"
        self._start: asyncio.Task[None] | None = None
        self._orphans: asyncio.Task[None] | None = None
        self._opened = self._shadowed = False
        self.upstreams = UpstreamPool()
        self.files = FileCache()
        self.sources = self._source_index(config)
        self.suppression = suppression_of(config)
        self.router = Router(config.routes)
        self.tally = ViolationCounter()
        self.spool: Spool = make_spool(config.spool, config.server.max_body)
        self._tell_config()
        self.consents = ConsentMemory(self.spool, config.consent)
        self.shadows = ShadowRecorder(config.spool.path, self._redactor)
        self.teams: dict[str, Team] = {}
        self.replays = ReplayRunner(self)
        self.replies = UpstreamReplies(self._input_of, self.spool.node, self.spool.peers)
        self.monitor = HealthMonitor(self)
        self.alerting = AlertWatcher(self)
        self._inputs = stored_inputs(config, registry)
        self.observer = Observer(
            config, record_settings(config, self.router, self._inputs), self.spool.clock.sure_of_day
        )
        self.traces = ClusterTraces(self.observer.traces, self.spool.node, self.spool.peers)
        self.guard = Guard(
            limits_of(config),
            self._trusts,
            self.observer.closed,
            self.observer.unreadable,
            self.observer.late,
        )
        self.evictions = EvictionRecorder(
            self.spool,
            self.observer.recorder,
            self.observer.hub,
            parse=self.parse,
            output_of=self.output_of,
            keep=config.trace.enabled,
        )
        hooks = registry.manager.hook
        self._on_accepted = bool(hooks.event_accepted.get_hookimpls())
        self._hook_calls = TurnQueue()
        self._on_settled = bool(hooks.delivery_settled.get_hookimpls())

    async def start(self) -> None:
        """Open the spool, start the workers, and accept events.

        If the disk is full, or nothing answers where the spool is, the start is repeated until it
        succeeds; requests are rejected meanwhile.

        Raises:
            SpoolError: the spool cannot be used.
        """
        self.spool.run_shards(self)
        self.spool.follow_pauses(self._pause_teams)
        self.spool.spares(self.observer.recorder.give_up_file)
        try:
            await self._take_up()
        except SpoolError as error:
            self._starting = str(error)
            if isinstance(error, Unreachable):
                log.warning("waiting_for_nats", reason=self._starting)
            elif self._disk_is_full(error):
                log.warning("waiting_for_disk_space", reason=self._starting)
            else:
                raise
            self.observer.recorder.start()  # requests are rejected, and traced
            self._start = asyncio.get_running_loop().create_task(self._start_later())
        self.monitor.start()
        await self.alerting.configure(self.config.alerts)

    def start_shard(self, shard: Shard) -> None:
        """Deliver a shard from now on, to all destinations."""
        shard.subscribe(partial(self._noticed, shard.number))
        worker_of = partial(self._worker_of, shard.number)
        shard.follow(HandOver(worker_of, self.events_of, self.replies).offer)
        for team in self.teams.values():
            team.add(shard)

    async def finish_shard(self, shard: Shard) -> None:
        """Finish the attempts of a shard that this process gives up, and record them."""
        grace = self.config.server.drain_timeout
        await _each(team.give_up(shard.number, grace) for team in self.teams.values())

    def abandon_shard(self, shard: Shard) -> None:
        """Deliver nothing more of a shard that this process has lost."""
        for team in self.teams.values():
            team.abandon(shard.number)

    async def _start_later(self) -> None:
        while not self.accepting:
            await asyncio.sleep(AGAIN)
            try:
                await self._take_up()
            except SpoolError as error:
                self._starting = str(error)

    async def _take_up(self) -> None:
        """Do the steps of the start that have not succeeded yet."""
        if not self._opened:
            await self.spool.open()
            self._opened = True
            self.observer.recorder.start()
        if not self._shadowed:
            await self.shadows.start()
            self._shadowed = True
        await self.register(self.config.destinations)
        paused = await self.spool.paused()
        for name, config in self.config.destinations.items():
            if name not in self.teams:
                self.start_team(self.make_team(name, config), paused=name in paused)
        with contextlib.suppress(TimeoutError):  # a long backlog is read while events arrive
            async with asyncio.timeout(LOADING):
                await asyncio.gather(*(team.ready() for team in self.teams.values()))
        await self.replays.start()
        self.accepting, self._starting = True, "starting or stopping"
        log.info(
            "ready", sources=len(self.config.sources), destinations=len(self.config.destinations)
        )
        # It may have to wait until all shards have an owner.
        self._orphans = asyncio.get_running_loop().create_task(self.report_orphans())

    def _disk_is_full(self, error: SpoolError) -> bool:
        """Return whether *error* was caused by a full disk, which can end without a restart."""
        if isinstance(error, DiskFull):
            return True
        try:
            return disk_usage(self.config.spool.path).free < ROOM
        except OSError:
            return False

    async def register(self, destinations: Mapping[str, DestinationConfig]) -> None:
        """Register all *destinations* with the spool.

        Raises:
            SpoolError: the spool cannot add them.
        """
        await self.spool.register({name: bounds_of(c) for name, c in destinations.items()})
        await self.shadows.know(destinations, self.spool)

    def start_team(self, team: Team, *, paused: bool) -> None:
        """Start to deliver a destination's backlog."""
        team.pause(paused=paused)
        self.teams[team.name] = team
        team.start(self.spool.shards)

    async def exchange(self, team: Team) -> None:
        """Replace the team of a destination by *team*.

        Two teams never run at once: events that are accepted while the old one stops are left to
        the new one, which reads them from the spool. It also takes over a pause and a drain.
        """
        old = self.teams[team.name]
        try:
            await old.stop(self.config.server.drain_timeout)
        finally:
            self.start_team(team, paused=old.paused)
        if old.drains:
            with contextlib.suppress(SpoolError):  # deliveries are then retried at their due times
                await team.drain()

    def _pause_teams(self, paused: frozenset[str]) -> None:
        """Pause and resume as another gateway was told to."""
        for name, team in self.teams.items():
            if team.paused != (name in paused):
                team.pause(paused=name in paused)

    async def stop_team(self, name: str) -> None:
        """Finish a destination's attempts in progress, and deliver no more."""
        try:
            await self.teams[name].stop(self.config.server.drain_timeout)
        finally:
            del self.teams[name]

    async def apply(self, new: Config) -> ConfigChanges:
        """Apply the configuration *new*.

        New destinations start before a route leads to them. Then routes and sources change at one
        instant. Then removed and changed destinations finish their attempts and stop. The pending
        deliveries of a removed destination stay in the spool.

        Raises:
            SpoolError: the spool cannot add the new destinations; nothing has changed then.
        """
        router = await asyncio.to_thread(Router, new.routes, self.router.failures)
        if not self.accepting:
            raise SpoolError(f"not started: {self.not_ready_reason()}; reload again when it has")
        before = {name: team.configured for name, team in self.teams.items()}
        found = diff_configs(self.config, new, self.started_with, before)
        added, changed = destinations_in(found.added), destinations_in(found.changed)
        made = {name: self.make_team(name, new.destinations[name]) for name in added + changed}
        try:
            await self.register({**before, **new.destinations})
            paused = await self.spool.paused()
            for name in added:
                self.start_team(made[name], paused=name in paused)
            old_alerts = self.config.alerts
            self.activate(new, router)
            if new.alerts != old_alerts:
                await self.alerting.configure(new.alerts)
            await self.upstreams.retain(
                upstream_address(source) for source in new.sources.values() if source.url
            )
            await _each(self.exchange(made[name]) for name in changed)
            await _each(self.stop_team(name) for name in destinations_in(found.removed))
        finally:
            unused = [team for team in made.values() if team not in self.teams.values()]
            await asyncio.gather(*(team.sender.close() for team in unused))
        try:
            await self.register(new.destinations)
            await self.report_orphans()
        except SpoolError as error:  # the next reload or start repeats it
            log.warning("removed_destinations_kept", reason=str(error))
        for key in found.restart_required:
            log.warning("restart_required", key=key)
        log.info(
            "reloaded",
            added=found.added,
            changed=found.changed,
            removed=found.removed,
            sources=len(new.sources),
            routes=len(new.routes),
        )
        return found

    async def report_orphans(self) -> None:
        """Log the pending deliveries of destinations that are no longer configured.

        Those of shadows are dropped. Where several gateways share the spool, they are unknown while
        shards have no owner.
        """
        try:
            orphans = await self.spool.orphans()
        except SpoolError as error:
            log.warning("orphans_unknown", reason=str(error))
            return
        shadows = await self.shadows.known() if orphans else set()
        for name, depth in orphans.items():
            if name in shadows:
                await self._forget(name)
            elif owed := depth.backlog + depth.retrying + depth.parked:
                log.warning("orphaned_backlog", destination=name, deliveries=owed)

    async def _forget(self, shadow: str) -> None:
        try:
            await self.spool.forget(shadow)
        except SpoolError as error:  # another gateway may not have been reloaded yet
            log.warning("removed_destinations_kept", reason=str(error))

    async def stop(self) -> None:
        """Finish the attempts in progress, record their outcomes, and close everything."""
        self.accepting = False
        for task in (self._start, self._orphans):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.replays.stop()
        await self.alerting.stop()
        await self.monitor.stop()
        grace = self.config.server.drain_timeout
        await asyncio.gather(*(team.stop(grace) for team in self.teams.values()))
        await self.replies.stop()
        await self.upstreams.close()
        await self.files.close()
        await self.shadows.stop()
        await self.evictions.stop()
        await self.observer.stop()
        await self.spool.close()
        log.info("stopped")

    def make_team(self, name: str, config: DestinationConfig) -> Team:
        """Return the team of a destination, not started."""
        rendering = make_renderer(
            config, self.registry, self._redactor, self.spool.clock.sure_of_day
        )
        transport = make_authorized_transport(config, rendering.output)
        sender = Sender(rendering, transport, longest_pause=config.retry_after_max)
        if config.shadow:
            sender = self.shadows.sender(name, config, rendering, transport)
        team = Team(
            name,
            shadow_delivery(config),
            sender=sender,
            parse=self.events_of,
            steps_of=self.steps_of,
            observer=self.observer.for_destination(name, rendering.output),
            settled=self._settled,
            leased=self.spool.leased,
            share=self.spool.share,
            configs_differ=self.spool.configs_differ,
            uploads=transport.uploads if isinstance(transport, FileTransport) else None,
        )
        team.configured = config
        return team

    def _trusts(self, peer: str) -> bool:
        server = self.config.server
        return TrustedProxies(server.trusted_proxies, server.proxy_header).trusts(peer)

    def _redactor(self) -> Redactor:
        return self.observer.redactor

    def parse(self, entry: Entry) -> list[Event]:
        """Return the events of a stored request, parsed by its vendor's current plugin.

        Raises:
            Rejected: the plugin no longer accepts the request.
        """
        return parse_stored(entry, self._inputs)

    def _input_of(self, entry: Entry) -> Input | None:
        return stored_input(self._inputs, entry.vendor, entry.source)

    def events_of(self, entry: Entry) -> Sequence[Event]:
        """Return the events of a stored request; none if it can no longer be parsed."""
        return parse_if_possible(entry, self.parse)

    def activate(self, config: Config, router: Router) -> None:
        """Use another configuration for all later requests."""
        self.config = config
        self._inputs = stored_inputs(config, self.registry)
        self._tell_config()
        self.sources = self._source_index(config)
        self.router = router
        self.suppression = suppression_of(config)
        self.guard.limits = limits_of(config)
        self.consents.configure(config.consent)
        self.observer.reconfigure(record_settings(config, router, self._inputs))
        for told in self.on_config:
            told()

    def _tell_config(self) -> None:
        vendors = {*self.registry.inputs, *self.registry.outputs}
        self.spool.set_config(delivery_digest(self.config, vendors))

    def output_of(self, destination: str) -> Output | None:
        """Return the output of a destination; None if it is no longer configured."""
        config = self.config.destinations.get(destination)
        return None if config is None else self.registry.outputs[config.vendor](config.settings)

    def steps_of(self, route: str) -> StepChain | None:
        """Return the current steps of the route with this name."""
        return self.router.steps(route)

    def _noticed(self, shard: int, notice: SpoolNotice) -> None:
        self.shadows.noticed(notice, time.time())
        self.evictions.noticed(notice)
        team = self.teams.get(notice.destination)
        if team is not None:
            team.on_notice(shard, notice)

    def _worker_of(self, shard: int, destination: str) -> Worker | None:
        """Return the current worker of a destination for a shard."""
        team = self.teams.get(destination)
        return None if team is None else team.workers.get(shard)

    def accepted(self, events: Sequence[Event], source: str) -> None:
        """Call the ``event_accepted`` hooks for stored *events*, without delaying the response."""
        if self._on_accepted:
            call = self.registry.manager.hook.event_accepted
            for event in events:
                self._hook_calls.put(partial(call, event=event, source=source))

    def _settled(self, event: Event, destination: str, verdict: Verdict | Declined) -> None:
        if self.shadows.comparison.wanted:
            self.shadows.comparison.settled(destination, event.id, verdict, time.time())
        if self._on_settled:
            call = self.registry.manager.hook.delivery_settled
            self._hook_calls.put(
                partial(call, event=event, destination=destination, verdict=verdict)
            )

    def _source_index(self, config: Config) -> SourceIndex:
        return make_source_index(config, self.registry, self.upstreams, self.files)

    def not_ready_reason(self) -> str | None:
        """Return why no events are accepted, without credentials; None if some are.

        It checks the same conditions as an append, so it changes when they do.
        """
        if not self.accepting:
            return self._starting
        if trouble := self.spool.health():
            return trouble
        refusing, led = self.refusing(), self._led()
        if led and led <= refusing.keys():
            return "; ".join(refusing[name] for name in sorted(led))
        return None

    def unready_reason(self) -> str | None:
        """Return why a load balancer should send nothing here; None if it may.

        A gateway that starts in a cluster accepts events before it may take shards. Another one
        should not be stopped before that.
        """
        if self.stopping:
            return "stopping"
        if reason := self.not_ready_reason():
            return reason
        return None if self.spool.joined() else "joining the cluster"

    def refusing(self) -> Mapping[str, str]:
        """Return the destinations that accept no new events, with the reason; others still do."""
        return self.spool.refusing()

    def _led(self) -> set[str]:
        """Return the destinations that routes lead to, without shadows."""
        found = {name for route in self.config.routes for name in route.to}
        return {name for name in found if not self.config.destinations[name].shadow}


class GatewayRunner(web.BaseRunner):
    """Starts a gateway, serves its requests, and stops it.

    Args:
        gateway: the gateway, not started.
        shutdown_timeout: seconds that requests may take once it stops.
    """

    __slots__ = ("_gateway", "_started")

    def __init__(self, gateway: Gateway, shutdown_timeout: float = 60.0) -> None:
        super().__init__(shutdown_timeout=shutdown_timeout)
        self._gateway = gateway
        self._started = False

    async def _make_server(self) -> web.Server:
        gateway, server = self._gateway, self._gateway.config.server
        pages = health_pages(gateway, metrics=server.metrics)
        await gateway.start()
        self._started = True
        return Server(Receiver(gateway, pages).receive, gateway.guard, server.max_body)

    async def shutdown(self) -> None:
        """Do nothing more: the server ends its connections."""

    async def _cleanup_server(self) -> None:
        if self._started:
            self._started = False
            await self._gateway.stop()
        self._gateway.guard.stop()


async def _each(works: Iterable[Awaitable[None]]) -> None:
    """Run all *works* concurrently, each to its end; then raise the first exception."""
    for ended in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
