"""A change of the system clock makes no pending event a dead letter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.configs import destination, everything
from tests.e2e.process import GatewayProcess, gateway_process
from tests.e2e.running import PATIENCE, sandboxed
from tests.soak.faults import Clock

KEY = {"authorization": "Bearer api_chrts_test"}
EVENTS = 5
DAY = 86_400
BRISK = 'retry_min = "20ms"\nretry_max = "50ms"\nmax_age = "3d"'


async def counted(client: aiohttp.ClientSession, url: str, metric: str) -> float:
    """Return a metric's value."""
    async with client.get(f"{url}/metrics") as answer:
        page = await answer.text()
    return sum(float(x.rpartition(" ")[2]) for x in page.splitlines() if x.startswith(metric))


async def fault(client: aiohttp.ClientSession, sandbox: str, count: int) -> None:
    """Let the vendor respond to *count* requests with 503."""
    planned = {"vendor": "chrts", "status": 503, "count": count}
    async with client.post(f"{sandbox}/_sandbox/faults", json=planned) as answer:
        assert answer.status < 300


@asynccontextmanager
async def waiting(
    config: Path, clock: Clock, client: aiohttp.ClientSession
) -> AsyncIterator[GatewayProcess]:
    """Run a gateway with pending events for a vendor that is down."""
    async with gateway_process(config, launcher=clock.launcher) as gateway:
        for number in range(EVENTS):
            body = {"uid": f"u{number}", "name": "E"}
            url = f"{gateway.url}/event/track"
            async with client.post(url, json=body, headers=KEY) as answer:
                assert answer.status == 200
        yield gateway


async def tries(client: aiohttp.ClientSession, url: str, more: int) -> None:
    """Wait until *more* attempts were made, and long enough for the spool to read the clock."""
    until = asyncio.get_running_loop().time() + 3
    name = "cdp_gateway_attempts_total"
    before = await counted(client, url, name)
    async with asyncio.timeout(PATIENCE):
        while (  # noqa: ASYNC110 - metrics are polled
            await counted(client, url, name) < before + more
            or asyncio.get_running_loop().time() < until
        ):
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("jump", [8 * DAY, -8 * DAY])
async def test_a_clock_change_causes_no_dead_letter(tmp_path: Path, jump: int) -> None:
    """A clock that jumps by days, while running or before a start, causes no dead letter."""
    clock = Clock(tmp_path / "offset")
    async with sandboxed() as (sandbox, client):
        head = everything(tmp_path, sandbox).partition("[destinations.")[0]
        head = head.replace("[server]\n", "[server]\nmetrics = true\n")
        config = tmp_path / "gateway.toml"
        table = destination("chrts", sandbox, BRISK)
        config.write_text(f'{head}{table}[[routes]]\nto = ["chrts"]\n')
        await fault(client, sandbox, 1_000_000)
        async with waiting(config, clock, client) as gateway:
            clock.jump(jump)
            await tries(client, gateway.url, 2)
            clock.jump(0)
            await tries(client, gateway.url, 2)
            assert await counted(client, gateway.url, "cdp_gateway_dead_letters{") == 0
            clock.jump(jump)
            gateway.kill()
        async with gateway_process(config, launcher=clock.launcher) as gateway:
            await tries(client, gateway.url, 1)
            assert await counted(client, gateway.url, "cdp_gateway_dead_letters{") == 0
            clock.jump(0)
            await fault(client, sandbox, 0)
            async with asyncio.timeout(PATIENCE):
                backlog = "cdp_gateway_backlog_requests{"
                while await counted(client, gateway.url, backlog):  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.1)
            assert await counted(client, gateway.url, "cdp_gateway_dead_letters{") == 0
