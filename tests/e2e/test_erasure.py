"""Erasing a person from a running gateway."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from gateway.admin.erasure import erase
from gateway.app import Gateway
from gateway.cli import main
from gateway.config.loader.load import load
from gateway.errors import GatewayError
from gateway.plugin.registry import load_plugins
from tests.e2e.admin import TOKEN, Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, filled, route, source
from tests.e2e.running import PATIENCE

ANNA, VISITOR = "anna-canary-7", "visitor-canary-7"
SETUP = (
    base_config()
    + ADMIN
    + f'token = "{TOKEN}"\n[consent]\nretention = "30d"\n'
    + source("segment", "seg-key", name="pages", more='dedup = "1h"')
    + destination("chrts", name="crm", settings='api_key = "crm-key"')
    + destination("growlytics", name="mail", settings='api_key = "mail-key"')
    + route("crm", "mail")
)


def call(user: str, name: str = "Viewed", **more: Any) -> dict[str, Any]:
    """Return a track call of a user."""
    return {"type": "track", "userId": user, "event": name, "messageId": f"m-{user}-{name}", **more}


async def send(admin: Admin, *calls: dict[str, Any]) -> None:
    """Send calls in one request; it must be accepted."""
    body = {"batch": list(calls), "writeKey": "seg-key"}
    async with admin.running.client.post(f"{admin.running.url}/v1/batch", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def operate(admin: Admin, folder: Path, *args: str) -> Result:
    """Run a command beside the gateway."""
    path = folder / "operator.toml"
    path.write_text(f'[admin]\nlisten = "{admin.url.removeprefix("http://")}"\ntoken = "{TOKEN}"\n')
    with capture_logs():
        return await asyncio.to_thread(CliRunner().invoke, main, [*args, "-c", str(path)])


async def recorded(admin: Admin, count: int) -> None:
    """Wait until so many traces are written."""
    async with asyncio.timeout(PATIENCE):
        while admin.running.gateway.observer.recorder.recorded < count:
            await admin.running.journal()


def files_with(folder: Path, text: str) -> list[str]:
    """Return the names of all files below *folder* whose bytes contain *text*."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.name for path in files if text.encode() in path.read_bytes())


async def sent_to(admin: Admin, vendor: str) -> list[str]:
    """Return the bodies that the sandbox of a vendor received."""
    return [orjson.dumps(one["body"]).decode() for one in await admin.running.journal(vendor)]


async def test_nothing_of_an_erased_person_is_stored_or_sent(tmp_path: Path) -> None:
    """After ``gateway erase`` no file has a byte of the person, and no vendor gets an event."""
    async with administered(tmp_path, SETUP) as admin:
        await admin.running.fault(vendor="chrts", status=422, count=1)
        await send(admin, call(ANNA, "Refused"))
        await admin.running.watch.until(lambda watch: len(watch.settled) == 2)
        for name in ("crm", "mail"):
            await admin.post(f"/destinations/{name}/pause")
        consent = {"categoryPreferences": {"ads": True}}
        await send(
            admin,
            call(ANNA, anonymousId=VISITOR, context={"consent": consent}),
            call("bert-7"),
        )
        await send(admin, call(ANNA, "Later", context={"traits": {"email": "a@b.example"}}))
        await recorded(admin, 5)
        assert files_with(tmp_path, ANNA)
        found = await operate(admin, tmp_path, "erase", "--user", ANNA, "--user", VISITOR)
        assert found.exit_code == 0, found.output
        said = found.stdout
        assert "4 pending deliveries (crm 2, mail 2)" in said
        assert "1 dead letter (crm 1)" in said
        assert "1 request has events of others too" in said
        entries = await admin.get("/audit")
        assert "erase_person" in str(entries)
        assert ANNA not in str(entries)
        for name in ("crm", "mail"):
            assert admin.running.gateway.teams[name].paused
            await admin.post(f"/destinations/{name}/resume")
        await admin.running.watch.until(lambda watch: len(watch.settled) == 4)
        named = ("--user", ANNA, "--user", VISITOR)
        again = orjson.loads((await operate(admin, tmp_path, "erase", "--json", *named)).stdout)
        assert (again["deliveries"], again["requests"], again["shared_requests"]) == ({}, 1, 0)
        assert files_with(tmp_path, ANNA) == []
        assert files_with(tmp_path, VISITOR) == []
        bodies = [
            body for vendor in ("chrts", "growlytics") for body in await sent_to(admin, vendor)
        ]
        assert sum("bert-7" in body for body in bodies) == 2
        assert not any("Later" in body or VISITOR in body for body in bodies)
        shown = await admin.get("/destinations")
        assert [one["balance"]["unaccounted"] for one in shown["destinations"]] == [0, 0]


async def test_an_erased_event_may_come_again(tmp_path: Path) -> None:
    """The message ids of erased events are forgotten, so a repeat is a new event."""
    async with administered(tmp_path, SETUP) as admin:
        for name in ("crm", "mail"):
            await admin.post(f"/destinations/{name}/pause")
        await send(admin, call(ANNA))
        taken = await admin.post("/erase", {"ids": [ANNA]})
        assert (taken["message_ids"], taken["requests"]) == (1, 1)
        for name in ("crm", "mail"):
            await admin.post(f"/destinations/{name}/resume")
        await send(admin, call(ANNA))
        await admin.running.watch.until(lambda watch: len(watch.settled) == 2)


async def test_the_log_line_has_no_id(tmp_path: Path) -> None:
    """The log says how much was erased, and not of whom."""
    async with administered(tmp_path, SETUP) as admin:
        await send(admin, call(ANNA))
        with capture_logs() as lines:
            await erase(admin.running.gateway, [ANNA])
    (line,) = [line for line in lines if line["event"] == "person_erased"]
    assert line["ids"] == 1
    assert ANNA not in str(line)


async def test_events_of_others_go_on_in_order_during_erasures(tmp_path: Path) -> None:
    """While somebody is erased, others' events are accepted, and arrive all, in order per user."""

    async def speak(admin: Admin, user: str) -> None:
        for number in range(15):
            await send(admin, call(user, f"{number:02}"), call(ANNA, f"{user} {number}"))

    async with administered(tmp_path, SETUP) as admin:
        users = [f"bert-{number}" for number in range(4)]
        speaking = asyncio.gather(*(speak(admin, user) for user in users))
        while not speaking.done():
            await admin.post("/erase", {"ids": [ANNA]})
        await speaking
        heard: dict[str, list[str]] = {}
        async with asyncio.timeout(PATIENCE):
            while sum(len(set(names)) for names in heard.values()) < 15 * len(users):
                heard = {user: [] for user in users}
                for one in await admin.running.journal("chrts"):
                    if one["body"]["uid"] in heard:
                        heard[one["body"]["uid"]].append(one["body"]["name"])
        for names in heard.values():
            first = list(dict.fromkeys(names))
            assert first == sorted(first)
        shown = await admin.get("/destinations")
        assert [one["balance"]["unaccounted"] for one in shown["destinations"]] == [0, 0]


async def test_an_attempt_under_way_ends_first(tmp_path: Path) -> None:
    """An attempt that has begun ends and counts as delivered; nothing is unaccounted for."""
    async with administered(tmp_path, SETUP) as admin:
        await admin.running.fault(vendor="chrts", delay=0.3, count=1)
        await send(admin, call(ANNA))
        async with asyncio.timeout(PATIENCE):
            while not admin.running.gateway.teams["crm"].workers[0].active:
                await admin.running.journal()
        taken = await admin.post("/erase", {"ids": [ANNA]})
        assert "crm" not in taken["deliveries"]
        assert any(ANNA in body for body in await sent_to(admin, "chrts"))
        shown = {one["name"]: one for one in (await admin.get("/destinations"))["destinations"]}
        balance = shown["crm"]["balance"]
        assert (balance["delivered"], balance["dropped"], balance["unaccounted"]) == (1, 0, 0)


async def test_traces_that_are_not_written_yet_are_erased(tmp_path: Path) -> None:
    """Traces that are still queued when somebody is erased are erased too."""
    async with administered(tmp_path, SETUP) as admin:
        await send(admin, call(ANNA))
        await admin.running.watch.until(lambda watch: len(watch.settled) == 2)
        taken = await admin.post("/erase", {"ids": [ANNA]})
        assert taken["traces"] == 4
        assert await admin.running.gateway.observer.traces.show(ANNA) == []


async def test_a_blank_id_is_refused(tmp_path: Path) -> None:
    """A blank id, which would name everybody without one, is refused by command and API."""
    async with administered(tmp_path, SETUP) as admin:
        status, problem = await admin.call("POST", "/api/v1/erase", {"ids": [" "]})
        assert (status, problem["detail"]) == (
            400,
            "body: an id is blank; give the ids of the person",
        )
        found = await operate(admin, tmp_path, "erase", "--user", "  ")
        assert found.exit_code == 2
        assert "--user: it is blank" in found.stderr


async def test_a_shared_spool_says_that_nobody_can_be_erased(tmp_path: Path) -> None:
    """A gateway whose spool is shared refuses an erasure, and says what happens instead."""
    path = tmp_path / "gateway.toml"
    shared = SETUP.replace('path = "', 'url = "nats://127.0.0.1:1"\npath = "')
    path.write_text(filled(shared, tmp_path, "http://127.0.0.1:1"))
    registry = load_plugins()
    with pytest.raises(GatewayError, match=r"nobody can be erased.*once they are delivered"):
        await erase(Gateway(load(path, registry), registry), [ANNA])
