"""Measure nodes of a cluster beside a gateway with SQLite: ``python -m tests.bench.cluster``.

``make bench`` includes it. Three NATS servers that sync each write, gateways, load and sinks share
the machine. The figures are CPU times of the processes, so it hardly matters what else runs; two
programs that are compared take turns. Each figure is the median of the rounds.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from uuid import uuid4

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from tests.bench import fan_out, orders, takeover
from tests.bench.fan_out import Case, Running, Sinks
from tests.bench.gateways import QUIET
from tests.bench.load import Load
from tests.bench.processes import CORE, cpu, off_core
from tests.cluster.servers import NatsServers, nats_servers

IN_FLIGHT = (64, 256)
"""Requests under way at a time."""
RATE = 300
"""Requests per second and node where the load is equal."""
SHARDS = 16
WAITING = 100_000
SETTLED = 0.03
"""A node that uses fewer CPU seconds than this in `QUIET` seconds has delivered all."""
READY_WITHIN = 30.0
SQLITE = Case("SQLite", ("chrts",))


class Bar(NamedTuple):
    """A limit that a figure must keep."""

    limit: float
    at_least: bool = False

    def holds(self, figure: float) -> bool:
        """Return whether a figure keeps it."""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


BARS = {
    "node, JetStream / SQLite, 64 in flight": Bar(2.0),
    "node, JetStream / SQLite, 256 in flight": Bar(1.3),
    "servers / bare publishes, 64 in flight": Bar(2.0),
    "servers / bare publishes, 256 in flight": Bar(2.0),
    "node of three / one node, equal load per node": Bar(1.2),
    "two nodes / one node, events per second of their own cores": Bar(1.5, at_least=True),
    "takeover of 100,000 waiting, s": Bar(2.0),
}
Found = dict[str, list[float]]
"""Figures by name, one for each round."""


class Taken(NamedTuple):
    """CPU seconds that some events took."""

    nodes: tuple[float, ...]
    """Of each gateway."""
    servers: float
    """Of all servers."""

    def micros(self, events: int) -> float:
        """Return the CPU µs per event of all gateways."""
        return sum(self.nodes) / events * 1e6


class Bench:
    """The processes that all measurements share.

    Args:
        servers: of NATS.
        ports: of the sinks.
        events: of each program in each round.
    """

    def __init__(self, servers: NatsServers, ports: Sinks, events: int) -> None:
        self.servers, self.ports, self.events = servers, ports, events
        self.found: Found = {}
        self._numbers = itertools.count()

    def note(self, name: str, value: float) -> None:
        """Keep a figure of a round."""
        self.found.setdefault(name, []).append(value)

    def servers_cpu(self) -> float:
        """Return the CPU seconds of all servers."""
        return sum(cpu(self.servers.process_id(index)) for index in range(len(self.servers)))

    @contextmanager
    def nodes(self, *cores: int) -> Iterator[list[Running]]:
        """Run the nodes of a new cluster, one on each of *cores*."""
        spool = f'url = "{",".join(self.servers.urls)}"\nname = "b{uuid4().hex}"\n'
        spool += f'shards = {SHARDS}\nreplicas = {len(self.servers)}\nmax_bytes = "1GiB"\n'
        case = SQLITE._replace(spool=spool)
        with ExitStack() as stack:
            found = [stack.enter_context(fan_out.gateway(case, self.ports, core)) for core in cores]
            for one in found:
                until_ready(one.port)
            self.send(found, orders_of(next(self._numbers), fan_out.WARM_UP), IN_FLIGHT[0])
            yield found

    def send(
        self,
        programs: Sequence[Running],
        requests: Sequence[bytes],
        in_flight: int,
        rate: float | None = None,
    ) -> Taken:
        """Return what requests take until all are delivered; each program gets its part of them."""
        self._until_quiet(programs)
        before = [cpu(one.pid) for one in programs], self.servers_cpu()
        share = len(requests) // len(programs)

        async def run() -> None:
            loads = [
                Load(requests[place * share : (place + 1) * share], share, in_flight, rate)
                for place in range(len(programs))
            ]
            await asyncio.gather(
                *[load.run(one.port) for load, one in zip(loads, programs, strict=True)]
            )

        uvloop.run(run())
        self._until_quiet(programs)
        after = [cpu(one.pid) for one in programs], self.servers_cpu()
        nodes = tuple(now - then for now, then in zip(after[0], before[0], strict=True))
        return Taken(nodes, after[1] - before[1])

    @staticmethod
    def _until_quiet(programs: Sequence[Running]) -> None:
        before = [0.0 for _ in programs]
        while True:
            now = [cpu(one.pid) for one in programs]
            if all(new - old < SETTLED for new, old in zip(now, before, strict=True)):
                return
            before = now
            time.sleep(QUIET)

    def requests(self, count: int = 0) -> list[bytes]:
        """Return requests of one order each, other ones at each call."""
        return orders_of(next(self._numbers), count or self.events)

    # ---- measurements --------------------------------------------------------------------

    def beside_sqlite(self, rounds: int) -> None:
        """Measure a node beside a gateway with SQLite, and the servers beside bare publishes."""
        with fan_out.gateway(SQLITE, self.ports) as sqlite, self.nodes(CORE) as nodes:
            self.send([sqlite], self.requests(fan_out.WARM_UP), IN_FLIGHT[0])
            for number, in_flight in itertools.product(range(rounds), IN_FLIGHT):
                sent, taken = self.requests(), dict[str, Taken]()
                for name in ("SQLite", "node") if number % 2 else ("node", "SQLite"):
                    programs = nodes if name == "node" else [sqlite]
                    taken[name] = self.send(programs, sent, in_flight)
                bare = self._bare_publishes(in_flight)
                node, servers = taken["node"], taken["node"].servers / self.events * 1e6
                at = f"{in_flight} in flight"
                self.note(f"gateway with SQLite, {at}, µs", taken["SQLite"].micros(self.events))
                self.note(f"node, {at}, µs", node.micros(self.events))
                self.note(
                    f"node, JetStream / SQLite, {at}",
                    node.micros(self.events) / taken["SQLite"].micros(self.events),
                )
                self.note(f"bare publishes, {at}, µs of the servers", bare)
                self.note(f"servers, {at}, µs", servers)
                self.note(f"servers / bare publishes, {at}", servers / bare)

    def _bare_publishes(self, in_flight: int) -> float:
        """Return the servers' CPU µs for each message of an order's body."""
        return uvloop.run(self._publish(in_flight))

    async def _publish(self, in_flight: int) -> float:
        layout, body = Layout(f"b{uuid4().hex}"), orjson.dumps(orders.order(1))
        connection = NatsConnection(self.servers.urls)
        await connection.open()
        settings = layout.streams(replicas=len(self.servers))[layout.log_stream]
        await connection.create_stream(layout.log_stream, settings)
        left = iter(range(self.events))

        async def publish() -> None:
            for number in left:
                await connection.store(layout.log(number % SHARDS), body)

        before = self.servers_cpu()
        await asyncio.gather(*[publish() for _ in range(in_flight)])
        taken = self.servers_cpu() - before
        await connection.api(f"STREAM.DELETE.{layout.log_stream}")
        await connection.close()
        return taken / self.events * 1e6

    def three_nodes(self, rounds: int) -> None:
        """Measure three nodes beside one, with the same load on each of them."""
        each = self.events // 4
        with self.nodes(CORE) as one, self.nodes(CORE, CORE, CORE) as three:
            for number in range(rounds):
                taken = {}
                for nodes in (one, three) if number % 2 else (three, one):
                    sent = self.requests(each * len(nodes))
                    taken[len(nodes)] = self.send(nodes, sent, IN_FLIGHT[0], RATE)
                alone, of_three = taken[1].micros(each), taken[3].micros(3 * each)
                self.note(f"one node, {RATE} events/s, µs", alone)
                self.note(f"node of three, {RATE} events/s each, µs", of_three)
                self.note("node of three / one node, equal load per node", of_three / alone)

    def two_nodes(self, rounds: int) -> None:
        """Measure two nodes beside one, each as fast as it can.

        What a node delivers per second of its own core follows from its CPU time: servers, load and
        sinks are on the same cores, and count as if they were not.
        """
        other = CORE + 1
        with self.nodes(CORE) as one, self.nodes(CORE, other) as two:
            for number in range(rounds):
                rates = {}
                for nodes in (one, two) if number % 2 else (two, one):
                    taken = self.send(nodes, self.requests(), IN_FLIGHT[1] // len(nodes))
                    rates[len(nodes)] = self.events / max(taken.nodes)
                self.note("one node, events/s of its core", rates[1])
                self.note("two nodes, events/s of their cores", rates[2])
                self.note(
                    "two nodes / one node, events per second of their own cores",
                    rates[2] / rates[1],
                )

    def take_over(self, rounds: int) -> None:
        """Measure how long a shard with many waiting deliveries takes to be taken over."""
        layout = Layout(f"b{uuid4().hex}")
        for one in uvloop.run(takeover.measured(self.servers.urls, layout, WAITING, rounds)):
            self.note("takeover of 100,000 waiting, s", one.seconds)
            self.note("takeover of 100,000 waiting, s of CPU", one.cpu)


def orders_of(number: int, count: int) -> list[bytes]:
    """Return *count* requests of one order each; other ones for each *number*."""
    return list(orders.singles(count, lambda place: orders.order(number * 1_000_000 + place)))


def until_ready(port: int) -> None:
    """Wait until a gateway delivers.

    Raises:
        TimeoutError: it does not in time.
    """
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
        except HTTPError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready: {error.read().decode()}") from error
            time.sleep(0.1)
        else:
            return


def measured(rounds: int, events: int) -> Found:
    """Return the figures of all measurements by name and round."""
    with (
        off_core(CORE),
        tempfile.TemporaryDirectory() as folder,
        nats_servers(Path(folder), sync_always=True) as servers,
        fan_out.sinks() as ports,
    ):
        bench = Bench(servers, ports, events)
        bench.beside_sqlite(rounds)
        bench.three_nodes(rounds)
        bench.two_nodes(rounds)
        bench.take_over(rounds)
        return bench.found


def show(found: Found, events: int) -> None:
    """Print the medians beside their bars."""
    rounds = len(next(iter(found.values())))
    title = f"cluster: {events} events of 1 KB to one destination, medians of {rounds} rounds"
    table = Table("", "figure", "min to max", "bar", "", title=title)
    for name in [*found, *[bar for bar in BARS if bar not in found]]:
        bar, values = BARS.get(name), found.get(name, [])
        if not values:
            table.add_row(name, "", "", str(bar), "not measured")
            continue
        middle = statistics.median(values)
        digits = 2 if middle < 10 else 0
        table.add_row(
            name,
            f"{middle:.{digits}f}",
            f"{min(values):.{digits}f} to {max(values):.{digits}f}",
            str(bar or ""),
            ("holds" if bar.holds(middle) else "MISSED") if bar else "",
        )
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    show(measured(options.rounds, options.events), options.events)


if __name__ == "__main__":
    main()
