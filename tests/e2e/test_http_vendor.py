"""Any API in and out by configuration, through a running gateway."""

import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.http import Request, Response, as_basic
from gateway.verdict import Delivered, Refused
from plugins.http.output import HttpOutput
from tests.e2e.configs import base_config, destination, source
from tests.e2e.running import Running, running, serving

SECRET = "whsec-0123456789"  # noqa: S105 - not used anywhere else
STRIPE = f"""
[sources.stripe]
vendor = "http"
keys = ["{SECRET}"]
[sources.stripe.verify.hmac]
header = "stripe-signature"
part = "v1"
timestamp_part = "t"
payload = "=timestamp + '.' + body"

[[sources.stripe.requests]]
path = "/webhooks/stripe"
when = 'payload.type == "checkout.session.completed"'
[sources.stripe.requests.event]
name = "Order Completed"
user_id = "=payload.data.object.customer"
timestamp = "=payload.created"
properties.order_id = "=payload.data.object.id"
properties.total = "=payload.data.object.amount_total / 100.0"
"""
API = """
[destinations.api]
vendor = "http"
url = "{url}/http"
retry_min = "10ms"
retry_max = "20ms"
[destinations.api.auth]
bearer = "a-fixed-token"

[[destinations.api.requests]]
method = "PUT"
path = ["orders", "=event.properties.order_id"]
query = {{ user = "=event.user_id" }}
body = {{ total = "=event.properties.total", at = "=unix_seconds(event.timestamp)" }}
"""
ROUTE = '[[routes]]\nto = ["api"]\n'
SESSION = {
    "type": "checkout.session.completed",
    "created": 1767323045,
    "data": {"object": {"id": "cs 1", "customer": "cus_1", "amount_total": 1250}},
}


async def post(run: Running, payload: Any, secret: str = SECRET) -> tuple[int, str]:
    """Send a webhook as Stripe signs it; return status and body of the response."""
    body, now = orjson.dumps(payload), str(int(time.time()))
    signature = hmac.new(secret.encode(), f"{now}.".encode() + body, "sha256").hexdigest()
    headers = {
        "stripe-signature": f"t={now},v1={signature}",
        "content-type": "application/json",
    }
    url = f"{run.url}/webhooks/stripe"
    async with run.client.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.text()


async def settled(run: Running, count: int) -> None:
    """Wait until so many deliveries are settled."""
    await run.watch.until(lambda watch: len(watch.settled) >= count)


async def test_a_signed_webhook_reaches_any_api(tmp_path: Path) -> None:
    """A webhook is verified, becomes an event, and goes out as the configuration says."""

    def config(sandbox: str) -> str:
        return base_config(tmp_path) + STRIPE + API.format(url=sandbox) + ROUTE

    async with running(tmp_path, config) as run:
        assert await post(run, SESSION) == (200, "")
        assert await post(run, {"type": "customer.created"}) == (200, "")
        status, body = await post(run, SESSION, secret="another")  # noqa: S106 - a wrong one
        assert (status, body) == (403, '{"error":"the signature in stripe-signature is wrong"}')
        async with run.client.post(f"{run.url}/webhooks/stripe", json=SESSION) as answer:
            assert answer.status == 401
        async with run.client.get(f"{run.url}/webhooks/stripe") as answer:
            assert answer.status == 405
        await settled(run, 1)
        (got,) = await run.journal("http")
    assert (got["method"], got["path"], got["query"]) == ("PUT", "/orders/cs%201", "user=cus_1")
    assert got["headers"]["authorization"] == "Bearer a-fixed-token"
    assert got["body"] == {"total": 12.5, "at": 1767323045}
    assert len(run.watch.accepted) == 1


async def test_a_restart_reads_webhooks_with_the_sources_own_rules(tmp_path: Path) -> None:
    """What waits in the spool is read again by the rules of the source that it came to."""
    other = STRIPE.replace("stripe", "other").replace("Order Completed", "Other")

    def down(sandbox: str) -> str:
        del sandbox
        return base_config(tmp_path) + other + STRIPE + API.format(url="http://127.0.0.1:9") + ROUTE

    def up(sandbox: str) -> str:
        return base_config(tmp_path) + other + STRIPE + API.format(url=sandbox) + ROUTE

    async with running(tmp_path, down) as run:
        assert (await post(run, SESSION))[0] == 200
    async with running(tmp_path, up) as run:
        await settled(run, 1)
        ((event, _, _),) = run.watch.settled
        assert event.name == "Order Completed"
        (got,) = await run.journal("http")
    assert got["body"]["total"] == 12.5
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in (tmp_path / "spool").iterdir() if path.is_file()
    )


async def test_a_handshake_is_answered_and_leaves_no_event(tmp_path: Path) -> None:
    """A GET with the right token is answered with its challenge; with another token it is not."""
    meta = """
[sources.meta]
vendor = "http"
keys = ["verify-0123456789"]
verify = { query = "hub.verify_token" }
[[sources.meta.requests]]
method = "GET"
path = "/webhooks/meta"
answer = { body = '=query["hub.challenge"]' }
"""

    def config(sandbox: str) -> str:
        return base_config(tmp_path) + meta + API.format(url=sandbox) + ROUTE

    async with running(tmp_path, config) as run:
        for token, status, body in (("verify-0123456789", 200, "42"), ("wrong", 403, None)):
            query = {"hub.mode": "subscribe", "hub.challenge": "42", "hub.verify_token": token}
            async with run.client.get(f"{run.url}/webhooks/meta", params=query) as answer:
                assert answer.status == status
                assert body in {None, await answer.text()}
    assert run.watch.accepted == []


async def test_requests_come_from_the_listed_networks_only(tmp_path: Path) -> None:
    """A source with networks refuses requests from other addresses, in the vendor's words."""
    for number, (network, status) in enumerate((("10.0.0.0/8", 401), ("127.0.0.0/8", 200))):
        folder = tmp_path / str(number)
        folder.mkdir()

        def config(sandbox: str, folder: Path = folder, network: str = network) -> str:
            more = f'networks = ["{network}"]'
            text = base_config(folder) + source("segment", "wk-1", more=more)
            return text + API.format(url=sandbox) + ROUTE

        async with running(folder, config) as run:
            headers = {"authorization": as_basic("wk-1")}
            call = {"userId": "u", "event": "Seen", "properties": {"orderId": "1"}}
            async with run.client.post(f"{run.url}/v1/track", json=call, headers=headers) as answer:
                assert answer.status == status


async def test_tokens_reach_the_api_and_nothing_else(tmp_path: Path) -> None:
    """An access token is fetched and sent; neither it nor the secret is in any file."""
    token = "issued-token-0123456789"  # noqa: S105 - not used anywhere else

    async def issue(http: web.Request) -> web.Response:
        assert (await http.post())["grant_type"] == "client_credentials"
        return web.json_response({"access_token": token, "expires_in": 3600})

    login = web.Application()
    login.router.add_post("/token", issue)
    async with serving(login) as issuer:

        def config(sandbox: str) -> str:
            auth = (
                f'[destinations.api.auth.oauth2]\ntoken_url = "{issuer}/token"\n'
                'client_id = "gateway"\nclient_secret = "client-secret-0123456789"\n'
            )
            api = API.format(url=sandbox).replace('bearer = "a-fixed-token"\n', "")
            api = api.replace("[destinations.api.auth]\n", auth)
            return base_config(tmp_path) + STRIPE + api + ROUTE

        async with running(tmp_path, config) as run:
            for _ in range(3):
                assert (await post(run, SESSION))[0] == 200
            await settled(run, 3)
            found = await run.journal("http")
            await run.gateway.observer.stop()
    assert [one["headers"]["authorization"] for one in found] == [f"Bearer {token}"] * 3
    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    assert b"orders/cs%201" in written, "the trace has the request"
    assert token.encode() not in written
    assert b"client-secret-0123456789" not in written


ANY = """
[sources.any]
vendor = "http"
keys = "any"
[[sources.any.requests]]
path = "/v1/track"
[sources.any.requests.event]
name = "=payload.event"
user_id = "=payload.userId"
properties.n = "=payload.properties.n"
"""


@pytest.mark.parametrize("taken", [source("segment", "wk-1"), ANY], ids=["segment", "http"])
async def test_pending_events_of_a_user_go_out_together(tmp_path: Path, taken: str) -> None:
    """What waits for one user is sent in one request, in order, from whichever source."""
    api = """
[destinations.api]
vendor = "http"
url = "{url}/http"
batch_size = 10
[[destinations.api.requests]]
path = "/batch"
batch_path = "events"
body = {{ user = "=event.user_id", events = [{{ n = "=event.properties.n" }}] }}
"""

    def config(sandbox: str) -> str:
        text = base_config(tmp_path) + taken + api.format(url=sandbox)
        return text + destination("chrts", sandbox) + '[[routes]]\nto = ["api", "chrts"]\n'

    async with running(tmp_path, config) as run:
        team = run.gateway.teams["api"]
        team.pause()
        headers = {"authorization": as_basic("wk-1")}
        for number in range(6):
            call = {"userId": f"u{number % 2}", "event": "Seen", "properties": {"n": number}}
            async with run.client.post(f"{run.url}/v1/track", json=call, headers=headers) as answer:
                assert answer.status == 200
        await settled(run, 6)
        team.pause(paused=False)
        await settled(run, 12)
        found = await run.journal("http")
    sent: dict[str, list[int]] = {}
    for one in found:
        sent.setdefault(one["body"]["user"], []).extend(each["n"] for each in one["body"]["events"])
    assert sent == {"u0": [0, 2, 4], "u1": [1, 3, 5]}
    assert len(found) < 6


PARTS = """
[destinations.api]
vendor = "http"
url = "{url}"
auth = {{ bearer = "a-fixed-token" }}
batch_size = 10
refused_items = "=body.invalid_indices"
reason = "=body.why"
[[destinations.api.requests]]
path = "/bulk"
batch_path = "requests"
body = {{ requests = ["=event.properties.n"] }}
"""


def _beyond(output: HttpOutput, request: Request, response: Response) -> dict[int, str]:
    del output, request, response
    return {0: "the first", 6: "none"}


@pytest.mark.parametrize(
    ("answer", "plugin", "refused", "why"),
    [
        (lambda n: n, None, {1, 3, 5}, "HTTP 200: odd, *** (item "),
        (lambda n: n + 9, None, {0, 1, 2, 3, 4, 5}, "HTTP 200: odd, ***: cannot tell which items"),
        (lambda n: n, _beyond, {0, 1, 2, 3, 4, 5}, "HTTP 200, but the plugin failed to judge it"),
    ],
    ids=["positions", "malformed", "a bug"],
)
async def test_a_vendor_takes_some_events_of_a_request_and_refuses_others(  # noqa: PLR0917 - a table of cases
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[int], int],
    plugin: Callable[[HttpOutput, Request, Response], dict[int, str]] | None,
    refused: set[int],
    why: str,
) -> None:
    """Refused items become dead letters with the reason; nothing is sent again."""
    got: list[list[int]] = []
    if plugin is not None:
        monkeypatch.setattr(HttpOutput, "refused_events", plugin)

    async def bulk(http: web.Request) -> web.Response:
        numbers = (await http.json())["requests"]
        got.append(numbers)
        bad = [answer(at) for at, number in enumerate(numbers) if number % 2]
        said = {"status": "success", "invalid_indices": bad, "why": "odd, a-fixed-token"}
        return web.json_response(said)

    vendor = web.Application()
    vendor.router.add_post("/bulk", bulk)
    async with serving(vendor) as url:

        def config(_: str) -> str:
            return base_config(tmp_path) + ANY + PARTS.format(url=url) + ROUTE

        async with running(tmp_path, config) as run:
            team = run.gateway.teams["api"]
            team.pause()
            for number in range(6):
                call = {"userId": "u", "event": "Seen", "properties": {"n": number}}
                async with run.client.post(f"{run.url}/v1/track", json=call) as response:
                    assert response.status == 200
            team.pause(paused=False)
            await settled(run, 6)
            await team.workers[0].tracker.flush()
            letters = await run.gateway.spool.dead_letters()
            depth = (await run.gateway.spool.depths())["api"]
    assert got == [[0, 1, 2, 3, 4, 5]]
    ends = {event.properties.extra["n"]: verdict for event, _, verdict in run.watch.settled}
    assert {n for n, verdict in ends.items() if isinstance(verdict, Refused)} == refused
    assert {n for n, verdict in ends.items() if verdict == Delivered()} == set(range(6)) - refused
    assert depth.retrying == depth.parked == 0
    bodies = [orjson.loads(orjson.loads(letter.rendered)["body"]) for letter in letters]
    assert sorted(body["requests"] for body in bodies) == [[n] for n in sorted(refused)]
    assert all(letter.reason.startswith(why) for letter in letters)
    assert all("invalid_indices" in letter.attempts[-1].response_excerpt for letter in letters)


@pytest.mark.parametrize("judged", ['refused = "has(body.said)"', 'refused_items = "=body.bad"'])
async def test_a_reason_that_is_cut_quotes_no_part_of_a_key(tmp_path: Path, judged: str) -> None:
    """A credential that a 2xx repeats is hidden, also where the quoted text ends within it."""

    async def echo(http: web.Request) -> web.Response:
        said = f"{'p' * 160}{http.headers['authorization']}"
        return web.json_response({"bad": [0], "said": said})

    vendor = web.Application()
    vendor.router.add_post("/bulk", echo)
    async with serving(vendor) as url:

        def config(_: str) -> str:
            parts = PARTS.format(url=url).replace('refused_items = "=body.invalid_indices"', judged)
            parts = parts.replace('reason = "=body.why"', "").replace(
                "a-fixed-token", "a-fixed-token-that-is-long-enough-to-be-cut"
            )
            return base_config(tmp_path) + ANY + parts + ROUTE

        async with running(tmp_path, config) as run:
            call = {"userId": "u", "event": "Seen", "properties": {"n": 1}}
            async with run.client.post(f"{run.url}/v1/track", json=call) as response:
                assert response.status == 200
            await settled(run, 1)
            await run.gateway.teams["api"].workers[0].tracker.flush()
            (letter,) = await run.gateway.spool.dead_letters()
    assert "ppp" in letter.reason
    assert "a-fix" not in letter.reason
    assert all("a-fix" not in attempt.response_excerpt for attempt in letter.attempts)
