"""The rules of Tracardi's server, with errors in FastAPI's format.

Sources: https://docs.tracardi.com/events/event_tracking/ (422 for a payload that lacks data);
GitHub Tracardi/tracardi (0.9), tracardi/domain/payload/tracker_payload.py and event_payload.py,
pydantic models, whose messages and error types these are
(https://docs.pydantic.dev/latest/errors/validation_errors/).
"""

import json
from typing import Any, Final, TypeAlias

import orjson

from gateway.plugin import Fault, Rejected, dumps
from plugins.tracardi.values import TIME

Detail: TypeAlias = dict[str, Any]
Loc: TypeAlias = tuple[str | int, ...]

WORDS: Final = {
    "missing": "Field required",
    "string_type": "Input should be a valid string",
    "dict_type": "Input should be a valid dictionary",
    "list_type": "Input should be a valid list",
    "bool_type": "Input should be a valid boolean",
    "bool_parsing": "Input should be a valid boolean, unable to interpret input",
    "datetime_type": "Input should be a valid datetime",
    "datetime_parsing": "Input should be a valid datetime",
    "value_error": "Value error, an event type cannot be blank",
    "model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
}
"""pydantic's messages; ``value_error`` is the gateway's own, since Tracardi's is not documented."""
TRUE: Final = frozenset({"1", "on", "t", "true", "y", "yes"})
FALSE: Final = frozenset({"0", "off", "f", "false", "n", "no"})
"""Texts that pydantic accepts as booleans, in any case."""


class Invalid(Rejected):
    """The body violates the rules.

    Attributes:
        details: all problems, as FastAPI lists them.
    """

    def __init__(self, details: list[Detail]) -> None:
        first = details[0]
        path = ".".join(map(str, first["loc"][1:])) or "$"
        fault = Fault.MISSING if first["type"] == "missing" else Fault.TYPE
        fault = Fault.VALUE if first["type"] in {"value_error", "datetime_parsing"} else fault
        super().__init__(path, first["msg"], fault, first["input"])
        self.details = details


def detail(kind: str, loc: Loc, value: Any) -> Detail:
    """Return one problem; *loc* is relative to the body, *value* is the invalid value."""
    return {"type": kind, "loc": ["body", *loc], "msg": WORDS[kind], "input": value}


def problems(payload: Any) -> list[Detail]:
    """Return the problems of a decoded body, in the order of the server's model."""
    if payload is None:
        return [detail("missing", (), None)]
    if type(payload) is not dict:
        return [detail("model_attributes_type", (), payload)]
    found: list[Detail] = []
    if "source" in payload:
        _entity(payload["source"], ("source",), found)
    else:
        found.append(detail("missing", ("source",), payload))
    for name in ("session", "profile"):
        if payload.get(name) is not None:
            _entity(payload[name], (name,), found)
    _objects(payload, ("context", "properties", "request"), (), found)
    _events(payload.get("events", []), found)
    _objects(payload, ("options",), (), found)
    if "profile_less" in payload:
        _boolean(payload["profile_less"], ("profile_less",), found)
    if payload.get("debug") is not None:
        _boolean(payload["debug"], ("debug",), found)
    return found


def told(error: Rejected) -> list[Detail]:
    """Return the problems of *error*; a value that cannot be written as JSON becomes null."""
    if isinstance(error, Invalid):
        details = error.details
    else:
        details = [_malformed(error) if error.fault is Fault.MALFORMED else _unwanted(error)]
    return [{**found, "input": _echo(found["input"])} for found in details]


def _entity(value: Any, loc: Loc, found: list[Detail]) -> None:
    if type(value) is not dict:
        found.append(detail("model_attributes_type", loc, value))
    elif "id" not in value:
        found.append(detail("missing", (*loc, "id"), value))
    elif type(value["id"]) is not str:
        found.append(detail("string_type", (*loc, "id"), value["id"]))
    if loc == ("profile",) and type(value) is dict:
        primary = value.get("primary_id")
        if primary is not None and type(primary) is not str:
            found.append(detail("string_type", (*loc, "primary_id"), primary))


def _objects(holder: dict[str, Any], names: tuple[str, ...], loc: Loc, found: list[Detail]) -> None:
    for name in names:
        value = holder.get(name)
        if value is not None and type(value) is not dict:
            found.append(detail("dict_type", (*loc, name), value))


def _boolean(value: Any, loc: Loc, found: list[Detail]) -> None:
    if type(value) is bool:
        return
    if isinstance(value, int | float):
        if value not in {0, 1}:
            whole = isinstance(value, int) or value.is_integer()
            found.append(detail("bool_parsing" if whole else "bool_type", loc, value))
    elif type(value) is not str:
        found.append(detail("bool_type", loc, value))
    elif value.lower() not in TRUE | FALSE:
        found.append(detail("bool_parsing", loc, value))


def _events(events: Any, found: list[Detail]) -> None:
    if type(events) is not list:
        found.append(detail("list_type", ("events",), events))
        return
    for index, event in enumerate(events):
        loc = ("events", index)
        if type(event) is not dict:
            found.append(detail("model_attributes_type", loc, event))
        else:
            _event(event, loc, found)


def _event(event: dict[str, Any], loc: Loc, found: list[Detail]) -> None:
    if event.get("id") is not None and type(event["id"]) is not str:
        found.append(detail("string_type", (*loc, "id"), event["id"]))
    if event.get("time") is not None:
        _time(event["time"], (*loc, "time"), found)
    if "type" not in event:
        found.append(detail("missing", (*loc, "type"), event))
    elif type(event["type"]) is not str:
        found.append(detail("string_type", (*loc, "type"), event["type"]))
    elif not event["type"].strip():
        found.append(detail("value_error", (*loc, "type"), event["type"]))
    _objects(event, ("properties", "options", "context"), loc, found)
    if event.get("tags") is not None and type(event["tags"]) is not list:
        found.append(detail("list_type", (*loc, "tags"), event["tags"]))


def _time(time: Any, loc: Loc, found: list[Detail]) -> None:
    if type(time) is not dict:
        found.append(detail("model_attributes_type", loc, time))
        return
    for name in ("insert", "create", "update"):
        value = time.get(name)
        if value is None:
            continue
        if type(value) is bool or not isinstance(value, str | int | float):
            found.append(detail("datetime_type", (*loc, name), value))
            continue
        try:
            TIME.decode(value)
        except ValueError:
            found.append(detail("datetime_parsing", (*loc, name), value))


def _unwanted(error: Rejected) -> Detail:
    """Return an error of the gateway, which Tracardi itself would not report, as a value error."""
    steps = () if error.path == "$" else error.path.split(".")
    loc = ["body", *(int(step) if step.isdigit() else step for step in steps)]
    said = f"Value error, {error.reason}"
    return {"type": "value_error", "loc": loc, "msg": said, "input": error.value}


def _malformed(error: Rejected) -> Detail:
    cause = error.__cause__
    at, said = _python_words(cause) if isinstance(cause, orjson.JSONDecodeError) else (0, "")
    return {
        "type": "json_invalid",
        "loc": ["body", at],
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": said or error.reason},
    }


def _python_words(error: orjson.JSONDecodeError) -> tuple[int, str]:
    """Return position and message of a JSON error as FastAPI reports them, with Python's json."""
    try:
        json.loads(error.doc)
    except json.JSONDecodeError as same:
        return same.pos, same.msg
    except RecursionError:
        return error.pos, "Expecting value"
    return error.pos, "Expecting value"


def _echo(value: Any) -> Any:
    try:
        return orjson.Fragment(dumps(value))
    except orjson.JSONEncodeError:
        return None
