"""Each refused request is counted once, by its source and its cause."""

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gateway.errors import RefusalCause
from plugins.segment.input import SegmentInput
from tests.e2e.configs import destination
from tests.e2e.raw_http import OK, Got, vendor
from tests.e2e.running import Running, running
from tests.e2e.test_connections import TRACK, answered, connected, head, many, until

METRIC = "cdp_gateway_requests_refused_total"
TRACKS = "POST /site/v1/track HTTP/1.1"
LAST = "connection: close"
LIMITS = (
    'metrics = true\nheader_timeout = "300ms"\nbody_timeout = "300ms"\nmax_body = "10KiB"\n'
    'max_headers = "4KiB"'
)
DOWN = "http://127.0.0.1:1"
"""A closed port."""


@asynccontextmanager
async def limited(
    folder: Path, server: str = LIMITS, source: str = "", delivery: str = ""
) -> AsyncIterator[Running]:
    """Run a gateway whose only source is Segment's, below ``/site``."""

    def config(sandbox: str) -> str:
        exit_ = destination("chrts", sandbox, delivery)
        return (
            f'[server]\nlisten = "127.0.0.1:0"\n{server}\n[spool]\npath = "{folder / "spool"}"\n'
            f'[sources.site]\nvendor = "segment"\nkeys = ["WK"]\nmount = "/site"\n{source}\n'
            f'{exit_}[[routes]]\nto = ["chrts"]\n'
        )

    async with running(folder, config) as run:
        yield run


async def counted(run: Running) -> Counter[tuple[str, str]]:
    """Return the refused requests by source and cause, as Prometheus reads them."""
    reader, writer = await connected(
        run.url, b"GET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
    )
    page = (await answered((reader, writer))).partition(b"\r\n\r\n")[2].decode()
    return Counter(
        {
            (sample.labels["source"], sample.labels["cause"]): int(sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == METRIC
        }
    )


async def refused(run: Running, source: str, cause: RefusalCause) -> None:
    """Check that exactly one request was refused: of this source, for this cause."""
    assert +await counted(run) == {(source, cause.value): 1}


def call(line: str = TRACKS, body: bytes = TRACK, *lines: str) -> bytes:
    """Return a whole request."""
    return head(LAST, *lines, line=line, length=len(body)) + body


@pytest.mark.parametrize(
    ("sent", "status", "source", "cause"),
    [
        (b"\x16\x03\x01 no\r\n\r\n", 400, "", RefusalCause.NO_HTTP),
        (b"POST /site/v1/track HTTP/1.1\r\nhost: h\r\nx: ", 408, "", RefusalCause.HEADER_TIMEOUT),
        (head(f"x: {'y' * 5000}", line=TRACKS), 431, "site", RefusalCause.HEAD_TOO_LARGE),
        (
            head(f"x: {'y' * 5000}", line="GET /none HTTP/1.1"), 431, "",
            RefusalCause.HEAD_TOO_LARGE,
        ),
        (f"GET /site/{'y' * 5000} HTTP/1.1\r\n".encode(), 414, "site", RefusalCause.HEAD_TOO_LARGE),
        (head(line=TRACKS) + TRACK[:-1], 429, "site", RefusalCause.BODY_TIMEOUT),
        (call(body=b" " * 11_000), 400, "site", RefusalCause.BODY_TOO_LARGE),
        (
            call(TRACKS, gzip.compress(b" " * 11_000), "content-encoding: gzip"), 400, "site",
            RefusalCause.BODY_TOO_LARGE,
        ),
        (call("GET /none HTTP/1.1", b""), 404, "", RefusalCause.NOT_FOUND),
        (call("GET /site/v9/none HTTP/1.1", b""), 404, "site", RefusalCause.NOT_FOUND),
        (call("PUT /site/v1/track HTTP/1.1"), 405, "site", RefusalCause.METHOD),
        (call("POST /site/v1/merge HTTP/1.1"), 501, "site", RefusalCause.UNSUPPORTED),
        (
            call(body=b'{"userId": "u", "event": "Seen"}'), 401, "site",
            RefusalCause.UNAUTHENTICATED,
        ),
        (call(body=TRACK.replace(b"WK", b"NO")), 401, "site", RefusalCause.FORBIDDEN),
        (call(body=b"{no"), 400, "site", RefusalCause.MALFORMED),
        (call(body=b'{"event": "Seen", "writeKey": "WK"}'), 400, "site", RefusalCause.INVALID),
    ],
    ids=lambda value: value.value if isinstance(value, RefusalCause) else "",
)  # fmt: skip
async def test_each_cause_is_counted(
    tmp_path: Path, sent: bytes, status: int, source: str, cause: RefusalCause
) -> None:
    """A request that is invalid, too large or too slow counts once, by its cause."""
    async with limited(tmp_path) as run:
        answer = await answered(await connected(run.url, sent))
        assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer
        await refused(run, source, cause)


async def test_a_gateway_that_stops_accepting_is_counted(tmp_path: Path) -> None:
    """While the gateway starts or stops, a refused event counts as not accepting."""
    async with limited(tmp_path) as run:
        run.gateway.accepting = False
        assert b"retry-after" in (await answered(await connected(run.url, call()))).lower()
        await refused(run, "site", RefusalCause.NOT_ACCEPTING)
        run.gateway.accepting = True


async def test_a_full_backlog_is_counted(tmp_path: Path) -> None:
    """An event that a full backlog refuses counts as a full spool."""
    async with limited(tmp_path, delivery='max_backlog = 1\nrate = "1/h"\nburst = 1') as run:
        await run.gateway.spool.pause("chrts", paused=True)
        run.gateway.teams["chrts"].pause()
        assert b" 200 OK" in await answered(await connected(run.url, call()))
        assert b"retry-after" in (await answered(await connected(run.url, call()))).lower()
        await refused(run, "site", RefusalCause.SPOOL_FULL)


async def test_a_failing_spool_is_counted(tmp_path: Path) -> None:
    """An event that a failing spool refuses counts as a failed spool."""
    async with limited(tmp_path) as run:
        await run.gateway.spool.close()
        assert b"retry-after" in (await answered(await connected(run.url, call()))).lower()
        assert run.gateway.observer.counts.refused == {("site", RefusalCause.SPOOL_FAILED): 1}


@pytest.mark.parametrize("method", ["decode", "credential", "read", "accept"])
async def test_a_bug_of_a_plugin_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A plugin that raises gets its sender "try again" in the vendor's words, and a log line."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    async with limited(tmp_path) as run:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(SegmentInput, method, fails)
            answer = await answered(await connected(run.url, call()))
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after" in answer
        assert b"too_many_requests" in answer
        (line,) = (line for line in logs if line["event"] == "request_failed")
        assert (line["plugin"], line["source"], line["times"]) == ("segment", "site", 1)
        assert isinstance(line["exc_info"], ZeroDivisionError)
        await refused(run, "site", RefusalCause.INTERNAL)
        assert run.gateway.observer.counts.requests["site", "error"] == 1
        assert b" 200 OK" in await answered(await connected(run.url, call()))


async def test_a_vendor_that_is_down_is_counted(tmp_path: Path) -> None:
    """A relayed call without a response counts as a failed relay."""
    async with limited(tmp_path, source=f'url = "{DOWN}"') as run:
        answer = await answered(await connected(run.url, call("GET /site/v1/other HTTP/1.1", b"")))
        assert b"retry-after" in answer.lower()
        await refused(run, "site", RefusalCause.RELAY_FAILED)


Reply = Callable[[Got, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def slow(asked: asyncio.Semaphore, let: asyncio.Event) -> Reply:
    """Return a reply that sends bytes until *let* is set, then ends."""

    async def reply(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not let.is_set():
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")

    return reply


async def test_too_many_calls_to_a_vendor_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relayed call that waits too long for a free connection counts as a full relay."""
    monkeypatch.setattr("gateway.ingest.relay.CONNECTIONS", 1)
    get = call("GET /site/v1/other HTTP/1.1", b"")
    async with vendor() as upstream:
        asked, let = asyncio.Semaphore(0), asyncio.Event()
        upstream.script = slow(asked, let)
        source = f'url = "{upstream.url}"\nrelay_timeout = "300ms"'
        async with limited(tmp_path, source=source) as run:
            first = await connected(run.url, get)
            await asked.acquire()
            answer = await answered(await connected(run.url, get))
            assert b"too many parallel calls" in answer
            let.set()
            assert b" 200 OK" in await answered(first)
            await refused(run, "site", RefusalCause.RELAY_FULL)


async def test_a_connection_too_many_is_counted(tmp_path: Path) -> None:
    """A request on one connection too many counts as a connection limit."""
    async with vendor() as upstream:
        asked, let = asyncio.Semaphore(0), asyncio.Event()

        async def held(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.release()
            await let.wait()
            writer.write(OK)

        upstream.script = held
        get = call("GET /site/v1/other HTTP/1.1", b"")
        server, source = "metrics = true\nmax_connections = 4", f'url = "{upstream.url}"'
        async with limited(tmp_path, server, source) as run:
            busy = [await connected(run.url, get, f"127.0.0.{n}") for n in range(2, 6)]
            for _ in busy:
                await asked.acquire()
            answer = await answered(await connected(run.url, call()))
            assert answer.startswith(b"HTTP/1.1 429")
            let.set()
            for one in busy:
                assert b" 200 OK" in await answered(one)
            await refused(run, "site", RefusalCause.CONNECTION_LIMIT)


async def test_each_body_past_the_budget_is_counted(tmp_path: Path) -> None:
    """Past `max_bodies` each refused request counts once, as each closed connection does."""
    server = 'metrics = true\nmax_body = "100KiB"\nmax_bodies = "500KiB"'
    part = head(line=TRACKS, length=100 * 1024) + b" " * (90 * 1024)
    async with limited(tmp_path, server) as run, many(run.url, 12, part, "127.0.0.3"):
        counts = run.gateway.observer.counts
        await until(lambda: counts.closed["memory"] > 0)
        await until(lambda: counts.refused["site", RefusalCause.MEMORY] == counts.closed["memory"])
        assert (await counted(run)).keys() >= {("site", cause.value) for cause in RefusalCause}


async def test_an_accepted_event_counts_no_refusal(tmp_path: Path) -> None:
    """An accepted event counts under no cause; every cause exists at zero."""
    async with limited(tmp_path) as run:
        assert b" 200 OK" in await answered(await connected(run.url, call()))
        found = await counted(run)
        assert found.keys() >= {("site", cause.value) for cause in RefusalCause}
        assert not +found
