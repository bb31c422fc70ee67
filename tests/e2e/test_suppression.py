"""The suppression list: events of people who left are not processed."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.e2e.admin import TOKEN, Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source
from tests.e2e.running import PATIENCE

ANNA, HASHED = "anna-canary-8", "Hanna@Shop.example"
DIGEST = hashlib.sha256(HASHED.lower().encode()).hexdigest()


def setup(
    folder: Path, action: str = "drop", listed: str = f"# who left\n{ANNA}\nsha256:{DIGEST}\n"
) -> str:
    """Return a configuration with a suppression list."""
    (folder / "left.txt").write_text(listed)
    return (
        base_config(server="metrics = true")
        + ADMIN
        + f'token = "{TOKEN}"\n[consent]\nretention = "30d"\n'
        + f'[suppression]\nfile = "left.txt"\naction = "{action}"\n'
        + source("segment", "seg-key", name="pages", more='dedup = "1h"')
        + destination("chrts", name="crm", settings='api_key = "crm-key"')
        + route("crm")
    )


def call(user: str, name: str = "Viewed", **more: Any) -> dict[str, Any]:
    """Return a track call of a user."""
    return {"type": "track", "userId": user, "event": name, "messageId": f"m-{user}-{name}", **more}


async def send(admin: Admin, *calls: dict[str, Any]) -> tuple[int, Any]:
    """Send calls in one request; return status and body of the answer."""
    body = {"batch": list(calls), "writeKey": "seg-key"}
    async with admin.running.client.post(f"{admin.running.url}/v1/batch", json=body) as answer:
        return answer.status, await answer.json()


def files_with(folder: Path, text: str) -> list[str]:
    """Return the names of the spool's files whose bytes contain *text*."""
    files = (path for path in (folder / "spool").iterdir() if path.is_file())
    return sorted(path.name for path in files if text.encode() in path.read_bytes())


async def bodies(admin: Admin) -> list[str]:
    """Return the bodies that the vendor received."""
    return [orjson.dumps(one["body"]).decode() for one in await admin.running.journal("chrts")]


@pytest.mark.parametrize(
    "one", [call(ANNA), call("u8", context={"traits": {"email": "hanna@SHOP.example"}})]
)
async def test_events_of_people_on_the_list_are_dropped(
    tmp_path: Path, one: dict[str, Any]
) -> None:
    """A person's request is answered with success; nothing of it is stored, traced or sent."""
    async with administered(tmp_path, setup(tmp_path)) as admin:
        with capture_logs() as lines:
            assert (await send(admin, one))[0] == 200
            await send(admin, call("bert"))
            await admin.running.watch.until(lambda watch: len(watch.settled) == 1)
        counts = admin.running.gateway.observer.counts
        assert counts.suppressed == {"pages": 1}
        assert [event.user_id for event in admin.running.watch.accepted] == ["bert"]
        assert not any(str(one["userId"]) in body for body in await bodies(admin))
    assert files_with(tmp_path, str(one["userId"])) == []
    assert str(one["userId"]) not in str(lines)


async def test_events_of_people_on_the_list_are_refused(tmp_path: Path) -> None:
    """With ``refuse`` the sender gets the vendor's answer to an invalid value; nothing is kept."""
    async with administered(tmp_path, setup(tmp_path, "refuse")) as admin:
        status, said = await send(admin, call(ANNA))
        assert (status, said["success"]) == (400, False)
        async with admin.running.client.get(f"{admin.running.url}/metrics") as answer:
            metrics = await answer.text()
        assert 'requests_refused_total{cause="suppressed",source="pages"} 1.0' in metrics
        assert 'events_suppressed_total{source="pages"} 1.0' in metrics
        health = await admin.get("/health")
        assert health["sources"][0]["state"] == "accepting"
    assert files_with(tmp_path, ANNA) == []


@pytest.mark.parametrize("action", ["drop", "refuse"])
async def test_events_of_others_in_the_request_go_on(tmp_path: Path, action: str) -> None:
    """Of a request with events of others too, only the person's are left out of everything."""
    consent = {"consent": {"categoryPreferences": {"ads": True}}}
    async with administered(tmp_path, setup(tmp_path, action)) as admin:
        calls = (call("bert"), call(ANNA, context=consent), call("carl"))
        assert (await send(admin, *calls))[0] == 200
        await admin.running.watch.until(lambda watch: len(watch.settled) == 2)
        assert sorted(event.user_id or "" for event in admin.running.watch.accepted) == [
            "bert",
            "carl",
        ]
        sent = await bodies(admin)
        assert len(sent) == 2
        assert not any(ANNA in body for body in sent)
        counts = admin.running.gateway.observer.counts
        assert (counts.suppressed["pages"], counts.events["pages", "track"]) == (1, 2)
        assert not counts.deduplicated
        observer = admin.running.gateway.observer
        async with asyncio.timeout(PATIENCE):
            while observer.recorder.recorded < 3:
                await admin.running.journal()
        (trace,) = await observer.traces.show("bert")
        assert [event.user_id for event in trace.events] == ["bert", "carl"]
        assert await observer.traces.show(ANNA) == []
        taken = await admin.post("/erase", {"ids": [ANNA]})
        assert (taken["consents"], taken["message_ids"], taken["deliveries"]) == (0, 0, {})


async def test_a_reload_reads_the_list_again(tmp_path: Path) -> None:
    """After a reload the new list counts; an invalid one changes nothing, and is not quoted."""
    async with administered(tmp_path, setup(tmp_path, listed="nobody-yet\n")) as admin:
        await send(admin, call(ANNA))
        await admin.running.watch.until(lambda watch: len(watch.accepted) == 1)
        (tmp_path / "left.txt").write_text(f"{ANNA}\n")
        assert (await admin.get("/config/check"))["differs"] is True
        await admin.post("/config/reload")
        await send(admin, call(ANNA, "Later"))
        assert admin.running.gateway.observer.counts.suppressed == {"pages": 1}
        (tmp_path / "left.txt").write_text(f"{ANNA}\nsha256:{ANNA}\n")
        status, problem = await admin.call("POST", "/api/v1/config/reload")
        assert status == 422
        assert "left.txt: line 2 is not sha256: and 64 hexadecimal digits" in str(problem)
        assert ANNA not in str(problem)
        await send(admin, call(ANNA, "Even later"))
        assert admin.running.gateway.observer.counts.suppressed == {"pages": 2}
