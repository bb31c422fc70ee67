"""Several gateways on one cluster of NATS, under faults of both: the ledger stays right."""

import asyncio
import contextlib
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from gateway.spool.jetstream.presence import LEASE
from tests.cluster.servers import NatsServers, nats_servers
from tests.e2e.configs import PROMPT_RETRIES
from tests.e2e.process import LAUNCHER, ROOT, GatewayProcess
from tests.soak.ledger import judge
from tests.soak.marks import EventMark, batches, config, request
from tests.soak.raw_http import read_message, status_of
from tests.soak.vendor import Vendor, vendors

Fault = Callable[["NodeCluster"], Awaitable[None]]
SHARDS, NODES = 6, 3
USERS = [user for user in range(32) if not batches(user)]
PATIENCE = 60.0
PAUSE = 0.05
"""Seconds between an answer and the user's next event."""


class NodeProcess:
    """A gateway of a cluster, started again after each end.

    Args:
        path: its configuration.
    """

    def __init__(self, path: Path) -> None:
        self.port = 0
        self.gateway: GatewayProcess
        self._path = path

    async def start(self) -> None:
        """Start it, and wait until it takes events."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *LAUNCHER, "run", "-c", str(self._path), stderr=PIPE, cwd=ROOT
        )
        self.gateway = GatewayProcess(process)
        self.port = int(str((await self.gateway.saw("listening"))["port"]))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.gateway.process.send_signal(number)

    async def end(self, by: signal.Signals) -> int:
        """End it by a signal; return its exit status."""
        self.send(by)
        return await self.gateway.ended()


class FaultReport(NamedTuple):
    """What users and the vendor noticed of one fault."""

    fault: str
    seconds: float
    answered: int
    repeats: int
    """Deliveries of what had been delivered, and was sent once."""
    slowest_answer: float
    """Seconds from a user's first try to the answer."""
    slowest_delivery: float
    """Seconds from the answer to the delivery."""


def table(reports: Iterable[FaultReport]) -> str:
    """Return reports as text."""
    lines = [f"{'fault':16}" + "".join(f"{name:>18}" for name in FaultReport._fields[1:])]
    for report in reports:
        figures = "".join(f"{value:18.{isinstance(value, float):d}f}" for value in report[1:])
        lines.append(f"{report.fault:16}{figures}")
    return "\n".join(lines)


class NodeCluster:
    """Nodes, their servers, a vendor that gets everything, and users who send without end."""

    def __init__(
        self, servers: NatsServers, vendor: Vendor, nodes: list[NodeProcess], name: str
    ) -> None:
        self.servers, self.vendor, self.nodes, self.name = servers, vendor, nodes, name
        self.acknowledged: dict[EventMark, float] = {}
        self.sent: dict[EventMark, float] = {}
        self.resent: set[EventMark] = set()
        self._users: list[asyncio.Task[None]] = []
        self._stopping = False

    def send(self) -> None:
        """Let all users send."""
        loop = asyncio.get_running_loop()
        self._users = [loop.create_task(self._user(user)) for user in USERS]

    async def _user(self, user: int) -> None:
        """Send events one after the other; one without success is sent again to another node."""
        number, turn = 1, user
        while not self._stopping:
            mark = EventMark(user, number)
            self.sent.setdefault(mark, time.monotonic())
            if await self._sent(mark, self.nodes[turn % len(self.nodes)].port):
                self.acknowledged[mark] = time.monotonic()
                number += 1
                await asyncio.sleep(PAUSE)
            else:
                self.resent.add(mark)
                turn += 1
                await asyncio.sleep(PAUSE)

    async def _sent(self, mark: EventMark, port: int) -> bool:
        writer = None
        try:
            async with asyncio.timeout(4):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(*mark)[0])
                head, _ = await read_message(reader)
                return status_of(head) == HTTPStatus.OK
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        finally:
            if writer:
                writer.transport.abort()

    async def goes_on(self) -> None:
        """Wait until an event of each user that was answered from now on is delivered."""
        begin = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await self._until(lambda: self._users_delivered(begin) == set(USERS))

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - many things change it
            await asyncio.sleep(PAUSE)

    def _users_delivered(self, since: float) -> set[int]:
        delivered = self.vendor.accepted
        return {m.user for m, at in self.acknowledged.items() if at >= since and m in delivered}

    def repeats(self) -> int:
        """Return how often an event was delivered again that its user sent once."""
        return sum(
            times - 1 for mark, times in self.vendor.accepted.items() if mark not in self.resent
        )

    async def suffers(self, fault: Fault) -> FaultReport:
        """Let a fault happen, and wait until every user's events go on."""
        begin, before = time.monotonic(), self.repeats()
        await fault(self)
        await self.goes_on()
        answered = {mark: at for mark, at in self.acknowledged.items() if at >= begin}
        arrived = self.vendor.when
        return FaultReport(
            fault.__name__,
            time.monotonic() - begin,
            len(answered),
            self.repeats() - before,
            max(at - self.sent[mark] for mark, at in answered.items()),
            max(arrived[mark] - at for mark, at in answered.items() if mark in arrived),
        )

    async def settled(self) -> None:
        """Stop the users, and wait until everything is delivered."""
        self._stopping = True
        await asyncio.gather(*self._users)
        async with asyncio.timeout(PATIENCE):
            await self._until(lambda: self.acknowledged.keys() <= self.vendor.accepted.keys())


def node_config(folder: Path, urls: list[str], name: str, port: int) -> Path:
    """Write the configuration of a node that delivers to the vendor at *port*."""
    folder.mkdir()
    spool = f'url = "{",".join(urls)}"\nname = "{name}"\nshards = {SHARDS}\nmax_bytes = "1GiB"'
    path = folder / "gateway.toml"
    path.write_text(config(str(folder / "own"), {"chrts": port}, PROMPT_RETRIES, spool=spool))
    return path


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[NodeCluster]:
    """Run three servers and three nodes that share the shards; at the end judge the ledger."""
    name, everything = f"t{uuid4().hex[:8]}", contextlib.ExitStack()
    with everything:
        servers = everything.enter_context(nats_servers(tmp_path / "nats", parted=True))
        async with vendors("chrts") as (vendor,):
            made = []
            for number in range(NODES):
                urls = servers.urls[number:] + servers.urls[:number]
                folder = tmp_path / f"node{number}"
                made.append(NodeProcess(node_config(folder, urls, name, vendor.port)))
            found = NodeCluster(servers, vendor, made, name)
            try:
                await asyncio.gather(*[node.start() for node in made])
                found.send()
                await found.goes_on()
                yield found
                await found.settled()
            finally:
                for node in made:
                    if node.gateway.process.returncode is None:
                        await node.end(signal.SIGKILL)
            verdict = judge(found.acknowledged, (), [vendor], {})
            assert not verdict.complaints, verdict.table()


async def killed_node(cluster: NodeCluster) -> None:
    """Kill a node; its shards are taken, and it comes back."""
    await cluster.nodes[0].end(signal.SIGKILL)
    await cluster.goes_on()
    await cluster.nodes[0].start()


async def paused_node(cluster: NodeCluster) -> None:
    """Pause a node for longer than a lease; it wakes up believing that it owns its shards."""
    cluster.nodes[1].send(signal.SIGSTOP)
    await asyncio.sleep(LEASE + 2)
    cluster.nodes[1].send(signal.SIGCONT)


async def killed_server(cluster: NodeCluster) -> None:
    """Kill the server that leads the log; another is elected."""
    leader = cluster.servers.leader(f"{cluster.name}_LOG")
    assert leader is not None
    await asyncio.to_thread(cluster.servers.kill, leader)
    await cluster.goes_on()
    await asyncio.to_thread(cluster.servers.start, leader)
    await asyncio.to_thread(cluster.servers.ready)


async def parted_server(cluster: NodeCluster) -> None:
    """Part one server, with the node that uses it, from the others."""
    cluster.servers.part([2], [0, 1])
    await asyncio.sleep(LEASE + 2)
    cluster.servers.join()


async def stopped_node(cluster: NodeCluster) -> None:
    """Stop a node by SIGTERM."""
    assert await cluster.nodes[2].end(signal.SIGTERM) == 0
    await cluster.goes_on()
    await cluster.nodes[2].start()


async def test_nothing_is_lost_and_first_deliveries_stay_in_order(
    nodes: NodeCluster, record_property: Callable[[str, str], None]
) -> None:
    """Whatever fails, all that was answered is delivered, in order; SIGTERM repeats nothing."""
    faults = (stopped_node, killed_node, paused_node, killed_server, parted_server)
    reports = [await nodes.suffers(fault) for fault in faults]
    record_property("table", table(reports))
    assert reports[0].repeats == 0
    rate = max(report.answered / report.seconds for report in reports)
    for report in reports:
        assert report.repeats <= rate / 2 + SHARDS, report
