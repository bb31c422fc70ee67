"""What the docstrings of a struct's fields say, for the OpenAPI document."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec


def plain(docstring: str) -> str:
    """Return a docstring as one paragraph of Markdown."""
    return " ".join(docstring.split()).replace("``", "`")


def structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield the structs that *kind* is made of, itself and those within."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from structs(hint)
    for part in get_args(kind):
        yield from structs(part)


def said(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the fields of a struct, inherited ones included, to what their docstrings say."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, msgspec.Struct) and one is not msgspec.Struct:
            found |= dict(_own(one))
    return found


def _own(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    (defined,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = defined.body if isinstance(defined, ast.ClassDef) else []
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(words))):
                    yield field.target.id, plain(words)
