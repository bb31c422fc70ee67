"""The real thing, running: a sandbox and a gateway on loopback sockets."""

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway import hookimpl
from gateway.app import Gateway, make_app
from gateway.config import load as load_config
from gateway.event import Event
from gateway.exchange import Declined, Verdict
from gateway.plugins import Registry, load
from gateway.sandbox import make_app as make_sandbox

PATIENCE = 60.0
"""Seconds after which something that should have happened did not."""


@dataclass
class Watch:
    """Sees every delivery settle, and wakes those who wait for it."""

    settled: list[tuple[Event, str, Verdict | Declined]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def plugin(self) -> types.ModuleType:
        """Return a plugin that observes."""
        module = types.ModuleType("watching")

        @hookimpl
        def delivery_settled(event: Event, destination: str, verdict: Verdict) -> None:
            self.settled.append((event, destination, verdict))
            self._changed.set()

        module.delivery_settled = delivery_settled  # type: ignore[attr-defined]  # a made-up module
        return module

    async def until(self, enough: Callable[["Watch"], bool]) -> None:
        """Wait until *enough* holds, at most `PATIENCE` seconds."""
        async with asyncio.timeout(PATIENCE):
            while not enough(self):
                self._changed.clear()
                await self._changed.wait()


@dataclass
class Running:
    """A gateway that runs, its sandbox, and a client."""

    gateway: Gateway
    url: str
    sandbox: str
    client: aiohttp.ClientSession
    watch: Watch

    async def journal(self, vendor: str = "") -> list[dict[str, Any]]:
        """Return what the sandbox received, oldest first."""
        query = f"?vendor={vendor}" if vendor else ""
        async with self.client.get(f"{self.sandbox}/_sandbox/requests{query}") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def fault(self, **fault: Any) -> None:
        """Plan a fault in the sandbox."""
        async with self.client.post(f"{self.sandbox}/_sandbox/faults", json=fault) as answer:
            assert answer.status < 300, await answer.text()


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve *app* on a free loopback port; yield its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def sandboxed() -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Run a sandbox of all vendors; yield its address and a client."""
    sandboxes = [sandbox() for sandbox in load().sandboxes.values()]
    async with (
        serving(make_sandbox(sandboxes, {})) as url,
        aiohttp.ClientSession() as client,
    ):
        yield url, client


@asynccontextmanager
async def running(
    folder: Path, config: Callable[[str], str], plugins: Iterable[types.ModuleType] = ()
) -> AsyncIterator[Running]:
    """Run a sandbox, and a gateway whose configuration *config* makes of its address."""
    watch = Watch()
    registry: Registry = load([watch.plugin(), *plugins])
    sandboxes = [sandbox() for sandbox in registry.sandboxes.values()]
    async with serving(make_sandbox(sandboxes, {})) as sandbox:
        path = folder / "gateway.toml"
        path.write_text(config(sandbox))
        gateway = Gateway(load_config(path, registry), registry)
        async with serving(make_app(gateway)) as url, aiohttp.ClientSession() as client:
            yield Running(gateway, url, sandbox, client, watch)
