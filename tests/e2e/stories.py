"""Send events to a gateway and read what happened to them, by the API and the command line."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from gateway.cli import main
from tests.e2e.admin import Admin
from tests.e2e.configs import ADMIN, PROMPT_RETRIES, base_config, destination, route, source
from tests.e2e.running import PATIENCE

QUIET = "[trace]\nsuccess_rate_limit = 0\n"
"""Only failures are traced."""
APP = (
    base_config()
    + ADMIN
    + source("segment", "write-key", name="app")
    + destination("growlytics", more=PROMPT_RETRIES, name="crm")
    + destination("chrts", name="mail")
    + route("crm", "mail", name="all")
)


async def send(admin: Admin, name: str = "Viewed", user: str = "u1") -> str:
    """Send an event; return the request's id."""
    run = admin.running
    body = {"writeKey": "write-key", "userId": user, "event": name}
    async with run.client.post(f"{run.url}/v1/track", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["x-gateway-request-id"]


async def story_of(admin: Admin, identity: str, enough: Callable[[Any], bool]) -> Any:
    """Return a request's view, once its first event satisfies *enough*."""
    async with asyncio.timeout(PATIENCE):
        while True:
            status, found = await admin.call("GET", f"/api/v1/request?id={identity}")
            if status == 200:
                (story,) = found["requests"]
                if story["events"] and enough(story["events"][0]):
                    return story


async def until(
    admin: Admin, identity: str, enough: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return an event's deliveries by destination, once they satisfy *enough*."""
    story = await story_of(admin, identity, lambda event: enough(_by_destination(event)))
    return _by_destination(story["events"][0])


def _by_destination(event: Any) -> dict[str, Any]:
    return {one["destination"]: one for one in event["deliveries"]}


def stands(to: str, *outcomes: str) -> Callable[[dict[str, Any]], bool]:
    """Return a condition: the delivery to *to* has one of *outcomes*."""
    return lambda deliveries: to in deliveries and deliveries[to]["outcome"] in outcomes


def has_letter(to: str) -> Callable[[dict[str, Any]], bool]:
    """Return a condition: the dead letter of the delivery to *to* is stored."""
    return lambda deliveries: bool(to in deliveries and deliveries[to]["dead_letter"])


async def printed(folder: Path, *args: str, fails: bool = False) -> str:
    """Run a command and return its output; it must succeed, or fail if *fails*."""
    config = ("--config", str(folder / "gateway.toml"))
    result = await asyncio.to_thread(CliRunner().invoke, main, [*args, *config])
    assert result.exit_code == int(fails), result.output
    return result.output
