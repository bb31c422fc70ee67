"""Edit payloads: replace values, restore unmapped fields."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.json_text import dumps, loads


def is_object(body: bytes) -> bool:
    """Return whether *body* is a JSON object."""
    try:
        return type(loads(body)) is dict
    except orjson.JSONDecodeError:
        return False


def replace_values(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """Return *body* with the values of *changes*.

    A value that occurs once in the body is replaced there, so that every other byte stays.
    Otherwise the whole JSON is written again.

    Args:
        body: a JSON object.
        changes: new values by key; a mapping changes nested keys.
    """
    payload = loads(body)
    for old, new in _pairs(payload, changes):
        mark = dumps(old)
        if type(old) is not str or body.count(mark) != 1:
            return dumps(_changed(payload, changes))
        body = body.replace(mark, dumps(new))
    if b"\\" in body and loads(body) != (wanted := _changed(payload, changes)):
        return dumps(wanted)  # an escaped value: another field was replaced
    return body


def _pairs(payload: Any, changes: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    pairs = []
    for key, new in changes.items():
        old = payload.get(key) if type(payload) is dict else None
        if isinstance(new, Mapping):
            pairs += _pairs(old, new)
        elif old != new:
            pairs.append((old, new))
    return pairs


def _changed(payload: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(payload) if type(payload) is dict else {}
    for key, new in changes.items():
        inner = changed.get(key)
        changed[key] = _changed(inner, new) if isinstance(new, Mapping) else new
    return changed


def restore_leftovers(payload: dict[str, Any], extra: Any) -> dict[str, Any]:
    """Put unmapped fields back to their places; values of the payload take precedence.

    Lists are merged member by member, since a written request has one event.
    """
    for key, value in extra.items():
        mine = payload.get(key)
        if mine is None:
            payload[key] = value
        elif type(mine) is dict and type(value) is dict:
            restore_leftovers(mine, value)
        elif type(mine) is list and type(value) is list:
            for index, member in enumerate(value[: len(mine)]):
                if type(mine[index]) is dict and type(member) is dict:
                    restore_leftovers(mine[index], member)
    return payload
