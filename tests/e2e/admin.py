"""Run a gateway with an admin API, and write dead letters into a spool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.admin import AdminContext, make_app
from gateway.http import Request
from gateway.reload import Reloader
from gateway.spool import Attempt, BacklogLimit, DeliveryRef, Entry, FailedDelivery, Progress
from gateway.spool.sqlite.spool import SqliteSpool
from tests.e2e.configs import ADMIN, base_config, destination, filled, route, source
from tests.e2e.running import Running, running, serving

TOKEN = "a-token-for-tests-only"  # noqa: S105 - it opens nothing
AT = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
SETUP = (
    base_config()
    + ADMIN
    + f'token = "{TOKEN}"\n'
    + source("chrts", "api_chrts_test", name="shop")
    + destination("chrts", name="crm", settings='api_key = "api_chrts_canary"')
    + destination("growlytics", name="mail", settings='api_key = "growlytics-canary"')
    + route("crm", "mail")
)
SENT = {
    "method": "POST",
    "url": "https://crm.example/track",
    "headers": {"authorization": "***"},
    "body": '{"name":"Product Viewed"}',
}
REASONS = ("HTTP 400: no product 17", "HTTP 422: no such field", "HTTP 400: no product 4711")


async def fill(folder: Path, count: int) -> None:
    """Write *count* dead letters into a spool that is not in use."""
    spool = SqliteSpool(folder)
    await spool.open()
    await spool.register({"crm": BacklogLimit(), "mail": BacklogLimit()})
    for number in range(count):
        to, at = ("crm", "mail")[number % 2], AT + number
        body = {
            "uid": f"u{number % 5}",
            "name": "product_viewed",
            "properties": {"number": number, "api_key": "canary-body"},
        }
        request = Request(
            method="POST",
            url="/event/track",
            headers={"content-type": "application/json", "authorization": "Bearer canary-header"},
            body=orjson.dumps(body),
            id=f"req-{number}",
            received_at=datetime.fromtimestamp(at, UTC),
        )
        entry = Entry(request.id, "shop", request, {to: (0,)}, "chrts")
        seq = (await spool.append(entry)).seq
        tried = Attempt(at, 400, 0.25, "no such product")
        reason = REASONS[number % len(REASONS)]
        failed = FailedDelivery(
            DeliveryRef(seq, 0), "refused", reason, at, (tried,), orjson.dumps(SENT),
            "Product Viewed",
            f"u{number % 5}",
        )  # fmt: skip
        await spool.settle(to, Progress(seq, dead=[failed]))
    await spool.close()


@dataclass
class Admin:
    """A running admin API and its gateway."""

    running: Running
    url: str
    context: AdminContext

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Call the API as an operator does; return the status and the JSON of the response."""
        sent = {"authorization": f"Bearer {TOKEN}", "x-gateway-admin": "1"}
        client = self.running.client
        async with client.request(
            method, f"{self.url}{path}", json=body, headers=sent if headers is None else headers
        ) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def get(self, path: str) -> Any:
        """Return the JSON at *path*; it must succeed."""
        status, found = await self.call("GET", f"/api/v1{path}")
        assert status == 200, found
        return found

    async def post(self, path: str, body: Any = None) -> Any:
        """Post to *path*; return the JSON; it must succeed."""
        status, found = await self.call("POST", f"/api/v1{path}", body)
        assert status == 200, found
        return found


@asynccontextmanager
async def administered(
    folder: Path, setup: str = SETUP, url: str | None = None
) -> AsyncIterator[Admin]:
    """Run a gateway with its admin API on *setup*; its destinations are at the sandbox or *url*."""

    def config(sandbox: str) -> str:
        return filled(setup, folder, url or sandbox)

    async with running(folder, config) as found:
        context = AdminContext(found.gateway, Reloader(found.gateway))
        async with serving(make_app(context)) as address:
            yield Admin(found, address, context)
