"""The reasons why an event did not reach its destinations, in the console and by command."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.console.browser import visiting
from tests.console.demo_shop import post
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source
from tests.e2e.running import PATIENCE
from tests.e2e.stories import APP, QUIET, send, stands, story_of, until
from tests.e2e.test_stories import PAID, track, tried
from tests.e2e.test_stories import SETUP as PLANNED

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="module")]

SETUP = (
    base_config()
    + ADMIN
    + source("segment", "YOUR_WRITE_KEY", name="app")
    + destination("segment", name="archive")
    + destination("segment", name="crm")
    + destination("quartic", name="offers")
    + destination("growlytics", name="ads")
    + destination("chrts", name="strict")
    + destination("tracardi", more='retry_min = "30s"', name="down")
    + route("archive", name="orders to the archive", more='names = ["Order *"]')
    + route("crm", name="high scores to the crm", more='when = "event.properties.level > 100"')
    + route("offers", name="everything to offers")
    + route("ads", name="who agreed to ads", more='steps = [{ consent = "advertising" }]')
    + route("strict", "down", name="everything to the rest")
)
USERS = 9
"""Enough for a circuit to open."""
CAUSES = {
    "archive": ("orders to the archive", "not taken", "name"),
    "crm": ("high scores to the crm", "not taken", "event.properties.level > 100"),
    "offers": ("declined", "Level Reached"),
    "ads": ("who agreed to ads", "advertising"),
    "strict": ("refused", "HTTP 422"),
    "down": ("HTTP 503",),
}
"""The words that must be shown for each destination that the event did not reach."""
WAYS: dict[str, str | re.Pattern[str]] = {
    "archive": "not routed", "crm": "not routed", "offers": "declined", "ads": "filtered",
    "strict": "dead letter", "down": re.compile("pending|will retry"),
}  # fmt: skip
"""The status that is shown for each of these destinations."""


async def lost(admin: Admin) -> None:
    """Send an event that reaches no destination, each time for a different reason."""
    await admin.running.fault(vendor="chrts", count=1000, status=422)
    await admin.running.fault(vendor="tracardi", count=1000, status=503)
    for user in [*(f"somebody-{number}" for number in range(1, USERS)), "ada"]:
        body = {
            "userId": user, "event": "Level Reached", "properties": {"level": 7},
            "writeKey": "YOUR_WRITE_KEY",
        }  # fmt: skip
        await post(admin, "/v1/track", body)
    async with asyncio.timeout(PATIENCE):
        while (await admin.get("/destinations/down"))["state"] != "open":
            pass
        while (await admin.get("/destinations/strict"))["dead_letters"] < USERS:
            pass


async def test_the_command_line_says_why(tmp_path: Path) -> None:
    """`gateway trace` with the user's id prints each destination with its reason."""
    async with administered(tmp_path, SETUP) as admin:
        await lost(admin)
        path = str(tmp_path / "gateway.toml")
        command = [sys.executable, "-m", "gateway", "trace", "ada", "--short", "--config", path]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        said = (await process.communicate())[0].decode()
    for to, words in CAUSES.items():
        assert all(word in said for word in (to, *words)), (to, said)


async def test_the_console_shows_what_changed(browser: Browser, tmp_path: Path) -> None:
    """Dropped fields are marked, changes by steps are listed, and the dead letter is linked."""
    steps = 'to = ["crm"]\nsteps = [{ set = { user_id = "somebody" } }]'
    setup = PLANNED.replace('to = ["crm"]', steps)
    async with administered(tmp_path, setup) as admin, visiting(browser, admin) as visit:
        await admin.running.fault(vendor="growlytics", status=422, count=1)
        request = await track(admin, PAID)
        await story_of(admin, request, tried)
        page = visit.page
        await visit.open(f"events/{request}")
        received = page.get_by_role("region", name="Received")
        await expect(received.locator("li", has_text="dropped")).to_have_count(2)
        neutral = page.get_by_role("region", name="Neutral event")
        await expect(neutral).not_to_contain_text("4111 1111")
        crm = page.get_by_role("region", name="crm · growlytics")
        await expect(crm).to_contain_text("Changed by the steps of route “all”")
        await expect(crm.locator("li", has_text="user_id")).to_contain_text("changed")
        assert await visit.flaws() == []
        await crm.get_by_role("link", name="dead letter 1").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Dead letter 1")


async def test_the_console_shows_why(browser: Browser, tmp_path: Path) -> None:
    """A search for the user leads to the event, whose page shows each reason."""
    async with administered(tmp_path, SETUP) as admin, visiting(browser, admin) as visit:
        await lost(admin)
        page = visit.page
        await visit.open("overview")
        await page.get_by_role("link", name="Events", exact=True).click()
        await page.get_by_label("User").fill("ada")
        await page.get_by_label("User").press("Enter")
        await expect(page.locator("tbody tr").nth(2)).to_be_visible()  # each retry adds a row
        await page.locator("tbody tr").first.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=2).first).to_contain_text("Level Reached")
        ways = page.get_by_role("list", name="Status at each destination")
        for to, words in CAUSES.items():
            await expect(ways.get_by_role("listitem").filter(has_text=to)).to_contain_text(WAYS[to])
            for word in (to, *words):
                await expect(page.locator("#page")).to_contain_text(word)
        await page.set_viewport_size({"width": 800, "height": 700})
        await ways.get_by_role("button", name="down").click()
        await expect(page.get_by_role("region", name="down · tracardi")).to_be_focused()
        await expect(page.get_by_role("region", name="down · tracardi")).to_be_in_viewport()


async def test_the_console_shows_an_unsampled_event(browser: Browser, tmp_path: Path) -> None:
    """An unsampled event has its page, which shows that a success was not traced."""
    async with administered(tmp_path, QUIET + APP) as admin:
        await admin.post("/destinations/mail/pause")
        request = await send(admin)
        await until(admin, request, stands("crm", "finished"))
        async with visiting(browser, admin) as visit:
            await visit.open(f"events/{request}")
            crm = visit.page.get_by_role("region", name="crm · growlytics")
            await expect(crm).to_contain_text("It was delivered or declined at the first attempt")
            await expect(crm).to_contain_text("The request sent was not traced.")
            await expect(crm.locator(".reason")).to_have_count(0)
            mail = visit.page.get_by_role("region", name="mail · chrts")
            await expect(mail.locator(".reason")).to_contain_text("An operator paused")
            await expect(mail).to_contain_text("Nothing was sent.")
            await expect(visit.page.get_by_role("region", name="Received")).to_contain_text("***")
            assert await visit.flaws() == []
