"""Measure the latency and CPU of a relayed call, beside a bare aiohttp proxy and nginx.

Run alone as ``python -m tests.bench.relay``. Install nginx with ``apt-get install nginx-light``.
"""

import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from tests.bench.load import load
from tests.bench.processes import cpu, free_port, started, until_listening

TARGET = "/search?shop_id=bench&search_query=shoes"
REQUEST = f"GET {TARGET} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n\r\n".encode()
Figure = tuple[str, float]
LANES = 8
"""Calls at a time where CPU is measured."""
TURNS = 4
ALLOWED = 0.5
"""Milliseconds that a relayed call may add to a direct one, at the median."""
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error crit;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream vendor {{ server 127.0.0.1:{vendor}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000;
    proxy_http_version 1.1; proxy_set_header Connection "";
    location / {{ proxy_pass http://vendor; }}
  }}
}}
"""


@contextmanager
def gateway(vendor: int) -> Iterator[tuple[int, int]]:
    """Run a gateway that relays to *vendor*; yield its process id and port."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.toml"
        path.write_text(
            f'[server]\nlisten = "127.0.0.1:0"\n[spool]\npath = "{folder}/spool"\n'
            f'[sources.shop]\nvendor = "personaclick"\nkeys = ["bench"]\n'
            f'url = "http://127.0.0.1:{vendor}"\n'
            '[destinations.none]\nvendor = "chrts"\napi_key = "bench"\nurl = "http://127.0.0.1:9"\n'
            '[[routes]]\nto = ["none"]\n'
        )
        command = ("gateway", "run", "--config", str(path))
        with started(*command, marker='"listening"') as (process, line):
            yield process.pid, orjson.loads(line)["port"]


@contextmanager
def nginx(vendor: int) -> Iterator[int | None]:
    """Run nginx in front of *vendor*; yield its port, or None if nginx is not installed."""
    command = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if command is None:
        print("nginx is missing, so relaying is not compared with it; apt-get install nginx-light")
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nginx.conf"
        path.write_text(NGINX.format(folder=folder, vendor=vendor, port=port))
        process = subprocess.Popen([command, "-p", folder, "-c", str(path)])
        try:
            until_listening(port)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=30)


def median(port: int, count: int, connections: int = 1) -> float:
    """Return the median latency in ms of consecutive calls."""
    load(port, [REQUEST], max(200, count // 10), connections)
    found = load(port, [REQUEST], count, connections)
    return found[len(found) // 2] * 1e3


def micros(pid: int, port: int, count: int) -> float:
    """Return the CPU µs per call of a program, with several calls at a time."""
    before = cpu(pid)
    load(port, [REQUEST], count, LANES)
    return (cpu(pid) - before) / count * 1e6


def compared(gateway: tuple[int, int], floor: tuple[int, int], count: int) -> Iterator[Figure]:
    """Yield the CPU of a call through the gateway and through the floor, which take turns."""
    turns: tuple[list[float], list[float]] = ([], [])
    for number in range(TURNS):
        for which in (0, 1) if number % 2 else (1, 0):
            turns[which].append(micros(*(gateway, floor)[which], count))
    ours, bare = map(statistics.median, turns)
    yield "relay floor: bare aiohttp proxy, a call", bare
    yield "relay a call", ours
    yield "relay a call / floor", ours / bare


def relayed(count: int) -> Iterator[Figure]:
    """Yield the figures of one round by name: latencies in ms, CPU in µs, ratios."""
    with started("tests.bench.floors", "sink") as (_, line):
        vendor = int(line)
        with (
            gateway(vendor) as (pid, port), nginx(vendor) as other,
            started("tests.bench.floors", "proxy", str(vendor)) as (process, told),
        ):  # fmt: skip
            bare = int(told)
            direct, ours, floor = (median(each, count) for each in (vendor, port, bare))
            yield "relay: direct call, p50 ms", direct
            yield "relay: added by the gateway, p50 ms", ours - direct
            yield "relay: added / allowed", (ours - direct) / ALLOWED
            yield (
                "relay: call through the gateway / through a bare aiohttp proxy, p50",
                ours / floor,
            )
            yield from compared((pid, port), (process.pid, bare), count)
            if other is not None:
                theirs = median(other, count)
                yield "relay: added by nginx proxy_pass, p50 ms", theirs - direct
                yield "relay: call through the gateway / through nginx, p50", ours / theirs


if __name__ == "__main__":
    for name, value in relayed(4000):
        print(f"{name}: {value:.3f}")
