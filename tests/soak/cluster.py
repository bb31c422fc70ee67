"""Several gateways on one cluster of NATS, under faults of gateways, servers and vendors."""

import asyncio
import random
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from gateway.config.loader.load import load_spool
from gateway.plugin.quantities import MIB
from gateway.spool import Shard
from gateway.spool.jetstream.presence import LEASE
from gateway.spools import make_spool
from tests.cluster.servers import NatsServers
from tests.e2e.process import GatewayProcess, start_gateway
from tests.e2e.running import PATIENCE
from tests.soak.chaos import CHAOS, DELIVERY, FAR, SETTLING, TOGETHER
from tests.soak.ledger import Judgement, judge
from tests.soak.load import Load
from tests.soak.marks import EventMark, crowd_request, marks_in
from tests.soak.operator import LOOK, Act, Operator, Setup
from tests.soak.raw_http import read_message, status_of
from tests.soak.vendor import OK, Behaviour, Vendor

Fault = Literal[
    "stopped_node", "killed_node", "paused_node", "rolling_restart",
    "killed_server", "killed_two_servers", "paused_leader", "parted_server",
]  # fmt: skip
FAULTS: tuple[Fault, ...] = get_args(Fault)
NODE_FAULTS: frozenset[Fault] = frozenset({"stopped_node", "killed_node", "paused_node"})
"""After these, deliveries go on within `TAKEN_OVER` seconds."""
SHARDS, NODES = 6, 3
ACTS: tuple[Act, ...] = ("change", "remove", "unroute", "pause", "drain", "replay")
"""What an operator does to one gateway alone, so that their configurations differ meanwhile."""
DISLIKES: dict[int, Behaviour] = {0: "403", 1: "500", 2: "413", 3: "400"}
OF = 97
"""One in so many events is disliked in each of these ways."""
BURST = 80
"""Events in one user's burst."""
CROWD = 12
"""Users whose events share a request."""
CROWDED = 1000 * FAR + 3
"""The first of them; like every fourth user, they send no aliases."""
PAUSE = 0.2
GIVEN_UP = 12.0
"""Seconds after which a user gives up waiting for a response: longer than `patience`."""
TAKEN_OVER = LEASE + 2.0
"""Seconds in which another gateway must deliver what a killed one does not."""
PAUSED = LEASE + 2.0
UNRECORDED = 0.5
"""Seconds: what was delivered in so long may be repeated; the design says 0.15 s and what is under
way."""
SHOWN = 12
"""Lines of each node's log in the message of a failure."""


class FaultReport(NamedTuple):
    """What users and the first vendor, which never fails, noticed of one fault."""

    fault: Fault
    seconds: float
    answered: int
    repeats: int
    """Deliveries of what had been delivered already."""
    busiest: int
    """Most first deliveries within half a second, the burst before the fault included."""
    slowest_answer: float
    slowest_delivery: float
    """Seconds from the answer to the delivery."""


def table(reports: Iterable[FaultReport]) -> str:
    """Return reports as text."""
    lines = [f"{'fault':20}" + "".join(f"{name:>18}" for name in FaultReport._fields[1:])]
    for report in reports:
        figures = "".join(f"{value:18.{isinstance(value, float):d}f}" for value in report[1:])
        lines.append(f"{report.fault:20}{figures}")
    return "\n".join(lines)


def _busiest(times: Iterable[float]) -> int:
    """Return how many of *times* are within half a second, at most."""
    most, recent = 0, deque[float]()
    for at in sorted(times):
        recent.append(at)
        while at - recent[0] > UNRECORDED:
            recent.popleft()
        most = max(most, len(recent))
    return most


class Node:
    """A gateway of the cluster, started again after each end, and its operator."""

    def __init__(self, setup: Setup, load: Load, seed: int) -> None:
        self.gateway: GatewayProcess
        self.operator = Operator(setup, load, seed)

    async def start(self) -> None:
        """Start it, and wait until it takes events."""
        self.gateway = await start_gateway(self.operator.setup.path)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.gateway.process.send_signal(number)

    async def stop(self) -> None:
        """Stop it by SIGTERM.

        Raises:
            RuntimeError: it failed meanwhile.
        """
        self.send(signal.SIGTERM)
        if status := await self.gateway.ended():
            raise RuntimeError(f"ended with {status}: {self.gateway.lines[-5:]}")


class ClusterChaos:
    """Nodes, servers, vendors of which all but the first fail, and users who send without end.

    Args:
        folder: for the nodes.
        servers: of NATS, that can be parted.
        vendors: the destinations.
        users: the number of users.
        seed: of the random choices.
    """

    def __init__(
        self,
        folder: Path,
        servers: NatsServers,
        vendors: Sequence[Vendor],
        users: int,
        seed: int,
    ) -> None:
        self.servers, self.vendors = servers, vendors
        self.load = Load(users, pause=PAUSE, seed=seed, patience=GIVEN_UP, certain=False)
        self.reports: list[FaultReport] = []
        self._users = range(users)
        self._dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        self._bursts = count(1)
        self._crowded = asyncio.Event()
        self._name = f"soak{seed}"
        self.nodes: list[Node] = []
        ports = {vendor.name: vendor.port for vendor in vendors}
        for number in range(NODES):
            place = folder / f"node{number}"
            place.mkdir()
            urls = [*servers.urls[number:], *servers.urls[:number]]
            spool = f'url = "{",".join(urls)}"\nname = "{self._name}"\nshards = {SHARDS}'
            more = f'{spool}\nmax_bytes = "1GiB"\npatience = "8s"'
            setup = Setup(place / "gateway.toml", place / "own", ports, DELIVERY, more=more)
            self.nodes.append(Node(setup, self.load, seed + number))
        for vendor in vendors[1:]:
            vendor.dislikes = lambda mark: DISLIKES.get((mark.user + mark.number) % OF)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the nodes, and let all users send; at the end kill what still runs."""
        try:
            await asyncio.gather(*[node.start() for node in self.nodes])
            self._aim()
            async with self.load.running():
                await self._goes_on()
                self._crowd = asyncio.get_running_loop().create_task(self._send_crowds())
                try:
                    yield
                finally:
                    await self._end_crowds()
        finally:
            for node in self.nodes:
                if node.gateway.process.returncode is None:
                    node.send(signal.SIGCONT)
                    await node.gateway.killed()

    def _aim(self) -> None:
        self.load.aim(*[node.gateway.url for node in self.nodes])

    async def round(self, fault: Fault, act: Act) -> FaultReport:
        """Change the vendors' states, act on one node, and let a fault happen; all goes on."""
        for vendor in self.vendors[1:]:
            await vendor.down()
            vendor.weights = self._dice.choice((OK, CHAOS, CHAOS))
            if self._dice.random() < 0.8:
                await vendor.up()
        node, began = self._dice.choice(self.nodes), time.monotonic()
        await node.operator.act(act, node.gateway)
        await self.load.burst(FAR * next(self._bursts) + 3, BURST, TOGETHER)
        begin, before = time.monotonic(), self._repeats()
        try:
            await getattr(self, f"_{fault}")()
            await self._goes_on()
        except TimeoutError as error:
            raise TimeoutError(f"{fault} after {act}: {error}") from error
        answered = {
            mark: at
            for mark, at in self.load.acknowledged.items()
            if at >= begin and mark.user in self._users
        }
        arrived = self.vendors[0].when
        report = FaultReport(
            fault,
            time.monotonic() - begin,
            len(answered),
            self._repeats() - before,
            _busiest(at for at in arrived.values() if at >= began),
            max(at - self.load.sent[mark] for mark, at in answered.items()),
            max(arrived[mark] - at for mark, at in answered.items() if mark in arrived),
        )
        self.reports.append(report)
        return report

    def _repeats(self) -> int:
        calm = self.vendors[0]
        return sum(n - 1 for mark, n in calm.accepted.items() if mark not in calm.unanswered)

    async def _goes_on(self) -> None:
        """Wait until an event of each user that was answered from now on is delivered."""
        begin, calm = time.monotonic(), self.vendors[0]

        def delivered() -> set[int]:
            known = self.load.acknowledged.items()
            return {m.user for m, at in known if at >= begin and m in calm.accepted}

        try:
            async with asyncio.timeout(PATIENCE):
                while not delivered() >= set(self._users):  # noqa: ASYNC110 - many things change it
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            said = "\n".join(str(node.gateway.lines[-SHOWN:]) for node in self.nodes)
            stuck = sorted(set(self._users) - delivered())
            raise TimeoutError(f"nothing of users {stuck} since {begin}: {said}") from None

    async def _send_crowds(self) -> None:
        """Send requests with events of many users, one after the other."""
        for number in count(1):
            if self._crowded.is_set():
                return
            marks = [EventMark(CROWDED + 4 * user, number) for user in range(CROWD)]
            node, began = self._dice.choice(self.nodes), time.monotonic()
            if await _accepted(node.gateway.url, crowd_request(marks)):
                self.load.sent.update(dict.fromkeys(marks, began))
                self.load.acknowledged.update(dict.fromkeys(marks, time.monotonic()))
            else:
                self.load.unsure.update(marks)
            await asyncio.sleep(4 * PAUSE)

    async def _end_crowds(self) -> None:
        self._crowded.set()
        await self._crowd

    # ---- faults ------------------------------------------------------------------------------

    async def _restart(self, node: Node) -> None:
        """Start a node again, and wait until it delivers."""
        await node.start()
        self._aim()
        await node.gateway.saw("shard_claimed")

    async def _stopped_node(self) -> None:
        node = self._dice.choice(self.nodes)
        await node.stop()
        await self._goes_on()
        await self._restart(node)

    async def _killed_node(self) -> None:
        node = self._dice.choice(self.nodes)
        await node.gateway.killed()
        await self._goes_on()
        await self._restart(node)

    async def _paused_node(self) -> None:
        """Pause a node for longer than a lease; it wakes up believing that it owns its shards."""
        node = self._dice.choice(self.nodes)
        node.send(signal.SIGSTOP)
        await asyncio.sleep(PAUSED)
        node.send(signal.SIGCONT)

    async def _rolling_restart(self) -> None:
        """Restart one node after the other, each once the one before takes part again."""
        for node in self.nodes:
            await node.stop()
            await self._restart(node)

    def _leader(self) -> int:
        leader = self.servers.leader(f"{self._name}_LOG")
        assert leader is not None
        return leader

    async def _killed_server(self) -> None:
        await self._kill([self._leader()])

    async def _killed_two_servers(self) -> None:
        """Kill the one that leads and another: nothing is accepted until one is back."""
        leader = self._leader()
        await self._kill([leader, (leader + 1) % len(self.servers)])

    async def _kill(self, servers: Sequence[int]) -> None:
        for index in servers:
            await asyncio.to_thread(self.servers.kill, index)
        if len(servers) == 1:
            await self._goes_on()
        for index in servers:
            self.servers.start(index)
        await asyncio.to_thread(self.servers.ready)

    async def _paused_leader(self) -> None:
        leader = self._leader()
        await asyncio.to_thread(self.servers.pause, leader)
        await self._goes_on()
        self.servers.resume(leader)

    async def _parted_server(self) -> None:
        """Part one server, with the node that uses it, from the others."""
        lone = self._dice.randrange(len(self.servers))
        self.servers.part([lone], [n for n in range(len(self.servers)) if n != lone])
        await asyncio.sleep(PAUSED)
        self.servers.join()

    # ---- the end -----------------------------------------------------------------------------

    async def settle(self) -> Judgement:
        """End all faults, deliver everything, stop the nodes, and judge the run."""
        for vendor in self.vendors:
            vendor.weights, vendor.dislikes = OK, lambda _: None
            await vendor.down()
            await vendor.up()
        await self._end_crowds()
        await self.load.everyone()
        await self.load.stop()
        late = [] if await self._empty() else [f"no progress for {SETTLING:g} s"]
        for node in self.nodes:
            await node.stop()
        dead, wrong = await self._left()
        perhaps: dict[str, set[EventMark]] = {}
        for node in self.nodes:
            for name, marks in node.operator.perhaps().items():
                perhaps.setdefault(name, set()).update(marks)
        load = self.load
        verdict = judge(load.acknowledged, load.unsure, self.vendors, dead, perhaps=perhaps)
        verdict.complaints += [*late, *wrong]
        return verdict

    async def _empty(self) -> bool:
        """Drain every node until nothing is pending; return False if nothing moves any more."""
        owed: list[int] = []
        moved = time.monotonic()
        while time.monotonic() - moved < SETTLING:
            before, owed = (
                owed,
                [
                    await node.operator.drain(node.gateway, name)
                    for name in self.nodes[0].operator.setup.present
                    for node in self.nodes
                ],
            )
            if not any(owed):
                return True
            if owed != before:
                moved = time.monotonic()
            await asyncio.sleep(LOOK)
        return False

    async def _left(self) -> tuple[dict[str, Counter[EventMark]], list[str]]:
        """Return the dead letters, and complaints about the balance of the whole cluster."""
        spool = make_spool(load_spool(self.nodes[0].operator.setup.path), max_body=MIB)
        spool.run_shards(_Reader())
        await spool.open()
        try:
            await spool.register({})
            dead: dict[str, Counter[EventMark]] = {}
            after = 0
            while page := await spool.dead_letters(after=after, limit=1000):
                for letter in page:
                    mark = marks_in(letter.entry.request.body)[letter.index]
                    dead.setdefault(letter.destination, Counter())[mark] += 1
                after = page[-1].id
            balances = await spool.balances()
        finally:
            await spool.close()
        wrong = [
            f"{name}: {what} {number}: {balance}"
            for name, balance in balances.items()
            for what, number in (
                ("unaccounted for", balance.unaccounted),
                ("pending", balance.pending),
            )
            if number
        ]
        return dead, wrong


class _Reader:
    """Owns shards, and delivers nothing."""

    def start_shard(self, shard: Shard) -> None:
        """Do nothing."""

    async def finish_shard(self, shard: Shard) -> None:
        """Do nothing."""

    def abandon_shard(self, shard: Shard) -> None:
        """Do nothing."""


async def _accepted(url: str, request: bytes) -> bool:
    """Send a request over a connection of its own; return whether it succeeded."""
    host, _, port = url.removeprefix("http://").partition(":")
    writer = None
    try:
        async with asyncio.timeout(GIVEN_UP):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request)
            head, _ = await read_message(reader)
            return 200 <= status_of(head) < 300
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        if writer:
            writer.transport.abort()
