"""The admin application: every endpoint behind the guard, on a site of its own."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import structlog
from aiohttp import web

from gateway.admin import (
    assets,
    destinations,
    letters,
    overview,
    playground,
    running,
    series,
    story,
    traces,
    vendors,
)
from gateway.admin.desk import Desk
from gateway.admin.endpoint import JSON, PREFIX, Endpoint
from gateway.admin.guard import Refusals, guard
from gateway.admin.openapi import document
from gateway.admin.problem import as_problems
from gateway.config.admin import AdminConfig
from gateway.headers import harden
from gateway.pages import add_pages

LARGEST_BODY = 256 * 1024

log = structlog.get_logger()

ENDPOINTS: tuple[Endpoint, ...] = (
    *overview.ENDPOINTS,
    *running.ENDPOINTS,
    *destinations.ENDPOINTS,
    *series.ENDPOINTS,
    *traces.ENDPOINTS,
    *story.ENDPOINTS,
    *letters.ENDPOINTS,
    *vendors.ENDPOINTS,
    *playground.ENDPOINTS,
)


def make_app(desk: Desk) -> web.Application:
    """Return the admin application of a gateway that runs."""
    started = desk.gateway.config.admin or AdminConfig()
    refusals = Refusals(desk.gateway.observed.counts.turned_away)
    guarded = guard(started, lambda: desk.gateway.config.admin, refusals)
    app = web.Application(middlewares=[as_problems, guarded], client_max_size=LARGEST_BODY)
    app.add_routes(found.route(desk) for found in ENDPOINTS)
    app.add_routes(assets.routes())
    described = orjson.dumps(document(ENDPOINTS))

    async def sampling(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(desk.series.run(), name="admin/series")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=described, headers=JSON)

    app.cleanup_ctx.append(sampling)
    app.on_shutdown.append(desk.streams.close)
    app.on_response_prepare.append(harden)
    app.router.add_get(f"{PREFIX}/openapi.json", openapi)
    add_pages(app, desk.gateway, metrics=True)
    return app


class AdminSite:
    """The admin application, listening where the configuration says; nothing without one."""

    def __init__(self, desk: Desk) -> None:
        self._runner: web.AppRunner | None = None
        self._desk = desk

    async def start(self, config: AdminConfig | None) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        if config is None:
            return
        self._runner = web.AppRunner(
            make_app(self._desk), access_log=None, handle_signals=False, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, *config.address).start()
        for host, port, *_ in self._runner.addresses:
            log.info("admin_listening", host=host, port=port, token=config.token is not None)

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
