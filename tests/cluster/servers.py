"""A cluster of real NATS servers with JetStream, which tests can stop, kill, pause and part."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tests.cluster.access import ANYBODY, Access
from tests.cluster.lossy_disk import LossyDisk
from tests.cluster.tcp_proxy import TcpProxies, TcpProxy, tcp_proxies

SERVER = Path(sys.prefix) / "bin" / "nats-server"
PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: a killed server finds its own free."""
PATIENCE = 30.0
"""Seconds until a cluster that does not become ready is given up."""
POLL = 0.05


class NatsServers:
    """NATS servers on ports of the loopback address, by index from 0.

    Its methods block; call them in a thread where an event loop must go on meanwhile.

    Args:
        folder: for configurations, logs and streams.
        count: the number of servers.
        sync_always: sync each write to disk before it is acknowledged; otherwise NATS syncs every
            two minutes.
        access: who may connect, and how.
        max_payload: bytes of the largest message.
        proxies: makes a proxy for each route between two servers, so that they can be parted; None
            connects them directly.
        lossy: put the streams on disks for `lose_power`.
    """

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        *,
        sync_always: bool = False,
        access: Access = ANYBODY,
        max_payload: str = "8MB",
        proxies: TcpProxies | None = None,
        lossy: bool = False,
    ) -> None:
        ports = free_ports(3 * count)
        self._clients, self._routes, self._monitors = (ports[n::3] for n in range(3))
        self._folder = folder
        self._access = access
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self._links: dict[tuple[int, int], TcpProxy] = {}
        if proxies:
            pairs = [(one, to) for one in range(count) for to in range(count) if one != to]
            self._links = {(one, to): proxies.to(self._routes[to]) for one, to in pairs}
        for index in range(count):
            self._configure(index, max_payload, "always" if sync_always else "2m")
        self._disks = [LossyDisk(self._store(index)) for index in range(count)] if lossy else []

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def monitors(self) -> list[str]:
        """Return the monitoring address of each server."""
        return [f"http://127.0.0.1:{port}" for port in self._monitors]

    @property
    def access(self) -> Access:
        """Return who may connect, and how."""
        return self._access

    @property
    def urls(self) -> list[str]:
        """Return the address of each server for clients."""
        return [self._access.url(port) for port in self._clients]

    def proxied(self, proxies: TcpProxies) -> tuple[list[str], list[TcpProxy]]:
        """Return addresses of all servers for one client alone, and the proxies behind them."""
        ways = [proxies.to(port) for port in self._clients]
        return [self._access.url(way.port) for way in ways], ways

    def process_id(self, index: int) -> int:
        """Return the process id of a server that runs."""
        return self._running(index).pid

    def start(self, index: int) -> None:
        """Start a server; see `ready`."""
        folder = self._folder / f"s{index}"
        recorded = self._disks[index].command() if self._disks else []
        with (folder / "log").open("ab") as log:
            self._processes[index] = subprocess.Popen(
                [*recorded, SERVER, "-c", folder / "server.conf"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self, index: int) -> None:
        """Stop a server in order, by SIGTERM."""
        self._end(index, signal.SIGTERM)

    def kill(self, index: int) -> None:
        """Kill a server, as ``kill -9`` does."""
        self._end(index, signal.SIGKILL)

    def lose_power(self, dice: random.Random) -> int:
        """Kill all servers, and take from their disks what was not synced.

        Return how many writes were not; *dice* choose which of them reach the disk nevertheless.
        """
        for index in range(len(self)):
            self._running(index).kill()
        return sum(
            disk.lose_power(self._running(index).pid, dice)
            for index, disk in enumerate(self._disks)
            if self._running(index).wait(PATIENCE)
        )

    def copy(self, stream: str, to: Path) -> None:
        """Copy what the first server, which is stopped, has of a stream."""
        shutil.copytree(self._stream(stream), to)

    def put_back(self, stream: str, copied: Path) -> None:
        """Give the first server, which is stopped, an older copy of a stream."""
        shutil.rmtree(self._stream(stream))
        shutil.copytree(copied, self._stream(stream))

    def _stream(self, name: str) -> Path:
        return self._store(0) / "jetstream" / "$G" / "streams" / name

    def pause(self, index: int) -> None:
        """Pause a server by SIGSTOP: it keeps its connections and does nothing."""
        process = self._running(index)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self, index: int) -> None:
        """Let a paused server go on."""
        self._running(index).send_signal(signal.SIGCONT)

    def part(self, one: Collection[int], other: Collection[int]) -> None:
        """Cut the routes between two groups of servers."""
        for link in self._between(one, other):
            link.cut()

    def join(self) -> None:
        """Heal all routes."""
        for link in self._links.values():
            link.heal()

    def ready(self, *indexes: int) -> None:
        """Wait until these servers are well, and connected to each other; all without *indexes*.

        Raises:
            TimeoutError: one does not in time; the text has the end of its log.
        """
        deadline = time.monotonic() + PATIENCE
        wanted = indexes or range(len(self))
        for index in wanted:
            while not (self._is_well(index) and self._is_connected(index, wanted)):
                died = self._running(index).poll() is not None
                if died or time.monotonic() > deadline:
                    log = (self._folder / f"s{index}" / "log").read_text()
                    raise TimeoutError(f"server {index} is not ready: {log[-1000:]}")
                time.sleep(POLL)

    def leader(self, stream: str) -> int | None:
        """Return the server that leads *stream* in the eyes of the most servers; None for none."""
        named: Counter[str] = Counter()
        for index in range(len(self)):
            page = self._page(index, "/jsz?accounts=true&streams=true")
            for account in page.get("account_details", ()):
                for detail in account.get("stream_detail", ()):
                    if detail["name"] == stream and detail["cluster"].get("leader"):
                        named[detail["cluster"]["leader"]] += 1
        return int(named.most_common(1)[0][0][1:]) if named else None

    def close(self) -> None:
        """Kill all servers."""
        for index, process in enumerate(self._processes):
            if process is not None and process.poll() is None:
                self.kill(index)

    def _is_well(self, index: int) -> bool:
        """Tell whether a server is well, and current in the eyes of the one that leads all."""
        if self._page(index, "/healthz").get("status") != "ok":
            return False
        name = f"s{index}"
        for other in range(len(self)):
            cluster = self._page(other, "/jsz").get("meta_cluster", {})
            if cluster.get("leader") == f"s{other}":
                peers = {peer["name"]: peer["current"] for peer in cluster.get("replicas", ())}
                return other == index or peers.get(name, False)
        return len(self) == 1

    def _is_connected(self, index: int, to: Collection[int]) -> bool:
        routes = self._page(index, "/routez").get("routes", ())
        return {route["remote_name"] for route in routes} >= {f"s{n}" for n in to} - {f"s{index}"}

    def _configure(self, index: int, max_payload: str, sync: str) -> None:
        folder = self._folder / f"s{index}"
        self._store(index).mkdir(parents=True)
        others = [to for to in range(len(self)) if to != index]
        ports = [self._links[index, to].port if self._links else self._routes[to] for to in others]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        # Servers and clients learn no further addresses: they would bypass the proxies.
        cluster = (
            f'cluster {{ name: test, listen: "127.0.0.1:{self._routes[index]}"\n'
            f'  no_advertise: true, advertise: "127.0.0.1:1", routes: [{routes}] }}\n'
        )
        (folder / "server.conf").write_text(
            f'server_name: s{index}\nlisten: "127.0.0.1:{self._clients[index]}"\n'
            f'http: "127.0.0.1:{self._monitors[index]}"\nmax_payload: {max_payload}\n'
            f'jetstream {{ store_dir: "{self._store(index)}", max_mem: 256MB, max_file: 8GB\n'
            f"  sync_interval: {sync} }}\n"
            f"{cluster if others else ''}{self._access.config}\n"
        )

    def _store(self, index: int) -> Path:
        """Return the folder of a server's streams."""
        return self._folder / f"s{index}" / "store"

    def _between(self, one: Collection[int], other: Collection[int]) -> Iterator[TcpProxy]:
        for (begin, end), link in self._links.items():
            if (begin in one and end in other) or (begin in other and end in one):
                yield link

    def _running(self, index: int) -> subprocess.Popen[bytes]:
        process = self._processes[index]
        assert process is not None, f"server {index} was not started"
        return process

    def _end(self, index: int, by: signal.Signals) -> None:
        process = self._running(index)
        process.send_signal(by)
        process.wait(PATIENCE)

    def _page(self, index: int, page: str) -> dict[str, Any]:
        """Return a monitoring page; empty if the server does not answer."""
        connection = HTTPConnection("127.0.0.1", self._monitors[index], timeout=1)
        try:
            connection.request("GET", page)
            found: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, ValueError, HTTPException):
            return {}
        else:
            return found
        finally:
            connection.close()


@contextmanager
def nats_servers(
    folder: Path,
    count: int = 3,
    *,
    sync_always: bool = False,
    access: Access = ANYBODY,
    parted: bool = False,
    lossy: bool = False,
) -> Iterator[NatsServers]:
    """Start servers, and yield them once they are ready.

    Args:
        folder: for configurations, logs and streams.
        count: the number of servers.
        sync_always: see `NatsServers`.
        access: who may connect, and how.
        parted: put proxies between the servers, for `NatsServers.part`.
        lossy: see `NatsServers`.
    """
    with ExitStack() as stack:
        proxies = stack.enter_context(tcp_proxies()) if parted else None
        servers = NatsServers(
            folder, count, sync_always=sync_always, access=access, proxies=proxies, lossy=lossy
        )
        stack.callback(servers.close)
        for index in range(count):
            servers.start(index)
        servers.ready()
        yield servers


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nothing listens at."""
    dice = random.SystemRandom()
    with ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            try:
                reserved = socket.create_server(("127.0.0.1", dice.choice(PORTS)))
            except OSError:
                continue
            found.append(stack.enter_context(reserved).getsockname()[1])
        return found
