"""The running gateway: sources, spool, workers, and the HTTP application around them."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from shutil import disk_usage

import structlog
from aiohttp import web

from gateway.alerts import Alerting
from gateway.apart import Turns
from gateway.body import uninvited
from gateway.clients import Clients, Cookie
from gateway.config import Config, DestinationConfig
from gateway.config.relaying import leads, served
from gateway.connections import AS_SENT, GUARD, Guard, allow_files
from gateway.connections import Limits as ConnectionLimits
from gateway.delivery import Worker
from gateway.delivery.attempt import Sender
from gateway.delivery.rendering import rendering_of
from gateway.doors import Doors, Source
from gateway.errors import SpoolError
from gateway.event import Event
from gateway.exchange import Declined, Verdict
from gateway.forwarded import Proxies
from gateway.headers import harden
from gateway.ingest import Ingest
from gateway.lending import Lender
from gateway.observed import Observed, setting_of
from gateway.pages import add_pages
from gateway.plugin import Input, Output
from gateway.plugins import Registry
from gateway.redact import Redactor
from gateway.relay import Relay
from gateway.routing.consents import Consents
from gateway.routing.router import Router
from gateway.routing.steps import Steps
from gateway.shadow.shadows import Shadows, bounds_of, looking
from gateway.spool import DiskFull, Entry, Limits, Notice, Spool, SqliteSpool
from gateway.stored import events_of
from gateway.trace.given_up import GivenUp
from gateway.tracking import Tally
from gateway.transport import HttpTransport
from gateway.upstream import Upstreams

LOADING = 2.0
"""Seconds that a start waits, at most, until it is known what each destination is owed."""
AGAIN = 1.0
"""Seconds after which a start on a full disk is tried again."""
ROOM = 1024 * 1024
"""Bytes on a disk below which a start that fails is put down to that."""

log = structlog.get_logger()


class Gateway:
    """Everything that runs, put together from a configuration.

    Attributes:
        doors: which source a request is for.
        router: which destinations an event goes to.
        spool: what is owed.
        consents: what users consented to.
        shadows: what the destinations saw that only look on.
        workers: one per destination.
        observed: what is seen of all this.
        given_up: records what the spool gives up by itself.
        tally: counts events that are not as planned.
        guard: keeps clients' connections within their limits.
        accepting: whether new events are taken.
    """

    def __init__(self, config: Config, registry: Registry) -> None:
        self.config = config
        self.registry = registry
        self.accepting = False
        self._starting = "starting or stopping"
        self._start: asyncio.Task[None] | None = None
        self._opened = self._shadowed = False
        self.upstreams = Upstreams()
        self.doors = self.doors_of(config)
        self.router = Router(config.routes)
        self.tally = Tally()
        self.spool: Spool = SqliteSpool(
            config.spool.path, Limits(config.spool.max_bytes, config.spool.max_age)
        )
        self.consents = Consents(self.spool, config.consent)
        self.shadows = Shadows(config.spool.path, self._hides)
        self.workers: dict[str, Worker] = {}
        self.alerting = Alerting(self)
        self._inputs: dict[str, Input] = {name: cls() for name, cls in registry.inputs.items()}
        self.observed = Observed(
            config, setting_of(config, self.router, self._inputs), self.spool.clock.sure_of_day
        )
        self.guard = Guard(
            limits_of(config), self._trusts, self.observed.closed, self.observed.unreadable
        )
        self.given_up = GivenUp(
            self.spool,
            self.observed.recorder,
            self.observed.hub,
            parse=self.parse,
            output_of=self.output_of,
            keep=config.trace.on,
        )
        hooks = registry.manager.hook
        self._on_accepted = bool(hooks.event_accepted.get_hookimpls())
        self._told = Turns()
        self._on_settled = bool(hooks.delivery_settled.get_hookimpls())

    async def start(self) -> None:
        """Open the spool, take up what is owed, and accept.

        Where the disk is too full for that, it is tried again and again, and senders are refused
        meanwhile.

        Raises:
            SpoolError: the spool cannot be used.
        """
        self.spool.listen(self._noticed)
        self.spool.spares(self.observed.recorder.give_up_file)
        try:
            await self._take_up()
        except SpoolError as error:
            if not self._disk_is_full(error):
                raise
            self._starting = str(error)
            log.warning("starts_refusing", reason=self._starting)
            self._start = asyncio.get_running_loop().create_task(self._start_later())
        await self.alerting.follow(self.config.alerts)

    async def _start_later(self) -> None:
        while not self.accepting:
            await asyncio.sleep(AGAIN)
            try:
                await self._take_up()
            except SpoolError as error:
                self._starting = str(error)

    async def _take_up(self) -> None:
        """Do what of the start has not been done yet."""
        if not self._opened:
            await self.spool.open()
            self._opened = True
            self.observed.recorder.start()
        if not self._shadowed:
            await self.shadows.start()
            self._shadowed = True
        await self.register(self.config.destinations)
        paused = await self.spool.paused()
        for name, config in self.config.destinations.items():
            if name not in self.workers:
                self.begin(self.make_worker(name, config), paused=name in paused)
        with contextlib.suppress(TimeoutError):  # a long backlog is read beside what comes in
            async with asyncio.timeout(LOADING):
                await asyncio.gather(*(worker.backlog.ready() for worker in self.workers.values()))
        await self.report_orphans()
        self.accepting, self._starting = True, "starting or stopping"
        log.info(
            "ready", sources=len(self.config.sources), destinations=len(self.config.destinations)
        )

    def _disk_is_full(self, error: SpoolError) -> bool:
        """Tell whether *error* came of a full disk, which ends by itself or by an operator."""
        if isinstance(error, DiskFull):
            return True
        try:
            return disk_usage(self.config.spool.path).free < ROOM
        except OSError:
            return False

    async def register(self, destinations: Mapping[str, DestinationConfig]) -> None:
        """Tell the spool of all *destinations* that there are.

        Raises:
            SpoolError: the spool cannot take them.
        """
        await self.spool.register({name: bounds_of(c) for name, c in destinations.items()})
        await self.shadows.know(destinations, self.spool)

    def begin(self, worker: Worker, *, paused: bool) -> None:
        """Begin to deliver to a destination what is owed to it."""
        worker.pause(paused=paused)
        self.workers[worker.name] = worker
        worker.start()

    async def exchange(self, worker: Worker) -> None:
        """Let *worker* go on where the one of the same destination stops.

        There is one at every moment: what is accepted while the old one ends is left to the new
        one, which reads it from the spool. So are a pause and a drain that an operator asks for.
        """
        old = self.workers[worker.name]
        try:
            await old.stop(self.config.server.drain_timeout)
        finally:
            self.begin(worker, paused=old.paused)
        if old.drains:
            with contextlib.suppress(SpoolError):  # what waits goes when its time comes
                await worker.drain()

    async def end(self, name: str) -> None:
        """Settle what is on its way to a destination, and deliver no more."""
        try:
            await self.workers[name].stop(self.config.server.drain_timeout)
        finally:
            del self.workers[name]

    async def report_orphans(self) -> None:
        """Say what is still owed to destinations that are not configured any more.

        Nothing is owed to a shadow.
        """
        orphans = await self.spool.orphans()
        shadows = await self.shadows.known() if orphans else set()
        for name, depth in orphans.items():
            if name in shadows:
                await self.spool.forget(name)
            elif owed := depth.backlog + depth.retrying + depth.parked:
                log.warning("owed_to_nobody", destination=name, deliveries=owed)

    async def stop(self) -> None:
        """Settle what is on its way, record it, and close."""
        self.accepting = False
        if self._start is not None:
            self._start.cancel()
            await asyncio.gather(self._start, return_exceptions=True)
        await self.alerting.stop()
        grace = self.config.server.drain_timeout
        await asyncio.gather(*(worker.stop(grace) for worker in self.workers.values()))
        await self.upstreams.close()
        await self.shadows.stop()
        await self.given_up.stop()
        await self.observed.stop()
        await self.spool.close()
        log.info("stopped")

    def make_worker(self, name: str, config: DestinationConfig) -> Worker:
        """Return a worker for a destination, which has not begun."""
        transport = HttpTransport(timeout=config.timeout, connections=config.concurrency)
        rendering = rendering_of(config, self.registry, self._hides, self.spool.clock.sure_of_day)
        sender = Sender(rendering, transport, longest_pause=config.retry_after_max)
        if config.shadow:
            sender = self.shadows.sender(name, config, rendering, transport)
        worker = Worker(
            name,
            looking(config),
            sender=sender,
            spool=self.spool,
            parse=self.parse,
            steps_of=self.steps_of,
            witness=self.observed.exit(name, rendering.output),
            settled=self._settled,
        )
        worker.configured = config
        return worker

    def _trusts(self, peer: str) -> bool:
        server = self.config.server
        return Proxies(server.trusted_proxies, server.proxy_header).trusts(peer)

    def _hides(self) -> Redactor:
        return self.observed.redactor

    def parse(self, entry: Entry) -> list[Event]:
        """Return the events of a stored request, by its vendor's present plugin.

        Raises:
            Rejected: the plugin does not take it any more.
        """
        return events_of(entry, self._inputs)

    def put_in_force(self, config: Config, router: Router) -> None:
        """Let requests that come from now on meet another configuration."""
        self.config = config
        self.doors = self.doors_of(config)
        self.router = router
        self.guard.limits = limits_of(config)
        self.consents.configure(config.consent)
        self.observed.change(setting_of(config, router, self._inputs))

    def output_of(self, destination: str) -> Output | None:
        """Return what renders for a destination; None where it is not configured any more."""
        config = self.config.destinations.get(destination)
        return None if config is None else self.registry.outputs[config.vendor](config.settings)

    def steps_of(self, route: str) -> Steps | None:
        """Return the steps of a route by its name, as it is configured now."""
        return self.router.steps(route)

    def _noticed(self, notice: Notice) -> None:
        self.shadows.noticed(notice, time.time())
        self.given_up.noticed(notice)
        worker = self.workers.get(notice.destination)
        if worker is not None:
            worker.backlog.on_notice(notice)

    def accepted(self, events: Sequence[Event], source: str) -> None:
        """Tell observers, off the answer's path, that *events* are safe."""
        if self._on_accepted:
            call = self.registry.manager.hook.event_accepted
            for event in events:
                self._told.put(partial(call, event=event, source=source))

    def _settled(self, event: Event, destination: str, verdict: Verdict | Declined) -> None:
        if self.shadows.beside.wanted:
            self.shadows.beside.settled(destination, event.id, verdict, time.time())
        if self._on_settled:
            call = self.registry.manager.hook.delivery_settled
            self._told.put(partial(call, event=event, destination=destination, verdict=verdict))

    def doors_of(self, config: Config) -> Doors:
        """Return the endpoints of all sources of *config*."""
        return Doors(self._source(name, config) for name in config.sources)

    def _source(self, name: str, config: Config) -> Source:
        source, server = config.sources[name], config.server
        proxies = Proxies(server.trusted_proxies, server.proxy_header)
        cookie = Cookie(source.cookie, source.cookie_domain, source.cookie_max_age)
        relay = None
        if source.url:
            lender = config.destinations.get(source.relay_as)
            lent = None
            if lender is not None:
                lent = Lender(
                    self.registry.outputs[lender.vendor](lender.settings),
                    self.registry.inputs[source.vendor](),
                    served(source, self.registry),
                    [one.get_secret_value() for one in source.secrets],
                )
            upstream = self.upstreams.of(source.url, source.relay_timeout)
            relay = Relay(name, upstream, lent, upload_timeout=server.upload_timeout)
        led = leads(config.routes, name)
        return Source(
            name,
            self.registry.inputs[source.vendor](),
            None if source.keys == "any" else [key.get_secret_value() for key in source.keys],
            source.mount,
            source.hosts,
            dedup=source.dedup,
            origins=source.origins,
            clients=Clients(source.client, proxies, cookie if source.cookie else None),
            relay=relay,
            plan=config.plans.get(name),
            secrets=[one.get_secret_value() for one in source.secrets],
            respond=source.respond_timeout if source.respond == "upstream" else None,
            lends=any(config.destinations[to].credentials == "client" for to in led),
            traced=bool(config.trace.otlp),
            browser_headers=source.browser_headers,
            max_events=server.max_events,
        )

    def trouble(self) -> str | None:
        """Return why no event is taken, without credentials; None when some are.

        It asks what appends ask, so that it turns when they do, and by itself.
        """
        if not self.accepting:
            return self._starting
        if trouble := self.spool.health():
            return trouble
        refusing, led = self.refusing(), self._led()
        if led and led <= refusing.keys():
            return "; ".join(refusing[name] for name in sorted(led))
        return None

    def refusing(self) -> Mapping[str, str]:
        """Return why a destination takes no new events, by name; the others still do."""
        return self.spool.refusing()

    def _led(self) -> set[str]:
        """Return the destinations to which events are owed: routes lead there, to deliver."""
        found = {name for route in self.config.routes for name in route.to}
        return {name for name in found if not self.config.destinations[name].shadow}


GATEWAY = web.AppKey("GATEWAY", Gateway)


def make_app(gateway: Gateway) -> web.Application:
    """Return the HTTP application; it starts and stops *gateway* with itself."""
    app = web.Application(client_max_size=gateway.config.server.max_body, handler_args=AS_SENT)

    async def running(_: web.Application) -> object:
        await gateway.start()
        yield
        await gateway.stop()

    app[GATEWAY], app[GUARD] = gateway, gateway.guard
    app.on_response_prepare.append(harden)
    app.cleanup_ctx.append(running)  # type: ignore[arg-type]  # an async generator is what it wants
    add_pages(app, gateway, metrics=gateway.config.server.metrics)
    receive = Ingest(gateway).receive
    app.router.add_route("*", "/{path:.*}", receive, expect_handler=uninvited)
    return app


def limits_of(config: Config) -> ConnectionLimits:
    """Return what clients' connections may take."""
    server = config.server
    most = allow_files(server.max_connections)
    each = server.max_connections_per_client or -(-most // 2)
    if most < server.max_connections:
        log.warning("too_few_files", max_connections=server.max_connections, possible=most)
    return ConnectionLimits(
        header_timeout=server.header_timeout,
        body_timeout=server.body_timeout,
        idle_timeout=server.idle_timeout,
        max_connections=most,
        per_client=each,
        max_headers=server.max_headers,
        max_bodies=max(server.max_bodies, server.max_body),
    )
