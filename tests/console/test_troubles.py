"""Troubles planted in a gateway: console, terminal and alerts name each, its cause and cure."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.console.browser import visiting
from tests.console.demo_shop import post
from tests.e2e.admin import administered
from tests.e2e.configs import ADMIN, PROMPT_RETRIES, base_config, destination, route, source
from tests.e2e.running import PATIENCE
from tests.e2e.test_alerts import listening
from tests.e2e.test_cli_operations import run

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="module")]

MANY = 1_000_000
PROMPT = f"passthrough = false\n{PROMPT_RETRIES}"
SETUP = (
    base_config()
    + ADMIN
    + source("chrts", "api_chrts_test", name="shop")
    + source("segment", "YOUR_WRITE_KEY", name="app")
    + destination("chrts", name="crm", more=PROMPT)
    + destination("growlytics", "http://127.0.0.1:1", name="mail", more=PROMPT)
    + destination("tracardi", name="ads", more=f"{PROMPT}\nmax_backlog = 3")
    + destination("segment", name="warehouse", more=PROMPT)
    + destination("quartic", name="offers", more=PROMPT)
    + route("crm", "mail", "ads", "warehouse", "offers")
)
ALERTS = """
[alerts]
url = "HOOK"
check_interval = "50ms"
paused_for = 0
"""
NAMED = {
    "crm": ("Key refused by chrts", "Fix api_key of crm, then reload."),
    "mail": ("mail cannot be reached", "Check url of mail, DNS, the firewall"),
    "ads": ("its queue is full", "Check whether tracardi is up"),
    "warehouse": ("segment refuses events of warehouse", "Read the reasons of its dead letters"),
    "offers": ("offers is paused by an operator", "Resume offers."),
    "app": ("app refuses keys", "Send a key of [sources.app] keys"),
}
"""By source or destination: words of the headline, and of the cure."""


async def test_every_trouble_is_named_everywhere(browser: Browser, tmp_path: Path) -> None:
    """Six troubles at once: each is named once, with its cause and what to do about it."""
    async with listening() as hook:
        setup = SETUP + ALERTS.replace("HOOK", hook.url)
        async with administered(tmp_path, setup) as admin, visiting(browser, admin) as visit:
            for vendor, status in (("chrts", 401), ("tracardi", 503), ("segment", 422)):
                await admin.running.fault(vendor=vendor, status=status, count=MANY)
            await admin.post("/destinations/offers/pause")
            for user in range(9):
                body = {"uid": f"u{user}", "name": "product_viewed", "properties": {"id": "1"}}
                await post(admin, "/event/track", body, {"authorization": "Bearer api_chrts_test"})
                wrong = {"userId": f"u{user}", "event": "Seen", "writeKey": "somebody-else"}
                await post(admin, "/v1/track", wrong)
            await visit.open("overview")
            entries = visit.page.locator(".attention li")
            for name, (headline, cure) in NAMED.items():
                entry = visit.page.locator(f".attention li[id$='-{name}']")
                await expect(entry).to_have_count(1)
                await expect(entry.get_by_role("link")).to_contain_text(headline)
                await expect(entry).to_contain_text(cure)
            await expect(entries).to_have_count(len(NAMED))
            await expect(visit.page.locator("#state")).to_contain_text("degraded")
            assert await visit.flaws() == []

            terminal = await run(admin, tmp_path, "status")
            assert terminal.exit_code == 1
            said = " ".join(terminal.stdout.split()).casefold()
            for headline, cure in NAMED.values():
                assert headline.casefold() in said
                assert cure.casefold().rstrip(".") in said

            alerted: set[str] = set()
            async with asyncio.timeout(PATIENCE):
                while not alerted >= NAMED.keys():
                    alert = await hook.next()
                    if alert["state"] == "firing":
                        alerted.add(alert.get("destination") or alert["source"])
