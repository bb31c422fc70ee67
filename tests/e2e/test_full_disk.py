"""After a full disk and a crash the gateway starts, reports the reason, and recovers by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.configs import destination, everything
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE, sandboxed
from tests.soak.faults import SmallDisk, small_disk

KEY = {"authorization": "Bearer api_chrts_test"}
SENT = 60


def written(folder: Path, disk: Path, sandbox: str, more: str) -> Path:
    """Write a configuration whose spool is on the small disk; return its path."""
    head = everything(disk, sandbox).partition("[destinations.")[0]
    brisk = 'retry_min = "20ms"\nretry_max = "50ms"'
    config = folder / "gateway.toml"
    table = destination("chrts", sandbox, brisk)
    config.write_text(f'{head}{more}{table}[[routes]]\nto = ["chrts"]\n')
    return config


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mount a small real file system; skip the test unless root runs it."""
    try:
        with small_disk(tmp_path / "disk", 16) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


async def post(client: aiohttp.ClientSession, url: str, number: int) -> int:
    """Post an event of 5 kB; return the status."""
    body = {"uid": f"u{number}", "name": "E", "properties": {"pad": "x" * 5_000, "n": number}}
    async with client.post(f"{url}/event/track", json=body, headers=KEY) as answer:
        said = await answer.json()
        assert said["status"] is (answer.status == 200), said
        return answer.status


async def ready(client: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Return the status and text of ``/readyz``."""
    async with client.get(f"{url}/readyz") as answer:
        return answer.status, await answer.text()


async def becomes(client: aiohttp.ClientSession, url: str, status: int) -> str:
    """Wait, without posting, until ``/readyz`` has *status*; return its text."""
    async with asyncio.timeout(PATIENCE):
        while (found := await ready(client, url))[0] != status:  # noqa: ASYNC110 - it is polled
            await asyncio.sleep(0.05)
    return found[1]


async def fault(client: aiohttp.ClientSession, sandbox: str, count: int) -> None:
    """Let the vendor respond to *count* requests with 503."""
    planned = {"vendor": "chrts", "status": 503, "count": count}
    async with client.post(f"{sandbox}/_sandbox/faults", json=planned) as answer:
        assert answer.status < 300


async def numbers(client: aiohttp.ClientSession, sandbox: str) -> set[int]:
    """Return the numbers of the events that the vendor accepted."""
    async with client.get(f"{sandbox}/_sandbox/requests?vendor=chrts") as answer:
        found = await answer.json()
    return {one["body"]["properties"]["n"] for one in found if one["answer"]["status"] == 200}


@asynccontextmanager
async def crashed(
    folder: Path, disk: SmallDisk, more: str = ""
) -> AsyncIterator[tuple[Path, str, aiohttp.ClientSession]]:
    """Kill a gateway with pending events for a vendor that is down, and fill its disk."""
    async with sandboxed() as (sandbox, client):
        config = written(folder, disk.folder, sandbox, more)
        await fault(client, sandbox, 1_000_000)
        async with gateway_process(config) as gateway:
            for number in range(SENT):
                assert await post(client, gateway.url, number) == 200
            gateway.kill()
        disk.fill()
        yield config, sandbox, client


async def all_arrive(client: aiohttp.ClientSession, sandbox: str) -> None:
    """Wait until the vendor has every acknowledged event."""
    await fault(client, sandbox, 0)
    async with asyncio.timeout(PATIENCE):
        while not set(range(SENT)) <= await numbers(client, sandbox):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.1)


async def test_pending_events_are_delivered_from_a_full_disk(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """A gateway on a full disk starts, delivers what is pending, and accepts again after that."""
    async with (
        crashed(tmp_path, disk) as (config, sandbox, client),
        gateway_process(config) as gateway,
    ):
        disk.fill()
        async with asyncio.timeout(PATIENCE):
            number = SENT
            while await post(client, gateway.url, number) == 200:
                number += 1
        assert "free some space" in await becomes(client, gateway.url, 503)
        await all_arrive(client, sandbox)
        assert (await ready(client, gateway.url))[0] in {200, 503}
        disk.free()
        await becomes(client, gateway.url, 200)
        assert await post(client, gateway.url, number + 1) == 200


async def test_a_start_waits_for_disk_space(tmp_path: Path, disk: SmallDisk) -> None:
    """With no space to free, a gateway refuses events in the vendor's words, then recovers."""
    async with crashed(tmp_path, disk, "[trace]\nenabled = false\n") as (config, sandbox, client):
        for name in ("reserve", "spool.db-shm"):
            (disk.folder / "spool" / name).unlink(missing_ok=True)
        disk.fill()
        async with gateway_process(config) as gateway:
            await gateway.saw("waiting_for_disk_space")
            status, said = await ready(client, gateway.url)
            assert status == 503
            assert "free some space" in said
            assert await post(client, gateway.url, SENT) == 503
            gateway.process.terminate()
            assert await gateway.ended() == 0
        async with gateway_process(config) as gateway:
            assert (await ready(client, gateway.url))[0] == 503
            disk.free()
            await becomes(client, gateway.url, 200)
            await all_arrive(client, sandbox)
