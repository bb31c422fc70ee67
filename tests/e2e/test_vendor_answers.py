"""What vendors' unusual responses lead to: deliveries, pauses and dead letters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.verdict import Delivered, Refused
from tests.e2e.configs import base_config, source
from tests.e2e.raw_http import OK, Got, Vendor, body_of, vendor
from tests.e2e.running import PATIENCE, Running, running

ORDER = {
    "userId": "buyer", "event": "Order Completed", "writeKey": "WK",
    "properties": {"order_id": "o-77", "total": 10, "products": [{"product_id": "1", "price": 10}]},
}  # fmt: skip
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
UNREADABLE = {
    "a large header": HEAD + b"x-policy: %b\r\ncontent-length: 2\r\n\r\n{}" % (b"x" * 100_000),
    "brotli": HEAD + b"content-encoding: br\r\ncontent-length: 5\r\n\r\n\x0b\x02\x80{}",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a bad header": HEAD + b"x bad : 1\r\ncontent-length: 2\r\n\r\n{}",
    "a bad chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}",
    "a body that stops": HEAD + b"content-length: 400\r\n\r\n{",
}


@asynccontextmanager
async def selling(
    folder: Path, to: str = "personaclick", more: str = ""
) -> AsyncIterator[tuple[Running, Vendor]]:
    """Run a vendor, and a gateway that sends it the events of Segment's clients."""
    own = {"personaclick": 'shop_id = "k"', "chrts": 'api_key = "chrts-secret-key"'}[to]
    async with vendor() as upstream:

        def config(_: str) -> str:
            return (
                base_config(folder)
                + source("segment", "WK", name="s")
                + f'[destinations.to]\nvendor = "{to}"\nurl = "{upstream.url}"\n{own}\n'
                f'timeout = "500ms"\nretry_min = "10ms"\nretry_max = "50ms"\n{more}\n'
                '[[routes]]\nto = ["to"]\n'
            )

        async with running(folder, config) as run:
            yield run, upstream


async def bought(run: Running) -> None:
    """Send an order."""
    async with run.client.post(f"{run.url}/v1/track", json=ORDER) as answer:
        assert answer.status == 200


def reaching(upstream: Vendor, times: int) -> asyncio.Event:
    """Return an event that is set when the vendor has got *times* requests."""
    reached = asyncio.Event()

    async def script(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.body = await body_of(got, reader)
        writer.write(upstream.answer)
        if len(upstream.got) >= times:
            reached.set()

    upstream.script = script
    return reached


async def dead_letter_reason(run: Running) -> str:
    """Wait for the one dead letter; return its reason."""
    spool = run.gateway.spool
    async with asyncio.timeout(PATIENCE):
        while not (letters := await spool.dead_letters()):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.01)
    (letter,) = letters
    return letter.reason


@pytest.mark.parametrize("said", UNREADABLE.values(), ids=UNREADABLE)
async def test_one_purchase_is_sent_once(tmp_path: Path, said: bytes) -> None:
    """A response with status 200 and an unreadable rest counts as delivered, once."""
    async with selling(tmp_path) as (run, upstream):
        upstream.answer = said
        await bought(run)
        await run.watch.until(lambda w: len(w.settled) == 1)
        await bought(run)
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert [type(verdict) for _, _, verdict in run.watch.settled] == [Delivered, Delivered]
        assert len(upstream.got) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_keeps_the_backlog(tmp_path: Path, status: int) -> None:
    """After a redirect events wait for a changed URL, and the key is sent to no other host."""
    async with vendor() as elsewhere, selling(tmp_path, "chrts") as (run, upstream):
        upstream.answer = b"HTTP/1.1 %d Moved\r\nlocation: %b/?k=1\r\ncontent-length: 0\r\n\r\n" % (
            status, elsewhere.url.encode(),
        )  # fmt: skip
        thrice = reaching(upstream, 3)
        await bought(run)
        async with asyncio.timeout(PATIENCE):
            await thrice.wait()
        assert run.watch.settled == []
        assert await run.gateway.spool.dead_letters() == []
        upstream.answer = OK
        await run.watch.until(lambda w: bool(w.settled))
        assert [type(verdict) for _, _, verdict in run.watch.settled] == [Delivered]
        assert elsewhere.got == []


async def test_an_address_in_latin1_is_shown(tmp_path: Path) -> None:
    """A redirect to an address with invalid bytes is read, stored and shown."""
    async with selling(tmp_path, more="max_attempts = 2") as (run, upstream):
        upstream.answer = (
            b"HTTP/1.1 302 Found\r\nlocation: http://a.example/\xe9\x01\r\n"
            b"content-length: 0\r\n\r\n"
        )
        await bought(run)
        assert "redirected to http://a.example/é ;" in await dead_letter_reason(run)


async def test_a_long_retry_after_is_limited(tmp_path: Path) -> None:
    """A vendor's Retry-After is limited to `retry_after_max`, and the reason has both."""
    bounded = 'retry_after_max = "200ms"\nmax_attempts = 2'
    async with selling(tmp_path, more=bounded) as (run, upstream):
        upstream.answer = (
            b"HTTP/1.1 429 Slow\r\nretry-after: 31536000\r\ncontent-length: 4\r\n\r\nslow"
        )
        await bought(run)
        assert (await dead_letter_reason(run)).endswith(
            "HTTP 429: slow (requested wait 31536000 s, limited to 0.2 s by retry_after_max)"
        )
        assert len(upstream.got) == 2


async def test_a_failure_in_a_success_is_a_dead_letter(tmp_path: Path) -> None:
    """A 200 with a failure in its body makes a dead letter with the body, after one attempt."""
    async with selling(tmp_path, "chrts") as (run, upstream):
        body = b'{"status": false, "code": 400, "message": "quota exceeded"}'
        upstream.answer = HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)
        await bought(run)
        await run.watch.until(lambda w: bool(w.settled))
        ((_, _, verdict),) = run.watch.settled
        assert verdict == Refused(f"HTTP 200, but status 400 in the body: {body.decode()}")
        assert len(upstream.got) == 1
