"""From the routes of a file, with their conditions and steps, to what the router takes."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.checks import check_names
from gateway.config.environment import References
from gateway.config.file import Raw
from gateway.config.gathering import Gathering
from gateway.config.models import keys_of
from gateway.config.problems import Report
from gateway.config.routing import RouteConfig
from gateway.config.stepping import Place, StepReading
from gateway.config.steps import Step
from gateway.routing.study import Study, placed
from gateway.words import nearest


class RouteReading:
    """Reads the routes, and the step lists that they name."""

    def __init__(self, gathered: Gathering, references: References, report: Report) -> None:
        self._gathered = gathered
        self._references = references
        self._report = report
        self._reading = StepReading(references, report)
        self._used: set[str] = set()
        self._lists = self._named_lists()

    @property
    def files(self) -> list[Path]:
        """Return the files with tables of steps that were read."""
        return self._reading.files

    def routes(self, known: Mapping[str, Collection[str]]) -> list[RouteConfig]:
        """Return the routes that are right; *known* is what may stand under from and to."""
        found = []
        labels: dict[str, str] = {}
        for number, raw in enumerate(self._gathered.raw.get("routes", []), start=1):
            table = f"routes.{number}"
            written = {k: v for k, v in raw.items() if k not in {"steps", "when"}}
            expanded = {"name": f"route {number}"} | self._references.table(written, table)
            check_names(expanded, table, known, self._report)
            self._check_label(expanded["name"], raw, table, labels)
            if "steps" in raw:
                expanded["steps"] = self._steps(raw["steps"], table)
            if "when" in raw:
                expanded["when"] = self._references.expanded(raw["when"], table, "when")
                self._check_condition(expanded["when"], table)
            elif "on_error" in raw:
                what = "does nothing without a condition; add when, or leave it out"
                self._report.warning(table, "on_error", what)
            try:
                found.append(RouteConfig.model_validate(expanded))
            except ValidationError as error:
                self._report.findings(table, keys_of(RouteConfig), error)
        for name in self._lists.keys() - self._used:
            what = "no route takes these steps; name the list in one, or remove it"
            self._report.warning("steps", name, what)
        return found

    def _check_label(self, label: Any, raw: Raw, table: str, labels: dict[str, str]) -> None:
        if raw.get("steps") and not raw.get("name"):
            what = "a route with steps needs a name, which is stored with its deliveries; add one"
            self._report.problem(table, "steps", what)
        if not isinstance(label, str):
            return
        if not label:
            self._report.problem(table, "name", "is empty; name the route, or leave it out")
        elif label in labels:
            what = f"{label!r} is the name of another route; a route without one is called so, too"
            self._report.problem(table, "name", what)
        labels.setdefault(label, table)

    def _check_condition(self, text: Any, table: str) -> None:
        if not isinstance(text, str):
            return
        study = Study(text)
        for remark in study.problems:
            self._report.problem(table, "when", placed(text, remark))
        for remark in study.doubts:
            self._report.warning(table, "when", placed(text, remark))

    def _steps(self, raw: Any, table: str) -> tuple[Step, ...]:
        if not isinstance(raw, list):
            self._report.problem(table, "steps", "must be a list; write [{ drop = [...] }]")
            return ()
        found: list[Step] = []
        for number, item in enumerate(raw, start=1):
            if isinstance(item, str):
                if item not in self._lists:
                    what = f"item {number}: there is no step list {item!r}; "
                    self._report.problem(table, "steps", what + nearest(item, self._lists))
                self._used.add(item)
                found += self._lists.get(item, ())
            else:
                place = Place(table, "steps", self._gathered.owner(table), number)
                found += self._reading.step(item, place)
        return tuple(found)

    def _named_lists(self) -> dict[str, tuple[Step, ...]]:
        found: dict[str, tuple[Step, ...]] = {}
        for name, raw in self._gathered.raw.get("steps", {}).items():
            if not isinstance(raw, list):
                what = f"must be a list of steps; write {name} = [{{ drop = [...] }}]"
                self._report.problem("steps", name, what)
                found[name] = ()
                continue
            file = self._gathered.owner("steps", name)
            found[name] = tuple(
                step
                for number, item in enumerate(raw, start=1)
                for step in self._reading.step(item, Place("steps", name, file, number))
            )
        return found
