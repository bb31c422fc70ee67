"""Serve ``/healthz``, ``/readyz`` and ``/metrics``."""

import asyncio
from functools import cache
from typing import Any

from aiohttp import web

from gateway.observability.status import GatewayStatus


def add_pages(app: web.Application, gateway: GatewayStatus, *, metrics: bool) -> None:
    """Add the pages of *gateway*; ``/metrics`` only with *metrics*."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if reason := gateway.not_ready_reason():
            return web.Response(text=f"{reason}\n", status=503)
        lines = ["ok", *gateway.refusing().values()]
        return web.Response(text="".join(f"{line}\n" for line in lines))

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    if metrics:
        add_metrics(app, gateway)


def add_metrics(app: web.Application, gateway: GatewayStatus) -> None:
    """Add ``/metrics``."""

    @cache
    def page() -> Any:
        from gateway.observability.metrics import MetricsPage  # noqa: PLC0415 - the first request imports its library

        return MetricsPage(gateway)

    async def metrics(http: web.Request) -> web.Response:
        written = await asyncio.to_thread(page)
        body, kind = await written.get(http.headers.get("accept", ""))
        return web.Response(body=body, headers={"content-type": kind})

    app.router.add_get("/metrics", metrics)
