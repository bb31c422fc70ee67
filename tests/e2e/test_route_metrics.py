"""What each route does with events, in the metrics and in the overview."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tests.e2e.admin import SETUP, TOKEN, Admin, administered

ROUTES = """
[[routes]]
name = "orders"
names = ["Order *"]
to = ["crm"]
[[routes]]
name = "half"
names = ["Order *"]
to = ["crm", "mail"]
[[routes.steps]]
consent = "marketing"
[[routes]]
name = "odd"
when = 'event.properties.number > 1'
to = ["mail"]
additional = true
"""
SETUP_OF_ROUTES = (
    SETUP.split("[[routes]]", maxsplit=1)[0].replace(
        "[destinations.crm]", 'dedup = "1h"\n[destinations.crm]'
    )
    + ROUTES
)


async def send(admin: Admin, name: str, *, message: str = "", number: Any = 1) -> None:
    """Send an event to the gateway."""
    body: dict[str, Any] = {"uid": "u1", "name": name, "properties": {"number": number}}
    if message:  # only Segment's format has message ids
        body = {"type": "track", "userId": "u1", "event": name, "messageId": message}
    headers = {"authorization": "Bearer api_chrts_test"}
    url = f"{admin.running.url}/event/track"
    async with admin.running.client.post(url, json=body, headers=headers) as answer:
        assert answer.status < 300, await answer.text()


async def counted(admin: Admin, name: str) -> dict[tuple[str, ...], float]:
    """Return a metric by the values of its labels."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with admin.running.client.get(f"{admin.url}/metrics", headers=headers) as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        tuple(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


async def test_each_event_counts_for_the_routes_that_it_takes(tmp_path: Path) -> None:
    """An event counts for each route that routes or filters it; a duplicate for none."""
    async with administered(tmp_path, SETUP_OF_ROUTES) as admin:
        await send(admin, "Order Completed", message="m1")
        await send(admin, "Order Completed", message="m1")
        await send(admin, "Order Cancelled", number=2)
        await send(admin, "Signed In")
        routes = await counted(admin, "cdp_gateway_route_events_total")
        assert {key: value for key, value in routes.items() if value} == {
            ("routed", "orders"): 2, ("filtered", "half"): 2, ("routed", "odd"): 1
        }  # fmt: skip
        assert routes["routed", "half"] == 0
        assert await counted(admin, "cdp_gateway_events_unrouted_total") == {("shop",): 1}


async def test_the_overview_has_the_rates_of_routes(tmp_path: Path) -> None:
    """The overview has each route's rates, and each source's rate of unrouted events."""
    async with administered(tmp_path, SETUP_OF_ROUTES) as admin:
        await admin.context.series.sample()
        await send(admin, "Order Completed")
        await send(admin, "Signed In")
        await admin.running.watch.until(lambda watch: len(watch.settled) == 1)
        await admin.context.series.sample()
        found = await admin.get("/overview")
        assert [one["delivered"] for one in found["destinations"]] == [1, 0]
        orders, half, odd = found["routes"]
        assert (orders["routed"], half["filtered"], odd["routed"]) == (1, 1, 0)
        assert orders["routed_rate"] == half["filtered_rate"] > 0
        assert odd["routed_rate"] == half["routed_rate"] == 0
        (shop,) = found["sources"]
        assert (shop["accepted"], shop["unrouted"]) == (2, 1)
        assert shop["accepted_rate"] == 2 * shop["unrouted_rate"] > 0
        history = await admin.get("/history")
        assert history["routes"]["orders"][-1]["routed"] > 0


async def test_a_failed_condition_needs_attention(tmp_path: Path) -> None:
    """A condition that failed is listed under attention, with its count."""
    async with administered(tmp_path, SETUP_OF_ROUTES) as admin:
        await send(admin, "Signed In", number="many")
        found = (await admin.get("/overview"))["health"]["findings"]
        assert "The condition of odd failed for 1 event" in [one["headline"] for one in found]


@pytest.mark.usefixtures("each_spool")
async def test_a_pause_is_a_metric(tmp_path: Path) -> None:
    """A destination's pause metric is 1 while an operator has paused it."""
    async with administered(tmp_path, SETUP_OF_ROUTES) as admin:
        await admin.post("/destinations/mail/pause")
        paused = await counted(admin, "cdp_gateway_destination_paused")
        assert paused == {("crm",): 0, ("mail",): 1}


async def test_admin_refusals_are_counted(tmp_path: Path) -> None:
    """Each refused admin call is counted by reason; a wrong token is logged, a missing one not."""
    with capture_logs() as lines:
        async with administered(tmp_path) as admin:
            for headers in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": "Bearer wrong-again"},
                {"host": "evil.example"},
            ):
                await admin.call("GET", "/api/v1/status", headers=headers)
            refused = await counted(admin, "cdp_gateway_admin_refused_total")
            expected = {"no_token": 1, "token": 2, "origin": 0, "host": 1, "role": 0}
            assert refused == {(reason,): times for reason, times in expected.items()}
    said = [line for line in lines if line["event"] == "admin_refused"]
    assert [(line["path"], line["times"]) for line in said] == [("/api/v1/status", 1)] * 2
    assert not any("wrong" in str(line) for line in said)
