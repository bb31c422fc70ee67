"""The tracking plans of sources, from the configuration and the files that it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.loader.report import ConfigReport
from gateway.config.models import SourceConfig
from gateway.event import Event
from gateway.suggestions import did_you_mean
from gateway.tracking import Schema, SchemaError, TrackingPlan
from gateway.tracking.schema import OWN, json_of

TOP = frozenset(Event.__struct_fields__).difference(OWN)
"""What a schema may say something of."""


class PlanReader:
    """Compiles the schemas of sources.

    Args:
        report: takes what is wrong with them.

    Attributes:
        plans: by the source's name; none for a source without schemas.
        files: what was read.
    """

    def __init__(self, report: ConfigReport) -> None:
        self.plans: dict[str, TrackingPlan] = {}
        self.files: list[Path] = []
        self._report = report

    def read(self, name: str, source: SourceConfig, file: Path) -> None:
        """Compile the schemas of a source that *file* configures."""
        table = f"sources.{name}"
        if not source.schemas:
            if "on_violation" in source.model_fields_set:
                what = "does nothing without schemas; add some, or leave on_violation out"
                self._report.warning(table, "on_violation", what)
            return
        schemas: dict[str, Schema] = {}
        for event, written in source.schemas.items():
            try:
                schema = self._schema(written, file)
            except SchemaError as error:
                which = f"its schema {written}" if isinstance(written, str) else "its schema"
                self._report.problem(f"{table}.schemas", event, f"{which} {error}")
            else:
                self._doubt(f"{table}.schemas", event, schema.raw)
                schemas[event] = schema
        self.plans[name] = TrackingPlan(name, schemas, source.on_violation)

    def _schema(self, written: Any, file: Path) -> Schema:
        if not isinstance(written, str):
            return Schema(written, file)
        path = file.parent / written
        self.files.append(path)
        schema = Schema(json_of(path), path)
        self.files += schema.files
        return schema

    def _doubt(self, table: str, event: str, raw: Any) -> None:
        """Warn of a schema that names fields of the event which there are not."""
        if not isinstance(raw, Mapping):
            return
        named = [*_names(raw.get("properties")), *_names(raw.get("required"))]
        for name in dict.fromkeys(named):
            if name not in TOP:
                what = f"its schema names {name!r}, and events have no such field; "
                self._report.warning(table, event, what + did_you_mean(name, TOP))


def _names(held: Any) -> list[str]:
    return [name for name in held if isinstance(name, str)] if isinstance(held, dict | list) else []
