"""A gateway with an admin API, and dead letters in its spool."""

from datetime import UTC, datetime
from pathlib import Path

import orjson

from gateway.exchange import Request
from gateway.spool import Attempt, Bounds, Entry, Failed, Mark, Progress, SqliteSpool

TOKEN = "a-token-for-tests-only"  # noqa: S105 - it opens nothing
AT = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
SETUP = """
[server]
listen = "127.0.0.1:0"
[spool]
path = "{folder}/spool"
[admin]
listen = "127.0.0.1:0"
token = "{token}"
[sources.shop]
vendor = "chrts"
keys = ["api_chrts_test"]
[destinations.crm]
vendor = "chrts"
url = "{url}/chrts"
api_key = "api_chrts_canary"
[destinations.mail]
vendor = "growlytics"
url = "{url}/growlytics"
api_key = "growlytics-canary"
[[routes]]
to = ["crm", "mail"]
"""
SENT = {
    "method": "POST",
    "url": "https://crm.example/track",
    "headers": {"authorization": "***"},
    "body": '{"name":"Product Viewed"}',
}
REASONS = ("HTTP 400: no product 17", "HTTP 422: no such field", "HTTP 400: no product 4711")


async def fill(folder: Path, count: int) -> None:
    """Make *count* dead letters in a spool that nobody has open."""
    spool = SqliteSpool(folder)
    await spool.open()
    await spool.register({"crm": Bounds(), "mail": Bounds()})
    for number in range(count):
        to, at = ("crm", "mail")[number % 2], AT + number
        body = {
            "event": "product_viewed",
            "email": f"u{number}@example.com",
            "api_key": "canary-body",
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
        seq = await spool.append(entry)
        tried = Attempt(at, 400, 0.25, "no such product")
        reason = REASONS[number % len(REASONS)]
        failed = Failed(
            Mark(seq, 0), "refused", reason, at, (tried,), orjson.dumps(SENT), "Product Viewed",
            f"u{number % 5}",
        )  # fmt: skip
        await spool.settle(to, Progress(seq, dead=[failed]))
    await spool.close()
