"""Rounds of faults: vendors that fail in every way, and a gateway that is ended in the middle."""

import asyncio
import random
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, NamedTuple

from tests.e2e.process import LAUNCHER, GatewayProcess, gateway_process
from tests.soak.faults import Clock, SmallDisk
from tests.soak.ledger import Judgement, dead_letters, judge, left_over, owed
from tests.soak.load import Load
from tests.soak.marks import config
from tests.soak.vendor import OK, Behaviour, Vendor

End = Literal["kill", "term"]
CHAOS: Mapping[Behaviour, float] = {
    "ok": 150, "slow": 10, "hang": 1, "reset": 8, "500": 10, "429": 1, "401": 1, "400": 6,
}  # fmt: skip
BROKEN: Mapping[Behaviour, float] = {"500": 3, "reset": 1, "401": 0.1}
MOODS: tuple[Mapping[Behaviour, float], ...] = (OK, CHAOS, CHAOS, BROKEN)
DELIVERY = """
retry_min = "20ms"
retry_max = "150ms"
timeout = "2s"
"""
JUMPS = (-86_400, -7_200, -30, 0, 45, 3_600, 100_000)
"""Seconds by which a clock may be wrong."""
SETTLING = 60.0
"""Seconds after which what is owed should have arrived, once all faults are over."""


class Round(NamedTuple):
    """What happened in one."""

    end: End
    acknowledged: int
    moods: tuple[str, ...]


class Chaos:
    """A gateway as a process of its own, its vendors, its client, and dice.

    Args:
        folder: for the configuration and the spool.
        vendors: the destinations.
        users: how many send at the same time.
        seed: of the dice.
        clock: jumps in every round.
        disk: is full for a moment in every round; the spool is kept on it.
    """

    def __init__(
        self,
        folder: Path,
        vendors: Sequence[Vendor],
        users: int,
        seed: int,
        *,
        clock: Clock | None = None,
        disk: SmallDisk | None = None,
    ) -> None:
        self.spool = (disk.folder if disk else folder) / "spool"
        self._clock = clock
        self._disk = disk
        self.vendors = vendors
        self.load = Load(users, pause=0.001)
        self._dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        self._path = folder / "gateway.toml"
        ports = {vendor.name: vendor.port for vendor in vendors}
        self._path.write_text(config(str(self.spool), ports, DELIVERY))
        self.crashes = 0

    async def round(self, end: End, events: int) -> Round:
        """Run the gateway until about so many events are acknowledged; then *end* it."""
        moods = [await self._humour(vendor) for vendor in self.vendors]
        before = len(self.load.acknowledged)
        async with self._gateway() as gateway:
            self.load.aim(gateway.url)
            goal = before + self._dice.randint(events // 2, events)
            await self._mischief(before, goal)
            await self.load.reaches(goal)
            if end == "kill":
                self.crashes += 1
                gateway.kill()
                await gateway.ended()
            else:
                gateway.process.terminate()
                status = await gateway.ended()
                if status:
                    raise RuntimeError(f"ended with {status}: {gateway.lines[-5:]}")
            await self.load.rest()
        return Round(end, len(self.load.acknowledged) - before, tuple(moods))

    async def settle(self) -> Judgement:
        """End all faults, let everything arrive, and judge."""
        for vendor in self.vendors:
            vendor.weights = OK
            await vendor.down()
            await vendor.up()
        if self._clock:
            self._clock.jump(min(JUMPS))
        late = ""
        async with self._gateway() as gateway:
            self.load.aim(gateway.url)
            await self.load.everyone()
            await self.load.stop()
            try:
                await asyncio.gather(*(self._arrived(vendor) for vendor in self.vendors))
            except TimeoutError:
                late = f"not settled in {SETTLING:g} s"
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.ended()
        verdict = judge(
            self.load.acknowledged, self.load.unsure, self.vendors, dead_letters(self.spool),
            once=not self.crashes,
        )  # fmt: skip
        verdict.complaints += [late] if late else []
        pending = await left_over(self.spool)
        verdict.complaints += [f"{name}: still pending: {depth}" for name, depth in pending.items()]
        return verdict

    def _gateway(self) -> AbstractAsyncContextManager[GatewayProcess]:
        return gateway_process(
            self._path, launcher=self._clock.launcher if self._clock else LAUNCHER
        )

    async def _mischief(self, begin: int, end: int) -> None:
        """Set the clock and fill the disk, between so many and so many acknowledged events."""
        for part in (1, 2, 3):
            await self.load.reaches(begin + (end - begin) * part // 4)
            if self._clock:
                self._clock.jump(self._dice.choice(JUMPS))
            if self._disk and part == 2:
                self._disk.fill()
                await self.load.turned(self.load.turned_away + 1)
                self._disk.free()

    async def _arrived(self, vendor: Vendor) -> None:
        must = owed(self.load.acknowledged, vendor.name)
        left = must - vendor.accepted.keys() - vendor.refused

        def all_of_it(told: Vendor) -> bool:
            while left:
                mark = next(iter(left))
                if mark not in told.accepted and mark not in told.refused:
                    return False
                left.discard(mark)
            return True

        await vendor.until(all_of_it, SETTLING)

    async def _humour(self, vendor: Vendor) -> str:
        await vendor.down()
        vendor.weights = self._dice.choice(MOODS)
        if self._dice.random() < 0.2:
            return "down"
        await vendor.up()
        return "ok" if vendor.weights is OK else "chaos" if vendor.weights is CHAOS else "broken"
