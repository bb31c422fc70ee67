"""The console's page of replays, on a gateway that retains what it delivered."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, expect

from tests.console.browser import Visit, visiting
from tests.e2e.admin import TOKEN, Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="module")]

EVENTS = 40
VIEWER = "vera-0123456789ab"
SETUP = (
    base_config(spool='retain = "1h"')
    + ADMIN
    + f'token = "{TOKEN}"\nviewers = {{ vera = "{VIEWER}" }}\n'
    + source("segment", "site-key", name="site")
    + destination("chrts", name="crm")
    + destination("growlytics", name="mail")
    + destination("tracardi", name="ads")
    + route("crm")
    + route("ads", name="ads", more='names = ["Nothing"]\nsteps = [{ consent = "ads" }]')
    + '[consent]\nretention = "30d"\n'
)


@asynccontextmanager
async def filled_console(
    browser: Browser, folder: Path, setup: str = SETUP, token: str = TOKEN
) -> AsyncIterator[tuple[Admin, Visit]]:
    """Run a gateway that has delivered `EVENTS` events, and open its console with a token."""
    async with administered(folder, setup) as admin, visiting(browser, admin) as visit:
        run = admin.running

        async def send(number: int) -> None:
            event = f"{'Bought' if number % 4 == 0 else 'Seen'}"
            body = {"writeKey": "site-key", "userId": f"u{number % 5}", "event": event}
            async with run.client.post(f"{run.url}/v1/track", json=body) as answer:
                assert answer.status == 200

        await asyncio.gather(*map(send, range(EVENTS)))
        await run.watch.until(lambda watch: len(watch.settled) >= EVENTS)
        script = f"sessionStorage.setItem('gateway-token', '{token}')"
        await visit.page.add_init_script(script)
        yield admin, visit


def delivered(admin: Admin, to: str) -> int:
    """Return how many events a destination got."""
    return sum(name == to for _, name, _ in admin.running.watch.settled)


def row(visit: Visit, number: int) -> Locator:
    """Return the row of a replay."""
    return visit.page.locator(f"#replay-{number}")


async def test_a_replay_is_counted_begun_paused_and_cancelled(
    browser: Browser, tmp_path: Path
) -> None:
    """A replay is counted before it begins, controlled while it runs, and never gives twice."""
    async with filled_console(browser, tmp_path) as (admin, visit):
        page = visit.page
        await visit.open("destinations/mail")
        await page.get_by_role("button", name="Replay the past…").click()
        await expect(page.get_by_label("To", exact=True)).to_have_value("mail")
        await page.get_by_label("Since").fill("1h")
        await page.get_by_label("Rate").fill("2/s")
        await page.get_by_role("button", name="Count events").click()
        found = page.get_by_role("status", name="What would be delivered")
        await expect(found).to_contain_text("40 events match; 40 events would be delivered to mail")
        assert await visit.flaws() == []
        assert delivered(admin, "mail") == 0
        await page.get_by_role("button", name="Replay 40 events").click()
        second = row(visit, 2)
        await expect(second).to_contain_text(re.compile("running.*since .*at most 2.0/s"))
        await second.get_by_role("button", name="Pause replay 2").focus()
        await page.keyboard.press("Enter")
        await expect(second).to_contain_text("paused")
        await expect(second.get_by_role("button", name="Resume replay 2")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(second).to_contain_text("running")
        await second.get_by_role("button", name="Cancel replay 2").click()
        await expect(second).to_contain_text("cancelled")
        await expect(second.get_by_role("button")).to_have_count(0)
        given = (await admin.get("/replays"))["replays"][0]["counts"]["queued"]
        assert given < EVENTS
        await page.get_by_role("button", name="Replay…").click()
        await page.get_by_label("To", exact=True).select_option("mail")
        await page.get_by_role("button", name="Count events").click()
        await expect(found).to_contain_text(f"40 events match; {EVENTS - given} events")
        await page.get_by_label("Event").fill("Bought")
        await expect(found).to_be_empty()
        await page.get_by_label("Event").fill("")
        await page.get_by_role("button", name="Count events").click()
        await page.get_by_role("button", name=f"Replay {EVENTS - given} events").click()
        await expect(row(visit, 5)).to_contain_text("done")
        assert delivered(admin, "mail") == EVENTS
        delays = (await admin.get("/activity?window=15m"))["destinations"]["mail"]
        assert delays["delay_p95"] is None
        assert await visit.flaws() == []
        await page.set_viewport_size({"width": 390, "height": 844})
        for place in ("replays", "replays/new"):
            await visit.open(place)
            await visit.settled()
            assert await page.evaluate("document.documentElement.scrollWidth") == 390, place
        actions = (await admin.get("/audit?limit=1"))["entries"]
        assert [(one["action"], one["target"], one["detail"]) for one in actions] == [
            ("begin_replay", "mail", "replay 5")
        ]


async def test_errors_are_shown_at_their_fields(browser: Browser, tmp_path: Path) -> None:
    """What is wrong with a replay is said at its field, which then has the focus."""
    async with filled_console(browser, tmp_path) as (admin, visit):
        page = visit.page
        await visit.open("replays/new?to=mail")
        for label, text, problem in (
            ("Since", "yesterday", "Write 24h for 24 hours ago"),
            ("Rate", "fast", "such as 200/s"),
            ("Condition", "event.nme == 'x'", "Column 7"),
        ):
            field = page.get_by_label(label)
            await field.fill(text)
            await page.get_by_role("button", name="Count events").click()
            await expect(page.locator("#page .wrong:not(:empty)")).to_contain_text(problem)
            await expect(field).to_be_focused()
            assert await visit.flaws() == [], label
            await field.fill("")
        await page.get_by_label("To", exact=True).select_option("ads")
        await page.get_by_role("button", name="Count events").click()
        await expect(page.locator("#wrong-through_routes")).to_contain_text("ask for consent")
        await page.get_by_label("Through the routes").check()
        await page.get_by_role("button", name="Count events").click()
        await expect(page.locator(".found")).to_contain_text("0 events match")
        failed = (await admin.get("/audit?limit=3"))["entries"]
        assert [(one["target"], bool(one["error"])) for one in failed] == [
            ("ads", False), ("ads", True), ("mail", True),
        ]  # fmt: skip
        visit.complaints = [said for said in visit.complaints if "40" not in said]


async def test_a_viewer_sees_replays_alone(browser: Browser, tmp_path: Path) -> None:
    """A viewer sees the replays and no button; without `retain` the page says what to set."""
    async with filled_console(browser, tmp_path, token=VIEWER) as (admin, visit):
        await admin.post("/replays", {"to": "mail", "rate": 1})
        await admin.post("/replays/1/pause")
        await visit.open("replays")
        await expect(row(visit, 1)).to_contain_text("paused")
        await expect(visit.page.locator("main").get_by_role("button")).to_have_count(0)
        await visit.open("replays/new")
        await expect(visit.page.locator(".empty")).to_contain_text("Only operators")
    forgetful = SETUP.replace('retain = "1h"', "")
    async with filled_console(browser, tmp_path, forgetful) as (_, visit):
        await visit.open("replays")
        await expect(visit.page.locator("#page")).to_contain_text("set retain in [spool]")
        await expect(visit.page.get_by_role("button", name="Replay…")).to_have_count(0)
        await expect(row(visit, 1)).to_be_visible()
        assert await visit.flaws() == []
