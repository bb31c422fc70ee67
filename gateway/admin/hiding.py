"""Credentials, kept out of answers that repeat what somebody sent."""

from typing import Any, TypeVar

import msgspec

from gateway.letter import Hide

OURS = frozenset({"destination", "destinations", "gives", "source", "vendor", "route", "request"})
"""Fields that hold names of the configuration's: what leads from page to page must not change."""

T = TypeVar("T")


def hidden(value: T, hide: Hide) -> T:
    """Return a struct, however deep, with *hide* applied to the texts in it.

    What leads from one page to another stays as it is.
    """
    found: T = _hidden(value, hide)
    return found


def _hidden(value: Any, hide: Hide) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, msgspec.Struct):
        fields = (name for name in value.__struct_fields__ if name not in OURS)
        clean = {name: _hidden(getattr(value, name), hide) for name in fields}
        return msgspec.structs.replace(value, **clean)
    if isinstance(value, dict):
        return {_hidden(name, hide): _hidden(inner, hide) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_hidden(inner, hide) for inner in value)
    return value
