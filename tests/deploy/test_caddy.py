"""Caddy in front of the gateway does what its page says."""

import asyncio
import io
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.deploy.debian import run_in
from tests.docs.pages import ROOT
from tests.e2e.process import gateway_process
from tests.e2e.raw_http import vendor
from tests.e2e.running import PATIENCE

pytestmark = pytest.mark.xdist_group("deploy")

UNPACK = "apt-get update -qq && apt-get download -qq caddy && dpkg-deb -x caddy_*.deb ."
EVENT = {"writeKey": "WK", "anonymousId": "a", "event": "Seen"}
PAGE = {"origin": "https://shop.example", "content-type": "text/plain"}


@pytest.fixture(scope="session")
def caddy(debian: Path) -> Path:
    """Return Debian's Caddy, which needs nothing else to run."""
    ended = run_in(debian, UNPACK, {}, "/caddy")
    assert ended.returncode == 0, ended.stderr
    return debian / "caddy/usr/bin/caddy"


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@asynccontextmanager
async def fronted(program: Path, gateway: str, folder: Path) -> AsyncIterator[str]:
    """Run Caddy with the page's file in front of a gateway; yield its URL, without TLS."""
    text = (ROOT / "config/deploy/Caddyfile").read_text()
    assert "127.0.0.1:8080" in text
    path = folder / "Caddyfile"
    path.write_text("{\n\tadmin off\n}\n" + text.replace("127.0.0.1:8080", gateway))
    url = f"http://127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        program, "run", "--adapter", "caddyfile", "--config", path, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GATEWAY_HOST": url, "HOME": str(folder)},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in process.stderr:
                assert '"level":"error"' not in line.decode(), line
                if b"serving initial configuration" in line:
                    break
        yield url
    finally:
        process.terminate()
        await process.communicate()


async def test_events_pass_with_the_clients_address(caddy: Path, tmp_path: Path) -> None:
    """Events pass with the client's address, the vendor's own refusals too; health pages do not."""
    async with vendor() as upstream:
        config = tmp_path / "gateway.toml"
        config.write_text(
            '[server]\nlisten = "127.0.0.1:0"\ntrusted_proxies = ["127.0.0.1"]\n'
            f'[spool]\npath = "{tmp_path / "spool"}"\n'
            '[sources.site]\nvendor = "segment"\nkeys = ["WK"]\n'
            f'[destinations.same]\nvendor = "segment"\nurl = "{upstream.url}"\n'
            'write_key = "OURS"\n[[routes]]\nto = ["same"]\n'
        )
        async with (
            gateway_process(config) as running,
            fronted(caddy, running.url.removeprefix("http://"), tmp_path) as url,
            aiohttp.ClientSession() as client,
        ):
            async with client.post(f"{url}/v1/t", data=orjson.dumps(EVENT), headers=PAGE) as said:
                assert (said.status, await said.json()) == (200, {"success": True})
            large = orjson.dumps({**EVENT, "properties": {"text": "x" * 1_500_000}})
            async with client.post(f"{url}/v1/t", data=io.BytesIO(large), headers=PAGE) as said:
                assert (said.status, said.content_type) == (400, "application/json")
            for page in ("/metrics", "/healthz", "/readyz"):
                async with client.get(url + page) as said:
                    assert (said.status, await said.read()) == (404, b"")
            await running.saw("delivery")
    (got,) = upstream.got
    assert got.header("x-forwarded-for") == "127.0.0.1"
