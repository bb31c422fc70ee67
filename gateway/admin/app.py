"""The admin API as a web application, with the console's files."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.admin import (
    access,
    activity_view,
    cluster,
    dead_letters,
    destinations,
    health,
    imports,
    moving,
    overview,
    playground,
    privacy,
    replays,
    status,
    traces,
    vendors,
)
from gateway.admin.auth import RefusalLog, auth_middleware, check_again, in_force
from gateway.admin.context import AdminContext, as_problems
from gateway.admin.endpoint import JSON, LARGEST_BODY, PREFIX, Endpoint, document
from gateway.config.operations import AdminConfig
from gateway.http import harden
from gateway.observability.health import add_pages

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file of the console."""

    body: bytes
    headers: dict[str, str]


def assets() -> dict[str, Asset]:
    """Return the console's files by path."""
    found = dict(_below(files("gateway.admin").joinpath("web"), "/console/"))
    found["/"] = found["/console/index.html"]
    return found


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _below(item, f"{path}{item.name}/")
        elif kind := TYPES.get(f".{item.name.rpartition('.')[2]}"):
            body = item.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            yield f"{path}{item.name}", Asset(body, {**HEADERS, "content-type": kind, "etag": etag})


def routes() -> Iterator[web.RouteDef]:
    """Yield the routes of the console's files."""
    for path, asset in assets().items():
        yield web.get(path, _serving(asset))


def _serving(asset: Asset) -> Handler:
    async def serve(http: web.Request) -> web.Response:
        if asset.headers["etag"] in http.headers.get("if-none-match", ""):
            return web.Response(status=304, headers={"etag": asset.headers["etag"]})
        return web.Response(body=asset.body, headers=asset.headers)

    return serve


log = structlog.get_logger()

ENDPOINTS: tuple[Endpoint, ...] = (
    *health.ENDPOINTS,
    *cluster.ENDPOINTS,
    *overview.ENDPOINTS,
    *status.ENDPOINTS,
    *destinations.ENDPOINTS,
    *overview.HISTORY_ENDPOINTS,
    *activity_view.ENDPOINTS,
    *traces.ENDPOINTS,
    *traces.REQUEST_ENDPOINTS,
    *dead_letters.ENDPOINTS,
    *replays.ENDPOINTS,
    *imports.ENDPOINTS,
    *privacy.ENDPOINTS,
    *moving.ENDPOINTS,
    *vendors.ENDPOINTS,
    *playground.ENDPOINTS,
    *access.ENDPOINTS,
)


def make_app(context: AdminContext) -> web.Application:
    """Return the admin application of a running gateway."""
    started = context.gateway.config.admin or AdminConfig()
    refusals = RefusalLog(context.gateway.observer.counts.admin_refused)
    guarded = auth_middleware(started, lambda: context.gateway.config.admin, refusals)
    app = web.Application(middlewares=[as_problems, guarded], client_max_size=LARGEST_BODY)
    app.add_routes(found.route(context) for found in ENDPOINTS)
    app.add_routes(routes())

    async def sampling(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(context.series.run(), name="admin/series")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=await asyncio.to_thread(_described), headers=JSON)

    app.cleanup_ctx.append(sampling)
    app.on_shutdown.append(context.streams.close)
    context.streams.authorize = lambda http: check_again(
        http, in_force(started, context.gateway.config.admin)
    )
    context.gateway.on_config.append(context.streams.reauthorize)
    app.on_response_prepare.append(_harden)
    app.router.add_get(f"{PREFIX}/openapi.json", openapi)
    add_pages(app, context.gateway)
    return app


@cache
def _described() -> bytes:
    return orjson.dumps(document(ENDPOINTS))


async def _harden(_: web.Request, response: web.StreamResponse) -> None:
    harden(response)


class AdminSite:
    """Runs the admin application on its configured address; does nothing without one."""

    def __init__(self, context: AdminContext) -> None:
        self._runner: web.AppRunner | None = None
        self._context = context

    async def start(self, config: AdminConfig | None) -> None:
        """Listen.

        Raises:
            OSError: the address is not available.
        """
        if config is None:
            return
        self._runner = web.AppRunner(
            make_app(self._context), access_log=None, handle_signals=False, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, *config.address).start()
        for host, port, *_ in self._runner.addresses:
            log.info("admin_listening", host=host, port=port, token=config.guarded)

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
