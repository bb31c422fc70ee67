"""A gateway whose NATS server is away, at its start and later."""

import re
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.servers import NatsServers
from tests.e2e.configs import PROMPT_RETRIES
from tests.e2e.process import gateway_process
from tests.soak.marks import KEY, EventMark, config
from tests.soak.vendor import vendors

PATIENCE = 60.0
TRACKS = [
    {"uid": f"user-{user}", "name": "counted", "properties": {"mark": EventMark(user, 1).text}}
    for user in range(3)
]


@pytest.fixture
def server(tmp_path: Path) -> NatsServers:
    """Return a server that is not started."""
    return NatsServers(tmp_path / "nats", 1)


async def test_a_gateway_outlives_its_server(tmp_path: Path, server: NatsServers) -> None:
    """Without NATS it refuses in the vendor's words, says why, and goes on by itself."""
    spool = f'url = "{server.urls[0]}"\nreplicas = 1\nmax_bytes = "1GiB"\npatience = "500ms"\n'
    path = tmp_path / "gateway.toml"
    async with vendors("chrts") as (vendor,), aiohttp.ClientSession() as client:
        text = config(
            str(tmp_path / "own"), {"chrts": vendor.port}, PROMPT_RETRIES, spool=spool,
            server="metrics = true",
        )  # fmt: skip
        path.write_text(text)
        try:
            async with gateway_process(path) as node:
                headers = {"authorization": f"Bearer {KEY}"}

                async def sent(number: int) -> tuple[int, str]:
                    url = f"{node.url}/event/track"
                    async with client.post(url, json=TRACKS[number], headers=headers) as answer:
                        return answer.status, answer.headers.get("retry-after", "")

                async def page(name: str) -> tuple[int, str]:
                    async with client.get(f"{node.url}/{name}") as answer:
                        return answer.status, await answer.text()

                async def is_away() -> None:
                    status, after = await sent(0)
                    assert status == HTTPStatus.SERVICE_UNAVAILABLE
                    assert int(after) >= 1
                    status, reason = await page("readyz")
                    assert status == HTTPStatus.SERVICE_UNAVAILABLE
                    assert f"{server.urls[0]}: " in reason
                    assert "NATS" in reason
                    assert await page("healthz") == (HTTPStatus.OK, "ok\n")

                waiting = await node.saw("waiting_for_nats")
                await is_away()
                server.start(0)
                await node.saw("ready")
                assert (await sent(1))[0] == HTTPStatus.OK
                server.kill(0)
                await is_away()
                server.start(0)
                while (await sent(2))[0] != HTTPStatus.OK:
                    pass
                wanted = {EventMark(user, 1) for user in (1, 2)}
                await vendor.until(lambda v: v.accepted.keys() >= wanted, PATIENCE)
                found = re.search(r'build_info\{node="(.+?)",', (await page("metrics"))[1])
                assert found
                assert waiting["node"] == found[1]
        finally:
            server.close()


async def test_sigterm_ends_a_gateway_that_waits(tmp_path: Path, server: NatsServers) -> None:
    """A gateway that waits for NATS ends at once when it is asked to, with a good status."""
    spool = f'url = "{server.urls[0]}"\npatience = "200ms"\n'
    path = tmp_path / "gateway.toml"
    path.write_text(config(str(tmp_path / "own"), {"chrts": 1}, spool=spool))
    async with gateway_process(path) as node:
        await node.saw("waiting_for_nats")
        node.process.terminate()
        assert await node.ended() == 0
