"""Run a gateway in the test's own process, so that tests can inject faults into its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.app import Gateway
from gateway.config.loader.load import load as load_config
from gateway.plugin.registry import load_plugins
from gateway.reload import Reloader
from tests.e2e.running import PATIENCE, serving
from tests.soak.ledger import owed
from tests.soak.load import Load
from tests.soak.operator import Setup
from tests.soak.process_harness import PROMPT, USERS
from tests.soak.vendor import Vendor, vendors

BRIEF = 'drain_timeout = "200ms"'


class InProcessHarness(NamedTuple):
    """A gateway, its vendors by name, and a client that has not started."""

    gateway: Gateway
    vendors: dict[str, Vendor]
    load: Load
    setup: Setup
    reloading: Reloader
    url: str

    async def send(self, events: int) -> None:
        """Send until about *events* more events are acknowledged."""
        self.load.aim(self.url)
        self.load.start()
        await self.load.reaches(len(self.load.acknowledged) + events)
        await self.load.stop()

    async def arrived(self, name: str, patience: float = PATIENCE) -> None:
        """Wait until a vendor has accepted every event that is meant for it.

        Raises:
            TimeoutError: it has not after *patience* seconds.
        """
        must = owed(self.load.acknowledged, name)
        await self.vendors[name].until(lambda v: must <= v.accepted.keys(), patience)

    async def reload(self) -> None:
        """Write the setup and reload it."""
        self.setup.write()
        await self.reloading.reload_now()


@asynccontextmanager
async def in_process_harness(
    folder: Path,
    *names: str,
    delivery: str = PROMPT,
    users: int = USERS,
    server: str = BRIEF,
    more: str = "",
) -> AsyncIterator[InProcessHarness]:
    """Run vendors and a gateway that sends them everything, in this process."""
    async with vendors(*names, traced=True) as made:
        ports = {vendor.name: vendor.port for vendor in made}
        setup = Setup(
            folder / "gateway.toml", folder / "spool", ports, delivery, server=server, more=more
        )
        registry = load_plugins()
        gateway = Gateway(load_config(setup.path, registry), registry)
        async with serving(gateway) as url:
            sender = Load(users, pause=0.005)
            by_name = {vendor.name: vendor for vendor in made}
            yield InProcessHarness(gateway, by_name, sender, setup, Reloader(gateway), url)
            await sender.stop()
