"""``gateway spool move``: from one machine to a cluster and back, killed on both ways."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson

from tests.cluster.servers import NatsServers, free_ports
from tests.e2e.configs import PROMPT_RETRIES
from tests.e2e.process import ROOT, GatewayProcess, environment, start_gateway
from tests.soak.marks import EventMark, batches, config, request
from tests.soak.raw_http import read_message, status_of
from tests.soak.vendor import Vendor, vendors

USERS = tuple(user for user in range(12) if not batches(user))
ROUNDS = range(1, 13)
LATE = tuple(user for user in range(100, 108) if not batches(user))
"""Users who come while the spool moves."""
PADDING = "x" * 15_000
"""Makes several batches of the move."""
PATIENCE = 60.0
TOKEN = "a-token-for-tests-only"  # noqa: S105 - it opens nothing
MOVER = """
import runpy
from gateway.spool.jetstream import presence
presence.WARM_UP = 2 * presence.INTERVAL
runpy.run_module("gateway", run_name="__main__", alter_sys=True)
"""
"""The command; it waits for the signs of other gateways only as long as one that runs needs."""
HEADERS = {"authorization": f"Bearer {TOKEN}"}


class Machine:
    """A configuration with an admin API, and its gateway."""

    def __init__(self, folder: Path, made: Iterable[Vendor]) -> None:
        folder.mkdir()
        self.path = folder / "gateway.toml"
        (self._admin,) = free_ports(1)
        ports = dict(zip(("chrts", "growlytics"), (one.port for one in made), strict=True))
        text = config(str(folder / "spool"), ports, PROMPT_RETRIES)
        admin = f'[admin]\nlisten = "127.0.0.1:{self._admin}"\ntoken = "{TOKEN}"\n'
        self.path.write_text(text + admin)

    async def ask(self, path: str) -> Any:
        """Return an answer of the admin API."""
        async with aiohttp.ClientSession(headers=HEADERS) as client:
            return await self._get(client, path)

    async def until(self, least: int, name: str, what: str = "pending") -> None:
        """Wait until so many deliveries to a destination are pending, or dead letters."""
        async with aiohttp.ClientSession(headers=HEADERS) as client:
            while True:
                found = (await self._get(client, "/destinations"))["destinations"]
                if next(one[what] for one in found if one["name"] == name) >= least:
                    return
                await asyncio.sleep(0.02)  # nothing signals it

    async def _get(self, client: aiohttp.ClientSession, path: str) -> Any:
        url = f"http://127.0.0.1:{self._admin}/api/v1{path}"
        async with client.get(url) as answer:
            return await answer.json()


async def started(stack: AsyncExitStack, machine: Machine) -> GatewayProcess:
    """Start a machine's gateway, which is killed at the end."""
    process = await start_gateway(machine.path)
    stack.push_async_callback(process.killed)
    return process


async def send(node: GatewayProcess, marks: Iterable[EventMark]) -> None:
    """Send events, one after the other."""
    host, port = node.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for mark in marks:
        writer.write(request(*mark, PADDING)[0])
        assert status_of((await read_message(reader))[0]) == 200
    writer.close()


async def run_move(old: Machine, new: Machine) -> asyncio.subprocess.Process:
    """Start a move."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", MOVER, "spool", "move", str(old.path), str(new.path), "--json",
        cwd=ROOT, env=environment(), stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


async def finished(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Return the report of a move that ended well."""
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = orjson.loads(out)
    return found


async def moved(
    old: Machine,
    new: Machine,
    node: GatewayProcess,
    marks: Iterable[EventMark],
) -> None:
    """Move a spool while events come; kill the command when half of it has moved."""
    late = asyncio.ensure_future(send(node, marks))
    whole = len(ROUNDS) * len(USERS)
    process = await run_move(old, new)
    killing = asyncio.ensure_future(new.until(whole // 2, "chrts"))
    await asyncio.wait(
        {killing, ended := asyncio.ensure_future(process.communicate())},
        return_when=asyncio.FIRST_COMPLETED,
    )
    if process.returncode is None:
        process.kill()
    await ended
    killing.cancel()
    await late
    report = await finished(await run_move(old, new))
    assert not any(report["left"]["deliveries"].values())
    await new.until(whole, "chrts")


def check_deliveries(vendor: Vendor, sent: Iterable[EventMark]) -> None:
    """Check that a vendor got some events once, those who moved in each user's order."""
    for mark in sent:
        assert vendor.accepted[mark] == 1 or mark in vendor.unanswered, mark
    for user in USERS:
        numbers = [mark.number for mark in vendor.accepted if mark.user == user]
        assert numbers == sorted(numbers), user


async def test_a_spool_moves_to_a_cluster_and_back(
    tmp_path: Path, nats_cluster: NatsServers
) -> None:
    """Killed at any time, a move loses nothing, repeats nothing, and keeps each user's order."""
    spool = f'url = "{",".join(nats_cluster.urls)}"\nname = "moved-{uuid4().hex}"\n'
    spool += 'shards = 4\nmax_bytes = "100MiB"\n'
    async with vendors("chrts", "growlytics") as made, AsyncExitStack() as stack:
        crm, mail = made
        await crm.down()
        mail.weights = {"400": 1}
        one, three, back = [Machine(tmp_path / n, made) for n in ("one", "three", "back")]
        three.path.write_text(three.path.read_text().replace("[spool]\n", f"[spool]\n{spool}"))
        sent: list[EventMark] = []
        letters = 0
        nodes = await asyncio.gather(*[started(stack, machine) for machine in (one, three, back)])
        for number, (here, there) in enumerate(((one, three), (three, back))):
            old, new = nodes[number : number + 2]
            rounds = [n + number * len(ROUNDS) for n in ROUNDS]
            more = [EventMark(user, n) for n in rounds for user in USERS]
            await send(old, more)
            letters += sum(not mark.declined_by for mark in more)
            await here.until(letters, "growlytics", "dead_letters")
            old.process.terminate()
            assert await old.ended() == 0
            late = [EventMark(user, number + 1) for user in LATE]
            await moved(here, there, new, late)
            letters += len(LATE)
            sent += more + late
            await there.until(letters, "growlytics", "dead_letters")
            found = (await there.ask("/dead-letters?limit=500"))["dead_letters"]
            assert [one["reason"] for one in found] == ["HTTP 400: {}"] * letters
        await crm.up()
        await crm.until(lambda v: v.accepted.keys() >= set(sent), PATIENCE)
        check_deliveries(crm, sent)
