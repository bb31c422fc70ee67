"""Open the console in a browser, and collect the browser's complaints."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request, ViewportSize, expect

from tests.clients.processes import packages
from tests.e2e.admin import Admin
from tests.e2e.running import PATIENCE

STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHECK = """async (tags) => {
  const {violations} = await axe.run(document, {runOnly: {type: "tag", values: tags}});
  return violations.map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join(" ")}`);
}"""


TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Waits until the page has been drawn with what it knows."""
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
    under_way: set[Request] = field(default_factory=set)
    """Requests of the page that have no response yet."""
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, place: str) -> None:
        """Go to a page of the console and wait for its content."""
        await self.page.goto(f"{self.admin.url}/#{place}")
        await expect(self.page.locator("#page .page > *").first).to_be_attached()

    async def settled(self) -> None:
        """Wait until the page has fetched and drawn everything.

        Playwright's ``networkidle`` means the same, but waits half a second more each time.
        """
        async with asyncio.timeout(PATIENCE):
            drawn = False
            while not drawn:
                while self.under_way:
                    self._ended.clear()
                    await self._ended.wait()
                await self.page.evaluate(TWO_FRAMES)
                drawn = not self.under_way

    def note_request(self, request: Request) -> None:
        """Record that a request has begun."""
        self.under_way.add(request)

    def note_end(self, request: Request) -> None:
        """Record that a request has ended."""
        self.under_way.discard(request)
        self._ended.set()

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
async def visiting(browser: Browser, admin: Admin, **options: Any) -> AsyncIterator[Visit]:
    """Open the console in a new window of *browser*; fail at the end if there are complaints."""
    expect.set_options(timeout=PATIENCE * 1000)
    size: ViewportSize = {"width": 1360, "height": 860}
    async with await browser.new_context(viewport=size, **options) as window:
        page = await window.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        visit = Visit(admin, page)
        await page.add_init_script(WATCH)
        page.on("console", visit.note_message)
        page.on("pageerror", visit.note_error)
        page.on("request", visit.note_request)
        page.on("requestfinished", visit.note_end)
        page.on("requestfailed", visit.note_end)
        yield visit
        assert not visit.complaints, visit.complaints
