"""The process: it listens, obeys signals, and ends in order."""

import asyncio
import contextlib
import gc
import signal
import sys

import structlog
import uvloop
from aiohttp import web

from gateway import hangup
from gateway import log as logs
from gateway.admin import AdminSite, Desk
from gateway.app import Gateway, make_app
from gateway.config import Config
from gateway.connections import Runner
from gateway.errors import GatewayError
from gateway.plugins import Registry
from gateway.reload import Reloading
from gateway.watching import watch_files

TURN = 0.0005
"""Seconds after which a thread that computes lets another one have the interpreter. The loop waits
so long whenever it has written a log line or an answer while a large request is read."""

log = structlog.get_logger()


def serve(config: Config, registry: Registry, *, watch: bool = False) -> int:
    """Run until SIGTERM or SIGINT; return the exit status.

    With *watch*, a change of the configuration's files is a reload, as SIGHUP is. A SIGHUP that
    comes before everything runs is obeyed then.
    """
    hangup.note()
    logs.configure()
    sys.setswitchinterval(TURN)
    gc.collect()
    gc.freeze()
    return uvloop.run(_serve(config, registry, watch=watch))


async def _serve(config: Config, registry: Registry, *, watch: bool) -> int:
    gateway = Gateway(config, registry)
    runner = Runner(make_app(gateway), access_log=None, handle_signals=False)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    again = Reloading(gateway)
    admin = AdminSite(Desk(gateway, again))
    host, port = config.server.address
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        await admin.start(config.admin)
    except (OSError, GatewayError) as error:
        log.warning("cannot_start", reason=str(error))
        with contextlib.suppress(GatewayError):
            await admin.stop()
            await runner.cleanup()
        return 1
    for found in runner.addresses:
        log.info("listening", host=found[0], port=found[1])
    loop.add_signal_handler(signal.SIGHUP, again.ask)
    if hangup.noted():
        again.ask()
    watching = loop.create_task(watch_files(again)) if watch else None
    await stop.wait()
    if watching is not None:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    log.info("stopping", drain_timeout=config.server.drain_timeout)
    gateway.accepting = False
    loop.remove_signal_handler(signal.SIGHUP)
    hangup.ignore()
    await again.settled()
    await admin.stop()
    await site.stop()
    await runner.cleanup()
    return 0
