"""The queries of the dashboard and of the alert rules, with the labels that they must return."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
import yaml

from tests.docs.pages import ROOT

DASHBOARD = ROOT / "docs/operations/grafana-dashboard.json"
RULES = ROOT / "docs/operations/alerts.yml"
BUILT_IN = {"__rate_interval": "5m"}
"""Variables that Grafana fills in itself:
https://grafana.com/docs/grafana/latest/dashboards/variables/add-template-variables/."""
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
LABEL = re.compile(r"\$labels\.(\w+)")
VALUES = re.compile(r"label_values\((.+), (\w+)\)")


class Query(NamedTuple):
    """A query; ``labels`` are those that its result must have."""

    place: str
    text: str
    labels: frozenset[str]


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = orjson.loads(DASHBOARD.read_bytes())
    return found


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that have queries."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def variables() -> dict[str, dict[str, Any]]:
    """Return the variables of the dashboard by name."""
    return {one["name"]: one for one in dashboard()["templating"]["list"]}


def queries() -> Iterator[Query]:
    """Yield every query, with its variables filled in."""
    for panel in panels():
        for target in panel["targets"]:
            wanted = LEGEND.findall(target["legendFormat"])
            place = f"{panel['title']} {target['refId']}"
            yield Query(place, fill(target["expr"]), frozenset(wanted))
    for name, variable in variables().items():
        if variable["type"] == "query":
            found = VALUES.fullmatch(variable["definition"])
            assert found, name
            yield Query(f"variable {name}", fill(found[1]), frozenset({found[2]}))
    for rule in rules():
        said = LABEL.findall("".join(rule["annotations"].values()))
        yield Query(rule["alert"], rule["expr"], frozenset(said))


def fill(text: str) -> str:
    """Return a query of the dashboard with its variables filled in by their "all" value.

    Raises:
        KeyError: the dashboard lacks a variable.
    """
    known = {name: one.get("allValue", "") for name, one in variables().items()} | BUILT_IN
    return VARIABLE.sub(lambda found: known[found[1]], text)
