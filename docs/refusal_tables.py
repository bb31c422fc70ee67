# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The causes for which requests are refused, as the code explains them."""

import ast
import inspect
import itertools
from collections.abc import Iterator

from docs.markdown import code, table
from gateway.errors import RefusalCause


def causes() -> str:
    """Return every cause with its meaning, in Markdown."""
    return table(("cause", "meaning"), ((code(cause), what) for cause, what in _explained()))


def _explained() -> Iterator[tuple[str, str]]:
    (defined,) = ast.parse(inspect.getsource(RefusalCause)).body
    body = defined.body if isinstance(defined, ast.ClassDef) else []
    for member, text in itertools.pairwise(body):
        match member, text:
            case (
                ast.Assign(value=ast.Constant(value=str(cause))),
                ast.Expr(value=ast.Constant(value=str(what))),
            ):
                yield cause, what.replace("``", "`").removesuffix(".")
