"""Traces for OpenTelemetry: a collector gets spans that continue the caller's trace."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.trace.otel import PATIENCE as SENDING
from gateway.trace.otel import span_id
from gateway.trace.records import TraceFilter
from tests.e2e.configs import destination
from tests.e2e.process import ROOT
from tests.e2e.running import PATIENCE, Running, running, serving

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
"""The example of https://www.w3.org/TR/trace-context/#examples-of-http-traceparent-headers."""
KEY = {"authorization": "Bearer shop-key"}


class Collector:
    """Accepts the exports of an OTLP exporter.

    Attributes:
        spans: in order of arrival.
        resource: the attributes of the sender.
        headers: of the last request.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self.headers: dict[str, str] = {}

    async def take(self, request: web.Request) -> web.Response:
        """Accept one export (https://opentelemetry.io/docs/specs/otlp/#otlphttp-request)."""
        assert request.content_type == "application/x-protobuf"
        self.headers = dict(request.headers)
        for resource in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            self.resource = said(resource.resource)
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return web.Response(content_type="application/x-protobuf")

    def of(self, kind: "Span.SpanKind.ValueType") -> list[Span]:
        """Return the spans of one kind, by start time."""
        found = [span for span in self.spans if span.kind == kind]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


def said(span: Any) -> dict[str, Any]:
    """Return the attributes of a span."""
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes
    }


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    """Run a collector; yield it and its address for traces."""
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.take)
    async with serving(app) as url:
        yield collector, f"{url}/v1/traces"


def configured(folder: Path, otlp: str, more: str = "") -> Callable[[str], str]:
    """Return a function that makes a configuration: one source, two destinations, a collector."""

    def config(sandbox: str) -> str:
        quick = 'retry_min = "10ms"\nretry_max = "20ms"'
        return (
            f'[spool]\npath = "{folder / "spool"}"\n'
            f'[trace]\notlp_url = "{otlp}"\notlp_headers = {{ x-team = "shop-team" }}\n{more}\n'
            '[sources.shop]\nvendor = "chrts"\nkeys = ["shop-key"]\nmount = "/shop"\n'
            f"{destination('chrts', sandbox, quick)}{destination('quartic', sandbox, quick)}"
            '[[routes]]\nname = "all"\nto = ["chrts", "quartic"]\n'
        )

    return config


async def track(run: Running, traceparent: str = "") -> str:
    """Send an event; return the request's id."""
    headers = {**KEY, "traceparent": traceparent, "tracestate": "vendor=7"} if traceparent else KEY
    body = {"uid": "u1", "name": "Order Viewed", "properties": {"colour": "red"}}
    url = f"{run.url}/shop/event/track?from=page"
    async with run.client.post(url, json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["x-gateway-request-id"]


async def settled(run: Running, count: int = 2) -> None:
    """Wait until *count* deliveries have ended."""
    await run.watch.until(lambda watch: len(watch.settled) >= count)


async def test_the_callers_trace_is_continued(tmp_path: Path) -> None:
    """The request's span is the caller's child, each attempt its child; vendors get no headers."""
    async with (
        collecting() as (collector, otlp),
        running(tmp_path, configured(tmp_path, otlp)) as run,
    ):
        await run.fault(vendor="chrts", status=503, count=1)
        request = await track(run, SAMPLED)
        await run.watch.until(lambda watch: any(to == "chrts" for _, to, _ in watch.settled))
        sent = await run.journal("chrts")
    (server,) = collector.of(Span.SPAN_KIND_SERVER)
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, CALLER)
    assert (server.span_id, server.trace_state) == (span_id(request).to_bytes(8), "vendor=7")
    assert server.name == "POST /shop/event/track"
    assert server.end_time_unix_nano > server.start_time_unix_nano
    facts = said(server)
    assert facts["http.route"] == facts["url.path"] == "/shop/event/track"
    assert (facts["http.request.method"], facts["http.response.status_code"]) == ("POST", 200)
    assert (facts["gateway.request.id"], facts["gateway.source"]) == (request, "shop")
    assert (facts["gateway.events"], facts["gateway.outcome"]) == (1, "accepted")
    tries = collector.of(Span.SPAN_KIND_CLIENT)
    assert {span.parent_span_id for span in tries} == {server.span_id}
    assert {span.trace_id.hex() for span in tries} == {TRACE}
    first, second = [span for span in tries if span.name == "deliver chrts"]
    assert (first.status.code, said(first)["error.type"]) == (Status.STATUS_CODE_ERROR, "503")
    assert "HTTP 503" in first.status.message
    assert (said(first)["gateway.attempt"], said(second)["gateway.attempt"]) == (1, 2)
    assert said(second)["http.request.resend_count"] == 1
    assert (second.status.code, said(second)["gateway.outcome"]) == (0, "delivered")
    assert said(second)["messaging.destination.name"] == "chrts"
    assert said(second)["messaging.message.id"] == f"{request}-0"
    assert said(second)["server.address"] == "127.0.0.1"
    assert said(second)["url.full"] == f"{run.sandbox}/chrts/event/track"
    assert all({"traceparent", "tracestate"}.isdisjoint(one["headers"]) for one in sent)
    assert collector.headers["x-team"] == "shop-team"
    assert collector.resource["service.name"] == "cdp-gateway"


async def test_a_trace_without_a_caller_has_the_request_id(tmp_path: Path) -> None:
    """Without a caller's trace, or with an invalid header, the trace id is the request's id."""
    async with (
        collecting() as (collector, otlp),
        running(tmp_path, configured(tmp_path, otlp)) as run,
    ):
        requests = [await track(run), await track(run, "00-nonsense-01")]
        await settled(run, 4)
    servers = collector.of(Span.SPAN_KIND_SERVER)
    assert [span.trace_id.hex() for span in servers] == [one.rjust(32, "0") for one in requests]
    assert {span.parent_span_id for span in servers} == {b""}
    for server in servers:
        children = [span for span in collector.spans if span.parent_span_id == server.span_id]
        assert {span.name for span in children} == {"deliver chrts", "deliver quartic"}
        assert {span.trace_id for span in children} == {server.trace_id}


async def test_an_unsampled_trace_sends_no_spans(tmp_path: Path) -> None:
    """A trace that the caller does not sample has no spans from the gateway."""
    async with (
        collecting() as (collector, otlp),
        running(tmp_path, configured(tmp_path, otlp)) as run,
    ):
        await track(run, UNSAMPLED)
        await settled(run)
        known = await track(run)
        await settled(run, 4)
    assert {said(span)["gateway.request.id"] for span in collector.spans} == {known}


async def test_a_delivery_after_a_restart_is_in_the_same_trace(tmp_path: Path) -> None:
    """The spool keeps the caller's trace, so attempts after a restart have the same parent."""
    async with collecting() as (collector, otlp):
        async with running(tmp_path, configured(tmp_path, otlp)) as run:
            await run.fault(vendor="chrts", status=503, count=100_000)
            failed = TraceFilter(destination="chrts", failed=True)
            with run.gateway.observer.hub.subscribe(failed) as lines:
                await track(run, SAMPLED)
                async with asyncio.timeout(PATIENCE):
                    await anext(aiter(lines))
        before = len(collector.spans)
        async with running(tmp_path, configured(tmp_path, otlp)) as run:
            await run.watch.until(lambda watch: any(to == "chrts" for _, to, _ in watch.settled))
    (server,) = collector.of(Span.SPAN_KIND_SERVER)
    later = [span for span in collector.spans[before:] if span.name == "deliver chrts"]
    assert later
    assert {(span.trace_id.hex(), span.parent_span_id) for span in later} == {
        (TRACE, server.span_id)
    }


async def test_failures_above_the_rate_are_children_of_the_caller(tmp_path: Path) -> None:
    """An unsampled request has no span, so its failed attempts are children of the caller."""
    config = "success_rate_limit = 0"
    async with (
        collecting() as (collector, otlp),
        running(tmp_path, configured(tmp_path, otlp, config)) as run,
    ):
        await run.fault(vendor="chrts", status=422, count=2)
        await track(run, SAMPLED)
        await settled(run)
    (only,) = collector.spans
    assert (only.trace_id.hex(), only.parent_span_id.hex()) == (TRACE, CALLER)
    assert (said(only)["gateway.outcome"], said(only)["error.type"]) == ("dead_letter", "422")


async def test_a_refused_request_has_its_reason(tmp_path: Path) -> None:
    """A refused request's span has the reason, and is not an error of the gateway."""
    async with (
        collecting() as (collector, otlp),
        running(tmp_path, configured(tmp_path, otlp)) as run,
    ):
        url = f"{run.url}/shop/event/track"
        async with run.client.post(url, json={"uid": 5}, headers=KEY) as answer:
            status = answer.status
        async with run.client.request("PROPFIND", f"{run.url}/shop/anything") as answer:
            assert answer.status >= 400
    wrong, unknown = collector.of(Span.SPAN_KIND_SERVER)
    assert (said(wrong)["gateway.outcome"], wrong.status.code) == ("type", 0)
    assert said(wrong)["http.response.status_code"] == status
    assert "uid" in said(wrong)["gateway.reason"]
    assert (unknown.name, said(unknown)["http.request.method"]) == ("HTTP", "_OTHER")
    assert "http.route" not in said(unknown)
    assert said(unknown)["url.path"] == "/shop/anything"


@pytest.mark.parametrize("how", ["down", "hanging", "refusing"])
async def test_a_failing_collector_loses_only_spans(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing collector delays no event, and the stop by seconds; lost spans are counted."""
    release = asyncio.Event()

    async def trouble(_: web.Request) -> web.Response:
        if how == "hanging":
            await release.wait()
        return web.Response(status=400)

    app = web.Application()
    app.router.add_post("/v1/traces", trouble)
    async with serving(app) as url:
        otlp = "http://127.0.0.1:9/v1/traces" if how == "down" else f"{url}/v1/traces"
        async with running(tmp_path, configured(tmp_path, otlp)) as run:
            for number in range(20):
                await track(run)
                await settled(run, 2 * number + 2)
            stopping = time.monotonic()
        took = time.monotonic() - stopping
        release.set()
    spans = run.gateway.observer.recorder.spans
    assert spans is not None
    assert (spans.sent, spans.dropped) == (0, 60)
    assert run.gateway.observer.recorder.dropped == 0
    assert took < 2 * SENDING + 5
    assert caplog.text.count("spans batch") <= 1


async def test_spans_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics count the spans that the collector accepted; the SDK's own variables apply."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "front door")
    async with (
        collecting() as (collector, otlp),
        running(tmp_path, configured(tmp_path, otlp, "[server]\nmetrics = true")) as run,
        asyncio.timeout(PATIENCE),
    ):
        await track(run)
        page = ""
        while 'cdp_gateway_trace_spans_total{outcome="sent"} 3.0' not in page:
            async with run.client.get(f"{run.url}/metrics") as answer:
                page = await answer.text()
    assert 'cdp_gateway_trace_spans_total{outcome="dropped"} 0.0' in page
    assert collector.resource["service.name"] == "front door"


def test_no_otel_import_without_a_collector(tmp_path: Path) -> None:
    """A gateway without a collector imports none of the extra's libraries."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[spool]\npath = "{tmp_path}/spool"\n[sources.a]\nvendor = "chrts"\nkeys = ["key"]\n'
        '[destinations.b]\nvendor = "chrts"\napi_key = "key"\n[[routes]]\nto = ["b"]\n'
    )
    script = (
        "import sys\nfrom pathlib import Path\nimport gateway.cli\n"
        "from gateway.app import Gateway\n"
        "from gateway.config.loader.load import load\n"
        "from gateway.plugin.registry import load_plugins as plugins\n"
        f"Gateway(load(Path({str(config)!r}), plugins()), plugins())\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'requests'))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
