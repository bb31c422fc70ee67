"""The vendors' libraries for browsers, unmodified, in a page of another origin in Chromium."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request
from playwright.async_api import TimeoutError as TooLate
from yarl import URL

from tests.clients.arrivals import CLIENTS, KEY, WORDS_OF_PAGES, arrived, gateway
from tests.clients.processes import packages
from tests.e2e.running import PATIENCE, Running, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGES = ("segment", "snippet", "rudderstack")
SEGMENT = "@segment/analytics-next/dist/umd"
LIBRARIES = {
    "/analytics-next/bundles": SEGMENT,
    "/rudderstack": "@rudderstack/analytics-js/dist/npm/modern/bundled/umd",
}
"""Where a page finds them; the first path is that of Segment's own server for them."""
SNIPPET_CALLS = ("identify", "Product Viewed", "identify", "Offer Chosen")
"""What snippet.html sends, two of them before the library is there."""
SEGMENT_CALLS = (
    "identify", "Product Viewed", "page", "screen", "group", "alias", "page", "Offer Chosen",
    "Offer Chosen", "identify", "Offer Chosen",
)  # fmt: skip
"""What segment.html sends: each call, the page view of old, a link, a form and a query."""
RUDDERSTACK_CALLS = ("identify", "Product Viewed", "page", "group", "alias")
BATCHES = {
    "strategy": "batching",
    "config": {"size": 4, "timeout": 60_000, "credentials": "include"},
}
NAMED = 'origins = ["{origin}"]'


@dataclass
class Visit:
    """A page that is open, and what the gateway answered its browser."""

    run: Running
    page: Page
    sent: list[Request] = field(default_factory=list)
    """What the page sent to the gateway; its browser's preflights are not among them."""
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often a kind of request (Preflight, Fetch, XHR, Ping) got a status."""
    complaints: list[str] = field(default_factory=list)
    """Errors in the page, and those that its browser shows on the console."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Note answers and complaints from now on; preflights are in the network's log only."""
        network = await self.page.context.new_cdp_session(self.page)
        network.on("Network.responseReceived", self._note_answer)
        await network.send("Network.enable")
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_message)
        self.page.on("pageerror", self._note_error)

    async def do(self, script: str, argument: object = None) -> Any:
        """Run *script* in the page, and return what comes of it."""
        async with asyncio.timeout(PATIENCE):
            return await self.page.evaluate(script, argument)

    async def until(self, kind: str, status: int) -> None:
        """Wait until a request of *kind* was answered with *status*."""
        async with asyncio.timeout(PATIENCE):
            while not self.answered[kind, status]:
                self._changed.clear()
                await self._changed.wait()

    async def only(self, answers: Mapping[tuple[str, int], int]) -> None:
        """Wait until the browser has had as many *answers*; there are no others."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self.answered >= Counter(answers):
                    self._changed.clear()
                    await self._changed.wait()
        assert self.answered == answers

    async def told(self, *calls: str) -> None:
        """Wait until Segment's library says of as many calls that they are delivered; compare."""
        with suppress(TooLate):
            await self.page.wait_for_function("n => told.delivered.length >= n", arg=len(calls))
        told = await self.do("told")
        seen = (Counter(told["delivered"]), told["failed"], self.complaints)
        assert seen == (Counter(calls), [], [])

    def _is_call(self, url: str) -> bool:
        """Return whether *url* is the gateway's, and not that of a library's settings."""
        return url.startswith(self.run.url) and "/sourceConfig/" not in url

    def _note_request(self, request: Request) -> None:
        if self._is_call(request.url):
            self.sent.append(request)

    def _note_answer(self, log: dict[str, Any]) -> None:
        if self._is_call(log["response"]["url"]):
            self.answered[log["type"], log["response"]["status"]] += 1
            self._changed.set()

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _note_error(self, error: Error) -> None:
        self.complaints.append(str(error))


@asynccontextmanager
async def website() -> AsyncIterator[str]:
    """Serve the pages and the libraries; yield the origin."""

    async def page(request: web.Request) -> web.FileResponse:
        return web.FileResponse(CLIENTS / request.path[1:])

    async def aside(_: web.Request) -> web.Response:
        return web.Response(text="thanks")

    async def script(_: web.Request) -> web.FileResponse:
        return web.FileResponse(packages() / SEGMENT / "standalone.js")

    app = web.Application()
    app.router.add_get(f"/analytics.js/v1/{KEY}/analytics.min.js", script)
    for path, library in LIBRARIES.items():
        app.router.add_static(path, packages() / library)
    for library in PAGES:
        app.router.add_get(f"/{library}.html", page)
    app.router.add_get("/aside", aside)
    async with serving(app) as url:
        yield url


@asynccontextmanager
async def visiting(
    browser: Browser, folder: Path, library: str, how: object, source: str = ""
) -> AsyncIterator[Visit]:
    """Open the page with *library*, loaded; *source* is more of the source's table."""
    async with (
        website() as origin,
        gateway(folder, source.format(origin=origin)) as run,
        await browser.new_context() as window,
    ):
        page = await window.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        visit = Visit(run, page)
        await visit.watch()
        await page.goto(f"{origin}/{library}.html")
        await visit.do("([url, key, how]) => load(url, key, how)", [run.url, KEY, how])
        yield visit


async def test_a_page_with_segments_library(browser: Browser, tmp_path: Path) -> None:
    """Each call is asked leave for, sent, reported as delivered, and arrives or is declined."""
    async with visiting(browser, tmp_path, "segment", None) as visit:
        await visit.do("callAll()")
        await visit.told(*SEGMENT_CALLS)
        journal = await arrived(visit.run, SEGMENT_CALLS, WORDS_OF_PAGES)
        await visit.only({("Preflight", 204): 6, ("Fetch", 200): len(SEGMENT_CALLS)})
    at_one = [entry["body"] for entry in journal if entry["vendor"] == "chrts"]
    by = [said["properties"]["by"] for said in at_one if said.get("name") == "Offer Chosen"]
    assert sorted(by) == ["form", "link", "mail"]
    assert not visit.complaints


async def test_a_page_with_segments_snippet_loads_all_from_the_gateway(
    browser: Browser, tmp_path: Path
) -> None:
    """Script, settings, a further part and all calls go to the gateway, and to no other host."""
    async with (
        website() as cdn,
        gateway(tmp_path, f'cdn_url = "{cdn}"') as run,
        await browser.new_context() as window,
    ):
        page = await window.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        visit, hosts = Visit(run, page), set[URL]()
        await visit.watch()
        await page.goto(f"{cdn}/snippet.html")
        page.on("request", lambda request: hosts.add(URL(request.url).origin()))
        await visit.do("([host, key]) => load(host, key)", [run.url, KEY])
        await visit.do("callAll()")
        await arrived(run, SNIPPET_CALLS, WORDS_OF_PAGES)
    assert hosts == {URL(run.url).origin()}
    parts = [URL(one.url).path for one in visit.sent if one.method == "GET"]
    assert parts[:2] == [
        f"/analytics.js/v1/{KEY}/analytics.min.js", f"/v1/projects/{KEY}/settings",
    ]  # fmt: skip
    assert parts[2].startswith("/analytics-next/bundles/queryString.bundle.")
    assert not visit.complaints


async def test_a_page_that_gathers_calls_sends_the_last_when_it_is_left(
    browser: Browser, tmp_path: Path
) -> None:
    """Batches arrive, with credentials for a named origin, and what was left on leaving as well."""
    async with visiting(browser, tmp_path, "segment", BATCHES, NAMED) as visit:
        await visit.do("callAll()")
        await visit.told(*SEGMENT_CALLS)
        await visit.page.goto("about:blank")
        journal = await arrived(visit.run, SEGMENT_CALLS, WORDS_OF_PAGES)
        await visit.until("Preflight", 204)
    assert [len(e["body"]["batch"]) for e in journal if e["path"] == "/v1/b"] == [4, 4, 3]
    assert not visit.complaints


async def test_a_page_with_rudderstacks_library(browser: Browser, tmp_path: Path) -> None:
    """Each call is asked leave for, sent, and arrives or is declined."""
    async with visiting(browser, tmp_path, "rudderstack", how=False) as visit:
        assert len(await visit.do("callAll()")) == len(RUDDERSTACK_CALLS)
        await arrived(visit.run, RUDDERSTACK_CALLS, WORDS_OF_PAGES)
        calls = len(RUDDERSTACK_CALLS)
        await visit.only({("Preflight", 204): calls, ("XHR", 200): calls})
    assert not visit.complaints


async def test_a_page_that_sends_rudderstacks_beacons(browser: Browser, tmp_path: Path) -> None:
    """A beacon asks no leave, and all its calls arrive or are declined."""
    async with visiting(browser, tmp_path, "rudderstack", how=True) as visit:
        await visit.do("callAll()")
        await arrived(visit.run, RUDDERSTACK_CALLS, WORDS_OF_PAGES)
        await visit.only({("Ping", 200): 1})
    assert not visit.complaints


@pytest.mark.parametrize(
    ("library", "kind", "header"),
    [("segment", "Fetch", "x-retry-count"), ("rudderstack", "XHR", "rsa-retry-attempt")],
)
async def test_a_page_retries_after_a_refusal(
    browser: Browser, tmp_path: Path, library: str, kind: str, header: str
) -> None:
    """A further try carries headers of its own, which pages may send, and arrives."""
    async with visiting(browser, tmp_path, library, how=None) as visit:
        visit.run.gateway.accepting = False
        await visit.do("void analytics.identify('ada-1', { email: 'ada@shop.example' })")
        await visit.until(kind, 429)
        visit.run.gateway.accepting = True
        await arrived(visit.run, ("identify",), WORDS_OF_PAGES)
        await visit.until(kind, 200)
        first, *_, last = [await request.all_headers() for request in visit.sent]
    assert (header in first, header in last) == (False, True)
    assert visit.answered.keys() == {("Preflight", 204), (kind, 429), (kind, 200)}
    assert visit.answered[kind, 200] == 1


async def test_a_page_of_a_site_that_is_not_named_sends_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    """The browser keeps the library of a site that the source does not name from sending."""
    origins = 'origins = ["https://shop.example"]'
    async with visiting(browser, tmp_path, "segment", None, origins) as visit:
        await visit.do("void analytics.identify('ada-1')")
        await visit.until("Preflight", 403)
        assert not await visit.run.journal()
    assert visit.answered.keys() == {("Preflight", 403)}
