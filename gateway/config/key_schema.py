"""How one key of the configuration may be written, as JSON Schema."""

import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway.config.quantities import DURATIONS, RATES, SIZES, Kind, Written, shown
from gateway.config.schemas import Schema
from gateway.config.steps import Step

Json: TypeAlias = dict[str, Any]

REFERS = r"\$\{"
"""Text that refers to the environment; what it comes to, an editor cannot know."""
REFERENCE: Json = {"$ref": "#/definitions/reference"}
NUMBER = r"^\s*\d+(\.\d+)?\s*"
QUANTITIES: Mapping[Kind, str] = {
    "duration": f"{NUMBER}({'|'.join(DURATIONS)})?\\s*$",
    "size": f"{NUMBER}({'|'.join(SIZES)})?\\s*$",
    "rate": f"{NUMBER}(/\\s*({'|'.join(RATES)}))?\\s*$",
}
"""How quantities are written, as `gateway.config.quantities` reads them."""
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
NUMERIC = ("integer", "number")
TEXT: Json = {"type": "string"}
SIMPLE: Mapping[Any, Json] = {
    str: TEXT, Path: TEXT, SecretStr: TEXT,
    int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    Any: {}, Schema: {"anyOf": [{"type": "object"}, {"type": "boolean"}, TEXT]},
    Step: {"$ref": "#/definitions/step"},
}  # fmt: skip


def key_schema(field: FieldInfo, *, loose: bool = False) -> Json:
    """Return one key; where it is *loose* a list of one may be written without brackets."""
    written = _written(field)
    ways = list(_field_ways(field, written))
    if loose and any(way.get("type") == "array" for way in ways):
        ways.append(TEXT)
    described = {"description": line(field.description)} if field.description else {}
    return {**described, **_one_of(_with_references(ways)), **_default(field, written)}


def line(text: str | None) -> str:
    """Return a docstring as one line."""
    return " ".join((text or "").split()).replace("``", "`")


def _field_ways(field: FieldInfo, written: Written | None) -> Iterator[Json]:
    """Yield the ways in which a key's value may be written."""
    if isinstance(field.json_schema_extra, dict):
        yield dict(field.json_schema_extra)
    elif written is not None:
        pattern = f"{QUANTITIES[written.kind]}|{REFERS}"
        yield {"type": ["number", "string"], "minimum": 0, "pattern": pattern}
    else:
        for way in _ways(field.annotation):
            yield {**way, **_bounds(field)} if way.get("type") in NUMERIC else way


def _with_references(ways: list[Json]) -> list[Json]:
    """Return *ways*, and a reference to the environment where text has only some values."""
    if TEXT in ways:
        return ways
    found = [_or_reference(way) for way in ways]
    return [*found, REFERENCE] if any("enum" in way for way in ways) else found


def _or_reference(way: Json) -> Json:
    if way.get("type") not in (*NUMERIC, "boolean"):
        return way
    return {**way, "type": [way["type"], "string"], "pattern": REFERS}


def _one_of(ways: list[Json]) -> Json:
    """Return what takes any of the *ways*; a description may stand beside it."""
    only = ways[0] if len(ways) == 1 else {"anyOf": ways}
    return {"allOf": [only]} if "$ref" in only else only


def _ways(annotation: Any) -> Iterator[Json]:
    """Yield the ways in which a value may be written; None goes without saying."""
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
    elif origin in {tuple, list}:
        yield {"type": "array", "items": _member(members[0])}
    elif origin in {dict, Mapping}:
        yield {"type": "object", "additionalProperties": _member(members[1])}
    else:
        raise TypeError(f"the editor's schema cannot say what {annotation!r} is")


def _member(annotation: Any) -> Json:
    return _one_of(_with_references(list(_ways(annotation))))


def _bounds(field: FieldInfo) -> Json:
    return {
        word: value
        for limit in field.metadata
        for name, word in BOUNDS.items()
        if (value := getattr(limit, name, None)) is not None
    }


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
    return {"default": str(value) if isinstance(value, Path | datetime) else value}
