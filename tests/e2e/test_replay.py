"""What a vendor refuses is kept, and replayed once the cause is gone; consent is remembered."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.verdict import Delivered, Refused
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source
from tests.e2e.running import PATIENCE
from tests.e2e.stories import APP, send, stands, until

ADS = (
    base_config()
    + ADMIN
    + source("segment", "write-key", name="app")
    + destination("chrts", name="mail")
    + route("mail", name="ads", more='steps = [{ consent = "ads" }]')
    + '[consent]\nretention = "30d"\n'
)
pytestmark = pytest.mark.usefixtures("each_spool")


async def test_a_refused_delivery_is_replayed(tmp_path: Path) -> None:
    """A dead letter has its reason and its request; a replay delivers it, and then it is gone."""
    async with administered(tmp_path, APP) as admin:
        run = admin.running
        await run.fault(vendor="growlytics", status=422, count=1)
        refused = await send(admin, "Bought", "u1")
        await until(admin, refused, stands("crm", "dead_letter"))
        (letter,) = await listed(admin, 1)
        assert (letter["destination"], letter["event_name"], letter["user"]) == (
            "crm", "Bought", "u1",
        )  # fmt: skip
        assert "422" in letter["reason"]
        assert "Bought" in str((await admin.get(f"/dead-letters/{letter['id']}"))["received"])
        (group,) = (await admin.get("/dead-letter-groups"))["groups"]
        assert group["count"] == 1
        moved = await admin.post("/dead-letters/replay", {"ids": [letter["id"]]})
        assert moved["moved"] == 1
        await run.watch.until(lambda _: ends(admin, "crm") == [Refused, Delivered])
        assert await listed(admin, 0) == []
        assert ends(admin, "mail") == [Delivered]


async def listed(admin: Admin, count: int) -> list[Any]:
    """Return the dead letters, once there are *count*: they are recorded with other outcomes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found: list[Any] = (await admin.get("/dead-letters"))["dead_letters"]
            if len(found) == count:
                return found


def ends(admin: Admin, to: str) -> list[type]:
    """Return how the deliveries to a destination ended, in order."""
    return [type(end) for _, name, end in admin.running.watch.settled if name == to]


async def tracked(admin: Admin, name: str, user: str = "u1", **consent: bool) -> None:
    """Send an event, with a user's decisions if there are any."""
    run = admin.running
    body: dict[str, Any] = {"writeKey": "write-key", "userId": user, "event": name}
    if consent:
        body["context"] = {"consent": {"categoryPreferences": consent}}
    async with run.client.post(f"{run.url}/v1/track", json=body) as answer:
        assert answer.status == 200


async def got(admin: Admin, count: int) -> set[str]:
    """Return the names of the events that the destination got, once there are *count*."""
    await admin.running.watch.until(lambda watch: len(watch.settled) >= count)
    return {str(event.name) for event, _, _ in admin.running.watch.settled}


async def test_consent_is_remembered(tmp_path: Path) -> None:
    """A user's last decision holds for later events without one, also after a restart."""
    async with administered(tmp_path, ADS) as admin:
        await tracked(admin, "before")
        await tracked(admin, "allowed", ads=True)
        await tracked(admin, "later")
        assert await got(admin, 2) == {"allowed", "later"}
    async with administered(tmp_path, ADS) as admin:
        await tracked(admin, "restarted")
        await tracked(admin, "forbidden", ads=False)
        await tracked(admin, "never")
        await tracked(admin, "another's", "u2", ads=True)
        assert await got(admin, 2) == {"restarted", "another's"}
