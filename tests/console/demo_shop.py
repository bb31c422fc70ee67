"""A shop's gateway for the console: sources, routes, and destinations in different states."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.plugin.quantities import DAY, GIB
from gateway.trace.records import AttemptRecord, EventRecord, RecordedMessage
from gateway.trace.store import TraceWriter
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source
from tests.e2e.running import PATIENCE

SHOP_ID = "0d42fd8b713d0752776ca589cc0056"
BUYERS = """
from = ["webshop", "app"]
when = "event.properties.total > 20.0 || event.name == 'Product Viewed'"
steps = [{ drop = ["traits.phone"] }, { rename = { "Order Completed" = "Purchase" } }]
"""
SETUP = (
    base_config(server='name = "shop"', spool='retain = "72h"')
    + ADMIN
    + source("personaclick", SHOP_ID, name="webshop")
    + source("segment", "YOUR_WRITE_KEY", name="app")
    + source("chrts", "api_chrts_shop", name="backend")
    + destination("chrts", name="crm")
    + destination("growlytics", more='rate = "200/s"', name="mail")
    + destination("tracardi", more='retry_min = "30s"', name="ads")
    + destination("quartic", name="recommendations")
    + destination("segment", name="warehouse")
    + route("crm", "warehouse", name="everything to the crm")
    + route("mail", name="buyers to mail", more=BUYERS)
    + route("ads", "recommendations", name="shoppers to ads", more='from = ["webshop"]')
)
TITLES = ("Lamp", "Chair", "Desk", "Shelf", "Rug", "Vase")


def view(user: int, item: int) -> dict[str, Any]:
    """Return the body of a product view from the shop's page."""
    return {
        "event": "view", "shop_id": SHOP_ID, "did": f"device-{user}",
        "seance": f"session-{user}", "stream": "web", "referer": f"https://shop.example/{item}",
        "items": [{"id": str(100500 + item), "price": 9.5 + item, "name": TITLES[item % 6]}],
    }  # fmt: skip


def purchase(user: int, order: int) -> dict[str, Any]:
    """Return the body of a purchase from the shop's page."""
    return {
        "event": "purchase", "shop_id": SHOP_ID, "did": f"device-{user}",
        "seance": f"session-{user}", "stream": "web", "order_id": f"ORD-{order}",
        "order_price": 42.5 + order, "email": f"buyer{user}@shop.example",
        "items": [{"id": str(100500 + order), "amount": 2, "price": 21.25}],
    }  # fmt: skip


def tracked(user: int, number: int) -> dict[str, Any]:
    """Return the body of an event from the app."""
    return {
        "userId": f"user-{user}", "event": ("Screen Opened", "Level Reached")[number % 2],
        "properties": {"level": number % 40, "nickname": f"player{user}"},
        "context": {"locale": "de-DE", "app": {"name": "Shop", "version": "4.2"}},
        "writeKey": "YOUR_WRITE_KEY",
    }  # fmt: skip


async def post(admin: Admin, path: str, body: Any, headers: dict[str, str] | None = None) -> None:
    """Send a request to the gateway."""
    url = f"{admin.running.url}{path}"
    async with admin.running.client.post(url, json=body, headers=headers) as answer:
        await answer.read()


async def send_mixed_events(admin: Admin, events: int, dice: random.Random) -> None:
    """Send *events* events of all kinds."""
    key = {"authorization": "Bearer api_chrts_shop"}
    for number in range(events):
        user = dice.randrange(40)
        match number % 6:
            case 0 | 1:
                await post(admin, "/push", view(user, dice.randrange(12)))
            case 2:
                await post(admin, "/push", purchase(user, number))
            case 3 | 4:
                await post(admin, "/v1/track", tracked(user, number))
            case _:
                body = {"uid": f"u{user}", "name": "invoice_paid", "properties": {"total": number}}
                await post(admin, "/event/track", body, key)


async def fill_series(admin: Admin, samples: int) -> None:
    """Take *samples* samples of the charts, with events before each."""
    dice = random.Random(3)  # noqa: S311 - the same each time
    for number in range(samples):
        lull = 1 if number % 40 > 30 else 6
        await send_mixed_events(admin, dice.randrange(lull, 2 * lull + 2), dice)
        await admin.context.series.sample()


def write_traces(path: Path, count: int) -> None:
    """Write *count* traces into a trace file that is not in use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = TraceWriter(path, DAY, GIB)
    for first in range(0, count // 2, 1000):
        store.add(record for number in range(first, first + 1000) for record in _traces(number))
    store.close()


def _traces(number: int) -> Iterator[EventRecord | AttemptRecord]:
    request, user, at = f"r{number}", f"u{number % 1000}", time.time() - 1
    event, name = f"{request}-0", "Product Viewed"
    yield EventRecord(event, request, at, "shop", "track", name, user_id=user)
    yield AttemptRecord(
        event, request, at, "shop", ("crm", "mail")[number % 2], "chrts", name,
        "retry" if number % 50 == 0 else "delivered", number=1, status=200, seconds=0.01,
        sent=RecordedMessage("POST", "/event/track", {}, '{"uid":"u1"}', 12), user_id=user,
    )  # fmt: skip


@asynccontextmanager
async def demo_shop(folder: Path, samples: int = 4) -> AsyncIterator[Admin]:
    """Run the shop's gateway: one destination down, one that refuses, one paused, two healthy."""
    dice = random.Random(7)  # noqa: S311 - the same day each time
    async with administered(folder, SETUP) as admin:
        await fill_series(admin, samples)
        await admin.running.fault(vendor="tracardi", count=100_000, status=503)
        await admin.running.fault(vendor="quartic", count=14, status=422)
        await send_mixed_events(admin, 60, dice)
        await post(admin, "/push", {"event": "view", "shop_id": "somebody-else", "did": "x"})
        async with asyncio.timeout(PATIENCE):
            while (await admin.get("/destinations/ads"))["state"] != "open":
                pass
            while (await admin.get("/destinations/warehouse"))["backlog"]:
                pass
        await admin.post("/destinations/warehouse/pause")
        await fill_series(admin, samples)
        async with asyncio.timeout(PATIENCE):
            while (await admin.get("/destinations/recommendations"))["backlog"]:
                pass
        yield admin
