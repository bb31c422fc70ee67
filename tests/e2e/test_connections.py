"""Clients' connections: slow ones time out, the largest are closed at a limit, others continue."""

import asyncio
import gzip
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from gateway.config.loader.load import load
from gateway.event import Event
from gateway.http import Request
from gateway.ingest.connections import REQUEST
from plugins.segment.input import SegmentInput
from tests.e2e.configs import base_config, destination
from tests.e2e.raw_http import OK, Got, Vendor, vendor
from tests.e2e.running import PATIENCE, Running, running

TRACK = orjson.dumps({"userId": "u", "event": "Seen", "writeKey": "WK"})
KEPT = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def limited(folder: Path, server: str = "", source: str = "") -> Callable[[str], str]:
    """Return a function that makes a configuration with these limits: Segment in, chrts out."""

    def text(sandbox: str) -> str:
        return (
            base_config(folder, server=server)
            + f'[sources.site]\nvendor = "segment"\nkeys = ["WK"]\n{source}\n'
            f'{destination("chrts", sandbox)}[[routes]]\nto = ["chrts"]\n'
        )

    return text


def head(*lines: str, line: str = "POST /v1/track HTTP/1.1", length: int = len(TRACK)) -> bytes:
    """Return the head of a request whose body has *length* bytes."""
    return "\r\n".join([line, "host: h", f"content-length: {length}", *lines, "", ""]).encode()


async def connected(url: str, sent: bytes = b"", source: str = "127.0.0.1") -> KEPT:
    """Open a connection from the address *source*, and send *sent*."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, local_addr=(source, 0)
    )
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def answered(kept: KEPT) -> bytes:
    """Return everything received until the connection closes."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await kept[0].read()
        finally:
            kept[1].close()


async def ask(url: str, source: str = "127.0.0.1") -> bytes:
    """Send one whole event over its own connection; return the response."""
    return await answered(await connected(url, head("connection: close") + TRACK, source))


async def until(enough: Callable[[], bool]) -> None:
    """Wait until *enough* returns true; it reads counters that signal no change."""
    async with asyncio.timeout(PATIENCE):
        while not enough():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def closed(run: Running, why: str) -> int:
    """Return the number of connections that were closed for the reason *why*."""
    return run.gateway.observer.counts.closed[why]


@asynccontextmanager
async def many(
    url: str, count: int, sent: bytes, source: str = "127.0.0.1"
) -> AsyncIterator[list[KEPT]]:
    """Open *count* connections that send *sent* and then nothing; close them at the end."""
    kept = [await connected(url, sent, source) for _ in range(count)]
    try:
        yield kept
    finally:
        for _, writer in kept:
            writer.close()


@pytest.mark.parametrize(
    ("sent", "why", "status"),
    [
        (b"POST /v1/track HTTP/1.1\r\nhost: h\r\nx-slow: ", "header_timeout", b"408"),
        (head() + TRACK[:-1], "body_timeout", b"429"),
        (head("expect: 100-continue"), "body_timeout", b"100"),
    ],
    ids=["head", "body", "invited"],
)
async def test_a_stalled_request_times_out(
    tmp_path: Path, sent: bytes, why: str, status: bytes
) -> None:
    """A head or body that stalls gets a time-out, a body in the vendor's own words."""
    limits = 'header_timeout = "300ms"\nbody_timeout = "300ms"'
    async with running(tmp_path, limited(tmp_path, limits)) as run:
        answer = await answered(await connected(run.url, sent))
        assert answer.startswith(b"HTTP/1.1 " + status)
        if why == "body_timeout":
            assert b"too_many_requests" in answer
            assert b"retry-after" in answer.lower()
        assert closed(run, why) == 1
        assert b" 200 OK" in await ask(run.url)


async def test_a_trickled_body_times_out(tmp_path: Path) -> None:
    """A body that arrives byte by byte times out too: a byte does not restart the timer."""
    async with running(tmp_path, limited(tmp_path, 'body_timeout = "500ms"')) as run:
        kept = await connected(run.url, head(length=100_000))
        answer = asyncio.get_running_loop().create_task(kept[0].readuntil(b"\r\n\r\n"))
        while not answer.done():
            kept[1].write(b" ")
            await asyncio.sleep(0.05)
        assert (await answer).startswith(b"HTTP/1.1 429")
        kept[1].close()


async def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    """A connection without a request is closed after `idle_timeout`."""
    async with running(tmp_path, limited(tmp_path, 'idle_timeout = "300ms"')) as run:
        answer = await answered(await connected(run.url, head() + TRACK))
        assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_client_that_does_not_read_is_closed(tmp_path: Path) -> None:
    """A client that pipelines requests and reads no response loses its connection."""
    limits = 'body_timeout = "400ms"\nmetrics = true'
    async with running(tmp_path, limited(tmp_path, limits)) as run:
        parts = urlsplit(run.url)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)  # noqa: FBT003 - the socket's own signature
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (parts.hostname, parts.port))
            more = b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n" * 100

            async def flood() -> None:
                while True:
                    await loop.sock_sendall(client, more)

            with pytest.raises(ConnectionError):
                async with asyncio.timeout(PATIENCE):
                    await flood()
        assert closed(run, "write_timeout") == 1


async def test_stalled_connections_make_room(tmp_path: Path) -> None:
    """At `max_connections` the connections idle for longest are closed; new ones are served."""
    async with (
        running(tmp_path, limited(tmp_path, "max_connections = 20")) as run,
        many(run.url, 20, b"POST /v1/tr"),
        many(run.url, 20, head() + TRACK[:3]),
    ):
        for source in ("127.0.0.1", "127.0.0.2"):
            assert b" 200 OK" in await ask(run.url, source)
        assert closed(run, "limit") + closed(run, "client_limit") >= 20
        assert len(run.gateway.guard) <= 22


async def test_a_client_past_its_share_loses_its_own_connections(tmp_path: Path) -> None:
    """Past its share, a client with too many connections loses its own; other clients lose none."""
    limits = "max_connections = 40\nmax_connections_per_client = 10"
    async with (
        running(tmp_path, limited(tmp_path, limits)) as run,
        many(run.url, 5, b"", "127.0.0.2") as quiet,
        many(run.url, 60, b"POST /v1/tr", "127.0.0.3"),
    ):
        await until(lambda: closed(run, "client_limit") >= 50)
        for reader, writer in quiet:
            writer.write(head("connection: close") + TRACK)
            assert b" 200 OK" in await answered((reader, writer))


async def test_a_trusted_proxy_has_no_limit_per_client(tmp_path: Path) -> None:
    """The limit per client does not apply to a trusted proxy."""
    limits = 'max_connections_per_client = 3\ntrusted_proxies = ["127.0.0.0/8"]'
    async with (
        running(tmp_path, limited(tmp_path, limits)) as run,
        many(run.url, 10, b"") as all_of_them,
    ):
        for reader, writer in all_of_them:
            writer.write(head("connection: close") + TRACK)
            assert b" 200 OK" in await answered((reader, writer))


async def test_behind_a_proxy_the_client_with_most_gives_way(tmp_path: Path) -> None:
    """A trusted proxy's connection counts for the client of its last request."""
    limits = 'max_connections = 6\ntrusted_proxies = ["127.0.0.0/8"]'
    async with running(tmp_path, limited(tmp_path, limits)) as run:
        kept = []
        for client in ("203.0.113.1", *["203.0.113.2"] * 5):
            one = await connected(run.url, head(f"x-forwarded-for: {client}") + TRACK)
            assert b"success" in await one[0].readuntil(b"}")
            kept.append(one)
        assert b" 200 OK" in await ask(run.url)
        alone, *many_of_them = kept
        alone[1].write(head("connection: close") + TRACK)
        assert b" 200 OK" in await answered(alone), "it was silent longest, and holds least"
        assert await answered(many_of_them[0]) == b""
        for _, writer in many_of_them[1:]:
            writer.close()


@asynccontextmanager
async def slow_vendor() -> AsyncIterator[tuple[Vendor, asyncio.Semaphore, asyncio.Event]]:
    """Run a vendor that counts requests, and responds to none until the event is set."""
    asked, let = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        await let.wait()
        writer.write(OK)

    async with vendor() as upstream:
        upstream.script = slow
        yield upstream, asked, let


async def test_busy_connections_are_not_closed(tmp_path: Path) -> None:
    """When every connection waits for a response, a new one gets 429 and is closed."""
    async with slow_vendor() as (upstream, asked, let):
        config = limited(tmp_path, "max_connections = 4", f'url = "{upstream.url}"')
        get = b"GET /v1/other HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
        async with running(tmp_path, config) as run:
            held = [await connected(run.url, get, f"127.0.0.{n}") for n in range(2, 6)]
            for _ in held:
                await asked.acquire()
            answer = await ask(run.url)
            assert answer.startswith(b"HTTP/1.1 429")
            assert b"connection: close" in answer.lower()
            let.set()
            for kept in held:
                assert b" 200 OK" in await answered(kept)


async def test_stalled_bodies_hold_no_more_than_the_budget(tmp_path: Path) -> None:
    """Past `max_bodies` stalled bodies get 429, and other requests are served."""
    limits = 'max_body = "100KiB"\nmax_bodies = "500KiB"'
    part = head(length=100 * 1024) + b" " * (90 * 1024)
    async with (
        running(tmp_path, limited(tmp_path, limits)) as run,
        many(run.url, 30, part, "127.0.0.3") as stalled,
    ):
        assert b" 200 OK" in await ask(run.url)
        assert run.gateway.guard.held <= 500 * 1024
        assert closed(run, "memory") >= 20
        answer = await answered(stalled[0])
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"too many large requests" in answer


async def test_finished_requests_free_their_memory(tmp_path: Path) -> None:
    """Responses, refusals, pipelined requests and clients that leave free their memory."""
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, (head() + TRACK) * 40 + head("connection: close") + TRACK)
        assert (await answered(kept)).count(b" 200 OK") == 41
        assert b" 400 " in await answered(
            await connected(run.url, head("connection: close", length=5) + b"no!!}")
        )
        async with many(run.url, 3, head() + TRACK[:-1]):
            await until(lambda: run.gateway.guard.held > 0)
        await until(lambda: len(run.gateway.guard) == 0)
        assert run.gateway.guard.held == 0


async def test_pipelined_heads_count_with_their_memory(tmp_path: Path) -> None:
    """Pipelined heads count with the memory that they take; past the budget they are closed."""
    async with slow_vendor() as (upstream, asked, let):
        config = limited(tmp_path, 'max_bodies = "2MiB"', f'url = "{upstream.url}"')
        first = b"GET /v1/other HTTP/1.1\r\nhost: h\r\n\r\n"
        lines = "\r\n".join(f"x{n}: y" for n in range(200))
        more = f"GET /v1/more HTTP/1.1\r\nhost: h\r\n{lines}\r\n\r\n".encode()
        last = more.replace(b"x0: y", b"connection: close")
        async with running(tmp_path, config) as run:
            sent = first + more * 29 + last
            held = [await connected(run.url, sent, "127.0.0.3") for _ in range(8)]
            for _ in held:
                await asked.acquire()
            assert closed(run, "memory") >= 6
            assert run.gateway.guard.held <= 2 * 1024 * 1024
            assert b" 200 OK" in await ask(run.url)
            let.set()
            answers = [await answered(kept) for kept in held]
            assert sum(answer.count(b"HTTP/1.1 200") == 1 for answer in answers) >= 6
            assert len(run.gateway.guard) <= 2


async def test_small_requests_are_served_past_the_budget(tmp_path: Path) -> None:
    """When large requests in progress use up the budget, small requests are still served."""
    async with vendor() as upstream:
        asked, let = asyncio.Semaphore(0), asyncio.Event()

        async def slow(_: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(60_000)
            asked.release()
            await let.wait()
            writer.write(OK)

        upstream.script = slow
        limits = 'max_bodies = "100KiB"\nmax_body = "100KiB"'
        config = limited(tmp_path, limits, f'url = "{upstream.url}"')
        large = head("connection: close", line="PUT /v1/up HTTP/1.1", length=60_000) + bytes(60_000)
        async with running(tmp_path, config) as run:
            first = await connected(run.url, large, "127.0.0.3")
            await asked.acquire()
            run.gateway.guard.held += 100 * 1024 - 60_000  # as if more were being worked on
            assert b" 200 OK" in await ask(run.url)
            assert b" 429 " in await answered(await connected(run.url, large, "127.0.0.4"))
            run.gateway.guard.held -= 100 * 1024 - 60_000
            let.set()
            assert b" 200 OK" in await answered(first)


async def test_a_compressed_body_counts_inflated(tmp_path: Path) -> None:
    """A compressed body counts with its inflated size."""
    limits = 'max_body = "1MiB"\nmax_bodies = "1MiB"'
    packed = gzip.compress(b" " * 1024 * 1024)
    sent = head("content-encoding: gzip", "connection: close", length=len(packed)) + packed
    async with running(tmp_path, limited(tmp_path, limits)) as run:
        assert (await answered(await connected(run.url, sent))).startswith(b"HTTP/1.1 429")
        assert closed(run, "memory") == 1


async def test_a_request_with_too_many_events_is_refused(tmp_path: Path) -> None:
    """A request with more than `max_events` events is refused as the vendor refuses large ones."""
    async with running(tmp_path, limited(tmp_path, "max_events = 500")) as run:
        one = {"type": "track", "userId": "u", "event": "Seen"}
        for count, status, said in ((500, 200, "true"), (501, 400, "more than 500 events")):
            batch = {"writeKey": "WK", "batch": [one] * count}
            async with run.client.post(f"{run.url}/v1/batch", json=batch) as answer:
                assert answer.status == status
                assert said in await answer.text()
        await run.watch.until(lambda seen: len(seen.settled) == 500)


async def test_a_large_batch_is_parsed_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large batch is parsed in a thread, and a single event in the event loop."""
    read, where = SegmentInput.read, dict[int, bool]()

    def noted(self: SegmentInput, request: Request, payload: Any) -> list[Event]:
        events = read(self, request, payload)
        where.setdefault(len(events), threading.current_thread() is threading.main_thread())
        return events

    monkeypatch.setattr(SegmentInput, "read", noted)
    one = {"type": "track", "userId": "u", "event": "Seen"}
    long = {**one, "properties": {"text": "x" * 2000}}
    async with running(tmp_path, limited(tmp_path)) as run:
        for calls in ([one], [long] * 100):
            batch = {"writeKey": "WK", "batch": calls}
            async with run.client.post(f"{run.url}/v1/batch", json=batch) as answer:
                assert answer.status == 200
        await run.watch.until(lambda seen: len(seen.settled) == 101)
    assert (where[1], where[100]) == (True, False)


@pytest.mark.parametrize("size", [7_000, 9_000, 20_000, 31_000])
async def test_large_heads_are_taken(tmp_path: Path, size: int) -> None:
    """A request with up to 32 KiB of headers is accepted, in one header or in many."""
    async with running(tmp_path, limited(tmp_path)) as run:
        for lines in (
            [f"cookie: {'k' * size}"],
            [f"x-{n}: {'k' * 1000}" for n in range(size // 1100)],
        ):
            sent = head("connection: close", *lines) + TRACK
            assert b" 200 OK" in await answered(await connected(run.url, sent))


@pytest.mark.parametrize(
    "lines",
    [
        ["origin: https://shop.example", f"cookie: id=s3cret; {'k' * 40_000}"],
        [f"cookie: id=s3cret; {'k' * 40_000}", "origin: https://shop.example"],
        ["origin: https://shop.example", f"cookie: id=s3cret; {'k' * 900_000}"],
        ["origin: https://shop.example", *[f"x-{n}: s3cret{'k' * 8000}" for n in range(5)]],
        ["origin: https://shop.example", *[f"x-{n}: s3cret" for n in range(300)]],
    ],
    ids=["one", "origin-last", "huge", "several", "many"],
)
async def test_larger_heads_are_refused_as_the_vendor_would(
    tmp_path: Path, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A larger head gets a 431 in the vendor's format that the page can read; nothing is quoted."""
    async with running(tmp_path, limited(tmp_path)) as run:
        parts = head("connection: close", *lines) + TRACK
        answer = await answered(await connected(run.url, parts))
        top, _, body = answer.partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 431 ")
        assert b"access-control-allow-origin: *" in top.lower()
        said = orjson.loads(body)
        assert (said["success"], said["code"]) == (False, "payload_too_large")
        assert b"s3cret" not in answer
        assert run.gateway.observer.counts.requests["site", "too_large"] == 1
    logged = "".join(capsys.readouterr())
    assert "431" in logged
    assert "s3cret" not in logged


async def test_every_head_of_a_pipeline_is_measured(tmp_path: Path) -> None:
    """The limit of heads also applies to earlier requests of a pipeline."""
    large = head(*[f"x-{n}: {'k' * 1000}" for n in range(60)]) + TRACK
    async with running(tmp_path, limited(tmp_path)) as run:
        sent = large + head() + TRACK + large + head("connection: close") + TRACK
        answer = await answered(await connected(run.url, sent))
        assert [one[:3] for one in answer.split(b"HTTP/1.1 ")[1:]] == [b"431", b"200"] * 2


async def test_the_size_of_a_head_is_that_of_all_its_pieces(tmp_path: Path) -> None:
    """A head that is too large is refused before its last line has come."""
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, head("origin: https://shop.example")[:-2])
        for n in range(50):
            kept[1].write(f"x-{n}: {'k' * 1000}\r\n".encode())
            await asyncio.sleep(0)
        answer = await answered(kept)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"access-control-allow-origin" in answer.lower()


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE s3cret\r\n\r\n",
        b"\x16\x03\x01\x02s3cret\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nx: s3cret\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nhost: h\r\nbad header s3cret\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nhost: h\r\ncontent-length: s3cret\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nhost: h\r\ncookie: s3cret\x00\r\n\r\n",
        b"POST /v1/track HTTP/9.9\r\nhost: s3cret\r\n\r\n",
        b"BREW /s3cret HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET http:s3cret HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /" + b"s3cret" * 9000 + b" HTTP/1.1\r\nhost: h\r\n\r\n",
        b"s3cret" * 9000,
    ],
)
async def test_invalid_http_is_refused_without_a_quote(
    tmp_path: Path, sent: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes that are not HTTP get a plain 4xx, are counted and logged, and never repeated."""
    async with running(tmp_path, limited(tmp_path)) as run:
        answer = await answered(await connected(run.url, sent))
        assert answer[9:12] in {b"400", b"414"}
        assert b"s3cret" not in answer
        assert b"aiohttp" not in answer.lower()
        counts = run.gateway.observer.counts.requests
        assert counts["", "unreadable"] + counts["", "too_large"] + counts["site", "too_large"] == 1
        assert b" 200 OK" in await ask(run.url)
    logged = "".join(capsys.readouterr())
    assert "unreadable_request" in logged or "too_large" in logged
    assert "s3cret" not in logged


@pytest.mark.parametrize(
    "rest",
    [
        b"5\r\nabcde\r\nzz\r\n",
        b"5\r\nabcdefgh\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\n" + b"x: y\r\n" * 300 + b"\r\n",
        b"1\r\na\r\n0\r\nx: " + b"y" * 100_000,
    ],
)
async def test_invalid_chunks_are_refused(tmp_path: Path, rest: bytes) -> None:
    """Invalid chunks, and trailers past the limit, are refused as an incomplete body."""
    chunked = b"POST /v1/track HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, chunked)
        await until(lambda: run.gateway.guard.held > 0)
        kept[1].write(rest)
        answer = await answered(kept)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"the body is incomplete" in answer
        await until(lambda: run.gateway.guard.held == 0)


async def test_invalid_chunks_after_the_response_close_the_connection_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Invalid chunks of a body nobody needs are no error of the gateway."""
    chunked = b"POST /nowhere HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, chunked + b"1\r\na\r\n")
        assert (await kept[0].readline()).startswith(b"HTTP/1.1 404 ")
        kept[1].write(b"1\r\nb\r\nzz\r\n")
        await answered(kept)
        await until(lambda: not run.gateway.guard.held and not len(run.gateway.guard))
    assert not caplog.records


async def test_the_rest_of_a_body_is_not_awaited_from_a_client_that_left(tmp_path: Path) -> None:
    """A connection leaves no task behind if its client leaves within a body nobody needs."""

    def serving() -> int:
        tasks = [task.get_coro() for task in asyncio.all_tasks()]
        return sum("RequestLoop" in getattr(one, "__qualname__", "") for one in tasks)

    async with running(tmp_path, limited(tmp_path)) as run:
        async with many(run.url, 5, head(line="POST /nowhere HTTP/1.1") + TRACK[:-1]) as kept:
            for reader, _ in kept:
                assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
            assert serving() == 5
        async with asyncio.timeout(5):  # half the time for which the rest would be awaited
            await until(lambda: not serving())


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_a_client_that_closed_its_half_gets_its_responses(tmp_path: Path, count: int) -> None:
    """A client that sends no more after its requests gets all their responses."""
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, (head() + TRACK) * count)
        kept[1].write_eof()
        assert (await answered(kept)).count(b"HTTP/1.1 200 ") == count
        await until(lambda: not run.gateway.guard.held and not len(run.gateway.guard))


async def test_a_body_that_ends_too_early_closes_the_connection(tmp_path: Path) -> None:
    """A client that closes its half within a body gets responses to the requests before it only."""
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, head() + TRACK[:-1])
        await until(lambda: run.gateway.guard.held > 0)
        kept[1].write_eof()
        assert await answered(kept) == b""
        await until(lambda: not run.gateway.guard.held and not len(run.gateway.guard))


@pytest.mark.parametrize(
    "sent",
    [
        head() + TRACK[:-1],
        head("expect: 100-continue"),
        b"POST /v1/track HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
    ],
    ids=["part", "invited", "chunks"],
)
async def test_a_stop_refuses_incomplete_bodies_at_once(tmp_path: Path, sent: bytes) -> None:
    """A gateway that stops waits for no body; its client is told to try again."""
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, sent)
        await until(lambda: run.gateway.guard.held > 0)
        if b"expect" in sent:
            await kept[0].readuntil(b"\r\n\r\n")
    answer = await answered(kept)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"shutting down; try again" in answer
    assert b"connection: close" in answer


async def test_an_upgrade_request_keeps_the_limits(tmp_path: Path) -> None:
    """The bytes after an upgrade request are the next request, with the same limits."""
    upgrade = (
        b"GET /readyz HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    )
    async with running(tmp_path, limited(tmp_path, 'body_timeout = "300ms"')) as run:
        answer = await answered(await connected(run.url, upgrade + head() + TRACK[:-1]))
        assert answer.count(b"HTTP/1.1 200 OK") == 1
        assert answer.count(b"HTTP/1.1 429 ") == 1
        answer = await answered(
            await connected(run.url, upgrade + head("connection: close") + TRACK)
        )
        assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_requests_before_invalid_http_are_answered(tmp_path: Path) -> None:
    """Requests before one that cannot be parsed are answered first, in order."""
    async with vendor() as upstream:
        asked, let = asyncio.Event(), asyncio.Event()

        async def slow(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await let.wait()
            writer.write(OK)

        upstream.script = slow
        config = limited(tmp_path, source=f'url = "{upstream.url}"')
        async with running(tmp_path, config) as run:
            kept = await connected(run.url, b"GET /v1/other HTTP/1.1\r\nhost: h\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                await asked.wait()
            kept[1].write(head() + TRACK)
            await until(lambda: run.gateway.guard.held > 2 * REQUEST)
            kept[1].write(b"nonsense\r\n\r\n" + head() + TRACK)
            await until(lambda: run.gateway.observer.counts.requests["", "unreadable"] == 1)
            let.set()
            answer = await answered(kept)
    assert [one[:3] for one in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"400"]


async def test_a_body_declared_too_large_gets_no_100(tmp_path: Path) -> None:
    """`Expect: 100-continue` with too long a body gets the vendor's refusal before the body."""
    async with running(tmp_path, limited(tmp_path, 'max_body = "10KiB"')) as run:
        expect = "expect: 100-continue"
        kept = await connected(run.url, head(expect, length=20 * 1024))
        async with asyncio.timeout(5):  # without a wait for the body
            answer = await answered(kept)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"payload_too_large" in answer
        kept = await connected(run.url, head(expect, "connection: close"))
        assert await kept[0].readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        kept[1].write(TRACK)
        assert b" 200 OK" in await answered(kept)
        kept = await connected(run.url, head(expect, line="POST /nowhere HTTP/1.1"))
        assert (await answered(kept)).startswith(b"HTTP/1.1 404 ")


async def test_a_reload_changes_limits(tmp_path: Path) -> None:
    """A reload changes the limits of open connections too."""
    async with running(tmp_path, limited(tmp_path)) as run:
        kept = await connected(run.url, b"POST /v1/tr")
        path = tmp_path / "gateway.toml"
        path.write_text(limited(tmp_path, 'header_timeout = "200ms"')(run.sandbox))
        await run.gateway.apply(load(path, run.gateway.registry))
        assert (await answered(kept)).startswith(b"HTTP/1.1 408")


@asynccontextmanager
async def relaying(folder: Path, server: str = "") -> AsyncIterator[tuple[Running, Vendor]]:
    """Run a vendor, and a gateway that relays to it."""
    async with vendor() as upstream:
        config = limited(folder, server, f'url = "{upstream.url}"')
        async with running(folder, config) as run:
            yield run, upstream


def upload(number: int) -> bytes:
    """Return the head of a chunked upload, and its first byte."""
    return (
        f"POST /v1/up/{number} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
    ).encode()


GET = b"GET /v1/other HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"


async def test_trickled_uploads_block_no_other_call(tmp_path: Path) -> None:
    """One client's endless uploads leave room for its other calls, and for other clients' calls."""
    async with relaying(tmp_path) as (run, upstream):
        kept = [await connected(run.url, upload(n)) for n in range(260)]
        for source in ("127.0.0.1", "127.0.0.2"):
            assert b" 200 OK" in await answered(await connected(run.url, GET, source))
        whole = upload(1000).replace(b"1\r\na", b"2\r\nab") + b"0\r\n\r\n"
        other = await connected(run.url, whole, "127.0.0.2")
        async with asyncio.timeout(PATIENCE):
            assert b" 200 OK" in await other[0].readuntil(b"\r\n\r\n")
        assert len([got for got in upstream.got if "/up/" in got.line]) <= 33
        for _, writer in [*kept, other]:
            writer.close()


async def test_an_upload_has_a_deadline(tmp_path: Path) -> None:
    """A relayed body must arrive within `upload_timeout`, however steadily it trickles."""
    async with relaying(tmp_path, 'upload_timeout = "500ms"') as (run, _):
        kept = await connected(run.url, upload(1))
        answer = asyncio.get_running_loop().create_task(kept[0].readuntil(b"\r\n\r\n"))
        while not answer.done():
            kept[1].write(b"1\r\na\r\n")
            await asyncio.sleep(0.05)
        assert (await answer).startswith(b"HTTP/1.1 429")
        kept[1].close()
        assert closed(run, "body_timeout") == 1


async def test_a_streamed_upload_is_not_held(tmp_path: Path) -> None:
    """`max_bodies` does not limit a body that streams through."""
    limits = 'max_body = "100KiB"\nmax_bodies = "1MiB"'
    async with relaying(tmp_path, limits) as (run, upstream):
        size = 8_000_000
        sent = head("connection: close", line="PUT /v1/up HTTP/1.1", length=size) + bytes(size)
        parts = urlsplit(run.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for start in range(0, len(sent), 50_000):
            writer.write(sent[start : start + 50_000])
            await writer.drain()
        assert b" 200 OK" in await answered((reader, writer))
        assert len(upstream.got[0].body) == size


async def test_a_call_ends_when_its_client_leaves(tmp_path: Path) -> None:
    """When its client leaves, the call's connection to the vendor is closed."""
    async with relaying(tmp_path) as (run, upstream):
        asked, gone = asyncio.Event(), asyncio.Event()

        async def slow(_: Got, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
            asked.set()
            assert await reader.read() == b""
            gone.set()

        upstream.script = slow
        kept = await connected(run.url, GET)
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            kept[1].close()
            await gone.wait()


@pytest.mark.parametrize(
    "one", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 100 \r\nx: y\r\n\r\n"]
)
async def test_endless_interim_answers_end(tmp_path: Path, one: bytes) -> None:
    """A vendor that sends interim responses without end gets the client a 429."""
    async with relaying(tmp_path) as (run, upstream):

        async def flood(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(one * 10_000)
                await writer.drain()

        upstream.script = flood
        answer = await answered(await connected(run.url, GET))
        assert answer.startswith(b"HTTP/1.1 429")
        upstream.script = None
        upstream.answer = one * 5 + OK
        assert b" 200 OK" in await answered(await connected(run.url, GET))


@pytest.mark.parametrize("line", [b"200 O\x01K", b"200 caf\xe9", b"200 \x7f", b"299 a\x0bb"])
async def test_an_odd_reason_phrase_comes_through(tmp_path: Path, line: bytes) -> None:
    """Control characters in a vendor's reason phrase or headers do not spoil the response."""
    async with relaying(tmp_path) as (run, upstream):
        upstream.answer = b"HTTP/1.1 " + line + b"\r\nx-odd: a\x02b\r\ncontent-length: 2\r\n\r\nok"
        answer = await answered(await connected(run.url, GET))
        assert answer.startswith(b"HTTP/1.1 " + line[:3])
        assert answer.endswith(b"ok")
        assert b"x-odd: a b" in answer.lower()


async def test_answers_hide_the_software_and_forbid_sniffing(tmp_path: Path) -> None:
    """Our responses do not name the software and have `nosniff`; a vendor's server name stays."""
    async with relaying(tmp_path) as (run, upstream):
        upstream.answer = b"HTTP/1.1 200 OK\r\nserver: theirs/1\r\ncontent-length: 2\r\n\r\nok"
        relayed = await answered(await connected(run.url, GET))
        assert b"server: theirs/1" in relayed.lower()
        upstream.answer = OK
        wrong = head("connection: close", length=1) + b"!"
        close = b" HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
        own = (GET, b"\x00\r\n\r\n", wrong, b"GET /readyz" + close, b"GET /elsewhere" + close)
        answers = [await answered(await connected(run.url, sent)) for sent in own]
        for answer in (relayed, await ask(run.url), *answers):
            top = answer.partition(b"\r\n\r\n")[0].lower()
            assert b"x-content-type-options: nosniff" in top, answer
            assert b"aiohttp" not in top
            assert b"python" not in top
