"""The console in a real browser, on a gateway that delivers."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import expect

from gateway.verdict import Delivered
from tests.console.browser import visiting
from tests.console.demo_shop import demo_shop, post, view, write_traces
from tests.e2e.admin import SETUP, TOKEN, Admin, administered, fill
from tests.e2e.running import PATIENCE

pytestmark = pytest.mark.xdist_group("console")


async def an_event(admin: Admin) -> str:
    """Return the id of an order that was delivered to several destinations."""
    found = await admin.get("/traces?destination=mail&name=Order%20Completed&limit=1")
    return str(found["lines"][0]["event"])


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_page_is_accessible(tmp_path: Path, theme: str) -> None:
    """By axe there is no violation on any page, light or dark, and the browser logs no error."""
    async with demo_shop(tmp_path) as admin, visiting(admin, color_scheme=theme) as visit:
        event = await an_event(admin)
        for place in (
            "overview", "events", f"events/{event}", "destinations", "destinations/mail",
            "destinations/ads", "dead-letters", "dead-letters/1", "playground", "vendors",
            "vendors/personaclick", "config", "audit",
        ):  # fmt: skip
            await visit.open(place)
            await visit.page.wait_for_load_state("networkidle")
            assert await visit.flaws() == [], place


async def test_the_overview_shows_the_gateway(tmp_path: Path) -> None:
    """Problems come first; lines connect sources, routes and destinations."""
    async with demo_shop(tmp_path) as admin, visiting(admin) as visit:
        await visit.open("overview")
        page = visit.page
        first = page.locator(".attention li").first
        await expect(first).to_contain_text("tracardi answers ads with errors")
        await expect(first).to_contain_text("Check whether tracardi is up")
        await expect(first.locator("pre")).to_be_hidden()
        await expect(page.locator("#exit-warehouse")).to_contain_text("paused")
        await expect(page.locator("#exit-recommendations")).to_contain_text("14 dead letters")
        await expect(page.locator("#source-webshop")).to_contain_text("personaclick")
        await expect(page.locator(".wires path")).to_have_count(3 * 1 + 2 + 2 + 1 + 1 + 2)
        await first.locator("a").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("ads")
        await expect(page.locator(".uplot")).to_have_count(3)


async def test_events_are_watched_and_found(tmp_path: Path) -> None:
    """The live tail puts new lines on top; filters narrow the list; older lines load by page."""
    async with demo_shop(tmp_path, 12) as admin, visiting(admin) as visit:
        page = visit.page
        await visit.open("events")
        await expect(page.locator("tbody tr")).to_have_count(100)
        await page.get_by_role("button", name="Show older").click()
        await expect(page.locator("tbody tr")).to_have_count(200)
        await page.get_by_label("Destination").select_option("crm")
        await page.get_by_label("User").fill("device-4711")
        await page.get_by_label("User").blur()
        await expect(page.locator("#page")).to_contain_text("No traces match these filters.")
        await page.get_by_role("button", name="Live").click()
        await expect(page.locator("#page [role=status]")).to_have_text("live")
        await post(admin, "/push", view(4711, 1))
        row = page.locator("tbody tr")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("webshop → crm")
        await row.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=2).first).to_contain_text("Product Viewed")


async def test_an_event_is_shown_side_by_side(tmp_path: Path) -> None:
    """A field is highlighted in each pane, losses are marked, and routes show their reasons."""
    async with demo_shop(tmp_path) as admin, visiting(admin) as visit:
        page = visit.page
        await visit.open(f"events/{await an_event(admin)}")
        panes = page.locator(".pane")
        await expect(panes.nth(0)).to_contain_text("order_price")
        await expect(panes.nth(1)).to_contain_text("properties.total")
        crm = page.get_by_role("region", name="crm · chrts")
        await expect(crm.locator(".losses")).to_contain_text("session_id")
        await panes.nth(0).locator("li", has_text="order_price").focus()
        lit = page.locator(".lit")
        await expect(lit.filter(has_text="order_price")).to_have_count(1)
        await expect(lit.filter(has_text="properties.total").first).to_be_visible()
        assert await lit.count() >= 3
        decisions = page.locator(".decisions li")
        await expect(decisions).to_have_count(3)
        await expect(decisions.nth(1)).to_contain_text("taken")
        await expect(page.locator("#page")).to_contain_text(
            "after the steps of route “buyers to mail”"
        )
        await expect(page.locator("#page")).not_to_contain_text("0d42fd8b713d0752776ca589cc0056")


async def test_a_destination_is_paused_and_resumed(tmp_path: Path) -> None:
    """The buttons pause and resume a destination, and the page reports it."""
    async with demo_shop(tmp_path) as admin, visiting(admin) as visit:
        page = visit.page
        await visit.open("destinations/mail")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("button", name="Resume")).to_be_visible()
        await expect(page.locator("#toasts")).to_contain_text("mail is paused")
        assert (await admin.get("/destinations/mail"))["state"] == "paused"
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Retry all now")).to_be_visible()
        assert (await admin.get("/destinations/mail"))["state"] == "delivering"


async def test_dead_letters_are_chosen_and_replayed(tmp_path: Path) -> None:
    """A group opens to its dead letters; a selection is replayed, then all the rest."""
    await fill(tmp_path / "spool", 120)
    setup = SETUP.replace(f'token = "{TOKEN}"', "")
    async with administered(tmp_path, setup) as admin, visiting(admin) as visit:
        page, watch = visit.page, admin.running.watch
        await visit.open("dead-letters")
        await expect(page.locator("tbody tr")).to_have_count(4)
        await page.locator("tbody tr", has_text="no such field").first.get_by_role("link").click()
        await expect(page.locator("tbody tr")).to_have_count(20)
        for number in (0, 1, 2):
            await page.locator("tbody input").nth(number).check()
        await page.get_by_role("button", name="Replay 3").click()
        await expect(page.locator("#toasts")).to_contain_text("3 dead letters replayed")
        await watch.until(lambda w: len([s for s in w.settled if isinstance(s[2], Delivered)]) == 3)
        await expect(page.locator("tbody tr")).to_have_count(17)
        await page.get_by_role("link", name="Dead letters").first.click()
        await page.get_by_role("button", name="Replay 117").click()
        await expect(page.locator("#page")).to_contain_text("No dead letters.")
        await watch.until(
            lambda w: len([s for s in w.settled if isinstance(s[2], Delivered)]) == 120
        )
        assert (await admin.get("/dead-letters"))["dead_letters"] == []


async def test_the_configuration_is_checked_and_reloaded(tmp_path: Path) -> None:
    """The running configuration is shown without credentials, with findings about the file."""
    async with demo_shop(tmp_path) as admin, visiting(admin) as visit:
        page = visit.page
        path = tmp_path / "gateway.toml"
        good = path.read_text()
        await visit.open("config")
        await expect(page.locator(".findings")).to_contain_text(
            "The file matches the running configuration."
        )
        await expect(page.locator("#page")).not_to_contain_text("growlytics-sandbox-key")
        path.write_text(good.replace('rate = "200/s"', 'rate = "300/s"\nburst = 0'))
        await page.reload()
        await expect(page.locator(".findings li.bad")).to_contain_text("[destinations.mail] burst")
        path.write_text(good.replace('rate = "200/s"', 'rate = "300/s"'))
        await page.reload()
        await page.get_by_role("button", name="Reload configuration").click()
        await expect(page.locator("#toasts")).to_contain_text("changed mail")
        await expect(page.locator("#page")).to_contain_text("300/s")


async def test_the_token_is_asked_for_once(tmp_path: Path) -> None:
    """Without the token nothing shows; a wrong one is reported; the right one lasts for the tab."""
    async with administered(tmp_path) as admin, visiting(admin) as visit:
        page = visit.page
        await page.goto(f"{admin.url}/")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.get_by_role("textbox", name="Token").fill("not the token at all")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#token-wrong")).to_be_visible()
        assert await visit.flaws() == []
        await page.get_by_role("textbox", name="Token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#source-shop")).to_be_visible()
        await page.reload()
        await expect(page.locator("#source-shop")).to_be_visible()
        assert await page.evaluate("document.cookie") == ""
        visit.complaints = [said for said in visit.complaints if "401" not in said]


async def test_a_viewer_has_no_buttons_that_change_something(tmp_path: Path) -> None:
    """A viewer sees every page, without buttons of operators; an operator sees what was done."""
    token = "vera-0123456789ab"  # noqa: S105 - it opens nothing
    await fill(tmp_path / "spool", 4)
    people = f'token = "{TOKEN}"\nviewers = {{ vera = "{token}" }}\n'
    setup = SETUP.replace(f'token = "{TOKEN}"\n', people)
    places = {
        "destinations/crm": ["Pause", "Retry all now"],
        "dead-letters/1": ["Replay 1", "Delete 1"],
        "config": ["Reload configuration"],
    }
    async with administered(tmp_path, setup) as admin, visiting(admin) as visit:
        page = visit.page
        await page.goto(f"{admin.url}/")
        for signed_in, role in ((token, "vera viewer"), (TOKEN, "admin")):
            await page.evaluate(f"sessionStorage.setItem('gateway-token', '{signed_in}')")
            await page.reload()
            await expect(page.locator("#me")).to_have_text(role)
            for place, names in places.items():
                await visit.open(place)
                await page.wait_for_load_state("networkidle")
                for name in names:
                    shown = page.get_by_role("button", name=name, exact=True)
                    await expect(shown).to_have_count(0 if "viewer" in role else 1)
        await visit.open("destinations/crm")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("button", name="Resume")).to_be_visible()
        await visit.open("audit")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator("tbody tr")).to_contain_text("adminpause destinationcrmdone")
        visit.complaints = [said for said in visit.complaints if "401" not in said]


async def test_the_keyboard_is_enough(tmp_path: Path) -> None:
    """Pages, rows, search and help are reachable without a mouse."""
    async with demo_shop(tmp_path) as admin, visiting(admin) as visit:
        page = visit.page
        await visit.open("overview")
        await page.keyboard.type("gd")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Destinations")
        await expect(page.locator("tbody tr").first).to_be_visible()
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("mail")
        await page.keyboard.type("ge")
        await expect(page.get_by_role("search")).to_be_visible()
        await page.keyboard.press("/")
        await page.keyboard.type(await an_event(admin))
        await page.keyboard.press("Enter")
        await expect(page.locator(".pane").first).to_be_visible()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_contain_text("Search events")
        await page.keyboard.press("Escape")
        await page.keyboard.press("t")
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"


async def test_nothing_is_loaded_from_other_hosts(tmp_path: Path) -> None:
    """Every request of the console goes to the gateway, and its policy allows no other host."""
    async with demo_shop(tmp_path) as admin, visiting(admin) as visit:
        asked: list[str] = []
        visit.page.on("request", lambda request: asked.append(request.url))
        for place in ("overview", "events", "destinations/mail", "vendors", "config"):
            await visit.open(place)
            await visit.page.wait_for_load_state("networkidle")
        assert all(url.startswith(admin.url) for url in asked), asked
        async with admin.running.client.get(admin.url) as answer:
            policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        async with asyncio.timeout(PATIENCE):
            await visit.page.evaluate("fetch('https://elsewhere.example').catch(() => null)")
        visit.complaints = [said for said in visit.complaints if "elsewhere" not in said]


async def test_empty_pages_say_what_to_do(tmp_path: Path) -> None:
    """A page without data says what to do next, and its links work."""
    setup = SETUP.replace(f'token = "{TOKEN}"', "")
    async with administered(tmp_path, setup) as admin, visiting(admin) as visit:
        page = visit.page
        for place, text in (
            ("overview", "No events yet."),
            ("events", "No events yet."),
            ("dead-letters", "No dead letters."),
            ("destinations/crm", "No recent deliveries."),
        ):
            await visit.open(place)
            await expect(page.locator(".empty")).to_contain_text(text)
            assert await visit.flaws() == [], place
        await visit.open("destinations/nobody")
        await expect(page.locator(".empty h2")).to_contain_text("nobody")
        await page.get_by_role("link", name="Back to destinations").click()
        await expect(page.get_by_role("link", name="mail")).to_be_visible()
        await visit.open("overview")
        await page.get_by_role("link", name="playground", exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Playground")
        visit.complaints = [said for said in visit.complaints if "404" not in said]


async def accepted(admin: Admin) -> int:
    """Return the number of requests that the vendors accepted."""
    journal = await admin.running.journal()
    return sum(entry["verdict"] == "accepted" for entry in journal)


async def test_a_request_is_tried_and_nothing_is_sent(tmp_path: Path) -> None:
    """The playground shows each step for the chosen destinations, and sends nothing."""
    async with demo_shop(tmp_path) as admin, visiting(admin) as visit:
        page = visit.page
        before = await accepted(admin)
        await visit.open("playground")
        await page.get_by_role("button", name="Show every step").click()
        await expect(page.locator(".pane")).to_have_count(2 + 5)
        await expect(page.locator(".result")).to_contain_text("properties.products[0].product_id")
        await expect(page.locator(".decisions")).to_contain_text("Product Viewed")
        assert await visit.flaws() == []
        await page.get_by_role("checkbox", name="ads").uncheck()
        await expect(page.locator(".pane")).to_have_count(2 + 4)
        await page.get_by_role("textbox", name="Body").fill('{"event": "view"}')
        await page.get_by_role("button", name="Show every step").click()
        await expect(page.locator(".result")).to_contain_text("The request would be refused.")
        await page.get_by_role("combobox", name="Source").select_option("backend")
        await page.get_by_role("button", name="Show every step").click()
        crm = page.get_by_role("region", name="crm · chrts")
        await expect(crm).to_contain_text("account-signup")
        assert await accepted(admin) == before
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.get_by_role("button", name="Copy as curl").click()
        await expect(page.locator("#toasts")).to_contain_text("Copied")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("curl -i -X POST 'http://127.0.0.1:0/event/track'")


async def shown_within(folder: Path, traces: int) -> dict[str, float]:
    """Return the seconds until each page of events is shown, with *traces* traces in the file."""
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread(write_traces, folder / "spool" / "traces.db", traces)
    setup = SETUP.replace(f'token = "{TOKEN}"', "")
    took: dict[str, float] = {}
    async with administered(folder, setup) as admin, visiting(admin) as visit:
        for place in ("events", "events?destination=mail", "events?user=u77", "events?failed=true"):
            await visit.page.goto("about:blank")
            began = time.monotonic()
            await visit.page.goto(f"{admin.url}/#{place}")
            await expect(visit.page.locator("tbody tr").first).to_be_visible()
            took[place] = time.monotonic() - began
            assert await visit.page.locator("tbody tr").count() <= 100
    return took


async def test_a_hundred_thousand_traces_do_not_slow_pages(
    tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    """A page of traces, also a filtered one, shows as fast with 100,000 traces as with 100."""
    few = await shown_within(tmp_path / "few", 100)
    took = await shown_within(tmp_path / "many", 100_000)
    figures = "  ".join(f"{place} {seconds:.2f} s" for place, seconds in took.items())
    record_property("table", f"the console beside 100,000 traces: {figures}")
    assert min(took.values()) < max(1.0, 3 * min(few.values())), (few, took)
    assert max(took.values()) < max(5.0, 3 * max(few.values())), (few, took)
