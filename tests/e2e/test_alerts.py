"""Alerts that a running gateway sends to a server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.config.loader.load import load as load_config
from gateway.delivery.circuit_breaker import KEY_THRESHOLD
from tests.e2e.running import PATIENCE, Running, running, serving
from tests.gateway.connect_proxy import connect_proxy

HOOK = "canary-of-the-hook"
KEY = "api_chrts_canary"
MANY = 1_000_000
SETUP = """
[server]
listen = "127.0.0.1:0"
[spool]
path = "{folder}/spool"
[alerts]
url = "{hook}/services/{secret}"
headers = {{ x-token = "{secret}-header" }}
check_interval = "50ms"
paused_for = {paused_for}
backlog_age = {backlog_age}
[sources.shop]
vendor = "chrts"
keys = "any"
[destinations.crm]
vendor = "chrts"
url = "{sandbox}/chrts"
api_key = "{key}"
retry_min = "10ms"
retry_max = "50ms"
passthrough = false
[[routes]]
to = ["crm"]
"""


@dataclass
class Hook:
    """A server that accepts or refuses alerts."""

    url: str = ""
    status: int = 204
    got: list[web.BaseRequest] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    _alerts: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        """Keep an alert."""
        self._alerts.put_nowait(await request.json())
        self.got.append(request)
        self.answered.append(self.status)
        return web.Response(status=self.status)

    async def next(self, kind: str = "") -> dict[str, Any]:
        """Wait for the next alert, or the next of *kind*: others may come before and between."""
        async with asyncio.timeout(PATIENCE):
            while kind not in {"", (alert := await self._alerts.get())["kind"]}:
                pass
        assert isinstance(alert, dict)
        return alert


@asynccontextmanager
async def listening() -> AsyncIterator[Hook]:
    """Run a server that takes alerts."""
    hook = Hook()
    app = web.Application()
    app.router.add_post("/{path:.*}", hook.take)
    async with serving(app) as hook.url:
        yield hook


def config(
    folder: Path, hook: Hook, *, paused_for: str = "0", backlog_age: str = '"1h"'
) -> Callable[[str], str]:
    """Return a function that makes the configuration from the sandbox's address."""
    said = {"folder": folder, "hook": hook.url, "secret": HOOK, "key": KEY}
    return lambda sandbox: SETUP.format(
        sandbox=sandbox, paused_for=paused_for, backlog_age=backlog_age, **said
    )


async def send(run: Running, users: int = 1) -> None:
    """Send one event for each of *users* users."""
    for user in range(users):
        await post(run, f"ada-{user}")


async def post(run: Running, user: str) -> None:
    """Send one event."""
    body = {"uid": user, "name": "counted", "properties": {}}
    headers = {"authorization": "Bearer anything"}
    async with run.client.post(f"{run.url}/event/track", json=body, headers=headers) as answer:
        assert answer.status == 200


async def test_a_refused_credential_is_alerted_until_it_works(tmp_path: Path) -> None:
    """A pause is reported with the vendor's reason, and its end too; neither shows the key."""
    async with listening() as hook, running(tmp_path, config(tmp_path, hook)) as run:
        await run.fault(vendor="chrts", status=401, count=MANY)
        await send(run, KEY_THRESHOLD)
        alert = await hook.next("destination_paused")
        assert alert["state"] == "firing"
        assert alert["destination"] == "crm"
        assert "401" in alert["reason"]
        assert alert["reason"] in alert["text"]
        await run.fault(vendor="chrts", status=500, count=0)
        over = await hook.next("destination_paused")
        assert over["state"] == "resolved"
        got = hook.got[0]
        assert (got.path, got.headers["x-token"]) == (f"/services/{HOOK}", f"{HOOK}-header")
        assert KEY not in f"{alert}{over}"


async def test_an_old_backlog_is_alerted(tmp_path: Path) -> None:
    """An old backlog is reported, and resolved when the backlog is empty."""
    async with listening() as hook:
        setup = config(tmp_path, hook, paused_for='"1h"', backlog_age='"100ms"')
        async with running(tmp_path, setup) as run:
            await run.fault(vendor="chrts", status=503, count=MANY)
            await send(run)
            alert = await hook.next("backlog_old")
            assert alert["state"] == "firing"
            assert alert["value"] >= 0.1
            await run.fault(vendor="chrts", status=500, count=0)
            assert (await hook.next("backlog_old"))["state"] == "resolved"


async def test_dead_letters_are_alerted(tmp_path: Path) -> None:
    """A dead letter is reported with the command that shows its reason."""
    async with listening() as hook, running(tmp_path, config(tmp_path, hook)) as run:
        await run.fault(vendor="chrts", status=422, count=MANY)
        await send(run)
        alert = await hook.next("dead_letters")
        assert alert["value"] == 1
        assert "gateway dead-letters list --destination crm" in alert["text"]


async def test_an_alert_is_sent_again_after_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An alert that the server refused is sent again; the log never shows the server's secret."""
    async with listening() as hook, running(tmp_path, config(tmp_path, hook)) as run:
        hook.status = 500
        await run.fault(vendor="chrts", status=401, count=MANY)
        await send(run, KEY_THRESHOLD)
        kind = "destination_paused"
        first, second = await hook.next(kind), await hook.next(kind)
        hook.status = 204
        assert first["state"] == second["state"] == "firing"
        assert first["since"] == pytest.approx(second["since"], abs=0.01)
        async with asyncio.timeout(PATIENCE):
            while 204 not in hook.answered:
                await hook.next(kind)
        await run.fault(vendor="chrts", status=500, count=0)
        async with asyncio.timeout(PATIENCE):
            while (await hook.next(kind))["state"] != "resolved":
                pass
    assert HOOK not in "".join(capfd.readouterr())


async def test_a_reload_changes_the_alert_address(tmp_path: Path) -> None:
    """After a reload alerts go to the new address."""
    async with listening() as one, listening() as other:
        async with running(tmp_path, config(tmp_path, one)) as run:
            path = tmp_path / "gateway.toml"
            path.write_text(path.read_text().replace(one.url, other.url))
            await run.gateway.apply(load_config(path, run.gateway.registry))
            await run.fault(vendor="chrts", status=401, count=MANY)
            await send(run, KEY_THRESHOLD)
            assert (await other.next("destination_paused"))["destination"] == "crm"
        assert not one.got


async def test_alerts_go_through_a_proxy(tmp_path: Path) -> None:
    """Alerts with a ``proxy`` are sent through it; the server sees nothing of its password."""
    async with listening() as hook, connect_proxy("me:canary-proxy") as proxy:
        made = config(tmp_path, hook)
        line = f'proxy = "http://me:canary-proxy@{proxy.address}"\ncheck_interval'
        async with running(
            tmp_path, lambda sandbox: made(sandbox).replace("check_interval", line)
        ) as run:
            await run.fault(vendor="chrts", status=401, count=MANY)
            await send(run, KEY_THRESHOLD)
            assert (await hook.next("destination_paused"))["destination"] == "crm"
        assert set(proxy.targets) == {hook.url.partition("://")[2]}
        assert not any("canary-proxy" in str(got.headers) for got in hook.got)
