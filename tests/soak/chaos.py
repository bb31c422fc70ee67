"""Rounds of faults: vendors that fail in every way, and a gateway that is ended in the middle."""

import asyncio
import random
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tests.e2e.process import gateway_process
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
    """

    def __init__(self, folder: Path, vendors: Sequence[Vendor], users: int, seed: int) -> None:
        self.spool = folder / "spool"
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
        async with gateway_process(self._path) as gateway:
            self.load.aim(gateway.url)
            await self.load.reaches(before + self._dice.randint(events // 2, events))
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
        late = ""
        async with gateway_process(self._path) as gateway:
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
