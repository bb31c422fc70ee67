"""Write the reference of the configuration file (docs/configuration.md) from the models."""

import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.conditions.expression import NamedExpression
from gateway.conditions.template import EventCondition, Template
from gateway.config.docstrings import documented_keys
from gateway.config.models import TABLES
from gateway.config.route_tests import NOON, Expected, ExpectedRequestConfig
from gateway.config.steps import STEPS, StepConfig
from gateway.config.types import HeaderValue, Schema
from gateway.plugin.config_table import nested_model
from gateway.plugin.quantities import Quantity, shown
from gateway.plugin.registry import PluginRegistry

HEADERS = {
    "server": "[server]",
    "spool": "[spool]",
    "admin": "[admin]",
    "consent": "[consent]",
    "trace": "[trace]",
    "log": "[log]",
    "alerts": "[alerts]",
    "suppression": "[suppression]",
    "sources": "[sources.NAME]",
    "destinations": "[destinations.NAME]",
    "routes": "[[routes]]",
    "tests": "[[tests]]",
}
"""The header of each table in the file."""

_KINDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    SecretStr: "credential",
    HeaderValue: "text or credential",
    Path: "path",
    StepConfig: "step",
    Schema: "JSON Schema",
    Expected: "list of destinations, or table of requests",
    datetime: "time",
    Template: "value with expressions",
    EventCondition: "condition",
    Any: "value",
}


def reference(registry: PluginRegistry) -> str:
    """Return the reference in Markdown: one table for each table of the file, step and vendor."""
    parts = [
        part for name, model in TABLES.items() for part in _section(f"### `{HEADERS[name]}`", model)
    ]
    parts += _section("#### `[tests.expect.DESTINATION]`", ExpectedRequestConfig)
    for word, step in STEPS.items():
        parts += _section(f"#### A step of `[[routes]]` or of a list in `[steps]`: `{word}`", step)
    for vendor, reads in registry.inputs.items():
        if reads.Config is not None:
            title = f'#### `[sources.NAME]` with `vendor = "{vendor}"`'
            parts += _section(title, reads.Config, described=False)
            parts += _nested(reads.Config, "sources.NAME")
    for vendor, output in registry.outputs.items():
        title = f'#### `[destinations.NAME]` with `vendor = "{vendor}"`'
        parts += _section(title, output.Config, described=False)
        parts += _nested(output.Config, "destinations.NAME")
    return "\n".join(parts).strip() + "\n"


def _section(title: str, model: type[BaseModel], *, described: bool = True) -> Iterator[str]:
    yield title
    yield ""
    if described:
        yield _line(model.__doc__)
        yield ""
    yield "| key | value | default | |"
    yield "|---|---|---|---|"
    for key, field in documented_keys(model).items():
        yield f"| `{key}` | {_kind(field)} | {_default(field)} | {_line(field.description)} |"
    yield ""


def _nested(model: type[BaseModel], above: str) -> Iterator[str]:
    """Yield the sections of the tables in a table."""
    for key, field in documented_keys(model).items():
        inner = nested_model(field.annotation)
        if inner is not None:
            header = f"{above}.{key}"
            written = f"[[{header}]]" if _is_list(field) else f"[{header}]"
            yield from _section(f"#### `{written}`", inner)
            yield from _nested(inner, header)


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "`").replace("|", "\\|")


def _written(field: FieldInfo) -> Quantity | None:
    return _marker(field.metadata) or next(
        (m for part in get_args(field.annotation) if (m := _marker(get_args(part)))), None
    )


def _marker(metadata: Any) -> Quantity | None:
    return next((mark for mark in metadata if isinstance(mark, Quantity)), None)


def _kind(field: FieldInfo) -> str:
    written = _written(field)
    return written.kind if written else " or ".join(_words(field.annotation))


def _words(annotation: Any) -> list[str]:
    """Return the allowed kinds of values, one word each; None is left out."""
    if annotation in _KINDS:
        return [_KINDS[annotation]]
    if isinstance(annotation, type) and issubclass(annotation, Template):
        return [_KINDS[Template]]
    if isinstance(annotation, type) and issubclass(annotation, NamedExpression):
        return ["expression"]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ["table"]
    origin, members = get_origin(annotation), get_args(annotation)
    if annotation is types.NoneType:
        return []
    if origin in {Union, types.UnionType}:
        return [word for member in members for word in _words(member)]
    if origin is Literal:
        return [f'`"{member}"`' for member in members]
    if origin is tuple:
        one_of = _words(members[0])
        return [f"list of {one_of[0]}s" if len(one_of) == 1 else f"list of {', '.join(one_of)}"]
    if origin in {dict, Mapping}:
        held = _words(members[1])
        return [f"table of {held[0]}s" if len(held) == 1 else "table of values"]
    return [getattr(annotation, "__name__", str(annotation))]


def _plain(value: Any) -> Any:
    """Return a default as in the file; None if it is not shown."""
    if isinstance(value, Template):
        return value.raw
    if isinstance(value, NamedExpression):
        return value.text
    return None if isinstance(value, BaseModel | SecretStr) else value


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return ""
    value = _plain(field.get_default(call_default_factory=False))
    written = _written(field)
    if value is None or value in ("", (), {}):
        return ""
    if value == NOON:
        return "`2025-01-01T12:00:00Z`"
    if written:
        return f'`"{shown(value, written.kind)}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str | Path):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f"`{value}`"
