"""The commands of the page about clusters, with its configurations, on the loopback address."""

import asyncio
import contextlib
import os
import re
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from tests.cluster.access import PASSWORD
from tests.cluster.servers import SERVER, free_ports
from tests.docs.pages import ROOT, snippets
from tests.e2e.process import gateway_process
from tests.soak.marks import SOURCES, EventMark, destination, request
from tests.soak.raw_http import read_message, status_of
from tests.soak.vendor import vendors

PAGE = ROOT / "docs/cluster.md"
PATIENCE = 60.0
HOSTS = ("n1.example", "n2.example", "n3.example")


def block(kind: str, mark: str) -> str:
    """Return the page's block of a kind with *mark* in it."""
    (found,) = (s.text for s in snippets(kind) if s.page == PAGE and mark in s.text)
    return found


class Machines:
    """Three machines in one: each has its folder, and ports of the loopback address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = iter(free_ports(3 * len(HOSTS)))
        self._ports = {(n, port): next(ports) for n in range(3) for port in (4222, 6222, 8222)}

    def here(self, text: str, number: int) -> str:
        """Return *text* of the page for a machine: with its folder and everybody's ports."""

        def address(found: re.Match[str]) -> str:
            host, port = found.groups()
            machine = number if host == "0.0.0.0" else HOSTS.index(host)  # noqa: S104 - the page's
            return f"127.0.0.1:{self._ports[machine, int(port)]}"

        own = text.replace("server_name: n1", f"server_name: n{number + 1}")
        own = re.sub(r"(0\.0\.0\.0|n\d\.example):(\d+)", address, own)
        return re.sub(r'"(file:)?/(?:etc|var/lib)/', rf'"\1{self.machine(number)}/', own)

    def machine(self, number: int) -> Path:
        """Return the folder of a machine."""
        return self.folder / HOSTS[number]

    def furnish(self, number: int, authority: trustme.CA, vendor: int) -> Path:
        """Write the files of the page; return the gateway's configuration."""
        machine = self.machine(number)
        for folder in ("nats", "cdp-gateway/secrets"):
            (machine / folder).mkdir(parents=True)
        leaf = authority.issue_cert("127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(machine / "nats/server.pem")
        leaf.private_key_pem.write_to_path(machine / "nats/server.key")
        authority.cert_pem.write_to_path(machine / "cdp-gateway/ca.pem")
        for place in (machine, machine / "cdp-gateway/secrets"):
            (place / "gateway_password").write_text(PASSWORD)
        (machine / "nats.conf").write_text(self.here(block("text", "server_name"), number))
        path = machine / "gateway.toml"
        path.write_text(
            self.here(block("toml", "[spool]"), number)
            + f'[server]\nlisten = "127.0.0.1:0"\n{SOURCES}'
            + destination("chrts", vendor, "")
            + '[[routes]]\nto = ["chrts"]\n'
        )
        return path

    @asynccontextmanager
    async def run(self, number: int, command: str) -> AsyncIterator[Process]:
        """Run a command of the page on a machine; it is killed at the end."""
        programs = os.pathsep.join((str(SERVER.parent), os.environ["PATH"]))
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", command, cwd=self.machine(number), stdout=PIPE, stderr=STDOUT,
            env={**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def test_the_page_leads_to_a_cluster(
    tmp_path: Path, certificate_authority: trustme.CA
) -> None:
    """Its servers start, its check finds nothing wrong, and its gateways share what they get."""
    machines = Machines(tmp_path)
    async with contextlib.AsyncExitStack() as stack, vendors("chrts") as (vendor,):
        paths = [machines.furnish(n, certificate_authority, vendor.port) for n in range(3)]
        for number in range(3):
            start = block("sh", "nats-server -c").replace("nats-server", "exec nats-server")
            await stack.enter_async_context(machines.run(number, start))
        check = f"{block('sh', 'check --connect').rstrip()} -c {paths[0]}"
        found = ""
        async with asyncio.timeout(PATIENCE):  # the servers elect a leader
            while "version" not in found or "Problems" in found:
                async with machines.run(0, check) as process:
                    found = (await process.communicate())[0].decode()
        assert found.count("version") == len(HOSTS)
        assert "Warnings" not in found
        assert "run\n" in block("sh", "gateway run")
        nodes = [await stack.enter_async_context(gateway_process(path)) for path in paths[:2]]
        marks = [EventMark(user, 1) for user in range(2)]
        for node, mark in zip(nodes, marks, strict=True):
            host, port = node.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request(*mark)[0])
            assert status_of((await read_message(reader))[0]) == 200
            writer.close()
        await vendor.until(lambda v: v.accepted.keys() >= set(marks), PATIENCE)
