"""Routing in a running gateway: steps before sending, the same result after a restart."""

import asyncio
import hashlib
import signal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.spool.sqlite.dead_letters import DeadLetterStore
from tests.e2e.configs import base_config, destination, source
from tests.e2e.process import GatewayProcess, gateway_process
from tests.e2e.running import PATIENCE, Running, running, sandboxed

HEADERS = {"authorization": "Bearer api_chrts_test"}
HASHED = hashlib.sha256(b"ada@shop.example").hexdigest()
HASH = 'steps = [{ hash = ["traits.email"] }, { drop = ["context.ip"] }]'


def config(folder: Path, sandbox: str, routes: str, more: str = "") -> str:
    """Return a configuration of one source and two destinations with these routes."""
    again = 'retry_min = "50ms"\nretry_max = "100ms"'
    return (
        base_config(folder)
        + source("chrts", "api_chrts_test", name="shop")
        + destination("chrts", sandbox, again)
        + destination("growlytics", sandbox, again)
        + more
        + routes
    )


async def post(client: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    """Post one request, which must be accepted."""
    async with client.post(url, json=body, headers=HEADERS) as answer:
        assert answer.status == 200, await answer.text()


async def track(client: aiohttp.ClientSession, url: str, uid: str, **properties: Any) -> None:
    """Track a purchase."""
    body = {"uid": uid, "name": "Bought", "properties": properties}
    await post(client, f"{url}/event/track", body)


async def identify(client: aiohttp.ClientSession, url: str, uid: str = "u1", **more: Any) -> None:
    """Identify a user with an e-mail address."""
    traits = {"email": " Ada@Shop.Example ", "plan": "pro"}
    await post(client, f"{url}/customer/identify", {"uid": uid, "traits": traits, **more})


async def received(
    client: aiohttp.ClientSession, sandbox: str, vendor: str, count: int
) -> list[dict[str, Any]]:
    """Wait until a vendor accepted *count* requests; return their bodies in order."""
    async with asyncio.timeout(PATIENCE), client.get(f"{sandbox}/_sandbox/events") as stream:
        while True:
            async with client.get(f"{sandbox}/_sandbox/requests?vendor={vendor}") as answer:
                journal = await answer.json()
            bodies = [entry["body"] for entry in journal if entry["verdict"] == "accepted"]
            if len(bodies) >= count:
                return bodies
            await stream.content.readline()


async def bodies(gateway: Running, vendor: str, count: int) -> list[dict[str, Any]]:
    """Wait for what a vendor received through a gateway in this process."""
    return await received(gateway.client, gateway.sandbox, vendor, count)


def emails(found: list[dict[str, Any]]) -> list[str]:
    """Return the e-mail addresses in requests of chrts' format."""
    return [(body.get("traits") or body["attributes"])["email"] for body in found]


async def test_each_route_sends_its_own_copy(tmp_path: Path) -> None:
    """A route's hash step does not affect another route's copy."""
    routes = (
        f'[[routes]]\nname = "hashed"\nto = ["growlytics"]\n{HASH}\n[[routes]]\nto = ["chrts"]\n'
    )
    async with running(tmp_path, lambda url: config(tmp_path, url, routes)) as gateway:
        await identify(gateway.client, gateway.url)
        (plain,) = await bodies(gateway, "chrts", 1)
        (hashed,) = await bodies(gateway, "growlytics", 1)
        assert emails([plain]) == [" Ada@Shop.Example "]
        assert HASHED in str(hashed)
        assert "Ada" not in str(hashed)


async def test_a_route_with_steps_is_never_passed_through(tmp_path: Path) -> None:
    """A route with steps never passes the original bytes through."""
    routes = f'[[routes]]\nname = "hashed"\nto = ["chrts"]\n{HASH}\n'
    async with running(tmp_path, lambda url: config(tmp_path, url, routes)) as gateway:
        await identify(gateway.client, gateway.url, email="again ada@shop.example")
        found = await bodies(gateway, "chrts", 1)
        assert emails(found) == [HASHED]
        assert "ada@" not in str(found).lower()


async def test_an_additional_route_delivers_an_event_twice(tmp_path: Path) -> None:
    """With an additional route both copies arrive, each after its own steps, in route order."""
    routes = (
        f'[[routes]]\nto = ["chrts"]\n[[routes]]\nname = "hashed"\nto = ["chrts"]\n'
        f"additional = true\n{HASH}\n"
    )
    async with running(tmp_path, lambda url: config(tmp_path, url, routes)) as gateway:
        for number in range(5):
            await identify(gateway.client, gateway.url, f"u{number}")
        found = await bodies(gateway, "chrts", 10)
        for number in range(5):
            mine = [body for body in found if body["uid"] == f"u{number}"]
            assert emails(mine) == [" Ada@Shop.Example ", HASHED]


@pytest.mark.usefixtures("each_spool")
async def test_conditions_and_filters_decide_in_the_running_gateway(tmp_path: Path) -> None:
    """An event without a true condition takes the fallback; without consent it is not delivered."""
    routes = """
[[routes]]
name = "ads"
to = ["growlytics"]
steps = [{ consent = "ads" }]
when = 'event.properties.total > 100'
[[routes]]
to = ["chrts"]
fallback = true
[consent]
retention = "30d"
"""
    async with running(tmp_path, lambda url: config(tmp_path, url, routes)) as gateway:
        for number, (uid, total) in enumerate([("u1", 101), ("u1", 99), ("u2", 200)]):
            await track(gateway.client, gateway.url, uid, total=total, number=number)
        (found,) = await bodies(gateway, "chrts", 1)
        assert found["properties"]["number"] == 1
        assert await gateway.journal("growlytics") == []


def write(folder: Path, sandbox: str, routes: str, more: str = "") -> Path:
    """Write a configuration."""
    path = folder / "gateway.toml"
    path.write_text(config(folder, sandbox, routes, more))
    return path


async def planned(client: aiohttp.ClientSession, sandbox: str, vendor: str) -> None:
    """Let a vendor fail until its faults are removed."""
    fault = {"vendor": vendor, "status": 503, "count": 10_000}
    async with client.post(f"{sandbox}/_sandbox/faults", json=fault) as answer:
        assert answer.status < 300, await answer.text()


async def asked(client: aiohttp.ClientSession, sandbox: str, vendor: str) -> None:
    """Wait until a vendor has got a request."""
    async with asyncio.timeout(PATIENCE), client.get(f"{sandbox}/_sandbox/events") as stream:
        while True:
            async with client.get(f"{sandbox}/_sandbox/requests?vendor={vendor}") as answer:
                if await answer.json():
                    return
            await stream.content.readline()


async def mended(client: aiohttp.ClientSession, sandbox: str) -> None:
    """Let all vendors accept again."""
    async with client.delete(f"{sandbox}/_sandbox/faults") as answer:
        assert answer.status < 300, await answer.text()


async def test_steps_are_the_same_after_a_restart(tmp_path: Path) -> None:
    """A delivery that is pending when the process is killed is sent after the same steps."""
    routes = (
        f'[[routes]]\nname = "hashed"\nto = ["chrts"]\n{HASH}\n[[routes]]\nto = ["chrts"]\n'
        "additional = true\n"
    )
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, routes)
        await planned(client, sandbox, "chrts")
        async with gateway_process(path) as gateway:
            for number in range(8):
                await identify(client, gateway.url, f"u{number}")
            await gateway.saw("circuit_open")
            gateway.kill()
        await mended(client, sandbox)
        async with gateway_process(path) as gateway:
            found = await received(client, sandbox, "chrts", 16)
        assert sorted(emails(found)) == sorted([HASHED] * 8 + [" Ada@Shop.Example "] * 8)


async def hang_up(gateway: GatewayProcess, event: str) -> dict[str, object]:
    """Send SIGHUP, and wait for the next log line of *event*."""
    gateway.lines.clear()
    gateway.process.send_signal(signal.SIGHUP)
    return await gateway.saw(event)


async def test_a_delivery_of_a_removed_route_is_a_dead_letter(tmp_path: Path) -> None:
    """A delivery whose route was renamed becomes a dead letter; a replay needs the old name."""
    routes = f'[[routes]]\nname = "hashed"\nto = ["chrts"]\n{HASH}\n'
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, routes)
        await planned(client, sandbox, "chrts")
        async with gateway_process(path) as gateway:
            await identify(client, gateway.url)
            await asked(client, sandbox, "chrts")
            gateway.kill()
        await mended(client, sandbox)
        write(tmp_path, sandbox, routes.replace('"hashed"', '"renamed"'))
        async with gateway_process(path) as gateway:
            line = await gateway.saw("dead_letter")
            assert "route 'hashed', whose steps apply" in str(line["reason"])
            gateway.process.terminate()
            assert await gateway.ended() == 0
        with DeadLetterStore(tmp_path / "spool") as box:
            (dead,) = box.dead_letters()
            assert orjson.loads(dead.entry.request.body)["uid"] == "u1"
            box.replay([dead.id])
        write(tmp_path, sandbox, routes)
        async with gateway_process(path):
            assert emails(await received(client, sandbox, "chrts", 1)) == [HASHED]


async def test_a_reload_changes_routes_together(tmp_path: Path) -> None:
    """A new file's conditions, steps and lists take effect together, or not at all."""
    first = f'[[routes]]\nname = "r"\nto = ["chrts"]\n{HASH}\n'
    second = (
        '[[routes]]\nname = "r"\nto = ["chrts"]\nsteps = ["masked"]\n'
        "when = 'event.user_id != \"u2\"'\n"
        '[steps]\nmasked = [{ mask = ["traits.email"] }]\n'
    )
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, first)
        async with gateway_process(path) as gateway:
            await identify(client, gateway.url, "u1")
            await received(client, sandbox, "chrts", 1)
            write(tmp_path, sandbox, second.replace("user_id", "usr_id"))
            line = await hang_up(gateway, "reload_failed")
            assert "column 7: there is no field event.usr_id" in str(line["problems"])
            await identify(client, gateway.url, "u2")
            await received(client, sandbox, "chrts", 2)
            write(tmp_path, sandbox, second)
            await hang_up(gateway, "reloaded")
            await identify(client, gateway.url, "u2")
            await identify(client, gateway.url, "u3")
            found = await received(client, sandbox, "chrts", 3)
        assert [body["uid"] for body in found] == ["u1", "u2", "u3"]
        assert emails(found) == [HASHED, HASHED, "*" * len(" Ada@Shop.Example ")]


async def test_stored_consent_survives_kill_9(tmp_path: Path) -> None:
    """Consent given in one event allows a later event of the user, after ``kill -9`` too."""
    routes = (
        '[[routes]]\nname = "ads"\nto = ["growlytics"]\nsteps = [{ consent = "ads" }]\n'
        'from = ["shop"]\n[consent]\nretention = "30d"\nacross_sources = true\n'
    )
    more = '[sources.app]\nvendor = "tracardi"\nkeys = "any"\n'
    said = {"type": "consent-update", "properties": {"ads": True}}
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, routes, more)
        async with gateway_process(path) as gateway:
            await track(client, gateway.url, "u1", number=1)
            body = {"source": {"id": "s"}, "profile": {"id": "u1"}, "events": [said]}
            await post(client, f"{gateway.url}/track", body)
            gateway.kill()
        async with gateway_process(path) as gateway:
            for uid in ("u2", "u1"):
                body = {"anonymousId": uid, "name": "Bought", "properties": {"number": 2}}
                await post(client, f"{gateway.url}/event/track", body)
            (found,) = await received(client, sandbox, "growlytics", 1)
            assert "u1" in str(found)
