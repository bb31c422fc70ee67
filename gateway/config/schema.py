"""Make the JSON Schema of the configuration, for editors.

It is draft 7 (https://json-schema.org/draft-07), which Taplo, Even Better TOML and other editors
support.
"""

import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.conditions.expression import NamedExpression
from gateway.conditions.template import EventCondition, Template
from gateway.config.docstrings import documented_keys
from gateway.config.models import TABLES, Delivery, SourceConfig, keys_of
from gateway.config.route_tests import ExpectedRequestConfig
from gateway.config.steps import STEPS, StepConfig
from gateway.config.types import NAME, HeaderValue, Schema
from gateway.plugin.quantities import DURATIONS, RATES, SIZES, Quantity, QuantityKind, shown
from gateway.plugin.registry import PluginRegistry

Json: TypeAlias = dict[str, Any]

REFERS = r"\$\{"
"""A reference to the environment; the schema accepts it in place of any value."""
REFERENCE: Json = {"$ref": "#/definitions/reference"}
NUMBER = r"^\s*\d+(\.\d+)?\s*"
QUANTITIES: Mapping[QuantityKind, str] = {
    "duration": f"{NUMBER}({'|'.join(DURATIONS)})?\\s*$",
    "size": f"{NUMBER}({'|'.join(SIZES)})?\\s*$",
    "rate": f"{NUMBER}(/\\s*({'|'.join(RATES)}))?\\s*$",
}
"""Patterns of quantities, as `gateway.plugin.quantities` reads them."""
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
NUMERIC = ("integer", "number")
TEXT: Json = {"type": "string"}
SIMPLE: Mapping[Any, Json] = {
    str: TEXT, Path: TEXT, SecretStr: TEXT, HeaderValue: TEXT,
    int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    Any: {}, Schema: {"anyOf": [{"type": "object"}, {"type": "boolean"}, TEXT]},
    StepConfig: {"$ref": "#/definitions/step"}, EventCondition: TEXT,
}  # fmt: skip


def key_schema(field: FieldInfo, *, loose: bool = False) -> Json:
    """Return the schema of a key; with *loose*, a list of one may be written without brackets."""
    written = _written(field)
    ways = list(_field_ways(field, written))
    if loose and any(way.get("type") == "array" for way in ways):
        ways.append(TEXT)
    described = {"description": line(field.description)} if field.description else {}
    return {**described, **_any_way(_with_references(ways)), **_default(field, written)}


def line(text: str | None) -> str:
    """Return a docstring as one line."""
    return " ".join((text or "").split()).replace("``", "`")


def _field_ways(field: FieldInfo, written: Quantity | None) -> Iterator[Json]:
    """Yield the schemas of the forms in which a key's value may be written."""
    if isinstance(field.json_schema_extra, dict):
        yield dict(field.json_schema_extra)
    elif written is not None:
        pattern = f"{QUANTITIES[written.kind]}|{REFERS}"
        yield {"type": ["number", "string"], "minimum": 0, "pattern": pattern}
    else:
        for way in _ways(field.annotation):
            yield {**way, **_bounds(field)} if way.get("type") in NUMERIC else way


def _with_references(ways: list[Json]) -> list[Json]:
    """Return *ways*, and a reference to the environment if text is limited to some values."""
    if TEXT in ways:
        return ways
    found = [_or_reference(way) for way in ways]
    return [*found, REFERENCE] if any("enum" in way for way in ways) else found


def _or_reference(way: Json) -> Json:
    if way.get("type") not in (*NUMERIC, "boolean"):
        return way
    return {**way, "type": [way["type"], "string"], "pattern": REFERS}


def _any_way(ways: list[Json]) -> Json:
    """Return a schema that accepts any of *ways*; keys may be added to it."""
    only = ways[0] if len(ways) == 1 else {"anyOf": ways}
    return {"allOf": [only]} if "$ref" in only else only


def _ways(annotation: Any) -> Iterator[Json]:
    """Yield the schemas of the forms in which a value may be written; None is left out."""
    origin, members = get_origin(annotation), get_args(annotation)
    if annotation in SIMPLE:
        yield SIMPLE[annotation]
    elif annotation is types.NoneType:
        return
    elif origin in {Union, types.UnionType}:
        for member in members:
            yield from _ways(member)
    elif origin is Literal:
        yield {"enum": list(members)}
    elif isinstance(annotation, type) and (found := _way_of_class(annotation)) is not None:
        yield found
    elif origin in {tuple, list}:
        yield {"type": "array", "items": _member(members[0])}
    elif origin in {dict, Mapping}:
        yield {"type": "object", "additionalProperties": _member(members[1])}
    else:
        raise TypeError(f"no JSON Schema for the annotation {annotation!r}; add it to SIMPLE")


def _way_of_class(annotation: type) -> Json | None:
    """Return the schema of a class of values: an expression, a value with some, a table."""
    if issubclass(annotation, NamedExpression):
        return TEXT
    if issubclass(annotation, Template):
        return {}
    return _table(annotation) if issubclass(annotation, BaseModel) else None


def _member(annotation: Any) -> Json:
    return _any_way(_with_references(list(_ways(annotation))))


def _bounds(field: FieldInfo) -> Json:
    return {
        word: value
        for limit in field.metadata
        for name, word in BOUNDS.items()
        if (value := getattr(limit, name, None)) is not None
    }


def _written(field: FieldInfo) -> Quantity | None:
    held = [*field.metadata]
    for part in get_args(field.annotation):
        held += get_args(part)
    return next((mark for mark in held if isinstance(mark, Quantity)), None)


def _default(field: FieldInfo, written: Quantity | None) -> Json:
    if field.is_required() or field.default_factory is not None:
        return {}
    value = field.get_default(call_default_factory=False)
    if isinstance(value, NamedExpression):
        value = value.text
    if value is None or value in ("", (), {}) or isinstance(value, _NO_DEFAULT):
        return {}
    if written is not None:
        return {"default": shown(value, written.kind)}
    return {"default": str(value) if isinstance(value, Path | datetime) else value}


VENDOR_OR_PRESET = [{"required": ["vendor"]}, {"required": ["preset"]}]
"""A preset names the vendor."""
_NO_DEFAULT = (Template, BaseModel, SecretStr)
"""Classes of defaults that are not shown."""
DRAFT = "http://json-schema.org/draft-07/schema#"
SINGLE = ("server", "spool", "admin", "consent", "suppression", "trace", "log", "alerts")


def editor_schema(registry: PluginRegistry) -> Json:
    """Return the schema of the configuration file, with the settings of all installed vendors."""
    steps = {"type": "array", "items": {"$ref": "#/definitions/step"}}
    single = {name: _table(TABLES[name]) for name in SINGLE if name in TABLES}
    lists = {
        name: {"type": "array", "items": _table(model)}
        for name, model in TABLES.items()
        if name not in {*SINGLE, "sources", "destinations"}
    }
    return {
        "$schema": DRAFT,
        "title": "The gateway's configuration file",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "include": {
                "description": "More files to read, as paths or patterns relative to this file.",
                "type": "array", "items": {"type": "string"},
            },
            **single,
            "sources": _named("Where events come from, by name.", _source(registry)),
            "destinations": _named(
                "Where events are delivered, by name.", {"$ref": "#/definitions/destination"}
            ),
            "steps": _named("Lists of steps, by name; routes can use the names.", steps),
            **lists,
        },
        "definitions": {
            "reference": {
                "description": "A reference to an environment variable.",
                "type": "string", "pattern": REFERS,
            },
            "expected": _table(ExpectedRequestConfig),
            "step": _step(),
            **{f"step-{word}": _table(step) for word, step in STEPS.items()},
            "destination": _destination(registry),
            **{
                f"destination-{vendor}": _settings(output.Config)
                for vendor, output in registry.outputs.items()
            },
        },
    }  # fmt: skip


def _named(what: str, held: Json) -> Json:
    names = {"pattern": f"^{NAME.pattern}$"}
    return {
        "description": what,
        "type": "object",
        "propertyNames": names,
        "additionalProperties": held,
    }


def _table(model: type[BaseModel]) -> Json:
    keys = documented_keys(model)
    loose = issubclass(model, StepConfig)
    return {
        "description": line(model.__doc__),
        "type": "object",
        "additionalProperties": False,
        "required": [key for key, field in keys.items() if field.is_required()],
        "properties": {key: key_schema(field, loose=loose) for key, field in keys.items()},
    }


def _source(registry: PluginRegistry) -> Json:
    table = _table(SourceConfig)
    table["properties"]["vendor"] |= _one_of(registry.inputs)
    table["required"].remove("vendor")
    table["anyOf"] = VENDOR_OR_PRESET
    for reads in registry.inputs.values():
        keys = documented_keys(reads.Config) if reads.Config is not None else {}
        table["properties"] |= {key: key_schema(field) for key, field in keys.items()}
    return table


def _destination(registry: PluginRegistry) -> Json:
    """Return the schema of a destination; its vendor decides which further keys it has.

    The vendors' keys are listed at this level too, with their descriptions only, for editors that
    ignore conditions when they complete keys.
    """
    own: dict[str, list[str]] = {}
    for vendor, output in registry.outputs.items():
        for key, field in documented_keys(output.Config).items():
            own.setdefault(key, []).append(f"{vendor}: {line(field.description)}")
    common = {key: key_schema(field) for key, field in documented_keys(Delivery).items()}
    common["vendor"] |= _one_of(registry.outputs)
    hints = {key: {"description": "\n\n".join(lines)} for key, lines in own.items()}
    chosen = (_when("vendor", vendor, f"destination-{vendor}") for vendor in registry.outputs)
    return {
        "description": line(Delivery.__doc__),
        "type": "object",
        "anyOf": VENDOR_OR_PRESET,
        "properties": {**hints, **common},
        "allOf": list(chosen),
    }


def _settings(model: type[BaseModel]) -> Json:
    """Return the schema of a vendor's keys; all are optional for a shadow or with clients' keys."""
    keys = documented_keys(model)
    required = [key for key, field in keys.items() if field.is_required()]
    shadow = {"required": ["shadow"], "properties": {"shadow": {"const": True}}}
    client = {"required": ["credentials"], "properties": {"credentials": {"const": "client"}}}
    return {
        "additionalProperties": False,
        "properties": {
            **dict.fromkeys(keys_of(Delivery), True),
            **{key: key_schema(field) for key, field in keys.items()},
        },
        "if": {"anyOf": [client, shadow]},
        "else": {"required": required},
    }


def _step() -> Json:
    """Return the schema of a step: a table named by its first key, or the name of a step list."""
    words = {
        word: {
            "description": f"{line(step.__doc__)} {line(documented_keys(step)[word].description)}"
        }
        for word, step in STEPS.items()
    }
    return {
        "type": ["object", "string"],
        "properties": words,
        "if": {"type": "object"},
        "then": {"anyOf": [{"required": [word]} for word in STEPS]},
        "allOf": [
            {
                "if": {"type": "object", "required": [word]},
                "then": {"$ref": f"#/definitions/step-{word}"},
            }
            for word in STEPS
        ],
    }


def _when(key: str, value: str, definition: str) -> Json:
    return {
        "if": {"required": [key], "properties": {key: {"const": value}}},
        "then": {"$ref": f"#/definitions/{definition}"},
    }


def _one_of(words: Mapping[str, object]) -> Json:
    return {"type": "string", "anyOf": [{"enum": list(words)}, REFERENCE]}
