"""Events that were acknowledged survive the end of the process."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.configs import destination
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE, sandboxed

EVENTS = 60
HEADERS = {"authorization": "Bearer api_chrts_test"}


def config(folder: Path, sandbox: str) -> Path:
    """Write a configuration of one source and two destinations."""
    path = folder / "gateway.toml"
    path.write_text(
        f'[server]\nlisten = "127.0.0.1:0"\ndrain_timeout = "5s"\n'
        f'[spool]\npath = "{folder / "spool"}"\n'
        '[sources.shop]\nvendor = "chrts"\nkeys = ["api_chrts_test"]\n'
        + destination("chrts", sandbox, 'retry_min = "50ms"\nretry_max = "200ms"')
        + destination("growlytics", sandbox, 'retry_min = "50ms"\nretry_max = "200ms"')
        + '[[routes]]\nto = ["chrts", "growlytics"]\n'
    )
    return path


async def post(client: aiohttp.ClientSession, url: str, number: int) -> None:
    """Post one event, which must be accepted."""
    body = {"uid": f"user-{number % 5}", "name": "counted", "properties": {"number": number}}
    async with client.post(f"{url}/event/track", json=body, headers=HEADERS) as answer:
        assert answer.status == 200, await answer.text()


def number_in(entry: dict[str, Any]) -> int:
    """Return the event's number from either vendor's payload."""
    body = entry["body"]
    if entry["vendor"] == "chrts":
        return int(body["properties"]["number"])
    return int(next(a["value"] for a in body["attributes"] if a["name"] == "number"))


async def arrived(
    client: aiohttp.ClientSession, sandbox: str, vendor: str, count: int
) -> list[int]:
    """Wait until *count* different numbers were accepted; return all, in order of arrival."""
    async with asyncio.timeout(PATIENCE), client.get(f"{sandbox}/_sandbox/events") as stream:
        while True:
            async with client.get(f"{sandbox}/_sandbox/requests?vendor={vendor}") as answer:
                journal = await answer.json()
            numbers = [number_in(entry) for entry in journal if entry["verdict"] == "accepted"]
            if len(set(numbers)) >= count:
                return numbers
            await stream.content.readline()


async def down(client: aiohttp.ClientSession, sandbox: str) -> None:
    """Let every request to the vendors fail."""
    for vendor in ("chrts", "growlytics"):
        fault = {"vendor": vendor, "status": 503, "count": 1_000_000}
        async with client.post(f"{sandbox}/_sandbox/faults", json=fault) as answer:
            assert answer.status < 300, await answer.text()


async def test_answered_events_survive_kill_9(tmp_path: Path) -> None:
    """Each event acknowledged before ``kill -9`` reaches every destination after a restart."""
    async with sandboxed() as (sandbox, client):
        path = config(tmp_path, sandbox)
        await down(client, sandbox)
        async with gateway_process(path) as gateway:
            await asyncio.gather(*(post(client, gateway.url, n) for n in range(EVENTS)))
            gateway.kill()
            assert await gateway.ended() == -signal.SIGKILL
        async with client.delete(f"{sandbox}/_sandbox/faults") as answer:
            assert answer.status < 300
        async with gateway_process(path):
            for vendor in ("chrts", "growlytics"):
                assert set(await arrived(client, sandbox, vendor, EVENTS)) == set(range(EVENTS))


async def test_a_terminated_gateway_finishes_and_forgets_nothing(tmp_path: Path) -> None:
    """SIGTERM ends the process with status 0; pending events arrive after a restart, once."""
    async with sandboxed() as (sandbox, client):
        path = config(tmp_path, sandbox)
        async with gateway_process(path) as gateway:
            for number in range(EVENTS):
                await post(client, gateway.url, number)
            gateway.process.terminate()
            assert await gateway.ended() == 0
        async with gateway_process(path):
            for vendor in ("chrts", "growlytics"):
                numbers = await arrived(client, sandbox, vendor, EVENTS)
                assert sorted(numbers) == list(range(EVENTS))
                for user in range(5):
                    mine = [number for number in numbers if number % 5 == user]
                    assert mine == sorted(mine)


async def test_a_second_gateway_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    """A second process on the same spool fails, names the spool, and ends with status 1."""
    async with sandboxed() as (sandbox, _):
        path = config(tmp_path, sandbox)
        async with gateway_process(path):
            second = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "run", "--config", str(path)),
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await asyncio.wait_for(second.communicate(), PATIENCE)
            assert second.returncode == 1
            assert b"spool" in said
