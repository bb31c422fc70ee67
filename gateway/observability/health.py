"""Serve ``/healthz``, ``/readyz`` and ``/metrics``."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

from aiohttp import web

from gateway.http import Response
from gateway.observability.health_model import DestinationHealth
from gateway.observability.health_monitor import MonitoredGateway

Page = Callable[[Mapping[str, str]], Awaitable[Response]]
"""Returns a page; takes the headers of the request."""
TEXT = {"content-type": "text/plain; charset=utf-8"}


def health_pages(gateway: MonitoredGateway, *, metrics: bool) -> dict[str, Page]:
    """Return the pages of *gateway* by path; ``/metrics`` only with *metrics*."""

    async def healthz(_: Mapping[str, str]) -> Response:
        return Response(200, TEXT, b"ok\n")

    async def readyz(_: Mapping[str, str]) -> Response:
        if reason := gateway.unready_reason():
            return Response(503, TEXT, f"{reason}\n".encode())
        found = await gateway.monitor.read()
        lines = [
            "ok",
            *gateway.refusing().values(),
            *(f"destination {to.name!r} is {to.state}" for to in found.destinations if _ill(to)),
            *(f"source {one.name!r} is refusing" for one in found.sources if one.cause),
        ]
        return Response(200, TEXT, "".join(f"{line}\n" for line in lines).encode())

    pages: dict[str, Page] = {"/healthz": healthz, "/readyz": readyz}
    if metrics:
        pages["/metrics"] = _metrics_page(gateway)
    return pages


def _ill(destination: DestinationHealth) -> bool:
    return destination.state != "healthy"


def _metrics_page(gateway: MonitoredGateway) -> Page:

    @cache
    def page() -> Any:
        from gateway.observability.metrics import MetricsPage  # noqa: PLC0415 - the first request imports its library

        return MetricsPage(gateway)

    async def metrics(headers: Mapping[str, str]) -> Response:
        written = await asyncio.to_thread(page)
        body, kind = await written.get(headers.get("accept", ""))
        return Response(200, {"content-type": kind}, body)

    return metrics


def add_pages(app: web.Application, gateway: MonitoredGateway) -> None:
    """Add all pages of *gateway* to an application."""
    for path, page in health_pages(gateway, metrics=True).items():
        app.router.add_get(path, _serving(page))


def _serving(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(http: web.Request) -> web.Response:
        found = await page(http.headers)
        return web.Response(status=found.status, body=found.body, headers=found.headers)

    return serve
