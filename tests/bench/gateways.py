"""Gateways under measurement: configuration, process, load, and CPU."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from gateway.plugin.registry import load_plugins
from tests.bench.load import http, load
from tests.bench.processes import cpu, started

CONNECTIONS = 32
USERS = 500
CLOSED_PORT = 9
"""The discard port: nothing listens there, so the circuit opens and stays open."""
RETRIES = 'retry_min = "100ms"\nretry_max = "400ms"\n'
QUIET = 0.5
SETTLED = 0.01
"""A process that uses fewer CPU seconds than this in `QUIET` seconds is idle."""


def requests_of(vendor: str) -> list[bytes]:
    """Return the vendor's example request as bytes, once for each of many users."""
    reads = load_plugins().inputs[vendor]()
    example = reads.example
    user = reads.parse(example)[0].user_key
    headers = {"content-type": "application/json", **example.headers}
    bodies = (
        example.body.replace(orjson.dumps(user), orjson.dumps(f"user-{number:05}"))
        for number in range(USERS)
    )
    return [http(example.url, body, headers) for body in bodies]


def configuration(
    folder: Path, vendor: str, port: int, destinations: int, *, eager: bool = False, more: str = ""
) -> Path:
    """Write a configuration with one source and *destinations* destinations at *port*.

    With *eager* they retry soon. *more* is appended.
    """
    text = f'[server]\nlisten = "127.0.0.1:0"\n[spool]\npath = "{folder / "spool"}"\n'
    text += f'[sources.shop]\nvendor = "{vendor}"\nkeys = "any"\n'
    names = [f"d{n}" for n in range(destinations)]
    for name in names:
        text += f'[destinations.{name}]\nvendor = "chrts"\napi_key = "bench"\n'
        text += f'url = "http://127.0.0.1:{port}"\n{RETRIES if eager else ""}'
    text += f"[[routes]]\nto = {orjson.dumps(names).decode()}\n{more}"
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


@contextmanager
def gateway(
    vendor: str, port: int, destinations: int, *, eager: bool = False, more: str = ""
) -> Iterator[tuple[int, int]]:
    """Run a gateway with a `configuration`; yield its process id and port."""
    with tempfile.TemporaryDirectory() as folder:
        path = configuration(Path(folder), vendor, port, destinations, eager=eager, more=more)
        command = ("gateway", "run", "--config", str(path))
        with started(*command, marker='"listening"') as (process, line):
            yield process.pid, orjson.loads(line)["port"]


def until_quiet(pid: int) -> float:
    """Wait until a process is idle; return the CPU seconds that it has used."""
    before = cpu(pid)
    while True:
        time.sleep(QUIET)
        now = cpu(pid)
        if now - before < SETTLED:
            return now
        before = now


def delivering(vendor: str, sink: int, destinations: int, count: int) -> float:
    """Return CPU µs per request that is accepted, stored, and delivered to each destination."""
    requests = requests_of(vendor)
    with gateway(vendor, sink, destinations) as (pid, port):
        load(port, requests, count // 10, CONNECTIONS)
        before = until_quiet(pid)
        load(port, requests, count, CONNECTIONS)
        return (until_quiet(pid) - before) / count * 1e6
