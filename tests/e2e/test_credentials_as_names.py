"""A sender uses a configured credential as a name: no output shows it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from tests.e2e.canaries import MARK, STATUS, check_hidden, command_output
from tests.e2e.process import GatewayProcess, gateway_process
from tests.e2e.running import PATIENCE, serving

TOKEN = f"{MARK}-of-the-console"
SETUP = """
[server]
listen = "127.0.0.1:0"
metrics = true
[spool]
path = "{folder}/spool"
[admin]
listen = "127.0.0.1:0"
token = "{mark}-of-the-console"
[alerts]
url = "{vendor}/ok/alerts/{mark}-of-the-hook"
headers = {{ x-token = "Bearer {mark}-of-alerts" }}
check_interval = "50ms"
paused_for = "50ms"
[sources.shop]
vendor = "chrts"
keys = ["{mark}-of-shop"]
[destinations.crm]
vendor = "chrts"
url = "{vendor}/refuse"
api_key = "{mark}-of-crm"
passthrough = false
[destinations.mail]
vendor = "growlytics"
url = "{vendor}/refuse"
api_key = "{mark}-of-mail"
[destinations.away]
vendor = "segment"
url = "{vendor}/later"
write_key = "{mark}-of-away"
retry_min = "1h"
retry_max = "2h"
[destinations.locked]
vendor = "quartic"
url = "{vendor}/locked"
api_key = "{mark}-of-locked"
customer = "account"
[destinations.new]
vendor = "personaclick"
url = "{vendor}/ok"
shop_id = "{mark}-of-new"
shop_secret = "{mark}-also-of-new"
shadow = true
[[routes]]
to = ["crm", "mail", "away", "locked", "new"]
[[routes]]
name = "hashed"
to = ["crm"]
additional = true
steps = [{{ hash = ["user_id"], key = "{mark}-of-the-hash" }}, {{ drop = ["properties.said"] }}]
"""
CREDENTIALS = tuple(
    f"{MARK}-{name}"
    for name in (
        "of-the-console", "of-the-hook", "of-alerts", "of-shop", "of-crm", "of-mail", "of-away",
        "of-locked", "of-new", "also-of-new", "of-the-hash",
    )
)  # fmt: skip
EVENTS = len(CREDENTIALS)
TROUBLED = "destinations/away"
PATHS = (
    "overview", "health", "activity", "destinations", TROUBLED, "status", "spool", "config",
    "config/check",
    "history", "traces?limit=200", "traces?limit=200&failed=true", "dead-letters?limit=200",
    "dead-letter-groups", "vendors", "playground", "openapi.json", "/metrics", "/readyz",
)  # fmt: skip


def payload(credential: str) -> dict[str, Any]:
    """Return an event with a credential in every place that the sender fills."""
    return {
        "uid": credential,
        "name": credential,
        "properties": {credential: 1, "said": f"it is {credential}", "deep": {credential: []}},
    }


class Caller:
    """Sends events, and calls the admin API."""

    def __init__(self, client: aiohttp.ClientSession, running: GatewayProcess, admin: str) -> None:
        self._client = client
        self._running = running
        self._admin = admin

    async def send(self, credential: str) -> str:
        """Send one event; return the request's id."""
        key = {"authorization": f"Bearer {MARK}-of-shop"}
        url = f"{self._running.url}/event/track"
        async with self._client.post(url, json=payload(credential), headers=key) as answer:
            assert answer.status == 200, await answer.text()
            return answer.headers["x-gateway-request-id"]

    async def ask(self, path: str, body: Any = None) -> bytes:
        """Return the admin API's response."""
        headers = {"authorization": f"Bearer {TOKEN}", "x-gateway-admin": "1"}
        method = "GET" if body is None else "POST"
        url = f"{self._admin}{path if path.startswith('/') else f'/api/v1/{path}'}"
        async with self._client.request(method, url, json=body, headers=headers) as answer:
            found = await answer.read()
            assert answer.status == 200, (path, found)
            return found

    async def until(self, path: str, holds: str) -> None:
        """Wait until a response contains *holds*."""
        async with asyncio.timeout(PATIENCE):
            while holds.encode() not in await self.ask(path):  # noqa: ASYNC110 - nothing signals it
                await asyncio.sleep(0.05)


async def repeat(request: web.Request) -> web.Response:
    """Respond with the path's status and the request's body: a reason quotes a response's start."""
    said = (await request.read()).decode()
    return web.Response(text=said, status=STATUS[request.path.split("/")[1]])


@asynccontextmanager
async def called(folder: Path, alerts: list[bytes]) -> AsyncIterator[tuple[Path, Caller]]:
    """Run a gateway whose vendors repeat their requests; write its log into the folder."""

    async def alerted(request: web.Request) -> web.Response:
        alerts.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/ok/alerts/{path:.*}", alerted)
    app.router.add_route("*", "/{path:.*}", repeat)
    config = folder / "gateway.toml"
    async with serving(app) as vendor, aiohttp.ClientSession() as client:
        config.write_text(SETUP.format(folder=folder, vendor=vendor, mark=MARK))
        async with gateway_process(config) as running:
            line = await running.saw("admin_listening")
            admin = f"http://{line['host']}:{line['port']}"
            yield config, Caller(client, running, admin)
            (folder / "log").write_bytes(orjson.dumps(running.lines))


async def test_a_credential_used_as_a_name_is_shown_nowhere(tmp_path: Path) -> None:
    """No command, API response, log, trace, alert or shadow report shows the credential."""
    alerts: list[bytes] = []
    found: dict[str, bytes] = {}
    async with called(tmp_path, alerts) as (config, caller):
        requests = [await caller.send(credential) for credential in CREDENTIALS]
        await caller.until("destinations/crm", f'"dead_letters":{EVENTS * 2}')
        await caller.until("destinations/new", f'"shadowed":{EVENTS}')
        for request in requests:
            await caller.until(f"trace?id={request}", "dead_letter")
        for path in PATHS:
            found[path] = await caller.ask(path)
        asked = {"source": "shop", "path": "POST /event/track"}
        for number, request in enumerate(requests):
            found[f"story {number}"] = await caller.ask(f"request?id={request}")
            found[f"trace {number}"] = await caller.ask(f"trace?id={request}")
            body = orjson.dumps(payload(CREDENTIALS[number])).decode()
            found[f"explain {number}"] = await caller.ask("explain", {**asked, "body": body})
            found[f"letter {number}"] = await caller.ask(f"dead-letters/{number + 1}")
        found |= await commands(tmp_path, config, requests[0])
    for name, said in found.items():
        if name.split()[0] in {
            "story",
            "trace",
            "explain",
            "letter",
            "dead-letters",
            "shadow",
            TROUBLED,
        }:
            assert b"***" in said, (name, said)
    for name in ("log", "spool/traces.db", "spool/shadow.db"):
        found[name] = (tmp_path / name).read_bytes()
    check_hidden(found.items())
    check_hidden(enumerate(alerts))
    assert alerts


async def commands(folder: Path, config: Path, request: str) -> dict[str, bytes]:
    """Return the output of each command that shows events."""
    file = folder / "event.json"
    file.write_bytes(orjson.dumps(payload(f"{MARK}-of-crm")))
    asked = (
        ("dead-letters", "list", "--limit", "1000"),
        ("dead-letters", "show", "1"), ("dead-letters", "show", "2"),
        ("trace", request), ("trace", request, "--json"), ("tail", "--lines", "500", "--limit",
        "40"), ("shadow", "report"), ("shadow", "report", "--json"),
        ("explain", "--from", "shop", "--path", "/event/track", str(file)),
    )  # fmt: skip
    found = {" ".join(command): await command_output(config, *command) for command in asked}
    assert b"Traceback" not in b"".join(found.values())
    return found
