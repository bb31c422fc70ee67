"""Convert typed attributes: a list in Growlytics' payloads, an object in the tables.

Source: https://docs.growlytics.in/rest-apis/tracking-users-1. Each attribute is ``{name, type,
value}`` with the type string, number, boolean or date. Growlytics silently ignores an attribute
whose type differs from the first time, so the received type is kept for the way back.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, get_args

import orjson
from msgspec import Struct

from gateway.plugin import ISO8601, NUMBER, dumps, loads
from plugins.growlytics.rules import LONGEST_NAME, STANDARD, Violation, checked_text
from plugins.growlytics.wire import Attribute, Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
"""Text that is a valid JSON number."""


class Listed(Struct, frozen=True):
    """The attributes to send, and those that were dropped or changed.

    Attributes:
        attributes: the list to send.
        dropped: dropped values by name (dots for nesting): the name is invalid or the limit is
            exceeded.
        reshaped: values that were changed, by original name: an object was flattened, an array
            became text, or a time lost its fraction of a second.
    """

    attributes: list[Attribute]
    dropped: dict[str, Any]
    reshaped: dict[str, Any]


def read_attributes(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes in *payload* by name; of a repeated name the last one counts.

    Numbers and booleans may be text, as Joi converts them; a date may be any ISO 8601 text.
    Dates have no time zone and are read as UTC.

    Raises:
        Violation: the list is missing, or an attribute is not as documented.
    """
    listed = payload.get("attributes")
    if "attributes" not in payload:
        raise Violation("attributes", "any.required")
    if not isinstance(listed, list):
        raise Violation("attributes", "array.base", listed)
    found: dict[str, Any] = {}
    name: Any
    for index, item in enumerate(listed):
        if type(item) is dict:  # nearly always it is as documented, which is seen at once
            name, kind = item.get("name"), SCALARS.get(type(item.get("value")))
            plain = kind is not None and item.get("type") == kind and type(name) is str
            if plain and name.strip() and len(name) <= LONGEST_NAME:
                found[name] = item["value"]
                continue
        place = f"attributes.{index}"
        if not isinstance(item, dict):
            raise Violation(place, "object.base", item)
        name = checked_text(item, "name", LONGEST_NAME, f"{place}.")
        found[name] = _read_value(item, f"{place}.")
    return found


def _read_value(item: dict[str, Any], above: str) -> Any:
    kind, value = item.get("type"), item.get("value")
    if "type" not in item:
        raise Violation(f"{above}type", "any.required")
    if kind not in KINDS:
        raise Violation(f"{above}type", "any.allowOnly", kind, valids=list(KINDS))
    if "value" not in item:
        raise Violation(f"{above}value", "any.required")
    rule = "date.format" if kind == "date" else f"{kind}.base"
    try:
        value = converted(value, kind) if isinstance(value, str) else value
    except ValueError as error:
        raise Violation(f"{above}value", rule, value) from error
    if value is None or kind_of(value) != kind:
        raise Violation(f"{above}value", rule, value)
    return value


def unpacked(value: Any) -> Any:
    """Return the products in *value* if it is JSON text with a list of them, else *value*."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        members: list[Any] = loads(value)
    except orjson.JSONDecodeError:
        return value
    return members if any(type(member) is dict for member in members) else value


SCALARS: Mapping[type, Kind] = {str: "string", int: "number", float: "number", bool: "boolean"}
"""Types whose values are written as they are."""
SEQUENCES = (list, tuple)
"""Types whose values become JSON text."""


def list_attributes(
    values: Mapping[str, Any], kinds: Mapping[str, str], most: int, *, standard: bool
) -> Listed:
    """Return *values* as Growlytics' attributes, in order and up to the limit.

    Args:
        values: values by name; objects are flattened and arrays become JSON text.
        kinds: types by name that override the type of the value, if it can be converted.
        most: most attributes.
        standard: whether the attributes are a customer's; then standard ones do not count.
    """
    listed: list[Attribute] = []
    dropped: dict[str, Any] = {}
    reshaped: dict[str, Any] = {}
    dotted: set[str] = set()  # only these can be the name of a flattened value and of another
    usual: Mapping[type, Kind] = {} if standard or kinds else SCALARS
    for top, whole in values.items():
        kind = usual.get(type(whole))
        fits = "." not in top and len(top) <= LONGEST_NAME and len(listed) < most
        if kind is not None and fits and top.strip():
            listed.append({"name": top, "type": kind, "value": whole})
            continue
        nested = whole is None or isinstance(whole, dict)
        for name, value in _leaves(top, whole) if nested else ((top, whole),):
            free = standard and name in STANDARD
            fits = name not in dotted and len(name) <= LONGEST_NAME
            if not (fits and name.strip() and (free or len(listed) < most)):
                dropped[name] = value
                continue
            most += free
            if "." in name:
                dotted.add(name)
            attribute, exact = _attribute(name, value, kinds.get(name))
            listed.append(attribute)
            if name != top or not exact:
                reshaped[top] = whole
    return Listed(listed, dropped, reshaped)


def kind_of(value: Any) -> Kind:
    """Return Growlytics' type of *value*; an array is text."""
    kind = SCALARS.get(type(value))
    if kind is not None:
        return kind
    if isinstance(value, datetime):
        return "date"
    return "number" if isinstance(value, float) else "string"


def converted(value: str, kind: str) -> Any:
    """Return the text *value* converted to *kind*.

    Raises:
        ValueError: the text cannot be converted.
    """
    if kind == "number":
        number = NUMBER.decode(value)
        return loads(value) if JSON_NUMBER.fullmatch(value) else number
    if kind == "date":
        return ISO8601.decode(value)
    if kind == "boolean":
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(f"{name}.{key}", below)
    elif value is not None:
        yield name, value


def _attribute(name: str, value: Any, kind: str | None = None) -> tuple[Attribute, bool]:
    """Return *value* as an attribute, of *kind* if possible, and whether it is unchanged."""
    if isinstance(value, SEQUENCES):
        return {"name": name, "type": "string", "value": dumps(value).decode()}, False
    if kind == "string" and isinstance(value, int | float):
        value = str(value)
    elif kind is not None and isinstance(value, str):
        try:
            value = converted(value, kind)
        except ValueError:
            return {"name": name, "type": "string", "value": value}, True
    if isinstance(value, datetime):
        text = ISO8601.encode(value)
        date: Attribute = {"name": name, "type": "date", "value": f"{text[:10]} {text[11:19]}"}
        return date, not value.microsecond
    return {"name": name, "type": kind_of(value), "value": value}, True
