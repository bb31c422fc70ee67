"""Read routes with their conditions and steps."""

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from gateway.conditions.analysis import ConditionAnalysis, placed
from gateway.config.docstrings import documented_keys
from gateway.config.loader.checks import check_names
from gateway.config.loader.files import FileMerger, Raw
from gateway.config.loader.references import ReferenceResolver
from gateway.config.loader.report import ConfigReport
from gateway.config.models import RouteConfig
from gateway.config.steps import STEPS, Copy, Default, Map, Set, StepConfig, settable
from gateway.event_fields import find_field
from gateway.suggestions import did_you_mean

COLUMNS = 2


class StepLocation(NamedTuple):
    """Where a step is written."""

    table: str
    key: str
    file: Path
    number: int
    """Its position in the list, from 1."""


class StepReader:
    """Reads steps, one table at a time."""

    def __init__(self, references: ReferenceResolver, report: ConfigReport) -> None:
        self.files: list[Path] = []
        """The files with tables that were read."""
        self._references = references
        self._report = report

    def step(self, raw: Any, place: StepLocation) -> Iterator[StepConfig]:
        """Yield the step in *raw*; report a problem and yield nothing if it is invalid."""
        if not isinstance(raw, dict):
            self._wrong(place, "must be a table; write { drop = [...] }")
            return
        words = [key for key in raw if key in STEPS]
        if len(words) != 1:
            first = next(iter(raw), "")
            unknown = f"{first!r} is not a step; {did_you_mean(first, STEPS)}"
            what = f"has several steps: {', '.join(words)}; write one table for each"
            self._wrong(place, what if words else unknown)
            return
        model = STEPS[words[0]]
        raw = {key: self._expanded(key, value, place) for key, value in raw.items()}
        try:
            step = model.model_validate(raw)
        except ValidationError as error:
            for sentence in self._report.sentences(documented_keys(model), error):
                self._wrong(place, sentence)
            return
        for path in _paths(step):
            if hint := find_field(path.split(".")).hint:
                what = f"item {place.number}, {step.word}: {path} is not a neutral field; {hint}"
                self._report.warning(place.table, place.key, what)
        if isinstance(step, Map) and step.file is not None:
            step = self._with_table(step, place)
        yield step

    def _wrong(self, place: StepLocation, what: str) -> None:
        self._report.problem(place.table, place.key, f"item {place.number}, {what}")

    def _expanded(self, key: str, value: Any, place: StepLocation) -> Any:
        value = self._references.expanded(value, place.table, place.key)
        if key == "key":
            return self._references.secret(value, place.table, place.key)
        return value

    def _with_table(self, step: Map, place: StepLocation) -> Map:
        """Return *step* with the table from its file."""
        file = place.file.parent / (step.file or "")
        self.files.append(file)
        try:
            table = _table(file, file.read_text("utf-8-sig"))
            for value in table.values():
                settable(step.to or step.map, value)
        except (OSError, ValueError, RecursionError, csv.Error) as error:
            reason = _why(error)
            self._wrong(place, f"map: the table in {file} is invalid: {reason}")
            return step
        return step.model_copy(update={"table": table})


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text; save it as UTF-8"
    return str(error)


def _table(file: Path, text: str) -> Mapping[str, Any]:
    """Parse a table: CSV with two columns, or JSON with one object.

    Raises:
        ValueError: it is neither.
    """
    if file.suffix.lower() == ".csv":
        rows = csv.reader(io.StringIO(text, newline=""))
        table: dict[str, str] = {}
        for row in rows:
            if not row:
                continue
            if len(row) != COLUMNS:
                what = f"line {rows.line_num} has {len(row)} columns, not {COLUMNS}"
                raise ValueError(f"{what}; write VALUE,RESULT")
            value, result = row
            if table.setdefault(value, result) != result:
                what = f"line {rows.line_num} has another result for {value!r} than an earlier line"
                raise ValueError(f"{what}; keep one of them")
        return table
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError('it is not an object; write {"value": "result"}')  # noqa: TRY004 - the caller reports a ValueError
    return table


def _paths(step: StepConfig) -> Iterator[str]:
    """Yield the paths of the fields that a step uses."""
    if isinstance(step, Set | Default):
        yield from step.set if isinstance(step, Set) else step.default
    elif isinstance(step, Copy):
        yield from [*step.copy_, *step.copy_.values()]
    elif isinstance(step, Map):
        yield from [step.map, *([step.to] if step.to else [])]
    else:
        held = getattr(step, step.word)
        yield from held if step.word in PATHS else ()


PATHS = frozenset({"drop", "keep", "hash", "mask", "truncate_ip"})
"""Steps whose own key lists fields."""


class RouteReader:
    """Reads the routes, and the step lists that they use."""

    def __init__(
        self, gathered: FileMerger, references: ReferenceResolver, report: ConfigReport
    ) -> None:
        self._gathered = gathered
        self._references = references
        self._report = report
        self._reading = StepReader(references, report)
        self._used: set[str] = set()
        self._lists = self._named_lists()

    @property
    def files(self) -> list[Path]:
        """Return the files with tables of steps that were read."""
        return self._reading.files

    def routes(self, known: Mapping[str, Collection[str]]) -> list[RouteConfig]:
        """Return the valid routes.

        Args:
            known: the names that are allowed under ``from`` and ``to``.
        """
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
                what = "has no effect without a condition; add when, or remove it"
                self._report.warning(table, "on_error", what)
            try:
                found.append(RouteConfig.model_validate(expanded))
            except ValidationError as error:
                self._report.findings(table, documented_keys(RouteConfig), error)
        for name in self._lists.keys() - self._used:
            what = "no route uses this list of steps; use it in steps of a route, or remove it"
            self._report.warning("steps", name, what)
        return found

    def _check_label(self, label: Any, raw: Raw, table: str, labels: dict[str, str]) -> None:
        if raw.get("steps") and not raw.get("name"):
            what = "a route with steps needs a name, to be stored with its deliveries; add name"
            self._report.problem(table, "steps", what)
        if not isinstance(label, str):
            return
        if not label:
            self._report.problem(table, "name", "is empty; set it, or remove the key")
        elif label in labels:
            what = f"{label!r} is the name, or the default name, of another route; change it"
            self._report.problem(table, "name", what)
        labels.setdefault(label, table)

    def _check_condition(self, text: Any, table: str) -> None:
        if not isinstance(text, str):
            return
        analysis = ConditionAnalysis(text)
        for remark in analysis.problems:
            self._report.problem(table, "when", placed(text, remark))
        for remark in analysis.doubts:
            self._report.warning(table, "when", placed(text, remark))

    def _steps(self, raw: Any, table: str) -> tuple[StepConfig, ...]:
        if not isinstance(raw, list):
            self._report.problem(table, "steps", "must be a list; write [{ drop = [...] }]")
            return ()
        found: list[StepConfig] = []
        for number, item in enumerate(raw, start=1):
            if isinstance(item, str):
                if item not in self._lists:
                    what = f"item {number}: there is no step list {item!r}; "
                    self._report.problem(table, "steps", what + did_you_mean(item, self._lists))
                self._used.add(item)
                found += self._lists.get(item, ())
            else:
                place = StepLocation(table, "steps", self._gathered.owner(table), number)
                found += self._reading.step(item, place)
        return tuple(found)

    def _named_lists(self) -> dict[str, tuple[StepConfig, ...]]:
        found: dict[str, tuple[StepConfig, ...]] = {}
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
                for step in self._reading.step(item, StepLocation("steps", name, file, number))
            )
        return found
