"""The console in a browser: a page that is looked at, and what its browser complains of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import ConsoleMessage, Error, Page, expect

from tests.clients.processes import packages
from tests.e2e.admin import Admin
from tests.e2e.running import PATIENCE
from tests.machine import chromium

STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHECK = """async (tags) => {
  const {violations} = await axe.run(document, {runOnly: {type: "tag", values: tags}});
  return violations.map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join(" ")}`);
}"""


@dataclass
class Visit:
    """A page of the console."""

    admin: Admin
    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors in the page, and those that its browser shows on the console."""

    async def open(self, place: str) -> None:
        """Go to a page of the console, and wait until it shows something."""
        await self.page.goto(f"{self.admin.url}/#{place}")
        await expect(self.page.locator("#page .page > *").first).to_be_attached()

    async def flaws(self) -> list[str]:
        """Return what axe finds wrong with the page as it is."""
        if not await self.page.evaluate("typeof axe === 'object'"):
            # A debugger's script, which the policy of the page does not hold for.
            source = (packages() / "axe-core/axe.min.js").read_text()
            await self.page.evaluate(source)
        async with asyncio.timeout(PATIENCE):
            found: list[str] = await self.page.evaluate(CHECK, STANDARDS)
        return found

    def note_message(self, message: ConsoleMessage) -> None:
        """Keep what the browser shows as an error."""
        if message.type == "error":
            self.complaints.append(message.text)

    def note_error(self, error: Error) -> None:
        """Keep an error that nobody caught."""
        self.complaints.append(str(error))


@asynccontextmanager
async def visiting(admin: Admin, **options: Any) -> AsyncIterator[Visit]:
    """Open a browser on the console of a gateway; in the end it has complained of nothing."""
    expect.set_options(timeout=PATIENCE * 1000)
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1360, "height": 860}, **options)
        page.set_default_timeout(PATIENCE * 1000)
        visit = Visit(admin, page)
        page.on("console", visit.note_message)
        page.on("pageerror", visit.note_error)
        yield visit
        assert visit.complaints == []
