"""Set up a gateway process, scripted vendors and a client for a test."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.process import LAUNCHER, GatewayProcess, gateway_process
from tests.e2e.running import PATIENCE
from tests.soak.ledger import Judgement, dead_letters, judge, owed, unbalanced
from tests.soak.load import Load
from tests.soak.operator import Operator, Setup
from tests.soak.vendor import Vendor, vendors

USERS = 12
PROMPT = 'retry_min = "20ms"\nretry_max = "200ms"\ntimeout = "1s"\n'


class ProcessHarness(NamedTuple):
    """A gateway process, its vendors by name, a client that has not started, and an operator."""

    gateway: GatewayProcess
    vendors: dict[str, Vendor]
    load: Load
    spool: Path
    path: Path
    """The configuration file."""
    operator: Operator

    @property
    def setup(self) -> Setup:
        """Return the configuration, to change it."""
        return self.operator.setup

    async def send(self, events: int) -> None:
        """Send until about *events* events are acknowledged."""
        self.load.aim(self.gateway.url)
        self.load.start()
        await self.load.reaches(events)
        await self.load.stop()

    async def arrived(self, *names: str) -> None:
        """Wait until these vendors have everything meant for them, and have responded."""
        for name in names:
            much = len(owed(self.load.acknowledged, name))
            vendor = self.vendors[name]
            await vendor.until(
                lambda v, much=much: (  # type: ignore[misc]  # bound now
                    len(v.accepted) + len(v.refused) >= much and not v.answering
                ),
                PATIENCE,
            )

    def judged(self, *, once: bool = True) -> Judgement:
        """Return the ledger's judgement; the gateway must be stopped."""
        verdict = judge(
            self.load.acknowledged, self.load.unsure, self.vendors.values(),
            dead_letters(self.spool), once=once, perhaps=self.operator.perhaps(),
        )  # fmt: skip
        verdict.complaints += unbalanced(self.spool)
        return verdict

    async def ends(self) -> None:
        """Stop the gateway, so that it records all progress."""
        self.gateway.process.terminate()
        assert await self.gateway.ended() == 0


@asynccontextmanager
async def process_harness(
    folder: Path,
    *names: str,
    delivery: str = PROMPT,
    users: int = USERS,
    server: str = "",
    more: str = "",
    pause: float = 0.005,
    launcher: Sequence[str] = LAUNCHER,
) -> AsyncIterator[ProcessHarness]:
    """Run vendors and a gateway that sends them everything.

    Args:
        folder: for the configuration and the spool.
        names: the vendors' names.
        delivery: lines for every destination's table.
        users: the number of concurrent users.
        server: lines for `[server]`.
        more: lines for `[spool]`.
        pause: seconds between a response and the user's next request.
        launcher: Python's arguments that run the gateway.
    """
    async with vendors(*names, traced=True) as made:
        spool = folder / "spool"
        ports = {v.name: v.port for v in made}
        setup = Setup(folder / "gateway.toml", spool, ports, delivery, server=server, more=more)
        async with gateway_process(setup.path, launcher=launcher) as gateway:
            load = Load(users, pause=pause)
            by_name = {v.name: v for v in made}
            operator = Operator(setup, load, seed=1)
            yield ProcessHarness(gateway, by_name, load, spool, setup.path, operator)
            await load.stop()
