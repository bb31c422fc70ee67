"""No request blocks the event loop for long."""

import asyncio
import contextlib
import gc
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from gateway.reload import Reloader
from tests.e2e.configs import SETTINGS, VENDORS, base_config, destination, source
from tests.e2e.raw_http import exchange, vendor
from tests.e2e.running import running

MOST = 0.1
"""Maximum seconds of work between two turns of the loop."""
MIB = 1024 * 1024 - 1000
SHOP = "0d42fd8b713d0752776ca589cc0056"
FORM = b"content-type: application/x-www-form-urlencoded"
NAMED = b'{"shop_id":"%s","x":[' % SHOP.encode()


class Turns:
    """The most CPU time that the loop's thread used between two turns of a task."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        """Take turns until cancelled."""
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - before)


@asynccontextmanager
async def watched() -> AsyncIterator[Turns]:
    """Measure turns of the running loop, with the tests' own objects frozen in the collector.

    A gateway's process freezes its objects at its start too.
    """
    turns = Turns()
    gc.collect()
    gc.freeze()
    watching = asyncio.get_running_loop().create_task(turns.watch())
    try:
        yield turns
    finally:
        gc.unfreeze()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    """Return a request whose connection is closed after the response."""
    lines = [b"POST %s HTTP/1.1" % path.encode(), b"host: h", b"connection: close"]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), *headers, b"", body])


def full(piece: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """Return a body of the maximum size that repeats *piece*."""
    return before + piece * ((MIB - len(before) - len(behind)) // len(piece)) + behind


def batch() -> bytes:
    """Return a batch with the maximum number of events, each of another user."""
    one = [{"type": "track", "userId": f"u{n}", "event": "Seen"} for n in range(5000)]
    return orjson.dumps({"writeKey": "WK", "batch": one})


ATTACKS = {
    "empty packed parts": post("/v1/track", full(zlib.compress(b"")), b"content-encoding: deflate"),
    "fields beside a secret": post("/push", full(b"a&", f"shop_id={SHOP}&".encode()), FORM),
    "objects beside a secret": post("/push", full(b'{"a":1},', NAMED, b"1]}")),
    "fields of a call with our key": post(
        "/sync/orders", full(b"a=b&", f"shop_id={SHOP}&".encode()), FORM
    ),
    "objects of a call with our key": post("/sync/orders", full(b'{"a":1},', NAMED, b"1]}")),
    "a call without any key": post("/elsewhere", full(b"a=b&")),
    "tiny chunks": b"POST /v1/track HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"
    b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * (MIB // 6) + b"0\r\n\r\n",
    "as many events as may be": post("/v1/batch", batch()),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_no_request_holds_the_loop(tmp_path: Path, attack: bytes) -> None:
    """No request keeps the loop busy for more than a tenth of a second at a time."""
    async with vendor() as upstream:

        def config(sandbox: str) -> str:
            names = ", ".join(f'"{name}"' for name in VENDORS)
            return (
                base_config(tmp_path)
                + source("segment", "WK", name="site")
                + f'[sources.shop]\nvendor = "personaclick"\nkeys = ["{SHOP}"]\n'
                f'secrets = ["ours"]\nurl = "{upstream.url}"\nrelay_as = "personaclick"\n'
                'relay_endpoints = ["POST /sync/orders"]\n'
                + "".join(destination(name, sandbox) for name in SETTINGS)
                + f"[[routes]]\nto = [{names}]\n"
            )

        async with running(tmp_path, config) as run:
            for name in VENDORS:
                run.gateway.teams[name].pause()
            async with watched() as turns:
                answer = await exchange(run.url, attack)
            assert answer.startswith(b"HTTP/1.1 "), answer
            assert turns.longest < MOST


async def test_no_reload_holds_the_loop(tmp_path: Path) -> None:
    """A reload that compiles many conditions does not block the loop."""
    head = base_config(tmp_path) + source("segment", "WK", name="site")
    when = 'event.name == "x" && event.properties.total > 1.0'
    routes = f"[[routes]]\nto = ['chrts']\nwhen = '{when}'\n" * 300

    def config(sandbox: str) -> str:
        return f'{head}{destination("chrts", sandbox)}[[routes]]\nto = ["chrts"]\n'

    async with running(tmp_path, config) as run:
        (tmp_path / "gateway.toml").write_text(config(run.sandbox) + routes)
        async with watched() as turns:
            await Reloader(run.gateway).reload_now()
        assert len(run.gateway.config.routes) == 301
        assert turns.longest < MOST
