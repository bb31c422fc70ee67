"""The JSON Schema of the configuration file, for editors: completion, hover, red lines.

Of the drafts it takes 7 (https://json-schema.org/draft-07), which Taplo, Even Better TOML and
other editors all know.
"""

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.config.load import NAME
from gateway.config.models import TABLES, Delivery, SourceConfig, keys_of
from gateway.config.quantities import DURATIONS, RATES, SIZES, Kind, Written, shown
from gateway.config.schemas import Schema
from gateway.config.steps import STEPS, Step
from gateway.plugins import Registry

Json: TypeAlias = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
REFERENCE: Json = {"$ref": "#/definitions/reference"}
NUMBER = r"^\s*\d+(\.\d+)?\s*"
QUANTITIES: Mapping[Kind, str] = {
    "duration": f"{NUMBER}({'|'.join(DURATIONS)})?\\s*$",
    "size": f"{NUMBER}({'|'.join(SIZES)})?\\s*$",
    "rate": f"{NUMBER}(/\\s*({'|'.join(RATES)}))?\\s*$",
}
"""How quantities are written, as `gateway.config.quantities` reads them."""
SINGLE = ("server", "spool", "consent")
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
SIMPLE: Mapping[Any, Json] = {
    str: {"type": "string"}, Path: {"type": "string"}, SecretStr: {"type": "string"},
    int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    Any: {}, Schema: {"type": ["object", "boolean", "string"]},
    Step: {"$ref": "#/definitions/step"},
}  # fmt: skip


def editor_schema(registry: Registry) -> Json:
    """Return what a configuration file may say, the settings of all vendors included."""
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
                "description": "Further files, as paths or patterns from this file on.",
                "type": "array", "items": {"type": "string"},
            },
            **single,
            "sources": _named("Who may send, and in whose format.", _source(registry)),
            "destinations": _named("Who gets the events.", {"$ref": "#/definitions/destination"}),
            "steps": _named("Lists of steps, for routes to name.", steps),
            **lists,
        },
        "definitions": {
            "reference": {
                "description": "A reference to an environment variable.",
                "type": "string", "pattern": r"\$\{",
            },
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
    keys = keys_of(model)
    loose = issubclass(model, Step)
    return {
        "description": _line(model.__doc__),
        "type": "object",
        "additionalProperties": False,
        "required": [key for key, field in keys.items() if field.is_required()],
        "properties": {key: _key(field, loose=loose) for key, field in keys.items()},
    }


def _source(registry: Registry) -> Json:
    table = _table(SourceConfig)
    table["properties"]["vendor"] |= _one_of(registry.inputs)
    return table


def _destination(registry: Registry) -> Json:
    """Return what holds for every destination, and whose table decides the rest.

    The vendors' own keys stand here too, with their descriptions alone, for editors that offer
    completions without regard to conditions.
    """
    own: dict[str, list[str]] = {}
    for vendor, output in registry.outputs.items():
        for key, field in keys_of(output.Config).items():
            own.setdefault(key, []).append(f"{vendor}: {_line(field.description)}")
    common = {key: _key(field) for key, field in keys_of(Delivery).items()}
    common["vendor"] |= _one_of(registry.outputs)
    told = {key: {"description": "\n\n".join(lines)} for key, lines in own.items()}
    chosen = (_when("vendor", vendor, f"destination-{vendor}") for vendor in registry.outputs)
    return {
        "description": _line(Delivery.__doc__),
        "type": "object",
        "required": ["vendor"],
        "properties": {**told, **common},
        "allOf": list(chosen),
    }


def _settings(model: type[BaseModel]) -> Json:
    """Return a vendor's own keys; the client's credential makes all of them optional."""
    keys = keys_of(model)
    required = [key for key, field in keys.items() if field.is_required()]
    lent = {"required": ["credentials"], "properties": {"credentials": {"const": "client"}}}
    return {
        "additionalProperties": False,
        "properties": {
            **dict.fromkeys(keys_of(Delivery), True),
            **{key: _key(field) for key, field in keys.items()},
        },
        "if": lent,
        "else": {"required": required},
    }


def _step() -> Json:
    """Return a step: a table that its first key names, or the name of a list of steps."""
    words = {
        word: {"description": f"{_line(step.__doc__)} {_line(keys_of(step)[word].description)}"}
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


def _key(field: FieldInfo, *, loose: bool = False) -> Json:
    """Return one key; where it is *loose* a list of one may be written without brackets."""
    written = _written(field)
    if written is not None:
        ways = [{"type": "number", "minimum": 0},
                {"type": "string", "pattern": QUANTITIES[written.kind]}]  # fmt: skip
    else:
        ways = list(_ways(field.annotation))
        for way in ways:
            if way.get("type") in {"integer", "number"}:
                way |= _bounds(field)
        if loose and any(way.get("type") == "array" for way in ways):
            ways.append({"type": "string"})
    extra = field.json_schema_extra
    if isinstance(extra, dict):
        ways = [dict(extra)]
    if not any(way.get("type") == "string" and len(way) == 1 for way in ways) and _scalar(ways):
        ways.append(REFERENCE)
    said: Json = ways[0] if len(ways) == 1 else {"anyOf": ways}
    if "$ref" in said:
        said = {"allOf": [said]}
    described = {"description": _line(field.description)} if field.description else {}
    return {**described, **said, **_default(field, written)}


def _scalar(ways: list[Json]) -> bool:
    return any("enum" in way or way.get("type") in {"integer", "number", "boolean"} for way in ways)


def _ways(annotation: Any) -> Iterator[Json]:
    """Yield the ways in which a value may be written; None goes without saying."""
    if annotation in SIMPLE:
        yield dict(SIMPLE[annotation])
        return
    origin, members = get_origin(annotation), get_args(annotation)
    if annotation is types.NoneType:
        return
    if origin in {Union, types.UnionType}:
        for member in members:
            yield from _ways(member)
    elif origin is Literal:
        yield {"enum": list(members)}
    elif origin in {tuple, list}:
        yield {"type": "array", "items": _alternatives(members[0])}
    elif origin in {dict, Mapping}:
        yield {"type": "object", "additionalProperties": _alternatives(members[1])}
    else:
        raise TypeError(f"the editor's schema cannot say what {annotation!r} is")


def _alternatives(annotation: Any) -> Json:
    ways = list(_ways(annotation))
    if _scalar(ways) and {"type": "string"} not in ways:
        ways.append(REFERENCE)
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _bounds(field: FieldInfo) -> Json:
    found = {}
    for limit in field.metadata:
        for name, word in BOUNDS.items():
            if (value := getattr(limit, name, None)) is not None:
                found[word] = value
    return found


def _written(field: FieldInfo) -> Written | None:
    held = [*field.metadata]
    for part in get_args(field.annotation):
        held += get_args(part)
    return next((mark for mark in held if isinstance(mark, Written)), None)


def _default(field: FieldInfo, written: Written | None) -> Json:
    if field.is_required():
        return {}
    value = field.get_default(call_default_factory=False)
    if value is None or value in ("", (), {}):
        return {}
    if written is not None:
        return {"default": shown(value, written.kind)}
    return {"default": str(value) if isinstance(value, Path) else value}


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "`")
