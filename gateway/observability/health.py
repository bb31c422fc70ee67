"""The gateway's own pages: is it alive, is it ready, how is it doing."""

from aiohttp import web

from gateway.observability.status import GatewayStatus


def add_pages(app: web.Application, gateway: GatewayStatus, *, metrics: bool) -> None:
    """Serve the pages of *gateway*, with *metrics* `/metrics` too."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if trouble := gateway.not_ready_reason():
            return web.Response(text=f"{trouble}\n", status=503)
        lines = ["ok", *gateway.refusing().values()]
        return web.Response(text="".join(f"{line}\n" for line in lines))

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    if metrics:
        add_metrics(app, gateway)


def add_metrics(app: web.Application, gateway: GatewayStatus) -> None:
    """Serve `/metrics`."""
    from gateway.observability.metrics import MetricsPage  # noqa: PLC0415 - a library that few starts need

    page = MetricsPage(gateway)

    async def metrics(http: web.Request) -> web.Response:
        body, kind = await page.get(http.headers.get("accept", ""))
        return web.Response(body=body, headers={"content-type": kind})

    app.router.add_get("/metrics", metrics)
