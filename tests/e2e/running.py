"""Run a sandbox and a gateway in the test's process, on loopback sockets."""

import types
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from gateway.app import Gateway
from gateway.config.loader.load import load as load_config
from gateway.plugin.registry import PluginRegistry, load_plugins
from gateway.sandbox import make_app as make_sandbox
from gateway.testing.live_gateway import PATIENCE, SettledEvents, serving

__all__ = ["PATIENCE", "Running", "SettledEvents", "running", "sandboxed", "serving"]


@dataclass
class Running:
    """A running gateway, its sandbox, and a client."""

    gateway: Gateway
    url: str
    sandbox: str
    client: aiohttp.ClientSession
    watch: SettledEvents

    async def journal(self, vendor: str = "") -> list[dict[str, Any]]:
        """Return what the sandbox received, oldest first."""
        query = f"?vendor={vendor}" if vendor else ""
        async with self.client.get(f"{self.sandbox}/_sandbox/requests{query}") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def fault(self, **fault: Any) -> None:
        """Add a fault to the sandbox."""
        async with self.client.post(f"{self.sandbox}/_sandbox/faults", json=fault) as answer:
            assert answer.status < 300, await answer.text()


@asynccontextmanager
async def sandboxed() -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Run a sandbox of all vendors; yield its address and a client."""
    sandboxes = [sandbox() for sandbox in load_plugins().sandboxes.values()]
    async with (
        serving(make_sandbox(sandboxes, {})) as url,
        aiohttp.ClientSession() as client,
    ):
        yield url, client


@asynccontextmanager
async def running(
    folder: Path, config: Callable[[str], str], plugins: Iterable[types.ModuleType] = ()
) -> AsyncIterator[Running]:
    """Run a sandbox and a gateway; *config* returns the configuration for the sandbox's address."""
    watch = SettledEvents()
    registry: PluginRegistry = load_plugins([watch.plugin(), *plugins])
    sandboxes = [sandbox() for sandbox in registry.sandboxes.values()]
    async with serving(make_sandbox(sandboxes, {})) as sandbox:
        path = folder / "gateway.toml"
        path.write_text(config(sandbox))
        gateway = Gateway(load_config(path, registry), registry)
        async with serving(gateway) as url, aiohttp.ClientSession() as client:
            yield Running(gateway, url, sandbox, client, watch)
