"""Take pictures of the console's pages for the documentation: ``make screenshots``."""

import argparse
import asyncio
import contextlib
import random
import tempfile
from pathlib import Path

from playwright.async_api import Page, ViewportSize

from tests.console.demo_shop import demo_shop, send_mixed_events
from tests.e2e.admin import SETUP, TOKEN, Admin, administered
from tests.external_programs import chromium

SETTLED = 1500
"""Milliseconds within which a page has drawn everything."""
WINDOW: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 390, "height": 844}
DARK = frozenset({"overview", "event"})
"""Pages that are also shown in the dark theme."""


async def places(admin: Admin) -> dict[str, str]:
    """Return the pages to show, by the name of their picture."""
    found = await admin.get("/traces?destination=mail&name=Order%20Completed&limit=1")
    return {
        "overview": "overview",
        "events": "events",
        "event": f"events/{found['lines'][0]['event']}",
        "destinations": "destinations",
        "destination": "destinations/mail",
        "dead-letters": "dead-letters",
        "dead-letter": "dead-letters/1",
        "replays": "replays",
        "replay": "replays/new?to=crm",
        "playground": "playground",
        "vendor": "vendors/personaclick",
        "config": "config",
    }


async def keep_sending(admin: Admin) -> None:
    """Send events until cancelled."""
    dice = random.Random(5)  # noqa: S311 - the same each time
    while True:
        await send_mixed_events(admin, 6, dice)
        await asyncio.sleep(0.2)


async def replay(admin: Admin) -> None:
    """Begin replays: one that ends, one of a slow rate, and a paused one."""
    await admin.post("/replays", {"to": "crm", "name": "Order Completed", "again": True})
    await admin.post("/replays", {"to": "mail", "rate": 5, "when": "event.properties.total > 50.0"})
    job = await admin.post("/replays", {"to": "recommendations", "source": "app", "rate": 1})
    await admin.post(f"/replays/{job['id']}/pause")


async def picture(page: Page, admin: Admin, name: str, place: str, path: Path) -> None:
    """Write a picture of one page."""
    await page.goto("about:blank")
    await page.goto(f"{admin.url}/#{place}")
    await page.wait_for_timeout(SETTLED)
    if name == "playground":
        await page.get_by_role("button", name="Show every step").click()
        await page.wait_for_timeout(SETTLED)
    if name == "replay":
        await page.get_by_label("Since").fill("24h")
        await page.get_by_label("Event").fill("Order Completed")
        await page.get_by_label("Again").check()
        await page.get_by_role("button", name="Count events").click()
        await page.get_by_role("button", name="Replay").wait_for()
    if name == "event":
        await page.locator(".pane").first.locator("li", has_text="order_price").hover()
    await page.screenshot(path=path)


async def main(folder: Path) -> None:
    """Write all pictures into *folder*."""
    new = SETUP.replace("[server]", '[server]\nname = "new-shop"')
    new = new.replace(f'token = "{TOKEN}"', "").replace(":0", ":8080", 1)  # what the page names
    async with administered(Path(), new) as admin, chromium() as browser:
        page = await browser.new_page(viewport=WINDOW)
        await picture(page, admin, "first-event", "overview", folder / "first-event.png")
    await asyncio.to_thread(Path("shop").mkdir)
    async with demo_shop(Path("shop"), 60) as admin, chromium() as browser:
        found = await places(admin)
        await replay(admin)
        traffic = asyncio.get_running_loop().create_task(keep_sending(admin))
        for theme in ("light", "dark"):
            page = await browser.new_page(viewport=WINDOW, color_scheme=theme)
            for name, place in found.items():
                if theme == "light" or name in DARK:
                    path = folder / f"{name}{'' if theme == 'light' else '-dark'}.png"
                    await picture(page, admin, name, place, path)
            await page.close()
        narrow = await browser.new_page(viewport=NARROW)
        for name in ("overview", "destinations"):
            await picture(narrow, admin, name, found[name], folder / f"{name}-narrow.png")
        traffic.cancel()
        await asyncio.gather(traffic, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    target = parser.parse_args().folder.absolute()
    target.mkdir(parents=True, exist_ok=True)
    # The shop runs in its own folder, so that the pictures show no path of this machine.
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here):
        asyncio.run(main(target))
