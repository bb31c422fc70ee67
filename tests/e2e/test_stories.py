"""A trace explains without a manual why an event did not arrive, and what changed it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.trace.from_spool import RATE
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, PROMPT_RETRIES, base_config, destination, route, source
from tests.e2e.running import PATIENCE
from tests.e2e.stories import QUIET, printed, story_of

KEY = {"authorization": "Bearer shop-key"}
PLAN = """
on_violation = "drop-field"
[sources.shop.schemas.paid.properties.properties]
required = ["price"]
[sources.shop.schemas.paid.properties.properties.properties]
price = { type = "number" }
card = false
"""
CRM = destination("growlytics", more=PROMPT_RETRIES, name="crm")
TO_CRM = route("crm", name="all")
SETUP = base_config() + ADMIN + source("chrts", "shop-key", name="shop", more=PLAN) + CRM + TO_CRM
PAYMENT = {"price": "12", "card": "4111 1111", "plan": "pro"}
PAID = {"uid": "u1", "name": "paid", "properties": PAYMENT}
LEFT_OUT = [
    "properties.price: must be a number (dropped)",
    "properties.card: is not allowed (dropped)",
    "properties.price: is required",
]


BATCHES = (
    base_config()
    + ADMIN
    + source("segment", "write-key", name="app")
    + destination("growlytics", more='max_backlog = 1\non_full = "dead_letter"', name="crm")
    + TO_CRM
)


VIEWED_CALL = {"type": "track", "userId": "u1", "event": "Viewed"}


async def batch(admin: Admin, calls: list[dict[str, Any]]) -> str:
    """Send several events in one request; return the request's id."""
    run, body = admin.running, {"writeKey": "write-key", "batch": calls}
    async with run.client.post(f"{run.url}/v1/batch", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["x-gateway-request-id"]


async def track(admin: Admin, body: dict[str, Any]) -> str:
    """Send an event; return the request's id."""
    run = admin.running
    async with run.client.post(f"{run.url}/event/track", json=body, headers=KEY) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["x-gateway-request-id"]


def ended(event: Any) -> bool:
    """Tell whether every delivery of an event has ended."""
    return bool(event["deliveries"]) and all(
        one["outcome"] in {"delivered", "declined", "dead_letter"} for one in event["deliveries"]
    )


def tried(event: Any) -> bool:
    """Tell whether an attempt of an event is traced."""
    return any(one["attempts"] for one in event["deliveries"])


async def lines_of(folder: Path, *args: str) -> list[str]:
    """Return the lines that ``gateway trace`` prints."""
    return [line.strip() for line in (await printed(folder, "trace", *args)).splitlines()]


@pytest.mark.usefixtures("each_spool")
async def test_fields_that_a_plan_dropped_are_shown(tmp_path: Path) -> None:
    """The trace shows the dropped fields with reasons; the request page shows the event without."""
    async with administered(tmp_path, SETUP) as admin:
        story = await story_of(admin, await track(admin, PAID), ended)
        lines = await lines_of(tmp_path, story["request"], "--short")
    (event,) = story["events"]
    assert sorted(event["violations"]) == sorted(LEFT_OUT)
    assert {f"violates the tracking plan: {one}" for one in LEFT_OUT} <= set(lines)
    assert event["dropped_fields"] == ["properties.price", "properties.card"]
    fields = {one["path"]: one["value"] for one in event["fields"]}
    assert "pro" in fields.values()
    assert {"12", "4111 1111"}.isdisjoint(fields.values())


async def test_the_playground_marks_fields_that_would_be_dropped(tmp_path: Path) -> None:
    """The playground shows the same violations and dropped fields as a real request."""
    async with administered(tmp_path, SETUP) as admin:
        asked = {"source": "shop", "path": "POST /event/track", "body": json.dumps(PAID)}
        story = (await admin.post("/explain", asked))["request"]
    (event,) = story["events"]
    assert sorted(event["violations"]) == sorted(LEFT_OUT[:2])
    assert event["dropped_fields"] == ["properties.price", "properties.card"]


async def test_members_of_lists_are_marked_as_their_sender_numbers_them(tmp_path: Path) -> None:
    """In a batch, and in its lists, exactly the dropped fields are marked, by their index."""
    products = "[sources.app.schemas.Order.properties.properties.properties.products]"
    items = "items.properties.price.minimum = 0"
    destinations = f"{products}\n{items}\n[destinations.crm]"
    setup = BATCHES.replace("[destinations.crm]", destinations).replace(
        '["write-key"]', '["write-key"]\non_violation = "drop-field"'
    )
    one, cheap = {"sku": "1", "price": 2}, {"sku": "2", "price": -2}
    properties = {"products": [one, cheap, one, cheap]}
    call = {"type": "track", "userId": "u", "event": "Order", "properties": properties}
    async with administered(tmp_path, setup) as admin:
        request = await batch(admin, [VIEWED_CALL, call])
        story = await story_of(admin, f"{request}-1", lambda _: True)
    (event,) = story["events"]
    assert event["dropped_fields"] == [f"batch[1].properties.products[{n}].price" for n in (1, 3)]


@pytest.mark.usefixtures("each_spool")
async def test_dropped_fields_of_an_unsampled_failure_are_shown(tmp_path: Path) -> None:
    """An unsampled request's first failure shows its dropped fields, without the reasons."""
    async with administered(tmp_path, QUIET + SETUP) as admin:
        await admin.running.fault(vendor="growlytics", status=422, count=1)
        story = await story_of(admin, await track(admin, PAID), tried)
        (event,) = story["events"]
        assert event["deliveries"][0]["outcome"] == "dead_letter"
        assert event["violations"] == ["properties.card (dropped)", "properties.price (dropped)"]
        assert "4111 1111" not in str(event)
        lines = await lines_of(tmp_path, story["request"], "--short")
        assert "violates the tracking plan: properties.price (dropped)" in lines


STEPS = """
steps = [
  { drop = ["properties.card"] },
  { set = { "properties.via" = "web", user_id = "somebody" } },
  { rename = { paid = "bought" } },
]
"""
SHOP = source("chrts", "shop-key", name="shop")
STEPPED = (
    base_config() + ADMIN + SHOP + destination("growlytics", name="crm")
    + route("crm", name="web", more=STEPS)
)  # fmt: skip


@pytest.mark.usefixtures("each_spool")
async def test_changes_by_the_steps_of_a_route_are_shown(tmp_path: Path) -> None:
    """Each changed field is listed with its kind of change, without values, and not as a loss."""
    async with administered(tmp_path, STEPPED) as admin:
        story = await story_of(admin, await track(admin, PAID), ended)
        lines = await lines_of(tmp_path, story["request"], "--short")
        (trace,) = (await admin.get(f"/trace?id={story['request']}"))["traces"]
    (delivery,) = story["events"][0]["deliveries"]
    assert delivery["outcome"] == "delivered"
    changed = {one["path"]: one["kind"] for one in delivery["changes"]}
    assert changed == {
        "name": "changed", "user_id": "changed", "properties.extra.card": "removed",
        "properties.extra.via": "added",
    }  # fmt: skip
    assert changed.keys().isdisjoint(one["path"] for one in delivery["losses"])
    assert trace["attempts"][0]["changes"] == delivery["changes"]
    (line,) = (line for line in lines if line.startswith("after the steps of web: "))
    said = set(line.partition(": ")[2].split(", "))
    assert said == {f"{path} {how}" for path, how in changed.items()}


VIEWED = {"uid": "u1", "name": "viewed"}


def waiting(spool: str = "", trace: str = "") -> str:
    """Return a setup with further lines for the spool, and a table for the traces."""
    return base_config(spool=spool) + ADMIN + trace + SHOP + CRM + TO_CRM


def outcome(event: Any) -> str:
    """Return the outcome of the only delivery."""
    (delivery,) = event["deliveries"]
    return str(delivery["outcome"])


async def test_a_pending_delivery_is_shown_until_it_expires(tmp_path: Path) -> None:
    """A delivery without an attempt shows as pending; after it expires, as its dead letter."""
    async with administered(tmp_path, waiting('max_age = "3s"')) as admin:
        await admin.post("/destinations/crm/pause")
        request = await track(admin, VIEWED)
        story = await story_of(admin, request, lambda _: True)
        (delivery,) = story["events"][0]["deliveries"]
        assert (delivery["outcome"], delivery["dead_letter"]) == ("pending", None)
        assert delivery["reason"] == "An operator paused the destination."
        lines = await lines_of(tmp_path, request, "--short")
        assert "crm: no attempt yet; it is pending in the spool" in lines
        story = await story_of(admin, request, lambda event: outcome(event) == "dead_letter")
        (delivery,) = story["events"][0]["deliveries"]
        letter = delivery["dead_letter"]
        assert delivery["reason"] == "expired: pending for more than 3 s"
        page = await admin.get(f"/dead-letters?request={request}")
        assert [one["id"] for one in page["dead_letters"]] == [letter["id"]]
        assert (await admin.get(f"/trace?id={request}"))["dead_letters"] == page["dead_letters"]
        async with asyncio.timeout(PATIENCE):
            while not (found := (await admin.get("/traces?failed=true"))["lines"]):
                pass
        assert [(one["request"], one["destination"]) for one in found] == [(request, "crm")]
        assert found[0]["reason"] == delivery["reason"]
        lines = await lines_of(tmp_path, request, "--short")
        assert f"it is dead letter {letter['id']}" in lines
        assert not any("no attempt yet" in line for line in lines)


async def test_a_dead_letter_is_shown_in_its_current_state(tmp_path: Path) -> None:
    """After a failed replay the new dead letter is shown; a deleted one is shown as deleted."""
    async with administered(tmp_path, waiting()) as admin:
        await admin.running.fault(vendor="growlytics", status=422, count=2)
        request = await track(admin, VIEWED)

        def died(times: int) -> Callable[[Any], bool]:
            return lambda event: bool(
                event["deliveries"]
                and len(event["deliveries"][0]["attempts"]) == times
                and event["deliveries"][0]["dead_letter"]
            )

        story = await story_of(admin, request, died(1))
        first = story["events"][0]["deliveries"][0]["dead_letter"]["id"]
        assert (await admin.post("/dead-letters/replay", {"ids": [first]}))["moved"] == 1
        story = await story_of(admin, request, died(2))
        (delivery,) = story["events"][0]["deliveries"]
        second = delivery["dead_letter"]["id"]
        assert second > first
        assert delivery["reason"].startswith("refused: HTTP 422")
        filter_ = {"filter": {"request": request}}
        assert (await admin.post("/dead-letters/delete", filter_))["moved"] == 1
        story = await story_of(admin, request, lambda _: True)
        (delivery,) = story["events"][0]["deliveries"]
        assert (delivery["outcome"], delivery["dead_letter"]) == ("dead_letter", None)
        assert delivery["next_step"].startswith("Its dead letter was deleted, or replayed without")
        text = "\n".join(await lines_of(tmp_path, request, "--short"))
        assert "its dead letter was deleted, or replayed without a trace" in text


async def test_without_the_spool_the_trace_does_not_guess(tmp_path: Path) -> None:
    """Without the spool the command prints what is traced, and that the rest is unknown."""
    async with administered(tmp_path, waiting()) as admin:
        await admin.post("/destinations/crm/pause")
        request = await track(admin, VIEWED)
        await story_of(admin, request, lambda _: True)
    (tmp_path / "spool/spool.db").unlink()
    lines = await lines_of(tmp_path, request, "--short")
    assert "crm: no attempt yet; it is pending in the spool, unless the spool gave it up" in lines


MANY = 50


@pytest.mark.usefixtures("each_spool")
async def test_an_overflow_is_recorded_up_to_a_limit_and_always_shown(
    tmp_path: Path,
) -> None:
    """Of many deliveries that overflow some are recorded and the rest counted; all are shown."""
    async with administered(tmp_path, QUIET + BATCHES) as admin:
        await admin.post("/destinations/crm/pause")
        first = await batch(admin, [VIEWED_CALL] * MANY)
        await batch(admin, [VIEWED_CALL])
        recorder = admin.running.gateway.observer.recorder
        async with asyncio.timeout(PATIENCE):
            while recorder.recorded < RATE:
                await admin.get("/status")
        assert recorder.dropped == MANY - RATE
        found = (await admin.get("/traces?failed=true&limit=500"))["lines"]
        assert {one["event"] for one in found} == {f"{first}-{n}" for n in range(RATE)}
        for event in (f"{first}-0", f"{first}-{MANY - 1}"):
            story = await story_of(admin, event, ended)
            (one,) = story["events"]
            (delivery,) = one["deliveries"]
            assert (one["event"], one["name"]) == (event, "Viewed")
            assert delivery["reason"] == "overflow: more than max_backlog (1) pending"
            assert delivery["dead_letter"]["event"] == event


async def test_a_request_without_a_trace_is_shown_from_its_dead_letters(tmp_path: Path) -> None:
    """When the trace file is gone, the page and the command show the request's dead letters."""
    trace = f'[trace]\npath = "{tmp_path}/traces/traces.db"\n'
    async with administered(tmp_path, waiting('max_age = "1s"', trace)) as admin:
        await admin.post("/destinations/crm/pause")
        request = await track(admin, VIEWED)
        await story_of(admin, request, lambda event: outcome(event) == "dead_letter")
    for file in (tmp_path / "traces").iterdir():
        file.unlink()
    lines = await lines_of(tmp_path, f"{request}-0")
    assert any(
        line.startswith("received ") and "by source shop (format: chrts)" in line for line in lines
    )
    assert any("as dead letter 1; expired: pending for more than 1 s" in line for line in lines)
    async with administered(tmp_path, waiting(trace=trace)) as admin:
        story = await story_of(admin, request, ended)
        assert story["received"]["body"]
        (event,) = story["events"]
        assert (event["name"], event["deliveries"][0]["dead_letter"]["id"]) == ("viewed", 1)
        assert [one["taken"] for one in event["decisions"]] == [True]
        assert len((await admin.get(f"/trace?id={request}"))["dead_letters"]) == 1


@pytest.mark.usefixtures("each_spool")
async def test_an_untraced_outcome_is_shown_as_not_traced(tmp_path: Path) -> None:
    """When a delivery's record is lost, it shows as finished without a trace, not as pending."""
    async with administered(tmp_path, waiting()) as admin:
        request = await track(admin, VIEWED)
        await story_of(admin, request, ended)
        file = apsw.Connection(str(tmp_path / "spool/traces.db"))
        file.set_busy_timeout(5000)
        file.execute("DELETE FROM record WHERE kind = 'delivery'")
        file.close()
        story = await story_of(admin, request, lambda event: outcome(event) == "finished")
        (delivery,) = story["events"][0]["deliveries"]
        assert delivery["reason"].endswith("its outcome was not traced.")
