"""Run rounds of chaos: bad vendors, a busy operator, bursts, clients that leave, a sudden end."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, NamedTuple

from tests.e2e.process import LAUNCHER, GatewayProcess, gateway_process
from tests.soak.faults import Clock, SmallDisk
from tests.soak.ledger import Judgement, dead_letters, judge, left_over, repeated, unbalanced
from tests.soak.load import Load, pour
from tests.soak.operator import MEANWHILE, Act, Operator, Setup
from tests.soak.vendor import OK, Behaviour, Vendor

End = Literal["kill", "term"]
CHAOS: Mapping[Behaviour, float] = {
    "ok": 150, "slow": 10, "hang": 1, "reset": 8, "500": 10, "429": 1, "401": 1, "400": 6,
}  # fmt: skip
BROKEN: Mapping[Behaviour, float] = {"500": 3, "reset": 1, "401": 0.1}
VENDOR_WEIGHTS: tuple[Mapping[Behaviour, float], ...] = (OK, CHAOS, CHAOS, BROKEN)
SURE: tuple[Behaviour, ...] = ("ok", "slow", "reset", "500", "400")
"""Behaviours of a vendor in chaos that must occur among `ENOUGH` requests."""
ENOUGH = 400
DELIVERY = """
retry_min = "20ms"
retry_max = "150ms"
timeout = "2s"
"""
PATIENT = 'timeout = "2s"'
"""Default delivery settings, except for a short timeout."""
DISLIKES: Mapping[int, Behaviour] = {0: "403", 1: "500", 2: "413", 3: "400", 4: "hang"}
"""How vendors react to disliked events, by event number modulo `OF`."""
OF = 211
"""One in so many events is disliked in each of these ways."""
BURST, TOGETHER, CROWD = 240, 80, 60
"""Events in one user's burst, events per request of it, and users in one source's burst."""
FAR = 100_000
"""Numbers of users who send only a burst start here."""
JUMPS = (-86_400, -7_200, -30, 0, 45, 3_600, 100_000)
"""Offsets of the clock, in seconds."""
SETTLING = 60.0
"""Seconds without progress, while something is pending and no fault is on, that fail a run."""
ROUND_TIMEOUT = 900.0
"""Seconds after which a round, or settling, is given up."""


class Round(NamedTuple):
    """What happened in one round."""

    end: End
    acknowledged: int
    states: tuple[str, ...]
    acts: tuple[Act, ...] = ()


class FurtherFaults(NamedTuple):
    """Further faults of a run, beside failing vendors and a gateway that ends; none by default."""

    acts: Sequence[Act] = ()
    """The operator's actions in every round, in this order."""
    dislikes: bool = False
    """Vendors dislike some events (`DISLIKES`) until the run settles."""
    bursts: bool = False
    """In every round one user sends a burst, and one source too."""
    leaves: float = 0.0
    """Probability that a client leaves without waiting for the response."""
    delivery: str = DELIVERY
    """Lines for every `[destinations.*]` table."""
    pause: float = 0.001
    """Seconds between a response and the user's next request."""


NO_FURTHER_FAULTS = FurtherFaults()


class Chaos:
    """A gateway process with vendors, a client and random faults.

    Args:
        folder: for the configuration and the spool.
        vendors: the destinations.
        users: the number of concurrent users.
        seed: of the random faults.
        clock: jumps in every round, if given.
        disk: holds the spool and is full for a moment in every round, if given.
        further: further faults.
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
        further: FurtherFaults = NO_FURTHER_FAULTS,
    ) -> None:
        self.spool = (disk.folder if disk else folder) / "spool"
        self._clock = clock
        self._disk = disk
        self.vendors = vendors
        self.load = Load(users, pause=further.pause, leaves=further.leaves, seed=seed)
        self._further = further
        self._dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        ports = {vendor.name: vendor.port for vendor in vendors}
        setup = Setup(folder / "gateway.toml", self.spool, ports, further.delivery)
        self._path = setup.path
        self.operator = Operator(setup, self.load, seed)
        self.crashes = self.bursts = self.reloads = 0
        self._chaotic = False
        self._repeats: list[str] = []
        for vendor in vendors if further.dislikes else ():
            vendor.dislikes = lambda mark: DISLIKES.get((mark.user + mark.number) % OF)

    async def round(self, end: End, events: int) -> Round:
        """Run the gateway until half to all of *events* are acknowledged; then *end* it.

        Raises:
            RuntimeError: the gateway failed when it was asked to stop.
            TimeoutError: the round took more than `ROUND_TIMEOUT` seconds.
        """
        states = [await self._set_state(vendor) for vendor in self.vendors]
        before = len(self.load.acknowledged)
        async with asyncio.timeout(ROUND_TIMEOUT), self._gateway() as gateway:
            self.load.aim(gateway.url)
            goal = before + self._dice.randint(events // 2, events)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._act(gateway))
                group.create_task(self._faults(gateway, before, goal))
            if self._further.acts:
                self.operator.begin(gateway)  # so that the end comes in the middle of a reload
            if end == "kill":
                if not self.crashes:
                    self._repeats = repeated(self.vendors)
                self.crashes += 1
                gateway.kill()
                await gateway.ended()
            else:
                gateway.process.terminate()
                status = await gateway.ended()
                if status:
                    raise RuntimeError(f"ended with {status}: {gateway.lines[-5:]}")
            await self.load.rest()
            self.reloads += sum(1 for line in gateway.lines if line["event"] == "reloaded")
        acknowledged = len(self.load.acknowledged) - before
        return Round(end, acknowledged, tuple(states), tuple(self._further.acts))

    def missing_faults(self) -> list[str]:
        """Return a complaint for each fault that should have happened and did not."""
        further, answered = self._further, sum((v.answered for v in self.vendors), Counter())
        disliked = sum((v.disliked for v in self.vendors), Counter[str]())
        enough = self._chaotic and answered.total() >= ENOUGH * len(self.vendors)
        missed: list[str] = [what for what in (SURE if enough else ()) if not answered[what]]
        missed += [f"disliked, {what}" for what in _disliking(further) if not disliked[what]]
        missed += [act for act in further.acts if not self.operator.done[act]]
        missed += ["a client that left"] if further.leaves and not self.load.left else []
        missed += ["a burst"] if further.bursts and not self.bursts else []
        missed += ["a jump of the clock"] if self._clock and not self._clock.jumps else []
        missed += ["a full disk"] if self._disk and not self._disk.fills else []
        return [f"it never happened: {what}" for what in missed]

    async def settle(self) -> Judgement:
        """End all faults, deliver everything, and judge the run.

        Raises:
            TimeoutError: it took more than `ROUND_TIMEOUT` seconds.
        """
        for vendor in self.vendors:
            vendor.weights, vendor.dislikes = OK, lambda _: None
            await vendor.down()
            await vendor.up()
        if self._clock:
            self._clock.jump(min(JUMPS))
        late = ""
        async with asyncio.timeout(ROUND_TIMEOUT), self._gateway() as gateway:
            self.load.aim(gateway.url)
            await self.load.everyone()
            await self.load.stop()
            if not await self.operator.empty(gateway, SETTLING):
                late = f"no progress for {SETTLING:g} s, with deliveries pending"
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.ended()
        verdict = judge(
            self.load.acknowledged, self.load.unsure, self.vendors, dead_letters(self.spool),
            once=not self.crashes, perhaps=self.operator.perhaps(),
        )  # fmt: skip
        verdict.complaints += self._repeats
        verdict.complaints += self.missing_faults()
        verdict.complaints += [late] if late else []
        verdict.complaints += unbalanced(self.spool)
        pending = await left_over(self.spool)
        verdict.complaints += [f"{name}: still pending: {depth}" for name, depth in pending.items()]
        return verdict

    def _gateway(self) -> AbstractAsyncContextManager[GatewayProcess]:
        return gateway_process(
            self._path, launcher=self._clock.launcher if self._clock else LAUNCHER
        )

    async def _act(self, gateway: GatewayProcess) -> None:
        """Do the operator's actions one after the other."""
        for act in self._further.acts:
            await self._more(MEANWHILE)
            await self.operator.act(act, gateway)

    async def _more(self, events: int) -> None:
        await self.load.reaches(len(self.load.acknowledged) + events)

    async def _burst(self, gateway: GatewayProcess) -> None:
        """Send a burst of one user, then a burst of many users of one source."""
        self.bursts += 1
        first = FAR * self.bursts
        await self.load.burst(first + 3, BURST, TOGETHER)
        began = time.monotonic()
        sent = await pour(gateway.url, BURST, CROWD, first=first)
        self.load.sent.update(dict.fromkeys(sent, began))
        self.load.acknowledged.update(dict.fromkeys(sent, time.monotonic()))

    async def _faults(self, gateway: GatewayProcess, begin: int, end: int) -> None:
        """Set the clock, fill the disk and send bursts between event *begin* and event *end*."""
        for part in (1, 2, 3):
            await self.load.reaches(begin + (end - begin) * part // 4)
            if self._further.bursts and part == 1:
                await self._burst(gateway)
            if self._clock:
                self._clock.jump(self._dice.choice(JUMPS))
            if self._disk and part == 2:
                self._disk.fill()
                await self.load.turned(self.load.turned_away + 1)
                self._disk.free()
        await self.load.reaches(end)

    async def _set_state(self, vendor: Vendor) -> str:
        await vendor.down()
        vendor.weights = self._dice.choice(VENDOR_WEIGHTS)
        if self._dice.random() < 0.2:
            return "down"
        await vendor.up()
        self._chaotic = self._chaotic or vendor.weights is CHAOS
        return "ok" if vendor.weights is OK else "chaos" if vendor.weights is CHAOS else "broken"


def _disliking(further: FurtherFaults) -> set[Behaviour]:
    return set(DISLIKES.values()) if further.dislikes else set()
