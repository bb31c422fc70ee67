"""The keys of a table with the docstrings under them, for the reference, schema and error messages.

pydantic can keep them, but then reads the source of each table whenever the gateway starts.
"""

import ast
import copy
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config.models import keys_of


@cache
def documented_keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a table as `keys_of` does, with descriptions."""
    texts = dict(_docstrings(model))
    fields = {name: copy.copy(field) for name, field in model.model_fields.items()}
    for name, field in fields.items():
        field.description = field.description or texts.get(name)
    return {key: fields[name] for key, name in zip(keys_of(model), fields, strict=True)}


def _docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield attributes with the texts under them, those of base classes first."""
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        try:
            (read,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except (OSError, SyntaxError):  # it was not made from a file
            continue
        for attribute, text in pairwise(getattr(read, "body", ())):
            match attribute, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    yield name, inspect.cleandoc(words)
