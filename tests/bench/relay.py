"""Measure the latency and CPU of a relayed call, beside nginx's ``proxy_pass`` in the same run.

Run alone as ``python -m tests.bench.relay``. Install nginx with ``apt-get install nginx-light``.
"""

import shutil
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


def relayed(count: int) -> Iterator[tuple[str, float]]:
    """Yield the figures of one round by name: latencies in ms, CPU in µs, ratios to nginx."""
    with started("tests.bench.floors", "sink") as (_, line):
        vendor = int(line)
        with gateway(vendor) as (pid, port), nginx(vendor) as other:
            direct = median(vendor, count)
            before = cpu(pid)
            ours = median(port, count)
            taken = (cpu(pid) - before) / (count + max(200, count // 10)) * 1e6
            yield "relay: direct call, p50 ms", direct
            yield "relay: added by the gateway, p50 ms", ours - direct
            yield "relay: added / allowed", (ours - direct) / ALLOWED
            yield "relay: CPU µs per call", taken
            if other is not None:
                theirs = median(other, count)
                yield "relay: added by nginx proxy_pass, p50 ms", theirs - direct
                yield "relay: call through the gateway / through nginx, p50", ours / theirs


if __name__ == "__main__":
    for name, value in relayed(4000):
        print(f"{name}: {value:.3f}")
