"""The dashboard and the alert rules: each query is checked against a real scrape."""

import asyncio
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.config.models import ServerConfig
from gateway.observability.metrics import DELIVERY_OUTCOMES
from tests.docs.pages import ROOT, snippets
from tests.docs.promql import TARGET, Scrape, metrics
from tests.docs.queries import RULES, Query, dashboard, fill, panels, queries, rules, variables
from tests.e2e.configs import VENDORS, everything
from tests.e2e.running import Running, running
from tests.e2e.test_refusals import VALID

pytestmark = pytest.mark.xdist_group("monitoring")
PAGE = ROOT / "docs/operations/monitoring.md"
LEFT_OUT = re.compile(r"^\| `(process_\w+|cdp_gateway_\w+)` \|", re.MULTILINE)
LISTED = re.compile(r"^\| `([A-Z]\w+)` \|", re.MULTILINE)
KEY = {"authorization": "Bearer right"}
TAKEN = 3
"""Events that are accepted and routed to every vendor."""


def configured(folder: Path, sandbox: str) -> str:
    """Return a configuration in which each measured thing can happen."""
    text = everything(folder, sandbox, 'retry_min = "10ms"\nretry_max = "20ms"')
    more = (
        '[sources.app]\nvendor = "segment"\nkeys = "any"\nmount = "/app"\ndedup = "1h"\n'
        f'[sources.shop]\nvendor = "personaclick"\nkeys = ["right"]\nmount = "/shop"\n'
        f'url = "{sandbox}/personaclick"\non_violation = "allow"\n'
        'schemas = { "*" = { required = ["group_id"] } }\n'
        "[[routes]]\nname = \"big\"\nwhen = 'event.properties.plan > 1'\n"
        'types = ["track"]\nadditional = true\nto = ["chrts"]\n[[routes]]\n'
    )
    return text.replace("[server]", "[server]\nmetrics = true").replace("[[routes]]\n", more)


async def happen(run: Running) -> None:
    """Cause each outcome of a request and of a delivery once."""
    await run.fault(vendor="segment", status=422, count=1)
    await run.fault(vendor="tracardi", status=503, count=1)
    path, event = VALID["chrts"]
    view = {**VALID["personaclick"][1], "referer": "https://shop.example/1"}
    odd = {**VALID["personaclick"][1], "event": "dance"}
    again = {**VALID["segment"][1], "messageId": "m1"}
    for url, body in (
        (path, {**event, "properties": {"plan": "pro", "more": {"a": 1}}}),
        ("/shop/push", view), ("/app/v1/track", again), ("/app/v1/track", again),
        (path, {"name": "n"}), (path, {"uid": "u", "name": 7}),
        ("/shop/push", odd), ("/shop/push", {**view, "shop_id": "wrong"}),
    ):  # fmt: skip
        async with run.client.post(f"{run.url}{url}", json=body, headers=KEY):
            pass
    async with run.client.post(f"{run.url}{path}", data=b"{", headers=KEY):
        pass
    async with run.client.get(f"{run.url}/shop/init?shop_id=right"):
        pass
    await run.watch.until(lambda watch: len(watch.settled) == TAKEN * len(VENDORS))
    run.gateway.accepting = False
    async with run.client.post(f"{run.url}{path}", json=event, headers=KEY):
        pass
    run.gateway.accepting = True


async def scraped(folder: Path) -> list[Metric]:
    """Return the metrics that a gateway serves after all outcomes."""
    async with running(folder, lambda sandbox: configured(folder, sandbox)) as run:
        await happen(run)
        async with run.client.get(f"{run.url}/metrics") as answer:
            return list(text_string_to_metric_families(await answer.text()))


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> list[Metric]:
    """Return the metrics of a gateway after all outcomes."""
    return asyncio.run(scraped(tmp_path_factory.mktemp("scraped")))


@pytest.fixture(scope="module")
def scrape(families: list[Metric]) -> Scrape:
    """Return the metrics as a scrape that checks queries."""
    return Scrape(families)


def test_every_outcome_occurred(families: list[Metric]) -> None:
    """The scraped run had each outcome of deliveries and requests that queries name."""
    seen = {
        (sample.name, sample.labels["outcome"])
        for family in families for sample in family.samples
        if "outcome" in sample.labels and sample.value
    }  # fmt: skip
    for end in DELIVERY_OUTCOMES:
        assert ("cdp_gateway_deliveries_total", end) in seen
    for outcome in ("accepted", "relayed", "unavailable", "forbidden", "malformed", "missing"):
        assert ("cdp_gateway_requests_total", outcome) in seen


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: query.place)
def test_queries_match_the_scrape(query: Query, scrape: Scrape) -> None:
    """A query is valid; its metrics, labels and values were scraped; its result has its labels."""
    labels = scrape.labels(query.text)
    assert query.labels <= (labels or frozenset())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gateway_nothing", "no such metric"),
        ('cdp_gateway_ready{source="shop"}', "has no label source"),
        ('cdp_gateway_requests_total{outcome="lost"}', "is never lost"),
        ('cdp_gateway_deliveries_total{outcome="later"}', "is never later"),
        ('cdp_gateway_breaker_state{state="probing"}', "is never probing"),
        ('cdp_gateway_route_events_total{outcome!="given"}', "is never given"),
        ("sum by (how) (cdp_gateway_losses_total)", "there is no"),
        ('cdp_gateway_requests_total{outcome=~"accepted|lost"}', "is never lost"),
        ('cdp_gateway_requests_total{outcome!~"accepted|lost"}', "is never lost"),
        (
            'cdp_gateway_deliveries_total{destination="chrts", outcome="shadowed"}',
            "is never shadowed",
        ),
        ('cdp_gateway_requests_total{source="app", outcome="malformed"}', "no series is like this"),
        ("sum by (source) (cdp_gateway_dead_letters)", "there is no"),
        ("rate(cdp_gateway_dead_letters[5m])", "rate is not for"),
        ("delta(cdp_gateway_events_total[5m])", "delta is not for"),
        ("cdp_gateway_dead_letters / cdp_gateway_spool_bytes", "labels differ"),
        ("cdp_gateway_ready and on (destination) cdp_gateway_dead_letters", "one side lacks"),
        (
            "histogram_quantile(0.5, sum(rate(cdp_gateway_request_duration_seconds_bucket[5m])))",
            "le is gone",
        ),
    ],
)
def test_mistakes_in_queries_are_found(text: str, problem: str, scrape: Scrape) -> None:
    """A query that can never have a result is rejected."""
    with pytest.raises(AssertionError, match=problem):
        scrape.labels(text)


def test_every_metric_is_shown_or_left_out(families: list[Metric]) -> None:
    """The dashboard shows each metric except those that the page lists as left out."""
    read = {n for panel in panels() for one in panel["targets"] for n in metrics(fill(one["expr"]))}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in read}
    exported = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
    left_out = set(LEFT_OUT.findall(PAGE.read_text()))
    assert shown | left_out == exported
    assert not shown & left_out


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """The dashboard names no data source, and its panels have unique ids and do not overlap."""
    assert {str(one["datasource"]["uid"]) for one in _asking()} == {"${datasource}"}
    assert variables()["datasource"]["type"] == "datasource"
    assert dashboard()["id"] is None
    placed = dashboard()["panels"]
    assert len({panel["id"] for panel in placed}) == len(placed)
    for one, other in combinations([panel["gridPos"] for panel in placed], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def _asking() -> list[dict[str, Any]]:
    asked = [one for name, one in variables().items() if name != "datasource"]
    return asked + panels() + [target for panel in panels() for target in panel["targets"]]


def test_every_alert_says_what_to_do() -> None:
    """Each alert has a unique name, a severity, a summary and a description, and is on the page."""
    names = [rule["alert"] for rule in rules()]
    assert LISTED.findall(PAGE.read_text()) == names
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_page_configures_prometheus() -> None:
    """The page's configuration scrapes the gateway under the rules' job, and loads the rules."""
    (shown,) = (yaml.safe_load(snippet.text) for snippet in snippets("yaml"))
    (job,) = shown["scrape_configs"]
    assert job["job_name"] == TARGET["job"]
    assert job["static_configs"] == [{"targets": [ServerConfig().listen]}]
    assert [Path(name).name for name in shown["rule_files"]] == [RULES.name]
