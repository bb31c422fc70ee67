"""Open the console in a browser, and collect the browser's complaints."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import ConsoleMessage, Error, Page, expect

from tests.clients.processes import packages
from tests.e2e.admin import Admin
from tests.e2e.running import PATIENCE
from tests.external_programs import chromium

STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHECK = """async (tags) => {
  const {violations} = await axe.run(document, {runOnly: {type: "tag", values: tags}});
  return violations.map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join(" ")}`);
}"""


WATCH = """
const BAD = /\\bundefined\\b|\\bNaN\\b|\\[object \\w+\\]/;
const see = (node) => {
  const text = node.outerHTML ?? node.data ?? "";
  if (BAD.test(text)) console.error(`the page shows ${text.match(BAD)[0]}: ${text.slice(0, 300)}`);
};
new MutationObserver((changes) => changes.forEach(({type, target, addedNodes}) => {
  if (type === "characterData") see(target);
  else if (type === "attributes") see(target.cloneNode());
  else addedNodes.forEach(see);
})).observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
const strict = (value, above = "") => {
  if (Array.isArray(value)) return value.map((one) => strict(one));
  if (value === null || typeof value !== "object") return value;
  const fields = Object.entries(value).map(([key, one]) => [key, strict(one, key)]);
  const held = Object.fromEntries(fields);
  if (MAPS.includes(above)) return held;
  return new Proxy(held, {get: (object, key) => {
    if (typeof key === "string" && !OWN.includes(key) && !Object.hasOwn(object, key)) {
      console.error(`the page asks for ${key} of ${Object.keys(object).join(", ")}`);
    }
    return object[key];
  }});
};
const MAPS = ["tables", "headers", "depths", "destinations", "sources", "routes"];
const OWN = ["then", "toJSON"];
const {json} = Response.prototype;
Response.prototype.json = async function () {
  const found = await json.call(this);
  return this.ok ? strict(found) : found;
};
"""
"""Logs an error when a page shows ``undefined`` or similar, and when it reads a field that an API
response does not have. ``MAPS`` are objects whose keys are names; a promise and
``JSON.stringify`` read the fields in ``OWN``."""


@dataclass
class Visit:
    """A page of the console."""

    admin: Admin
    page: Page
    complaints: list[str] = field(default_factory=list)
    """Uncaught errors of the page, and errors in the browser's console."""

    async def open(self, place: str) -> None:
        """Go to a page of the console and wait for its content."""
        await self.page.goto(f"{self.admin.url}/#{place}")
        await expect(self.page.locator("#page .page > *").first).to_be_attached()

    async def flaws(self) -> list[str]:
        """Return the violations that axe finds on the page."""
        if not await self.page.evaluate("typeof axe === 'object'"):
            # Injected as a debugger does; the page's policy does not apply.
            source = (packages() / "axe-core/axe.min.js").read_text()
            await self.page.evaluate(source)
        async with asyncio.timeout(PATIENCE):
            found: list[str] = await self.page.evaluate(CHECK, STANDARDS)
        return found

    def note_message(self, message: ConsoleMessage) -> None:
        """Record an error in the browser's console."""
        if message.type == "error":
            self.complaints.append(message.text)

    def note_error(self, error: Error) -> None:
        """Record an uncaught error."""
        self.complaints.append(str(error))


@asynccontextmanager
async def visiting(admin: Admin, **options: Any) -> AsyncIterator[Visit]:
    """Open the console in a browser; fail at the end if there are complaints."""
    expect.set_options(timeout=PATIENCE * 1000)
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1360, "height": 860}, **options)
        page.set_default_timeout(PATIENCE * 1000)
        visit = Visit(admin, page)
        await page.add_init_script(WATCH)
        page.on("console", visit.note_message)
        page.on("pageerror", visit.note_error)
        yield visit
        assert not visit.complaints, visit.complaints
