"""The console of a gateway that is one of several."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.cluster.servers import NatsServers
from tests.cluster.two_nodes import differ, name_of, setup_of, two_nodes
from tests.console.browser import visiting

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="module")]


async def test_the_cluster_has_a_page(
    browser: Browser, tmp_path: Path, nats_server: NatsServers
) -> None:
    """It shows gateways, shards and streams; a configuration that differs stands out."""
    async with (
        two_nodes(tmp_path, setup_of(nats_server)) as (one, two),
        visiting(browser, one) as visit,
    ):
        page = visit.page
        await visit.open("overview")
        await page.get_by_role("link", name="Cluster").click()
        gateways = page.get_by_role("region", name="Gateways")
        await expect(gateways.locator("tbody tr")).to_have_count(2)
        await expect(page.get_by_role("region", name="Shards").locator("tbody tr")).to_have_count(4)
        await expect(page.locator("#page")).to_contain_text("All gateways, shards and streams")
        await differ(two)
        row = gateways.locator("tr", has_text=name_of(two))
        await expect(row.locator(".badge.bad")).to_have_text("differs")
        await expect(page.locator(".findings")).to_contain_text("Give all gateways the same files")
        assert await visit.flaws() == []
        await page.set_viewport_size({"width": 390, "height": 844})
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        await visit.open("events")
        await page.get_by_label("Gateway").select_option(name_of(two))
        await expect(page.locator("#page")).to_contain_text("No traces match these filters.")
