"""Run the server process: listen, handle signals, stop in order."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import structlog
import uvloop
from aiohttp import web

from gateway import sighup
from gateway.admin import AdminContext, AdminSite
from gateway.app import Gateway, GatewayRunner
from gateway.config import Config
from gateway.config.loader.load import load as load_config
from gateway.errors import GatewayError
from gateway.observability import log as logs
from gateway.plugin.registry import PluginRegistry, load_plugins
from gateway.reload import Reloader, watch_files

TURN = 0.0005
"""The interpreter's thread switch interval in seconds. While a thread reads a large request, the
event loop waits this long whenever it has written a log line or a response."""

log = structlog.get_logger()


def serve(config: Config, registry: PluginRegistry, *, watch: bool = False) -> int:
    """Run until SIGTERM or SIGINT; return the exit status.

    SIGHUP reloads the configuration; with *watch*, a change of its files does too. A SIGHUP during
    the start is handled after it.
    """
    sighup.note()
    logs.configure()
    sys.setswitchinterval(TURN)
    gc.freeze()  # without a collection: imports leave no cycles
    return uvloop.run(_serve(config, registry, watch=watch))


async def _serve(config: Config, registry: PluginRegistry, *, watch: bool) -> int:
    try:
        gateway = Gateway(config, registry)
    except GatewayError as error:
        log.error("start_failed", reason=str(error))  # noqa: TRY400 - the reason says it all
        return 1
    if gateway.spool.node:
        structlog.contextvars.bind_contextvars(node=gateway.spool.node)
    runner = GatewayRunner(gateway)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloader = Reloader(gateway)
    admin = AdminSite(AdminContext(gateway, reloader))
    host, port = config.server.address
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        await admin.start(config.admin)
    except (OSError, GatewayError) as error:
        log.error("start_failed", reason=str(error))  # noqa: TRY400 - the reason says it all
        with contextlib.suppress(GatewayError):
            await admin.stop()
            await runner.cleanup()
        return 1
    for found in runner.addresses:
        log.info("listening", host=found[0], port=found[1])
    sighup.react(partial(loop.call_soon_threadsafe, reloader.request))
    if sighup.noted():
        reloader.request()
    watching = loop.create_task(watch_files(reloader)) if watch else None
    await stop.wait()
    if watching is not None:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    log.info("stopping", drain_timeout=config.server.drain_timeout)
    await _wait_for_balancers(gateway, stop)
    gateway.accepting = False
    sighup.ignore()
    await reloader.settled()
    await admin.stop()
    await site.stop()
    await runner.cleanup()
    return 0


async def _wait_for_balancers(gateway: Gateway, stop: asyncio.Event) -> None:
    """Go on for `stop_delay`, while ``/readyz`` says 503, or until a second signal."""
    gateway.stopping = True
    stop.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(gateway.config.server.stop_delay):
            await stop.wait()


def create_app() -> web.Application:
    """Return an application that runs the gateway beside it and sends every call there.

    It is for aiohttp-devtools (``make dev``), which restarts applications when their code changes.
    The gateway listens where the file in ``GATEWAY_CONFIG`` says, config/gateway.toml by default.

    Raises:
        SystemExit: a plugin or the configuration is invalid; the log has the reason. The
            application raises it too if the gateway cannot start.
    """
    logs.configure()
    path = Path(os.environ.get("GATEWAY_CONFIG", "config/gateway.toml"))
    try:
        registry = load_plugins()
        gateway = Gateway(load_config(path, registry), registry)
    except GatewayError as error:
        log.error("start_failed", reason=str(error))  # noqa: TRY400 - the reason says it all
        raise SystemExit(1) from error
    runner = GatewayRunner(gateway)

    async def run(_: web.Application) -> AsyncIterator[None]:
        try:
            await runner.setup()
            await web.TCPSite(runner, *gateway.config.server.address).start()
        except (OSError, GatewayError) as error:
            with contextlib.suppress(GatewayError):
                await runner.cleanup()
            log.error("start_failed", reason=str(error))  # noqa: TRY400 - the reason says it all
            raise SystemExit(1) from error
        log.info("listening", host=runner.addresses[0][0], port=runner.addresses[0][1])
        yield
        await runner.cleanup()

    async def send_on(request: web.Request) -> web.Response:
        host, port = runner.addresses[0][:2]
        raise web.HTTPTemporaryRedirect(f"http://{host}:{port}{request.raw_path}")

    app = web.Application()
    app.cleanup_ctx.append(run)
    app.router.add_route("*", "/{path:.*}", send_on)
    return app
