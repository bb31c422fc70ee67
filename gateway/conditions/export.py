"""Write parts of the event as JSON values, for expressions that copy a part as a whole."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from gateway.event import Event
from gateway.event_fields import bare, defaults, is_mapping, is_struct
from gateway.mapping.codecs import ISO8601
from gateway.mapping.generated import define

INTERNAL = frozenset({"extra", "derived", "origin"})
"""Fields of the event that are the gateway's own, or its leftovers."""


def exported_fields(struct: type) -> list[tuple[str, Any]]:
    """Return the names and types of the fields of *struct* that are exported under their names."""
    hidden = INTERNAL if struct is Event else {"extra"}
    return [
        (name, bare(hint)) for name, hint in get_type_hints(struct).items() if name not in hidden
    ]


@cache
def exporter(struct: type) -> Callable[[Any], dict[str, Any]]:
    """Return the function that writes a struct of the event as a table.

    Missing and empty fields are left out, free fields stand beside the others, times are ISO 8601.
    Everything else stays as it came.
    """
    names: dict[str, Any] = {"iso": ISO8601.encode}
    lines = ["def export(value):", "    found = {}"]
    if "extra" in get_type_hints(struct) and struct is not Event:
        lines += [
            "    if value.extra:",
            "        found = {k: v for k, v in value.extra.items() if v is not None}",
        ]
    for number, (name, hint) in enumerate(exported_fields(struct)):
        lines += [f"    v = value.{name}"]
        lines += (f"    {line}" for line in _written(struct, number, name, hint, names))
    exported: Callable[[Any], dict[str, Any]] = define(
        "export", [*lines, "    return found"], names, f"export of {struct.__name__}"
    )
    return exported


def _written(
    struct: type, number: int, name: str, hint: Any, names: dict[str, Any]
) -> Iterator[str]:
    """Yield the lines that write the field *name*, whose value is ``v``."""
    put = f"found[{name!r}] ="
    if is_struct(hint):
        names[f"export{number}"], names[f"none{number}"] = exporter(hint), defaults(struct)[name]
        yield f"if v is not none{number} and (inner := export{number}(v)): {put} inner"
    elif get_origin(hint) is tuple:
        names[f"export{number}"] = exporter(get_args(hint)[0])
        yield f"if v: {put} [export{number}(one) for one in v]"
    elif is_mapping(hint):
        yield f"if v: {put} v"
    elif hint is datetime:
        yield f"if v is not None: {put} iso(v)"
    else:
        yield f"if v is not None: {put} v"
