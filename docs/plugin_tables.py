# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The tables of the plugin reference, made of types, docstrings and rows."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docs.markdown import code, table
from gateway.errors import Fault
from gateway.event import App, Campaign, Context, Device, Event, Page, Product, Properties, Traits
from gateway.mapping import Row

STRUCTS = {
    "context": Context,
    "context.page": Page,
    "context.device": Device,
    "context.campaign": Campaign,
    "context.app": App,
    "traits": Traits,
    "properties": Properties,
    "properties.products[]": Product,
}
"""The parts of an event, by their paths."""


def event_fields() -> str:
    """Return the table of the fields of an event itself."""
    docs = attribute_docs(Event)
    rows = [
        (code(name), _type_name(hint), docs.get(name, ""))
        for name, hint in get_type_hints(Event).items()
        if hint not in STRUCTS.values()
    ]
    return table(("field", "type", "meaning"), rows)


def event_parts() -> str:
    """Return the table of the parts of an event, with the fields of each by type."""
    rows = [(code(path), _fields_by_type(kind)) for path, kind in STRUCTS.items()]
    return table(("part", "fields"), rows)


def faults() -> str:
    """Return the table of the kinds of refusals."""
    docs = attribute_docs(Fault)
    return table(("fault", "meaning"), [(code(f"Fault.{name}"), docs[name]) for name in docs])


def attributes(*kinds: type) -> str:
    """Return the table of the class attributes of *kinds*."""
    rows = [
        (code(name), code(default) if default else "required", text)
        for kind in kinds
        for name, default, text in _attributes(kind)
    ]
    return table(("attribute", "default", "meaning"), rows)


def shared_rows(**groups: Sequence[Row]) -> str:
    """Return the table of the rows that vendors share, and the fields that have other names."""
    rows = [(code(name), ", ".join(map(_row, group))) for name, group in groups.items()]
    return table(("rows", "keys in the payload"), rows)


def attribute_docs(kind: type) -> dict[str, str]:
    """Return the docstrings of the attributes of *kind*, by name, as Markdown."""
    return {name: text for name, _, text in _attributes(kind)}


def _attributes(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, default and docstring of each public attribute that *kind* documents."""
    tree = ast.parse(inspect.getsource(kind)).body[0]
    body: Iterable[ast.stmt] = getattr(tree, "body", ())
    name = default = ""
    for node in body:
        if isinstance(node, ast.AnnAssign):
            name, default = ast.unparse(node.target), ast.unparse(node.value) if node.value else ""
        elif isinstance(node, ast.Assign):
            name, default = ast.unparse(node.targets[0]), ast.unparse(node.value)
        elif isinstance(node, ast.Expr) and name and isinstance(node.value, ast.Constant):
            yield name, default, _markdown(str(node.value.value))
            name = ""
        else:
            name = ""


def _markdown(docstring: str) -> str:
    return re.sub(r"``(.*?)``", r"`\1`", " ".join(docstring.split()))


def _type_name(hint: Any) -> str:
    """Return the type of a field in words."""
    if get_origin(hint) is Literal:
        return ", ".join(map(code, get_args(hint)))
    text = str(hint)
    if "datetime" in text:
        return "UTC time"
    return "mapping" if "Mapping" in text else "text"


def _fields_by_type(kind: type) -> str:
    """Return the fields of a struct; the type of each that is no text."""
    return ", ".join(
        f"`{name}`{_suffix(hint)}"
        for name, hint in get_type_hints(kind).items()
        if hint not in STRUCTS.values() and "Product" not in str(hint)
    )


def _suffix(hint: Any) -> str:
    text = str(hint)
    if "Mapping" in text:
        return " (mapping or text)" if "str | None" in text else " (mapping)"
    if "float" in text:
        return " (number)"
    return " (integer)" if "int" in text else ""


def _row(row: Row) -> str:
    """Return the key of a shared row, and the field if it has another name."""
    wire, field = row.wire, row.event
    return code(wire) if wire == field else f"`{wire}` → `{field}`"
