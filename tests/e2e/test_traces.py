"""Where events went, and the reasons: ``gateway trace``, ``gateway tail``."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.http import as_basic
from gateway.ingest.arrival import is_sampled
from gateway.trace.recorder import MOST, MOST_BYTES, Recorder
from gateway.trace.records import LONGEST, TraceFilter, TraceLine
from gateway.trace.store import TraceWriter
from tests.e2e.configs import base_config, destination
from tests.e2e.process import ROOT
from tests.e2e.running import PATIENCE, Running, running

KEY = {"authorization": "Bearer second-key"}


def configured(folder: Path, more: str = "") -> Callable[[str], str]:
    """Return a function that makes a configuration of one source and two destinations."""

    def config(sandbox: str) -> str:
        return (
            base_config(folder) + f"{more}\n"
            '[sources.shop]\nvendor = "chrts"\nkeys = ["first-key", "second-key"]\n'
            '[sources.pages]\nvendor = "segment"\nkeys = ["key"]\ndedup = "1h"\n'
            f"{destination('chrts', sandbox, QUICK)}{destination('quartic', sandbox, QUICK)}"
            '[[routes]]\nname = "orders"\nto = ["quartic"]\n'
            "when = 'event.name == \"Order Completed\" && event.properties.total > 10'\n"
            '[[routes]]\nname = "all"\nto = ["chrts"]\n'
            'steps = [{ drop = ["properties.colour"] }]\n'
        )

    return config


QUICK = 'retry_min = "10ms"\nretry_max = "20ms"'


async def track(run: Running, headers: dict[str, str] = KEY, **more: Any) -> str:
    """Send an event; return the request's id."""
    body = {"uid": "u1", "name": "Order Viewed", "properties": {"colour": "red"}, **more}
    async with run.client.post(f"{run.url}/event/track", json=body, headers=headers) as answer:
        return answer.headers["x-gateway-request-id"]


async def lines_until(run: Running, enough: Callable[[list[TraceLine]], bool]) -> list[TraceLine]:
    """Return the streamed lines from now on until they are *enough*; they are written by then."""
    found: list[TraceLine] = []
    async with asyncio.timeout(PATIENCE):
        with run.gateway.observer.hub.subscribe() as lines:
            async for line in lines:
                found.append(line)
                if enough(found):
                    break
    return found


def ended(count: int) -> Callable[[list[TraceLine]], bool]:
    """Return a condition: *count* deliveries have ended."""
    return lambda lines: (
        sum(x.outcome in {"delivered", "dead_letter", "declined"} for x in lines) >= count
    )


def shown(folder: Path, *args: str) -> str:
    """Return the output of ``gateway trace``."""
    result = CliRunner().invoke(main, ["trace", "--config", str(folder / "gateway.toml"), *args])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("each_spool")
async def test_a_trace_says_where_an_event_went_and_why(tmp_path: Path) -> None:
    """A trace has the request, the key's name, each route's reason, the attempts and the losses."""
    async with running(tmp_path, configured(tmp_path)) as run:
        seen = asyncio.ensure_future(lines_until(run, ended(1)))
        await asyncio.sleep(0)
        request = await track(run)
        await seen
        text = shown(tmp_path, request)
    assert "by source shop (format: chrts), with keys[1]" in text
    assert "POST /event/track" in text
    assert "response  HTTP 200" in text
    assert f"event {request}-0  track 'Order Viewed'" in text
    assert "orders: not taken; the condition does not hold" in text
    assert 'decided by: event.name == "Order Completed"' in text
    assert "all: to chrts; all events" in text
    assert "chrts, attempt 1: HTTP 200" in text
    assert "delivered" in text
    assert "after the steps of all" in text
    assert '"colour": "red"' in text.partition("attempt 1")[0]
    assert '"colour": "red"' not in text.partition("attempt 1")[2]
    assert "authorization: ***" in text
    assert "second-key" not in text
    assert shown(tmp_path, f"{request}-0") == text
    (as_json,) = shown(tmp_path, "u1", "--json").splitlines()
    assert orjson.loads(as_json)["request"] == request


async def test_names_and_ids_are_truncated(tmp_path: Path) -> None:
    """Long names and ids of a sender are truncated in the file and in streams."""
    glob = '[[routes]]\nto = ["quartic"]\nnames = ["x*"]\n'
    config = configured(tmp_path, "[trace]\nmax_body = 0")
    async with running(tmp_path, lambda sandbox: config(sandbox) + glob) as run:
        seen = asyncio.ensure_future(lines_until(run, ended(1)))
        await asyncio.sleep(0)
        request = await track(run, name="x" * 100_000, uid="u" * 100_000)
        assert {len(line.name) for line in await seen} == {LONGEST + 1}
        (trace,) = await run.gateway.observer.traces.show(request)
        assert len(orjson.dumps(msgspec.to_builtins(trace))) < 20 * LONGEST


async def test_a_credential_as_the_name_of_a_field_is_redacted(tmp_path: Path) -> None:
    """A lost field that is named like a key is redacted."""
    async with running(tmp_path, configured(tmp_path)) as run:
        seen = asyncio.ensure_future(lines_until(run, ended(2)))
        await asyncio.sleep(0)
        products = [{"product_id": "1", "price": 1.0, "quantity": 1}]
        order = {"total": 11, "order_id": "1", "first-key": "x", "products": products}
        request = await track(run, name="Order Completed", properties=order)
        await seen
        (trace,) = await run.gateway.observer.traces.show(request)
    assert any("***" in loss.path for tried in trace.attempts for loss in tried.losses)
    assert "first-key" not in str(trace)


@pytest.mark.usefixtures("each_spool")
async def test_every_attempt_is_traced(tmp_path: Path) -> None:
    """A trace has a failed attempt with its response, and the one that succeeded."""
    async with running(tmp_path, configured(tmp_path)) as run:
        await run.fault(vendor="chrts", status=503, count=1)
        seen = asyncio.ensure_future(lines_until(run, ended(1)))
        await asyncio.sleep(0)
        request = await track(run)
        await seen
        (trace,) = await run.gateway.observer.traces.show(request)
    assert [(tried.number, tried.outcome, tried.status) for tried in trace.attempts] == [
        (1, "retry", 503),
        (2, "delivered", 200),
    ]
    assert "HTTP 503" in trace.attempts[0].reason


async def opened(run: Running, destination: str) -> None:
    """Wait until the circuit of a destination is open."""
    async with asyncio.timeout(PATIENCE):
        while not run.gateway.teams[destination].breaker.opened:
            await run.journal()


@pytest.mark.usefixtures("each_spool")
async def test_a_pending_event_is_shown(tmp_path: Path) -> None:
    """An event without an attempt shows why its destination is not getting events."""
    config = configured(tmp_path)
    async with running(tmp_path, lambda url: config(url).replace(QUICK, "")) as run:
        await run.fault(vendor="chrts", status=401, count=1_000_000)
        seen = asyncio.ensure_future(lines_until(run, lambda lines: lines[-1].name == "Second"))
        await asyncio.sleep(0)
        for user in ("u1", "u2", "u3"):
            await track(run, uid=user, name="First")
        await opened(run, "chrts")
        second = await track(run, uid="u4", name="Second")
        await seen
        (trace,) = await run.gateway.observer.traces.show(second)
    assert trace.attempts == ()
    assert "chrts: no attempt yet; the destination fails: HTTP 401" in shown(tmp_path, second)


async def test_duplicates_are_traced(tmp_path: Path) -> None:
    """A repeated event is traced as a duplicate, and is not delivered again."""
    async with running(tmp_path, configured(tmp_path)) as run:
        seen = asyncio.ensure_future(lines_until(run, lambda x: x[-1].outcome == "duplicate"))
        await asyncio.sleep(0)
        body = {"userId": "u1", "event": "Order Viewed", "messageId": "m1", "writeKey": "key"}
        for _ in range(2):
            async with run.client.post(f"{run.url}/v1/track", json=body) as answer:
                request = answer.headers["x-gateway-request-id"]
        await seen
        first, again = reversed(await run.gateway.observer.traces.show("m1"))
        assert run.gateway.observer.counts.deduplicated == {"pages": 1}
    assert [event.duplicate for event in (*first.events, *again.events)] == [False, True]
    assert again.request == request
    assert "duplicate; not delivered again" in shown(tmp_path, request)


@pytest.mark.usefixtures("each_spool")
async def test_above_the_rate_only_failures_are_recorded(tmp_path: Path) -> None:
    """With a rate of 0 only failures are recorded; a dead letter's trace has request and event."""
    config = configured(tmp_path, "[trace]\nsuccess_rate_limit = 0")
    async with running(tmp_path, config) as run:
        seen = asyncio.ensure_future(lines_until(run, ended(2)))
        await asyncio.sleep(0)
        good = await track(run)
        await run.watch.until(lambda watch: len(watch.settled) == 1)
        await run.fault(vendor="chrts", status=422, count=1)
        bad = await track(run, name="Cart Viewed")
        await seen
        assert await run.gateway.observer.traces.show(good) == []
        (trace,) = await run.gateway.observer.traces.show(bad)
        text = shown(tmp_path, bad)
    assert trace.received is not None
    assert (trace.received.source, trace.received.events) == ("shop", 1)
    assert [event.name for event in trace.events] == ["Cart Viewed"]
    assert [tried.outcome for tried in trace.attempts] == ["dead_letter"]
    assert "refused: HTTP 422" in trace.attempts[0].reason
    assert "all: to chrts" in text


async def test_the_rate_counts_events(tmp_path: Path) -> None:
    """A request with many events uses up the rate of that second."""
    config = configured(tmp_path, "[trace]\nsuccess_rate_limit = 5")
    body = {"batch": [{"type": "track", "event": "A", "userId": f"u{n}"} for n in range(20)]}
    headers = {"authorization": as_basic("key")}
    async with running(tmp_path, config) as run:
        ids = []
        for _ in range(3):
            path = f"{run.url}/v1/batch"
            async with run.client.post(path, json=body, headers=headers) as answer:
                ids.append(answer.headers["x-gateway-request-id"])
    assert [is_sampled(one) for one in ids] == [True, False, False]


@pytest.mark.parametrize(
    ("headers", "body", "kept", "fault"),
    [
        (KEY, b'{"uid": 5}', True, "type"),
        (KEY, b"{", True, "malformed"),
        ({"authorization": "Bearer nobody"}, b"{}", False, "forbidden"),
    ],
)
async def test_refusals_with_a_known_key_are_recorded(
    tmp_path: Path, headers: dict[str, str], body: bytes, fault: str, *, kept: bool
) -> None:
    """A refused request is streamed and counted; with a known key it is always recorded too."""
    config = configured(tmp_path, "[trace]\nsuccess_rate_limit = 0")
    async with running(tmp_path, config) as run:
        seen = asyncio.ensure_future(lines_until(run, lambda lines: len(lines) == 1))
        await asyncio.sleep(0)
        async with run.client.post(f"{run.url}/event/track", data=body, headers=headers) as answer:
            request = answer.headers["x-gateway-request-id"]
        (line,) = await seen
        assert (line.kind, line.outcome, line.status) == ("request", "refused", answer.status)
        found = await run.gateway.observer.traces.find(TraceFilter(failed=True)) if kept else []
        counted = run.gateway.observer.counts.requests
    assert counted["shop", fault] == 1
    assert [one.request for one in found] == ([request] if kept else [])


async def test_disabled_traces_write_no_file(tmp_path: Path) -> None:
    """With traces disabled there is no file, and streams still show what happens."""
    async with running(tmp_path, configured(tmp_path, "[trace]\nenabled = false")) as run:
        seen = asyncio.ensure_future(lines_until(run, ended(1)))
        await asyncio.sleep(0)
        request = await track(run)
        assert {line.number for line in await seen} == {0}
        assert await run.gateway.observer.traces.show(request) == []
    assert not (tmp_path / "spool/traces.db").exists()


async def test_an_unwritable_trace_file_affects_no_event(tmp_path: Path) -> None:
    """When the file cannot be written, events are delivered, and dropped records are counted."""
    (tmp_path / "file").touch()
    config = configured(tmp_path, f'[trace]\npath = "{tmp_path}/file/traces.db"')
    async with running(tmp_path, config) as run:
        seen = asyncio.ensure_future(lines_until(run, ended(1)))
        await asyncio.sleep(0)
        await track(run)
        await seen
        await run.watch.until(lambda watch: len(watch.settled) == 1)
        assert run.gateway.observer.recorder.dropped


async def test_records_past_the_limit_are_dropped(tmp_path: Path) -> None:
    """A recorder holds a limited number of records and bytes; it drops and counts the rest."""
    async with running(tmp_path, configured(tmp_path)) as run:
        observed = run.gateway.observer
        recorder = Recorder(observed.recorder.builder, observed.hub, None)
        recorder.start()
        raw: Any = "what no record can be made of"
        for _ in range(MOST + 10):
            recorder.put(raw, 0, keep=True)
        assert recorder.dropped == 10
        await recorder.stop()
        await asyncio.sleep(0)
        assert recorder.dropped == MOST + 10
        recorder.start()
        recorder.put(raw, MOST_BYTES, keep=True)
        recorder.put(raw, 0, keep=True)
        assert recorder.dropped == MOST + 11
        await recorder.stop()


@asynccontextmanager
async def tail(folder: Path, *args: str) -> AsyncIterator[Process]:
    """Run ``gateway tail``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "tail", "--config", str(folder / "gateway.toml"), *args,
        stdout=PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_tail_shows_past_and_new_lines(tmp_path: Path) -> None:
    """Tail prints the last lines, then new ones, and only those that match its filters."""
    async with running(tmp_path, configured(tmp_path)) as run:
        seen = asyncio.ensure_future(lines_until(run, ended(2)))
        await asyncio.sleep(0)
        first = await track(run)
        await track(run, uid="u2")
        await seen
        args = ("--user", "u1", "--destination", "chrts", "--limit", "2", "--json")
        async with tail(tmp_path, *args) as process, asyncio.timeout(PATIENCE):
            assert process.stdout is not None
            line = orjson.loads(await process.stdout.readline())
            assert (line["request"], line["outcome"]) == (first, "delivered")
            await track(run, uid="u2")
            second = await track(run)
            line = orjson.loads(await process.stdout.readline())
            assert (line["request"], line["destination"]) == (second, "chrts")
            assert await process.wait() == 0


async def test_tail_goes_on_after_the_file_is_deleted(tmp_path: Path) -> None:
    """A running gateway makes a new file, and tail goes on with its lines."""
    async with running(tmp_path, configured(tmp_path)) as run:
        for first in (True, False):
            seen = asyncio.ensure_future(lines_until(run, ended(1)))
            await asyncio.sleep(0)
            request = await track(run)
            await seen
            if first:
                async with tail(tmp_path, "--json") as process, asyncio.timeout(PATIENCE):
                    assert process.stdout is not None
                    await process.stdout.readline()
                    await process.stdout.readline()
                    (tmp_path / "spool/traces.db").unlink()
                    second = await track(run)
                    line = orjson.loads(await process.stdout.readline())
                    assert (line["number"], line["request"]) == (2, second)
        assert request in shown(tmp_path, request)


def test_an_unknown_id_is_one_sentence(tmp_path: Path) -> None:
    """For an unknown id the command prints a possible reason, and no traceback."""
    (tmp_path / "gateway.toml").write_text(f'[spool]\npath = "{tmp_path}/spool"\n')
    TraceWriter(tmp_path / "spool/traces.db", 1, 1 << 20).close()
    args = ["trace", "--config", str(tmp_path / "gateway.toml"), "x\x1b[31m"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 1
    said = result.output
    assert rf"no trace of 'x\x1b[31m' in {tmp_path}/spool/traces.db: the id is wrong" in said
    assert all(key in said for key in ("retention", "max_bytes", "success_rate_limit", "cpu_share"))
