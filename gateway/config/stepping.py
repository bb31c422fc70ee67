"""From a step as a file has it to a step that can be taken."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from gateway.config.environment import References
from gateway.config.models import keys_of
from gateway.config.problems import Report
from gateway.config.steps import STEPS, Copy, Default, Map, Set, Step
from gateway.routing.fields import find
from gateway.routing.targets import settable
from gateway.words import nearest

COLUMNS = 2


class Place(NamedTuple):
    """Where a step stands."""

    table: str
    key: str
    file: Path
    number: int
    """Which of the list it is, from 1."""


class StepReading:
    """Reads steps, one table at a time."""

    def __init__(self, references: References, report: Report) -> None:
        self.files: list[Path] = []
        """The files with tables that were read."""
        self._references = references
        self._report = report

    def step(self, raw: Any, place: Place) -> Iterator[Step]:
        """Yield the step that *raw* is, if it is one; otherwise a problem is reported."""
        if not isinstance(raw, dict):
            self._wrong(place, "must be a table; write { drop = [...] }")
            return
        words = [key for key in raw if key in STEPS]
        if len(words) != 1:
            known = f"there is none here; {nearest(next(iter(raw), ''), STEPS)}"
            what = f"here are {' and '.join(words)}; write two tables" if words else known
            self._wrong(place, f"each table is one step, named by its key; {what}")
            return
        model = STEPS[words[0]]
        raw = {key: self._expanded(key, value, place) for key, value in raw.items()}
        try:
            step = model.model_validate(raw)
        except ValidationError as error:
            for sentence in self._report.sentences(keys_of(model), error):
                self._wrong(place, sentence)
            return
        for path in _paths(step):
            if hint := find(path.split(".")).hint:
                what = f"item {place.number}, {step.word}: {path} is not in the vocabulary; {hint}"
                self._report.warning(place.table, place.key, what)
        if isinstance(step, Map) and step.file is not None:
            step = self._with_table(step, place)
        yield step

    def _wrong(self, place: Place, what: str) -> None:
        self._report.problem(place.table, place.key, f"item {place.number}, {what}")

    def _expanded(self, key: str, value: Any, place: Place) -> Any:
        value = self._references.expanded(value, place.table, place.key)
        if key == "key":
            return self._references.secret(value, place.table, place.key)
        return value

    def _with_table(self, step: Map, place: Place) -> Map:
        """Return *step* with what its file says."""
        file = place.file.parent / (step.file or "")
        self.files.append(file)
        try:
            table = _table(file, file.read_text("utf-8-sig"))
            for value in table.values():
                settable(step.to or step.map, value)
        except (OSError, ValueError, RecursionError, csv.Error) as error:
            reason = _why(error)
            self._wrong(place, f"map: the table in {file} cannot be used: {reason}")
            return step
        return step.model_copy(update={"table": table})


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text; save it as UTF-8"
    return str(error)


def _table(file: Path, text: str) -> Mapping[str, Any]:
    """Return the table in *text*.

    Raises:
        ValueError: it holds none.
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
                what = f"line {rows.line_num} gives {value!r} another result than a line before"
                raise ValueError(f"{what}; keep one of them")
        return table
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError('it is no object; write {"value": "result"}')  # noqa: TRY004 - the caller tells a person
    return table


def _paths(step: Step) -> Iterator[str]:
    """Yield the fields that a step names."""
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
