"""Dotted paths, checked against the types they walk through."""

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

from gateway.errors import MappingError


def annotation_at(root: Any, path: str) -> Any:
    """Follow *path* through type hints.

    Args:
        root: a TypedDict or a struct.
        path: dotted; ``name[0]`` steps into a tuple; ``*`` stays where it is.

    Raises:
        MappingError: a step names no field.
    """
    here = root
    for step in path.split("."):
        here = bare(here)
        if step == "*":
            continue
        if here is Any or get_origin(here) in {dict, Mapping}:
            return Any
        name, indexed, _ = step.partition("[")
        hints = _hints(here) if _has_fields(here) else {}
        if name not in hints:
            label = getattr(here, "__name__", str(here))
            known = ", ".join(hints) or "none"
            raise MappingError(f"{path!r}: {label} has no field {name!r}; it has {known}")
        here = hints[name]
        if indexed:
            here = get_args(bare(here))[0]
    return here


def classes(annotation: Any) -> frozenset[type]:
    """Return the classes that a value of *annotation* may have, as JSON or in the event."""
    stripped = bare(annotation)
    if stripped is Any:
        return frozenset({str, int, float, bool, dict, list})
    origin = get_origin(stripped)
    if origin in {Union, UnionType}:
        return frozenset(c for a in get_args(stripped) for c in classes(a))
    if origin is Literal:
        return frozenset(type(value) for value in get_args(stripped))
    if is_typeddict(stripped) or origin is Mapping:
        return frozenset({dict})
    found = origin or stripped
    return frozenset({float, int}) if found is float else frozenset({found})


def bare(annotation: Any) -> Any:
    """Strip ``| None``, ``Required`` and ``NotRequired``."""
    origin = get_origin(annotation)
    if origin in {NotRequired, Required}:
        return bare(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        rest = [a for a in get_args(annotation) if a is not NoneType]
        return bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def is_struct(annotation: Any) -> bool:
    """Tell whether *annotation* is a struct class of the event."""
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def is_mapping(annotation: Any) -> bool:
    """Tell whether *annotation* is a mapping of free keys."""
    return get_origin(bare(annotation)) in {Mapping, dict}


@cache
def _hints(here: Any) -> dict[str, Any]:
    return get_type_hints(here)


def _has_fields(annotation: Any) -> bool:
    return is_typeddict(annotation) or is_struct(annotation)
