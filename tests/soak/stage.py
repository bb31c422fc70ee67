"""One gateway process, its scripted vendors and its client, set up for a test."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.process import LAUNCHER, GatewayProcess, gateway_process
from tests.e2e.running import PATIENCE
from tests.soak.ledger import Judgement, dead_letters, judge, owed
from tests.soak.load import Load
from tests.soak.marks import config
from tests.soak.vendor import Vendor, vendors

USERS = 12
PROMPT = 'retry_min = "20ms"\nretry_max = "200ms"\ntimeout = "1s"\n'


class Stage(NamedTuple):
    """A gateway process, its vendors by name, and a client that has not begun."""

    gateway: GatewayProcess
    vendors: dict[str, Vendor]
    load: Load
    spool: Path
    path: Path
    """The configuration, for another process."""

    async def send(self, events: int) -> None:
        """Let about so many events be acknowledged."""
        self.load.aim(self.gateway.url)
        self.load.start()
        await self.load.reaches(events)
        await self.load.stop()

    async def arrived(self, *names: str) -> None:
        """Wait until these destinations have all that they are owed."""
        for name in names:
            much = len(owed(self.load.acknowledged, name))
            vendor = self.vendors[name]
            await vendor.until(
                lambda told, much=much: len(told.accepted) + len(told.refused) >= much,  # type: ignore[misc]  # bound now
                PATIENCE,
            )

    def judged(self, *, once: bool = True) -> Judgement:
        """Return what the ledger says, of a gateway that is stopped."""
        return judge(
            self.load.acknowledged, self.load.unsure, self.vendors.values(),
            dead_letters(self.spool), once=once,
        )  # fmt: skip

    async def ends(self) -> None:
        """Stop the gateway, so that all its progress is recorded."""
        self.gateway.process.terminate()
        assert await self.gateway.ended() == 0


@asynccontextmanager
async def stage(
    folder: Path,
    *names: str,
    delivery: str = PROMPT,
    users: int = USERS,
    server: str = "",
    launcher: Sequence[str] = LAUNCHER,
) -> AsyncIterator[Stage]:
    """Run vendors, and a gateway that sends them everything."""
    async with vendors(*names, traced=True) as made:
        path = folder / "gateway.toml"
        spool = folder / "spool"
        path.write_text(config(str(spool), {v.name: v.port for v in made}, delivery, server=server))
        async with gateway_process(path, launcher=launcher) as gateway:
            load = Load(users, pause=0.005)
            yield Stage(gateway, {v.name: v for v in made}, load, spool, path)
            await load.stop()
