"""Compile the tracking plans of sources, from the configuration and its schema files."""

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
"""The event fields that a schema may describe."""


class PlanReader:
    """Compiles the schemas of sources.

    Args:
        report: gets the problems.

    Attributes:
        plans: by the name of the source; sources without schemas are left out.
        files: the files that were read.
    """

    def __init__(self, report: ConfigReport) -> None:
        self.plans: dict[str, TrackingPlan] = {}
        self.files: list[Path] = []
        self._report = report

    def read(self, name: str, source: SourceConfig, file: Path) -> None:
        """Compile the schemas of a source that is configured in *file*."""
        table = f"sources.{name}"
        if not source.schemas:
            if "on_violation" in source.model_fields_set:
                what = "has no effect without schemas; add some, or remove it"
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
        """Warn about fields in a schema that events do not have."""
        if not isinstance(raw, Mapping):
            return
        named = [*_names(raw.get("properties")), *_names(raw.get("required"))]
        for name in dict.fromkeys(named):
            if name not in TOP:
                what = f"its schema names {name!r}, which is not a field of events; "
                self._report.warning(table, event, what + did_you_mean(name, TOP))


def _names(held: Any) -> list[str]:
    return [name for name in held if isinstance(name, str)] if isinstance(held, dict | list) else []
