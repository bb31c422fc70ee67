"""The health of a running gateway: what is wrong, and what to do, on every page that shows it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from gateway.http import Request
from gateway.spool import BacklogLimit, Entry
from gateway.spool.sqlite.spool import SqliteSpool
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, PROMPT_RETRIES, base_config, destination, route, source
from tests.e2e.running import PATIENCE

KEY = "api_chrts_test"
SHOP = source("chrts", KEY, name="shop")
MANY = 1_000_000
NOWHERE = "http://127.0.0.1:1"


def setup(more: str = PROMPT_RETRIES, sandbox: str = "{url}") -> str:
    """Return a configuration with a source, and a destination with *more* lines."""
    crm = destination("chrts", sandbox, name="crm", more=f"passthrough = false\n{more}")
    return (
        base_config(server='metrics = true\ndrain_timeout = "100ms"')
        + ADMIN
        + SHOP
        + crm
        + route("crm")
    )


async def send(admin: Admin, count: int, key: str = KEY) -> list[int]:
    """Send an event of each of *count* users; return the statuses."""
    found = []
    for user in range(count):
        body = {"uid": f"ada-{user}", "name": "counted", "properties": {}}
        headers = {"authorization": f"Bearer {key}"}
        url = f"{admin.running.url}/event/track"
        async with admin.running.client.post(url, json=body, headers=headers) as answer:
            found.append(answer.status)
    return found


async def health(admin: Admin, until: Callable[[Any], bool]) -> Any:
    """Wait until the health is as wanted, and return it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await admin.get("/health")
            if until(found):
                return found
            await asyncio.sleep(0.05)


def is_in(state: str) -> Callable[[Any], bool]:
    """Return whether the destination is in *state*."""
    return lambda found: found["destinations"][0]["state"] == state


def finding(found: Any, subject: str = "destination") -> str:
    """Return the one finding about *subject*, and its cure."""
    (one,) = (one for one in found["findings"] if one["subject"] == subject)
    return f"{one['headline']}: {one['cure']}"


async def text(admin: Admin, path: str) -> str:
    """Return a page of the sources' address."""
    async with admin.running.client.get(f"{admin.running.url}{path}") as answer:
        return await answer.text()


async def test_a_full_queue_is_named(tmp_path: Path) -> None:
    """With a full queue, source and destination say so; the gateway is down, not quiet."""
    text_of = setup(f"max_backlog = 1\n{PROMPT_RETRIES}", NOWHERE)
    async with administered(tmp_path, text_of) as admin:
        assert await send(admin, 1) == [200]
        await health(admin, lambda one: one["state"] == "down")
        assert set(await send(admin, 25)) == {503}
        found = await health(admin, lambda one: is_in("stopped")(one) and one["state"] == "down")
        (shop,), (crm,) = found["sources"], found["destinations"]
        assert (shop["state"], shop["cause"]) == ("refusing", "spool_full")
        assert shop["refused_rate"] > 0
        said = "shop refuses senders because crm is full, 25 of the last 26 requests refused"
        assert said in finding(found, "source")
        assert "crm cannot be reached, 1 pending, its queue is full" in finding(found)
        assert "max_backlog" in crm["full"]
        assert "max_backlog" in await text(admin, "/readyz")


async def test_wrong_keys_are_named(tmp_path: Path) -> None:
    """A source whose clients send wrong keys is refusing, and so says every page."""
    async with administered(tmp_path, setup()) as admin:
        assert set(await send(admin, 4, "wrong")) == {401}
        found = await health(admin, lambda one: one["state"] == "degraded")
        assert (found["sources"][0]["state"], found["sources"][0]["cause"]) == (
            "refusing", "forbidden",
        )  # fmt: skip
        assert finding(found, "source") == (
            "shop refuses keys, 4 of the last 4 requests refused: send a key of [sources.shop] "
            "keys, or add the client's key there, then reload"
        )
        assert await text(admin, "/readyz") == "ok\nsource 'shop' is refusing\n"
        state = 'cdp_gateway_source_state{source="shop",state="refusing"} 1.0'
        assert state in await text(admin, "/metrics")
        overview = await admin.get("/overview")
        assert overview["health"]["findings"] == found["findings"]


async def test_refused_events_are_named(tmp_path: Path) -> None:
    """A destination that makes dead letters of everything is failing."""
    async with administered(tmp_path, setup()) as admin:
        await admin.running.fault(vendor="chrts", status=422, count=MANY)
        await send(admin, 16)
        found = await health(admin, lambda one: one["destinations"][0]["dead_letters"] == 16)
        (crm,) = found["destinations"]
        assert (crm["state"], crm["failed_share"], crm["delivered_rate"]) == ("failing", 1, 0)
        assert crm["failed_rate"] > 0
        assert "16 of the last 16 attempts failed, 16 dead letters" in finding(found)
        assert "422" in crm["detail"]


async def fill(folder: Path, to: str) -> None:
    """Write a spool with four events for one destination."""
    spool = SqliteSpool(folder / "spool")
    await spool.open()
    await spool.register({to: BacklogLimit()})
    for number in range(4):
        request = Request(
            method="POST", url="/event/track", headers={"content-type": "application/json"},
            body=b'{"uid": "ada", "name": "counted", "properties": {}}', id=f"req-{number}",
        )  # fmt: skip
        await spool.append(Entry(request.id, "shop", request, {to: (0,)}, "chrts"))
    await spool.close()


async def test_what_waits_for_a_removed_destination_is_named(tmp_path: Path) -> None:
    """A destination that was removed with events pending is a warning with its cure."""
    await fill(tmp_path, "mail")
    async with administered(tmp_path, setup()) as admin:
        found = await health(admin, lambda found: bool(found["findings"]))
        assert found["state"] == "attention"
        said = finding(found, "config")
        assert said.startswith("mail was removed with 4 events pending: add [destinations.mail]")


async def test_dead_letters_of_a_removed_destination_are_named(tmp_path: Path) -> None:
    """A destination that was removed with dead letters is a warning with the command for them."""
    async with administered(tmp_path, setup()) as admin:
        await admin.running.fault(vendor="chrts", status=422, count=MANY)
        await send(admin, 2)
        await health(admin, lambda one: one["destinations"][0]["dead_letters"] == 2)
    renamed = setup().replace("destinations.crm", "destinations.mail").replace('"crm"', '"mail"')
    async with administered(tmp_path, renamed) as admin:
        found = await health(admin, lambda found: bool(found["findings"]))
        assert finding(found, "config") == (
            "crm was removed with 2 dead letters: delete its dead letters with `gateway "
            "dead-letters delete --destination crm`, or add it again to replay them"
        )


async def test_an_old_backlog_is_named(tmp_path: Path) -> None:
    """A destination that is nine minutes behind says so."""
    await fill(tmp_path, "crm")
    with apsw.Connection(str(tmp_path / "spool/spool.db")) as connection:
        connection.execute("UPDATE log SET at = at - 540")
    connection.close()
    async with administered(tmp_path, setup("concurrency = 1")) as admin:
        await admin.running.fault(vendor="chrts", delay=3600, count=MANY)
        found = await health(admin, is_in("behind"))
        assert "crm is 9 minutes behind" in finding(found)
        assert found["state"] == "attention"


async def test_a_refused_key_is_named(tmp_path: Path) -> None:
    """A destination whose key the vendor refuses says which key to fix."""
    async with administered(tmp_path, setup()) as admin:
        await admin.running.fault(vendor="chrts", status=401, count=MANY)
        await send(admin, 5)
        found = await health(admin, is_in("refused"))
        assert finding(found) == (
            "Key refused by chrts, 5 pending: fix api_key of crm, then reload"
        )
        assert "401" in found["destinations"][0]["detail"]
        state = 'cdp_gateway_destination_state{destination="crm",state="refused"} 1.0'
        assert state in await text(admin, "/metrics")
        await admin.running.fault(vendor="chrts", status=401, count=0)
        await health(admin, lambda one: one["destinations"][0]["pending"] == 0)


async def test_a_pause_is_named(tmp_path: Path) -> None:
    """A paused destination says so at once, and so does its end."""
    async with administered(tmp_path, setup()) as admin:
        await admin.post("/destinations/crm/pause")
        found = await admin.get("/health")
        assert (found["state"], finding(found)) == (
            "attention", "crm is paused by an operator, 0 pending: resume crm",
        )  # fmt: skip
        assert await text(admin, "/readyz") == "ok\ndestination 'crm' is paused\n"
        await admin.post("/destinations/crm/resume")
        assert (await admin.get("/health"))["state"] == "healthy"


async def test_an_open_circuit_is_named_with_its_end(tmp_path: Path) -> None:
    """A destination with an open circuit says why, and until when nothing is sent."""
    async with administered(tmp_path, setup('retry_min = "30s"')) as admin:
        await admin.running.fault(vendor="chrts", status=503, count=MANY)
        await send(admin, 9)
        found = await health(admin, lambda one: one["destinations"][0]["until"] is not None)
        (crm,) = found["destinations"]
        assert crm["state"] == "stopped"
        assert 0 < crm["until"] - found["now"] <= 5
        assert "chrts answers crm with errors, 9 pending: check whether chrts is up" in finding(
            found
        )


async def test_a_gateway_without_trouble_is_healthy(tmp_path: Path) -> None:
    """A gateway that delivers is healthy, with the rates of the last minute."""
    async with administered(tmp_path, setup()) as admin:
        await send(admin, 10)
        found = await health(admin, lambda one: one["destinations"][0]["delivered_rate"] == 2)
        assert (found["state"], found["findings"]) == ("healthy", [])
        assert found["sources"][0]["accepted_rate"] == 2
        assert await text(admin, "/readyz") == "ok\n"
