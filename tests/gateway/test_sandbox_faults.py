"""Planned faults over real sockets."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, AppRunner, Request, TCPSite

from gateway.http import Request as Received
from gateway.sandbox import Sandbox, SandboxResponse, json_response, make_app
from plugins.chrts.sandbox import ChrtsSandbox
from plugins.quartic.sandbox import QuarticSandbox

EARLY = 0.002
"""Seconds by which a uvloop timer may fire early, since it counts milliseconds."""

Client = TestClient[Request, Application]

FAULTS = "/_sandbox/faults"


@pytest.fixture
async def client(aiohttp_client: Callable[[Application], Awaitable[Client]]) -> Client:
    """Return a client of a sandbox with two vendors."""
    return await aiohttp_client(make_app([ChrtsSandbox(), QuarticSandbox()], {}))


async def plan(client: Client, **fault: Any) -> list[dict[str, Any]]:
    """Plan a fault, for chrts if it names no vendor, and return the plan."""
    async with client.post(FAULTS, json={"vendor": "chrts", **fault}) as answer:
        assert answer.status == 200, await answer.text()
        planned: list[dict[str, Any]] = await answer.json()
        return planned


async def track(client: Client, name: str = "n") -> aiohttp.ClientResponse:
    """Send one good event to chrts."""
    headers = {"authorization": "Bearer k"}
    async with client.post(
        "/chrts/event/track", json={"uid": "u", "name": name}, headers=headers
    ) as answer:
        await answer.read()
        return answer


async def journal(client: Client) -> list[dict[str, Any]]:
    """Return the journal's entries."""
    async with client.get("/_sandbox/requests") as answer:
        entries: list[dict[str, Any]] = await answer.json()
        return entries


async def test_a_status_is_answered_so_many_times_in_the_vendors_shape(client: Client) -> None:
    """``count`` requests fail in the vendor's format, recorded as refused; the next succeeds."""
    await plan(client, status=503, count=2, retry_after=7)
    first, second, third = [await track(client) for _ in range(3)]
    assert [first.status, second.status, third.status] == [503, 503, 200]
    assert first.headers["retry-after"] == "7"
    assert await first.json() == {"status": False, "code": 503, "message": "Service Unavailable"}
    assert "retry-after" not in third.headers
    entries = await journal(client)
    assert [entry["verdict"] for entry in entries] == ["refused", "refused", "accepted"]
    assert entries[0]["reason"] == "a planned fault responded 503"


async def test_a_status_unknown_to_the_standard_is_answered_too(client: Client) -> None:
    """A status without a standard phrase, such as Cloudflare's 520, can be planned."""
    await plan(client, status=520, count=1)
    assert (await track(client)).status == 520


class Plain(Sandbox):
    """A vendor without an error format."""

    name = "plain"
    docs = "https://example.com/docs"

    def respond(self, request: Received, key: str | None) -> SandboxResponse:
        """Accept every request."""
        del request, key
        return SandboxResponse(json_response(200, {}))


async def test_a_vendor_without_an_error_shape_fails_in_plain_text(
    aiohttp_client: Callable[[Application], Awaitable[Client]],
) -> None:
    """A planned status has a plain text body if the vendor documents no error format."""
    client = await aiohttp_client(make_app([Plain()], {}))
    await plan(client, vendor="plain", status=503, count=1)
    async with client.get("/plain/anything") as answer:
        assert (answer.status, await answer.text()) == (503, "Service Unavailable")
        assert answer.content_type == "text/plain"


async def test_a_fault_affects_its_own_vendor_only(client: Client) -> None:
    """A fault of one vendor does not affect other vendors."""
    await plan(client, vendor="quartic", status=500, count=1)
    assert (await track(client)).status == 200
    async with client.get("/quartic/store/recommendation?customer=c&cookie=a") as answer:
        assert answer.status == 500
        assert (await answer.json())["data"]["error_code"] == "http.status.500"


async def test_a_date_is_sent_as_retry_after(client: Client) -> None:
    """``retry_after`` may be a date (RFC 9110, section 10.2.3)."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    await plan(client, status=429, count=1, retry_after=date)
    assert (await track(client)).headers["retry-after"] == date


async def test_a_reset_drops_the_connection_without_an_answer(client: Client) -> None:
    """A reset closes the connection, and is recorded as a refusal without a response."""
    await plan(client, reset=True, count=1)
    with pytest.raises(aiohttp.ClientOSError):
        await track(client)
    assert (await track(client)).status == 200
    lost, fine = await journal(client)
    assert (lost["verdict"], lost["answer"]) == ("refused", None)
    assert lost["reason"] == "a planned fault dropped the connection"
    assert fine["verdict"] == "accepted"


async def test_a_delay_alone_answers_as_usual_but_later(client: Client) -> None:
    """A delayed request gets its normal response; the journal keeps the order of arrival."""
    await plan(client, delay=0.3, count=1)
    start = time.monotonic()
    late = asyncio.create_task(track(client, "late"))
    async with asyncio.timeout(5):
        while await listed(client):
            pass
    assert (await track(client, "quick")).status == 200
    assert (await late).status == 200
    assert time.monotonic() - start >= 0.3 - EARLY
    entries = await journal(client)
    assert [entry["body"]["name"] for entry in entries] == ["late", "quick"]
    assert [entry["index"] for entry in entries] == [2, 1]
    assert [entry["verdict"] for entry in entries] == ["accepted", "accepted"]


async def test_a_delay_with_a_status_answers_the_status_later(client: Client) -> None:
    """A fault may combine a delay and a status."""
    await plan(client, delay=0.1, status=500, count=1)
    start = time.monotonic()
    assert (await track(client)).status == 500
    assert time.monotonic() - start >= 0.1 - EARLY


@pytest.mark.parametrize("cancels", [True, False], ids=["cancelling", "patient"])
async def test_a_request_whose_client_left_is_refused(*, cancels: bool) -> None:
    """A request whose client left during a delay is recorded as refused.

    The rule holds whether or not the server cancels requests of clients that left.
    """
    runner = AppRunner(make_app([ChrtsSandbox()], {}), handler_cancellation=cancels)
    await runner.setup()
    await TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with asyncio.timeout(10), aiohttp.ClientSession(f"http://{host}:{port}") as session:
        async with session.post(
            FAULTS, json={"vendor": "chrts", "delay": 0.4, "count": 1}
        ) as planned:
            assert planned.status == 200
        with pytest.raises(TimeoutError):
            await session.post("/chrts/event/track", timeout=aiohttp.ClientTimeout(0.1))
        async with session.get("/_sandbox/events?after=0") as following:
            await following.content.readuntil(b"data: ")
            entry = orjson.loads(await following.content.readline())
    await runner.cleanup()
    assert (entry["verdict"], entry["answer"]) == ("refused", None)
    assert entry["reason"] == "the sender disconnected during a planned delay"


async def listed(client: Client) -> list[dict[str, Any]]:
    """Return the planned faults."""
    async with client.get(FAULTS) as answer:
        planned: list[dict[str, Any]] = await answer.json()
        return planned


async def test_a_new_plan_replaces_the_vendors_old_one(client: Client) -> None:
    """A vendor has one fault at most, and ``count`` 0 removes it."""
    await plan(client, status=500, count=5)
    await plan(client, vendor="quartic", status=502, count=1)
    planned = await plan(client, status=429, count=1)
    assert planned == [
        {"vendor": "quartic", "count": 1, "status": 502},
        {"vendor": "chrts", "count": 1, "status": 429},
    ]
    assert await plan(client, count=0) == [{"vendor": "quartic", "count": 1, "status": 502}]
    assert (await track(client)).status == 200


async def test_all_faults_are_cleared_at_once(client: Client) -> None:
    """``DELETE`` removes all faults."""
    await plan(client, status=500, count=5)
    async with client.delete(FAULTS) as answer:
        assert answer.status == 204
    assert await listed(client) == []
    assert (await track(client)).status == 200


async def test_a_listed_faults_count_decreases(client: Client) -> None:
    """The listed ``count`` decreases with each request that gets the fault."""
    await plan(client, status=500, count=3)
    await track(client)
    assert await listed(client) == [{"vendor": "chrts", "count": 2, "status": 500}]


BAD = [
    (b"{", "the fault is not JSON"),
    (b"[]", "expected a JSON object"),
    (b'{"count": 1, "status": 500}', "vendor: is missing"),
    (b'{"vendor": "chrts", "status": 500}', "count: is missing"),
    (b'{"vendor": "chrts", "count": -1, "status": 500}', "count: expected a whole number"),
    (b'{"vendor": "chrts", "count": true, "status": 500}', "count: expected a whole number"),
    (b'{"vendor": "chrts", "count": 1, "status": 200}', "status: expected an HTTP status"),
    (b'{"vendor": "chrts", "count": 1, "status": "500"}', "status: expected an HTTP status"),
    (b'{"vendor": "chrts", "count": 1, "delay": -1}', "delay: expected a number of seconds"),
    (b'{"vendor": "chrts", "count": 1, "delay": "1s"}', "delay: expected a number of seconds"),
    (b'{"vendor": "chrts", "count": 1, "reset": 1}', "reset: expected true or false"),
    (b'{"vendor": 7, "count": 1, "status": 500}', "vendor: expected the name of a vendor"),
    (b'{"vendor": "chrts", "count": 1, "statsu": 500}', "statsu: unknown key"),
    (b'{"vendor": "chrts", "count": 1}', "status, delay, reset: expected at least one"),
    (
        b'{"vendor": "chrts", "count": 1, "status": 500, "reset": true}',
        "reset, status: expected only",
    ),
    (b'{"vendor": "chrts", "count": 1, "delay": 1, "retry_after": 1}', "retry_after: needs"),
    (
        b'{"vendor": "chrts", "count": 1, "status": 503, "retry_after": "a\\r\\nb: c"}',
        "retry_after: expected whole seconds",
    ),
]


@pytest.mark.parametrize(("body", "said"), BAD, ids=[said for _, said in BAD])
async def test_an_invalid_fault_names_the_wrong_key(client: Client, body: bytes, said: str) -> None:
    """An invalid fault gets 400 with the wrong key, and plans nothing."""
    async with client.post(FAULTS, data=body) as answer:
        assert answer.status == 400
        assert said in await answer.text()
    assert await listed(client) == []


async def test_a_fault_for_an_unknown_vendor_lists_the_vendors(client: Client) -> None:
    """A fault for an unknown vendor gets 404 with the list of vendors."""
    async with client.post(FAULTS, json={"vendor": "quartz", "count": 1, "reset": True}) as answer:
        assert answer.status == 404
        assert "no vendor 'quartz'; use chrts or quartic" in await answer.text()
