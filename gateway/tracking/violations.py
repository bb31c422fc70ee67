"""What is wrong with a value, in words that do not repeat the value."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from jsonschema_rs import ValidationError, ValidationErrorKind

from gateway.errors import Fault

Path: TypeAlias = tuple[str | int, ...]
"""Names and positions from the event down."""

FEW = 12
"""Allowed values that a sentence lists."""
UNKNOWN = "is not a field that the schema knows"

Kind = ValidationErrorKind
_BOUNDS: dict[type, str] = {
    Kind.Minimum: "must be at least {}",
    Kind.Maximum: "must be at most {}",
    Kind.ExclusiveMinimum: "must be more than {}",
    Kind.ExclusiveMaximum: "must be less than {}",
    Kind.MinLength: "must have at least {} characters",
    Kind.MaxLength: "must have at most {} characters",
    Kind.MinItems: "must have at least {} members",
    Kind.MaxItems: "must have at most {} members",
    Kind.MinProperties: "must have at least {} fields",
    Kind.MaxProperties: "must have at most {} fields",
}


class Violation(NamedTuple):
    """One way in which an event is not what its schema says."""

    path: Path
    what: str
    fault: Fault
    value: Any = None
    """What stands there; None where nothing does."""
    there: bool = True
    """Something stands there, so that it could be dropped."""

    @property
    def place(self) -> str:
        """Return the path as the configuration writes it; ``$`` for the event."""
        return written(self.path)

    @property
    def kind(self) -> str:
        """Return path and complaint for counting, whichever member of a list it is about."""
        return f"{'.'.join('[]' if type(p) is int else str(p) for p in self.path)}: {self.what}"


def written(path: Path) -> str:
    """Return *path* as the configuration writes it; ``$`` for the event."""
    return ".".join(map(str, path)) or "$"


def violations(error: ValidationError, whole: Any = None) -> Iterator[Violation]:
    """Yield what *error* says of *whole*, one violation per field."""
    path, kind = tuple(error.instance_path), error.kind
    match kind:
        case Kind.FalseSchema() if error.schema_path[-1:] == ["additionalProperties"]:
            # Where nothing is known, the library names no field, only what holds them.
            for name in _at(whole, path):
                yield Violation((*path, name), UNKNOWN, Fault.VALUE)
        case Kind.Required():
            yield Violation((*path, kind.property), "is required", Fault.MISSING, there=False)
        case Kind.AdditionalProperties() | Kind.UnevaluatedProperties():
            for name in kind.unexpected:
                yield Violation((*path, name), UNKNOWN, Fault.VALUE)
        case Kind.Type():
            yield Violation(path, f"must be {_types(kind.types)}", Fault.TYPE, error.instance)
        case _:
            yield Violation(path, _sentence(error), Fault.VALUE, error.instance)


def _at(whole: Any, path: Path) -> Iterable[str]:
    """Return the names of the object at *path*."""
    for step in path:
        whole = whole[step]
    return list(whole)


def _sentence(error: ValidationError) -> str:
    kind = error.kind
    match kind:
        case Kind.Enum():
            listed = ", ".join(json.dumps(option, default=str) for option in kind.options[:FEW])
            return f"must be one of {listed}{', …' if len(kind.options) > FEW else ''}"
        case Kind.Constant():
            return f"must be {json.dumps(kind.expected_value, default=str)}"
        case Kind.Pattern():
            return f"must match {kind.pattern}"
        case Kind.Format():
            return f"must be of the format {kind.format}"
        case Kind.FalseSchema():
            return "is not in the plan" if not error.instance_path else "must not be there"
        case Kind.UniqueItems():
            return "must not repeat a member"
        case Kind.AnyOf() | Kind.OneOfNotValid():
            wanted = dict.fromkeys(_alternatives(kind.context, len(error.instance_path)))
            return f"must fit one of several descriptions: {'; or '.join(wanted)}"
    bound = _BOUNDS.get(type(kind))
    if bound is not None:
        return bound.format(error.kind.as_dict()["limit"])
    return f"does not fit: {error.message}"


def _alternatives(context: list[list[ValidationError]], depth: int) -> Iterator[str]:
    """Yield what each of several schemas of a value at *depth* misses first."""
    for missed in context[:FEW]:
        for found in missed[:1]:
            first = _first(found)
            below = ".".join(map(str, first.path[depth:]))
            yield f"{below} {first.what}".lstrip()


def _first(error: ValidationError) -> Violation:
    if isinstance(error.kind, Kind.FalseSchema):
        what = "has what the schema does not allow"
        return Violation(tuple(error.instance_path), what, Fault.VALUE)
    return next(violations(error))


def _types(types: list[str]) -> str:
    article = {"array": "a list", "object": "an object", "integer": "a whole number",
               "string": "text", "number": "a number", "boolean": "true or false"}  # fmt: skip
    return " or ".join(article.get(kind, kind) for kind in types)
