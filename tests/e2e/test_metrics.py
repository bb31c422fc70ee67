"""Metrics, readiness and log lines of a real gateway, compared with their documentation."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import ConfigError
from gateway.observability.metrics import MetricsPage
from gateway.reload import Reloader
from tests.e2e.configs import VENDORS, everything
from tests.e2e.process import ROOT, gateway_process
from tests.e2e.running import Running, running

ROW = re.compile(r"^\| `(cdp_gateway_\w+)(?:\{([\w, ]+)\})?` \|", re.MULTILINE)
EVENT = {"uid": "u1", "name": "Product Viewed", "properties": {"product_id": "1"}}
KEY = {"authorization": "Bearer any"}


def configured(folder: Path, sandbox: str) -> str:
    """Return a configuration that serves metrics."""
    text = everything(folder, sandbox, 'retry_min = "10ms"\nretry_max = "20ms"')
    return text.replace("[server]", "[server]\nmetrics = true")


async def page(run: Running) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples by name and by the values of their labels."""
    async with run.client.get(f"{run.url}/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


async def test_requests_and_deliveries_are_counted(tmp_path: Path) -> None:
    """Requests, events, deliveries, attempts and dead letters are counted under their names."""
    async with running(tmp_path, lambda sandbox: configured(tmp_path, sandbox)) as run:
        await run.fault(vendor="segment", status=422, count=1)
        await run.fault(vendor="tracardi", status=503, count=1)
        async with run.client.post(f"{run.url}/event/track", json=EVENT, headers=KEY):
            pass
        async with run.client.post(f"{run.url}/event/track", data=b"{", headers=KEY):
            pass
        async with run.client.get(f"{run.url}/nowhere"):
            pass
        await run.watch.until(lambda watch: len(watch.settled) == 6)
        await run.gateway.teams["segment"].workers[0].tracker.flush()
        found = await page(run)
    requests = found["cdp_gateway_requests_total"]
    assert requests["accepted", "chrts"] == requests["malformed", "chrts"] == 1
    assert requests["not_found", ""] == 1
    assert found["cdp_gateway_events_total"] == {("chrts", "track"): 1}
    deliveries = found["cdp_gateway_deliveries_total"]
    assert deliveries["chrts", "delivered"] == deliveries["segment", "dead_letter"] == 1
    assert deliveries["tracardi", "retry"] == deliveries["tracardi", "delivered"] == 1
    assert found["cdp_gateway_attempts_total"]["tracardi", "5xx"] == 1
    assert found["cdp_gateway_attempt_duration_seconds_count"]["tracardi",] == 2
    assert found["cdp_gateway_delivery_duration_seconds_bucket"]["chrts", "+Inf"] == 1
    assert found["cdp_gateway_request_duration_seconds_count"]["chrts",] == 2
    assert found["cdp_gateway_breaker_state"]["chrts", "closed"] == 1
    assert found["cdp_gateway_dead_letters"]["segment",] == 1
    assert found["cdp_gateway_ready"][()] == 1
    assert found["cdp_gateway_spool_bytes"][()] > 0
    assert found["process_cpu_seconds_total"][()] > 0


async def test_a_failed_reload_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics show whether the last reload succeeded, and when the last good one was."""
    monkeypatch.setattr("gateway.observability.metrics.FRESH", 0.0)
    async with running(tmp_path, lambda sandbox: configured(tmp_path, sandbox)) as run:
        good = run.gateway.config.path.read_text()
        began = (await page(run))["cdp_gateway_config_last_reload_timestamp_seconds"][()]
        reloader = Reloader(run.gateway)
        run.gateway.config.path.write_text("nonsense")
        with pytest.raises(ConfigError):
            await reloader.reload_now()
        found = await page(run)
        assert found["cdp_gateway_config_last_reload_successful"][()] == 0
        assert found["cdp_gateway_config_last_reload_timestamp_seconds"][()] == began
        run.gateway.config.path.write_text(good)
        await reloader.reload_now()
        found = await page(run)
        assert found["cdp_gateway_config_last_reload_successful"][()] == 1
        assert found["cdp_gateway_config_last_reload_timestamp_seconds"][()] > began
        assert found["cdp_gateway_build_info"]["", version("cdp-gateway")] == 1


async def test_alerting_counters_start_at_zero(tmp_path: Path) -> None:
    """Counters that alerts read exist at zero, so that the first failure is an increase."""
    async with running(tmp_path, lambda sandbox: configured(tmp_path, sandbox)) as run:
        found = await page(run)
    requests, deliveries = (
        found["cdp_gateway_requests_total"],
        found["cdp_gateway_deliveries_total"],
    )
    for vendor in VENDORS:
        for outcome in ("accepted", "unavailable", "error"):
            assert requests[outcome, vendor] == 0
        for outcome in ("delivered", "declined", "retry", "dead_letter"):
            assert deliveries[vendor, outcome] == 0
    assert found["cdp_gateway_route_errors_total"] == {("route 1",): 0}
    assert found["cdp_gateway_trace_dropped_total"] == {(): 0}


async def test_the_documentation_names_every_metric(tmp_path: Path) -> None:
    """docs/metrics.md has a row with the labels of each metric, and no other row."""
    text = (ROOT / "docs/metrics.md").read_text()
    documented = {
        name: set((labels or "").split(", ")) - {""} for name, labels in ROW.findall(text)
    }
    collected = '[trace]\notlp_url = "http://127.0.0.1:9/v1/traces"\n'
    async with running(tmp_path, lambda at: configured(tmp_path, at) + collected) as run:
        body, _ = await MetricsPage(run.gateway).get("application/openmetrics-text; version=1.0.0")
        async with run.client.get(f"{run.url}/metrics", headers={"accept": "x/y"}) as answer:
            families = list(text_string_to_metric_families(await answer.text()))
    assert body.endswith(b"# EOF\n")
    ours = {f.name: f for f in families if f.name.startswith("cdp_gateway_")}
    named = {f"{n}_total" if f.type == "counter" else n for n, f in ours.items()}
    assert named
    assert named == set(documented)
    for name, family in ours.items():
        for sample in family.samples:
            known = documented.get(name, documented.get(f"{name}_total", set()))
            assert set(sample.labels) - {"le"} <= known, sample


async def test_metrics_are_not_served_by_default(tmp_path: Path) -> None:
    """By default the sources' address serves no metrics."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as run:
        async with run.client.get(f"{run.url}/metrics") as answer:
            assert answer.status == 404
        async with run.client.get(f"{run.url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        run.gateway.accepting = False
        async with run.client.get(f"{run.url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "starting or stopping\n")


@pytest.mark.parametrize(("rate", "lines"), [(50, 1), (0, 0)])
async def test_one_line_per_request_and_per_delivery(tmp_path: Path, rate: int, lines: int) -> None:
    """A request and a delivery log one line up to a rate; a failure logs one at any rate."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as sandboxed:
        config = tmp_path / "second.toml"
        text = everything(tmp_path / "second", sandboxed.sandbox)
        config.write_text(f"{text}[log]\nsuccess_rate_limit = {rate}\n")
        async with gateway_process(config) as process:
            url = f"{process.url}/event/track"
            async with sandboxed.client.post(url, json=EVENT, headers=KEY) as answer:
                accepted = answer.headers["x-gateway-request-id"]
            async with sandboxed.client.post(url, json={"uid": 5}, headers=KEY) as answer:
                refused = answer.headers["x-gateway-request-id"]
            process.process.terminate()
            assert await process.ended() == 0
    requests = [line for line in process.lines if line["event"] == "request"]
    assert [line["request"] for line in requests] == [accepted, refused][1 - lines :]
    last = requests[-1]
    assert (last["outcome"], last["status"], last["source"]) == ("type", 400, "chrts")
    assert (last["method"], last["path"], last["events"]) == ("POST", "/event/track", 0)
    ended = [line for line in process.lines if line["event"] == "delivery"]
    assert all(line["delivery"] == f"{accepted}-0" for line in ended)
    assert bool(ended) == bool(lines)
