"""An operator who changes a running gateway under load, and knows which losses that explains."""

import asyncio
import random
import time
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import aiohttp
import orjson

from tests.e2e.process import GatewayProcess
from tests.e2e.running import PATIENCE
from tests.soak.load import Load
from tests.soak.marks import EventMark, configured, destination

Act = Literal["change", "remove", "unroute", "storm", "pause", "drain", "replay"]
ACTS: tuple[Act, ...] = get_args(Act)
MEANWHILE = 40
"""Events that are acknowledged before an operator reverts a change."""
STORM = 8
"""Reloads in a storm."""
LOOK = 0.5
"""Seconds between two checks of what is pending."""
INTENT = {"x-gateway-admin": "1"}


class Setup:
    """A configuration file that an operator changes.

    Args:
        path: the file.
        spool: the spool's folder.
        ports: by destination.
        delivery: lines for every destination's table.
        server: lines for `[server]`.
        more: lines for `[spool]`.
    """

    def __init__(
        self,
        path: Path,
        spool: Path,
        ports: Mapping[str, int],
        delivery: str,
        *,
        server: str = "",
        more: str = "",
    ) -> None:
        self.path = path
        self.present = list(ports)
        self.routed = list(ports)
        self._spool = str(spool)
        self._ports = ports
        self._server = server
        self._more = more
        self._keys = {name: tomllib.loads(delivery) for name in ports}
        self.write()

    def change(self, name: str) -> None:
        """Change a setting of a destination that needs a new worker."""
        keys = self._keys[name]
        keys["burst"] = keys.get("burst", 1) + 1

    def write(self) -> None:
        """Replace the file atomically, as an editor does."""
        tables = {}
        for name in self.present:
            lines = [f"{key} = {orjson.dumps(v).decode()}" for key, v in self._keys[name].items()]
            tables[name] = destination(name, self._ports[name], "\n".join(lines))
        to = [name for name in self.routed if name in self.present]
        text = configured(self._spool, tables, to, server=self._server, spool=self._more)
        new = self.path.with_suffix(".new")
        new.write_text(text + '[admin]\nlisten = "127.0.0.1:0"\n')
        new.replace(self.path)


class Operator:
    """Acts on random destinations while events flow.

    Args:
        setup: the configuration.
        load: the client that sends meanwhile.
        seed: of the random choices.

    Attributes:
        done: how often each act was done.
        absent: by destination, the spans of time in which events may or may not go to it.
    """

    def __init__(self, setup: Setup, load: Load, seed: int) -> None:
        self.setup = setup
        self.done: Counter[str] = Counter()
        self.absent: dict[str, list[tuple[float, float]]] = {}
        self._load = load
        self._dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable

    def perhaps(self) -> dict[str, set[EventMark]]:
        """Return, by destination, the acknowledged events that may or may not go to it."""
        load = self._load
        return {
            name: {
                mark
                for mark, at in load.acknowledged.items()
                if any(load.sent[mark] <= end and begin <= at for begin, end in spans)
            }
            for name, spans in self.absent.items()
        }

    async def act(self, what: Act, gateway: GatewayProcess) -> None:
        """Do *what* to a random destination, and revert it."""
        name = self._dice.choice(self.setup.present)
        await getattr(self, what)(gateway, name)
        self.done[what] += 1

    def begin(self, gateway: GatewayProcess) -> None:
        """Request a reload with a change; do not wait for it."""
        self.setup.change(self._dice.choice(self.setup.present))
        self.setup.write()
        gateway.hang_up()
        self.done["begun"] += 1

    async def change(self, gateway: GatewayProcess, name: str) -> None:
        """Change a destination, so that it gets a new worker."""
        self.setup.change(name)
        await self._reload(gateway, "changed", name)

    async def remove(self, gateway: GatewayProcess, name: str) -> None:
        """Remove a destination from the configuration, and put it back a little later."""
        place, began = self.setup.present.index(name), time.monotonic()
        self.setup.present.remove(name)
        await self._reload(gateway, "removed", name)
        await self._meanwhile()
        self.setup.present.insert(place, name)
        await self._reload(gateway, "added", name)
        self._away(name, began)

    async def unroute(self, gateway: GatewayProcess, name: str) -> None:
        """Remove a destination from the route for a while."""
        began = time.monotonic()
        self.setup.routed.remove(name)
        self.setup.write()
        await self.call(gateway, "/config/reload")
        await self._meanwhile()
        self.setup.routed.append(name)
        self.setup.write()
        await self.call(gateway, "/config/reload")
        self._away(name, began)

    async def storm(self, gateway: GatewayProcess, name: str) -> None:
        """Reload repeatedly, before the last reload is over, with a different change each time."""
        began, since = time.monotonic(), len(gateway.lines)
        for number in range(STORM):
            if number % 4 == 1:
                self.setup.present.remove(name)
            elif number % 4 == 3:
                self.setup.present.append(name)
            else:
                self.setup.change(self._dice.choice(self.setup.present))
            self.setup.write()
            gateway.hang_up()
            await self._load.reaches(len(self._load.acknowledged) + 3)
        await self.call(gateway, "/config/reload")
        self._away(name, began)
        self.done["reloads"] += sum(1 for x in gateway.lines[since:] if x["event"] == "reloaded")

    async def pause(self, gateway: GatewayProcess, name: str) -> None:
        """Pause a destination and resume it a little later."""
        await self.call(gateway, f"/destinations/{name}/pause")
        await self._meanwhile()
        await self.call(gateway, f"/destinations/{name}/resume")

    async def drain(self, gateway: GatewayProcess, name: str) -> int:
        """Drain a destination; return about how much is pending."""
        found = await self.call(gateway, f"/destinations/{name}/drain")
        return sum(found[where] for where in ("backlog", "retrying", "parked"))

    async def empty(self, gateway: GatewayProcess, patience: float) -> bool:
        """Drain all destinations until nothing is pending; return False if that fails.

        It fails when nothing has changed for *patience* seconds.
        """
        owed: list[int] = []
        moved = time.monotonic()
        while time.monotonic() - moved < patience:
            before, owed = owed, [await self.drain(gateway, name) for name in self.setup.present]
            if not any(owed):
                return True
            if owed != before:
                moved = time.monotonic()
            await asyncio.sleep(LOOK)
        return False

    async def replay(self, gateway: GatewayProcess, name: str) -> None:
        """Replay a destination's dead letters."""
        await self.call(gateway, "/dead-letters/replay", {"filter": {"destination": name}})

    async def call(self, gateway: GatewayProcess, path: str, body: object = None) -> dict[str, Any]:
        """Post to the admin API, repeatedly while the disk is full; return the response.

        Raises:
            RuntimeError: the call is refused.
            TimeoutError: the disk stays full.
        """
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(headers=INTENT) as client:
            while True:
                async with client.post(gateway.admin + path, json=body) as answer:
                    said = await answer.read()
                if answer.status == 200:
                    response: dict[str, Any] = orjson.loads(said)
                    return response
                if answer.status != 503:
                    raise RuntimeError(f"{path}: {answer.status} {said!r}")
                await asyncio.sleep(LOOK)

    async def _reload(self, gateway: GatewayProcess, how: str, name: str) -> None:
        """Reload, repeatedly while the disk is full, until *name* is reported as *how*."""
        since = len(gateway.lines)
        self.setup.write()
        refused = True
        while refused:
            gateway.hang_up()
            line = await gateway.after(
                since,
                ("reloaded", "reload_failed"),
                lambda line: name in str(line.get(how, name)),
            )
            refused = line["event"] == "reload_failed"
            since = gateway.lines.index(line) + 1

    async def _meanwhile(self) -> None:
        await self._load.reaches(len(self._load.acknowledged) + MEANWHILE)

    def _away(self, name: str, began: float) -> None:
        self.absent.setdefault(name, []).append((began, time.monotonic()))
