"""Run three NATS servers, three gateways, the sandbox and a balancer: ``make cluster``."""

import argparse
import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from pathlib import Path

from tests.cluster.servers import NatsServers, nats_servers

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "config/gateway.toml"
NODES = 3
PATIENCE = 60.0
POLL = 0.05
GATEWAY = (sys.executable, "-m", "gateway")
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  upstream gateways {{
{servers}
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 2m;
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""
TRY = """
three gateways share one log in three NATS servers; the destinations are the sandbox

  send events to     http://127.0.0.1:{port}, which goes to any of the gateways ({balancer})
  what arrives       http://127.0.0.1:{sandbox}
{nodes}

try

  curl -X POST http://127.0.0.1:{port}/event/track \\
    -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\
    -d '{{"uid": "u1", "name": "Order Completed", "properties": {{"total": 42}}}}'

  .venv/bin/gateway cluster status -c {folder}/gateway-1/gateway.toml

  kill -9 {node_pid}     a gateway dies: within 5 seconds the others deliver its part
  kill -9 {server_pid}     a NATS server dies: if it led, requests wait for up to 7 seconds

Ctrl-C ends all of it; the next start begins anew. Logs are in {folder}
"""


def node_config(folder: Path, port: int, admin: int, sandbox: int, urls: Sequence[str]) -> Path:
    """Write the configuration of one gateway: the project's own, on NATS."""
    folder.mkdir()
    text = SAMPLE.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    text = text.replace("127.0.0.1:8081", f"127.0.0.1:{admin}")
    text = text.replace("127.0.0.1:9100", f"127.0.0.1:{sandbox}")
    spool = f'path = "{folder}/own"\nurl = "{",".join(urls)}"\nmax_bytes = "1GiB"'
    path = folder / "gateway.toml"
    path.write_text(text.replace('path = "var/spool"', spool))
    return path


@contextmanager
def running(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, with its output in *log*; stop it at the end."""
    with log.open("ab") as output, subprocess.Popen(
        command, stdout=output, stderr=output, cwd=ROOT, start_new_session=True
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)


def wait_until_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until an HTTP server answers at *port*; end the program if it does not."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except (OSError, HTTPException):
            time.sleep(POLL)
        else:
            return
        finally:
            connection.close()
    sys.exit(f"nothing answers at 127.0.0.1:{port}; the end of {log}:\n{log.read_text()[-2000:]}")


async def balance(port: int, ports: Sequence[int]) -> None:
    """Pass each connection on to the next gateway that takes it."""
    turns = cycle(ports)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in ports:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", next(turns))
                await asyncio.gather(copy(reader, back), copy(there, writer))
                return
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


def balancer(folder: Path, port: int, ports: Sequence[int]) -> tuple[str, list[str]]:
    """Return the name of the balancer, and the command that runs it: nginx if it is installed."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        own = ["-m", "tests.cluster.demo", "--balance", str(port), *map(str, ports)]
        return "a small balancer, since nginx is not installed", [sys.executable, *own]
    config = folder / "nginx.conf"
    servers = "\n".join(f"    server 127.0.0.1:{one} max_fails=1 fail_timeout=1s;" for one in ports)
    config.write_text(NGINX.format(folder=folder, port=port, servers=servers))
    return "nginx", [nginx, "-c", str(config), "-e", str(folder / "nginx.log")]


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nothing listens at."""
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in made]


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(folder: Path, port: int, sandbox: int) -> None:
    """Run all of it until a signal comes."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    ports, admins = free_ports(NODES), free_ports(NODES)
    with ExitStack() as stack:
        servers: NatsServers = stack.enter_context(nats_servers(folder / "nats"))
        log = folder / "sandbox.log"
        listen = f"127.0.0.1:{sandbox}"
        process = stack.enter_context(running(log, *GATEWAY, "sandbox", "--listen", listen))
        wait_until_it_answers(sandbox, process, log)
        nodes = []
        for number, (own, admin) in enumerate(zip(ports, admins, strict=True)):
            urls = [*servers.urls[number:], *servers.urls[:number]]
            path = node_config(folder / f"gateway-{number + 1}", own, admin, sandbox, urls)
            log = path.with_name("log")
            command = (*GATEWAY, "run", "-c", str(path))
            nodes.append((stack.enter_context(running(log, *command)), log))
        for (node, log), own in zip(nodes, ports, strict=True):
            wait_until_it_answers(own, node, log)
        name, command_line = balancer(folder, port, ports)
        log = folder / "balancer.log"
        wait_until_it_answers(port, stack.enter_context(running(log, *command_line)), log)
        lines = [
            f"  gateway-{number}          process {node.pid}, console http://127.0.0.1:{admin}"
            for number, ((node, _), admin) in enumerate(zip(nodes, admins, strict=True), 1)
        ]
        key = SAMPLE.read_text().partition("${CHRTS_KEY:-")[2].partition("}")[0]
        text = TRY.format(
            port=port, balancer=name, sandbox=sandbox, nodes="\n".join(lines), key=key,
            node_pid=nodes[1][0].pid, server_pid=servers.process_id(0), folder=folder,
        )  # fmt: skip
        say(text)
        try:
            while True:
                signal.pause()
        finally:
            say("stopping …")


def main() -> None:
    """Run the cluster, or only the balancer."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="where to send events")
    parser.add_argument("--sandbox", type=int, default=9100, help="port of the sandbox")
    parser.add_argument("--folder", type=Path, default=ROOT / "var/cluster")
    parser.add_argument("--balance", type=int, nargs="+", metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.balance:
        port, *ports = options.balance
        asyncio.run(balance(port, ports))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        run(options.folder.resolve(), options.port, options.sandbox)


if __name__ == "__main__":
    main()
