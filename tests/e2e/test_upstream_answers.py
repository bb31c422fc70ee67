"""The vendor's own reply to events is handed back, or the gateway's when it is late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.verdict import Delivered, Refused
from tests.e2e.configs import SETTINGS, base_config, destination
from tests.e2e.raw_http import Got, Vendor, body_of, vendor
from tests.e2e.running import PATIENCE, Running, running

TRACK: dict[str, Any] = {
    "source": {"id": "s-1"}, "session": {"id": "session"},
    "events": [{"type": "page-view"}, {"type": "sign-in"}],
}  # fmt: skip
PUSH = {
    "shop_id": "key-1", "did": "d", "seance": "s", "stream": "web", "event": "view",
    "items": [{"id": "1"}],
}  # fmt: skip
POPUP = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\nset-cookie: a=1\r\n"
    b"set-cookie: b=2\r\nx-hop: 1\r\nconnection: x-hop\r\nx-process-time: 0.5\r\n"
    b'content-length: 36\r\n\r\n{"status":"success","popup":{"a":1}}'
)


@asynccontextmanager
async def responding(
    folder: Path, of: str = "personaclick", more: str = "", to: str = "", route: str = ""
) -> AsyncIterator[tuple[Running, Vendor]]:
    """Run a vendor, and a gateway that hands its replies back."""
    async with vendor() as upstream:

        def config(sandbox: str) -> str:
            return (
                base_config(folder)
                + f'[sources.shop]\nvendor = "{of}"\nkeys = "any"\nrespond = "upstream"\n{more}\n'
                f'[destinations.own]\nvendor = "{of}"\nurl = "{upstream.url}"\n{SETTINGS[of]}\n'
                f'retry_min = "10ms"\nretry_max = "50ms"\n{to}\n{destination("chrts", sandbox)}'
                f'[[routes]]\nto = ["own", "chrts"]\n{route}\n'
            )

        async with running(folder, config) as run:
            yield run, upstream


def own(run: Running) -> list[Any]:
    """Return the verdicts of the vendor's own destination."""
    return [verdict for _, to, verdict in run.watch.settled if to == "own"]


async def test_the_vendors_answer_is_handed_back(tmp_path: Path) -> None:
    """Status, headers and body are the vendor's, and the event is delivered once."""
    async with responding(tmp_path) as (run, upstream):
        upstream.answer = POPUP
        async with run.client.post(f"{run.url}/push", json=PUSH) as answer:
            assert (answer.status, await answer.json()) == (
                200, {"status": "success", "popup": {"a": 1}},
            )  # fmt: skip
            assert answer.headers["content-type"] == "application/json; charset=utf-8"
            assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]
            assert "x-hop" not in answer.headers
            assert "x-gateway-request-id" in answer.headers
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert [type(verdict) for verdict in own(run)] == [Delivered]
        assert len(upstream.got) == 1
        assert b'"shop_id": "0d42fd8b713d0752776ca589cc0056"' in upstream.got[0].body


async def test_a_secret_header_is_masked_in_the_answer(tmp_path: Path) -> None:
    """A vendor that repeats the secret headers of a request does not tell them to the client."""
    (tmp_path / "edge").write_text("Bearer canary-edge")
    to = f'headers = {{ x-edge = "file:{tmp_path}/edge", x-tenant = "shop-1" }}'
    async with responding(tmp_path, to=to) as (run, upstream):
        said = b'{"got":["Bearer canary-edge","canary-edge","shop-1"]}'
        upstream.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)
        async with run.client.post(f"{run.url}/push", json=PUSH) as answer:
            text = await answer.text()
        assert "canary" not in text
        assert "shop-1" in text
        assert upstream.got[0].header("x-edge") == "Bearer canary-edge"
        assert upstream.got[0].header("x-tenant") == "shop-1"


async def test_a_request_of_several_events_is_one_answer(tmp_path: Path) -> None:
    """A payload with several events goes to the vendor whole, and its one reply comes back."""
    async with responding(tmp_path, "tracardi") as (run, upstream):
        upstream.answer = (
            b"HTTP/1.1 200 OK\r\nx-process-time: 0.5\r\ncontent-type: application/json\r\n"
            b'content-length: 25\r\n\r\n{"profile":{"id":"mine"}}'
        )
        async with run.client.post(f"{run.url}/track", json=TRACK) as answer:
            assert await answer.json() == {"profile": {"id": "mine"}}
            assert answer.headers.getall("x-process-time") == ["0.5"]
        await run.watch.until(lambda w: len(w.settled) == 4)
        assert len(upstream.got) == 1


async def test_a_refusal_is_the_vendors_own(tmp_path: Path) -> None:
    """An event that the vendor rejects gets the vendor's response, and becomes a dead letter."""
    async with responding(tmp_path) as (run, upstream):
        upstream.answer = b"HTTP/1.1 422 No\r\ncontent-length: 9\r\n\r\nnot today"
        async with run.client.post(f"{run.url}/push", json=PUSH) as answer:
            assert (answer.status, await answer.text()) == (422, "not today")
        await run.watch.until(lambda w: len(w.settled) == 2)
        (verdict,) = own(run)
        assert isinstance(verdict, Refused)


@pytest.mark.parametrize("status", [500, 503, 429, 401])
async def test_a_failure_gets_the_gateways_reply(tmp_path: Path, status: int) -> None:
    """When the vendor fails, the gateway replies with success, and the spool retries."""
    async with responding(tmp_path) as (run, upstream):
        upstream.answer = b"HTTP/1.1 %d Oh\r\ncontent-length: 0\r\n\r\n" % status
        async with run.client.post(f"{run.url}/push", json=PUSH) as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "success"})
        upstream.answer = POPUP
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert [type(verdict) for verdict in own(run)] == [Delivered]


async def test_a_slow_vendor_gets_the_event_once(tmp_path: Path) -> None:
    """Past the reply timeout the gateway replies; the running attempt is not repeated."""
    release = asyncio.Event()

    async def slow(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.body = await body_of(got, reader)
        await release.wait()
        writer.write(POPUP)

    async with responding(tmp_path, more='respond_timeout = "100ms"') as (run, upstream):
        upstream.script = slow
        began = asyncio.get_running_loop().time()
        async with run.client.post(f"{run.url}/push", json=PUSH) as answer:
            assert await answer.json() == {"status": "success"}
        assert 0.1 <= asyncio.get_running_loop().time() - began < 5
        release.set()
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert len(upstream.got) == 1


async def test_an_open_circuit_is_not_waited_for(tmp_path: Path) -> None:
    """While the circuit is open, or an event of the user waits, the gateway replies at once."""
    release = asyncio.Event()

    async def silent(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.body = await body_of(got, reader)
        await release.wait()
        writer.write(POPUP)

    slow = 'respond_timeout = "15s"'
    async with responding(tmp_path, more=slow) as (run, upstream):
        upstream.answer = b"HTTP/1.1 401 Key\r\ncontent-length: 0\r\n\r\n"
        worker = run.gateway.teams["own"].workers[0]
        began = asyncio.get_running_loop().time()
        for user in ("a", "a", "b", "c", "d", "d"):
            async with run.client.post(f"{run.url}/push", json=PUSH | {"did": user}) as answer:
                assert answer.status == 200
        assert worker.breaker.opened
        upstream.script = silent
        for user in ("e", "f"):
            async with run.client.post(f"{run.url}/push", json=PUSH | {"did": user}) as answer:
                assert await answer.json() == {"status": "success"}
        assert asyncio.get_running_loop().time() - began < 5
        upstream.script, upstream.answer = None, POPUP
        release.set()
        await run.watch.until(lambda _: len(own(run)) == 8)


async def test_a_paused_destination_is_not_waited_for(tmp_path: Path) -> None:
    """While an operator has paused the destination, the gateway replies at once."""
    async with responding(tmp_path, more='respond_timeout = "50s"') as (run, upstream):
        run.gateway.teams["own"].pause()
        async with (
            asyncio.timeout(PATIENCE / 4),
            run.client.post(f"{run.url}/push", json=PUSH) as answer,
        ):
            assert await answer.json() == {"status": "success"}
        assert not upstream.got


async def test_a_part_of_a_request_gets_the_gateways_reply(tmp_path: Path) -> None:
    """When only some of a request's events go to the vendor, the gateway replies."""
    route = 'types = ["page"]'
    async with responding(tmp_path, "tracardi", route=route) as (run, upstream):
        async with run.client.post(f"{run.url}/track", json=TRACK) as answer:
            assert (await answer.json())["profile"]["id"]
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert b"page-view" in upstream.got[0].body


async def test_a_large_reply_is_replaced_by_the_gateways(tmp_path: Path) -> None:
    """A reply of more than a megabyte counts as delivered, and the gateway replies itself."""
    async with responding(tmp_path) as (run, upstream):
        size = 2_000_000
        upstream.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size)
        async with run.client.post(f"{run.url}/push", json=PUSH) as answer:
            assert await answer.json() == {"status": "success"}
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert [type(verdict) for verdict in own(run)] == [Delivered]


async def test_a_duplicate_is_answered_at_once(tmp_path: Path) -> None:
    """A duplicate is not delivered, so the gateway replies at once."""
    more = 'dedup = "10m"\nrespond_timeout = "15s"'
    async with responding(tmp_path, "tracardi", more) as (run, upstream):
        upstream.answer = POPUP
        event = {**TRACK, "events": [{"type": "page-view", "id": "m-1"}]}
        for wanted in ("popup", "task"):
            async with (
                asyncio.timeout(5),
                run.client.post(f"{run.url}/track", json=event) as answer,
            ):
                assert wanted in await answer.json()
        assert len(upstream.got) == 1
