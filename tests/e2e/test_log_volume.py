"""No sender can fill the log, and repeated failures are still reported."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from gateway.observability.observer import FAILURES
from tests.e2e.configs import base_config, destination
from tests.e2e.running import PATIENCE, Running, running
from tests.soak.raw_http import read_message, status_of

NOWHERE = "http://127.0.0.1:9"
MANY = 3 * FAILURES
TRACK = b'{"writeKey":"WK","userId":"u","event":"Seen"}'


def config(folder: Path, more: str = "", delivery: str = "") -> str:
    """Return a configuration whose vendor and relay address are unreachable."""
    return (
        base_config(folder) + f"{more}\n"
        f'[sources.site]\nvendor = "segment"\nkeys = ["WK"]\nurl = "{NOWHERE}"\n'
        f'{destination("chrts", NOWHERE, delivery)}[[routes]]\nto = ["chrts"]\n'
    )


async def sent(run: Running, path: bytes, body: bytes, count: int = MANY) -> list[int]:
    """Send a request *count* times; return the statuses."""
    host, _, port = run.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    one = b"POST %s HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%s" % (path, len(body), body)
    writer.write(one * count)
    async with asyncio.timeout(PATIENCE):
        statuses = [status_of((await read_message(reader))[0]) for _ in range(count)]
    writer.close()
    return statuses


def of(lines: Sequence[Any], event: str) -> list[Any]:
    """Return the lines whose event is *event*."""
    return [line for line in lines if line["event"] == event]


async def test_refused_requests_fill_neither_log_nor_traces(tmp_path: Path) -> None:
    """Refusals are logged and traced up to a limit per second and kind."""
    async with running(tmp_path, lambda _: config(tmp_path)) as run:
        with capture_logs() as lines:
            assert set(await sent(run, b"/v1/track", b"{")) == {400}
            await sent(run, b"/v1/track", b'{"writeKey":"WK","event":7}', 1)
        outcomes = [line["outcome"] for line in of(lines, "request")]
        assert FAILURES <= outcomes.count("malformed") <= 2 * FAILURES
        assert len(set(outcomes)) == 2
        counts = run.gateway.observer.counts.requests
        assert counts["site", "malformed"] == MANY


async def test_refusals_by_a_full_backlog_are_one_line(tmp_path: Path) -> None:
    """A full backlog is logged once per interval, with a count."""
    full = "max_backlog = 1"
    async with running(tmp_path, lambda _: config(tmp_path, delivery=full)) as run:
        with capture_logs() as lines:
            statuses = await sent(run, b"/v1/track", TRACK)
        assert statuses.count(429) > MANY // 2
        (line,) = of(lines, "append_failed")
        assert line["times"] == 1


async def test_failed_relayed_calls_are_one_line(tmp_path: Path) -> None:
    """An unreachable relay address is logged once per interval."""
    async with running(tmp_path, lambda _: config(tmp_path)) as run:
        with capture_logs() as lines:
            await sent(run, b"/v1/other", b"", 20)
        assert len(of(lines, "relay_failed")) == 1


async def test_retries_are_logged_with_their_reason(tmp_path: Path) -> None:
    """A delivery that is retried is logged once per interval, with its reason once."""
    hasty = 'retry_min = "1ms"\nretry_max = "5ms"'
    async with running(tmp_path, lambda _: config(tmp_path, delivery=hasty)) as run:
        with capture_logs() as lines:
            await sent(run, b"/v1/track", TRACK, 1)
            async with asyncio.timeout(PATIENCE):
                while run.gateway.teams["chrts"].counts.retried < 4:  # noqa: ASYNC110 - nothing signals it
                    await asyncio.sleep(0.01)
        (line,) = [line for line in of(lines, "delivery") if line["outcome"] == "retry"]
        assert (line["destination"], line["times"], line["status"]) == ("chrts", 1, None)
        assert line["reason"].lower().count("cannot connect") == 1
