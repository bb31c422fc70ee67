"""JSON Schemas of a tracking plan, and their violations in words."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from sys import float_info
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

import jsonschema_rs
import msgspec
import orjson
from jsonschema_rs import RegexOptions, ValidationError, ValidationErrorKind

from gateway.errors import Fault
from gateway.event import Event
from gateway.json_text import LongInteger, LongNumber

OWN = ("id", "origin", "received_at")
"""Fields that the gateway fills; senders cannot violate them."""
LONGEST = 300
"""Digits; longer integers are checked as the nearest double."""


def as_schema_input(event: Event) -> dict[str, Any]:
    """Return *event* as JSON values for a schema.

    Under ``properties``, ``traits`` and a product, further names are next to the known ones;
    elsewhere they are in ``extra``. Times are ISO 8601 text. Missing fields are left out.
    """
    seen: dict[str, Any] = msgspec.to_builtins(event, enc_hook=_judged)
    for name in OWN:
        seen.pop(name, None)
    for part in ("properties", "traits"):
        held = seen.get(part)
        if held is None:
            continue
        if "extra" in held:
            held = seen[part] = _united(held)
        if not held:
            del seen[part]
    properties = seen.get("properties")
    if properties is not None and event.properties.products:
        properties["products"] = [_united(product) for product in properties["products"]]
    return seen


def _judged(value: Any) -> Any:
    """Return a long number for a schema: as an integer, or the nearest double."""
    if isinstance(value, LongInteger) and len(value.text) <= LONGEST:
        return int(value.text)
    if isinstance(value, LongNumber):
        return max(-float_info.max, min(value, float_info.max)) + 0.0
    raise NotImplementedError(type(value))


def _united(held: dict[str, Any]) -> dict[str, Any]:
    """Return the known fields together with those in ``extra``."""
    free = held.pop("extra", None)
    return {**held, **free, **held} if free else held


FieldPath: TypeAlias = tuple[str | int, ...]
"""Names and positions from the event down."""

FEW = 12
"""Most allowed values that a message lists."""
UNKNOWN = "is not in the schema"

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
    """One violation of a schema by an event."""

    path: FieldPath
    what: str
    fault: Fault
    value: Any = None
    """The invalid value; None if it is missing."""
    there: bool = True
    """Whether there is a value, which could be dropped."""

    @property
    def place(self) -> str:
        """Return the path as the configuration writes it; ``$`` for the event."""
        return written(self.path)

    @property
    def kind(self) -> str:
        """Return path and problem for counting, without positions in lists."""
        return f"{'.'.join('[]' if type(p) is int else str(p) for p in self.path)}: {self.what}"


def written(path: FieldPath) -> str:
    """Return *path* as the configuration writes it; ``$`` for the event."""
    return ".".join(map(str, path)) or "$"


def violations(error: ValidationError, whole: Any = None) -> Iterator[Violation]:
    """Yield the violations in *error*, one per field; *whole* is the checked value."""
    path, kind = tuple(error.instance_path), error.kind
    match kind:
        case Kind.FalseSchema() if error.schema_path[-1:] == ["additionalProperties"]:
            # If the schema has no fields, the library names only the object, not its fields.
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


def _at(whole: Any, path: FieldPath) -> Iterable[str]:
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
            return f"must have the format {kind.format}"
        case Kind.FalseSchema():
            return "is not in the plan" if not error.instance_path else "is not allowed"
        case Kind.UniqueItems():
            return "must not contain duplicates"
        case Kind.AnyOf() | Kind.OneOfNotValid():
            wanted = dict.fromkeys(_alternatives(kind.context, len(error.instance_path)))
            return f"must match one of these: {'; or '.join(wanted)}"
    bound = _BOUNDS.get(type(kind))
    if bound is not None:
        return bound.format(error.kind.as_dict()["limit"])
    return f"does not match the schema: {error.message}"


def _alternatives(context: list[list[ValidationError]], depth: int) -> Iterator[str]:
    """Yield the first violation of each alternative schema of a value at *depth*."""
    for missed in context[:FEW]:
        for found in missed[:1]:
            first = _first(found)
            below = ".".join(map(str, first.path[depth:]))
            yield f"{below} {first.what}".lstrip()


def _first(error: ValidationError) -> Violation:
    if isinstance(error.kind, Kind.FalseSchema):
        what = "is not allowed"
        return Violation(tuple(error.instance_path), what, Fault.VALUE)
    return next(violations(error))


def _types(types: list[str]) -> str:
    article = {"array": "a list", "object": "an object", "integer": "a whole number",
               "string": "text", "number": "a number", "boolean": "true or false"}  # fmt: skip
    return " or ".join(article.get(kind, kind) for kind in types)


MASK = "the value"
"""Replaces the value in messages of the library."""


class SchemaError(Exception):
    """A schema is invalid; the message says where, and why."""


class Schema:
    """The schema of events with one name.

    Patterns run in linear time, so that no sender can make one slow; they have neither look-around
    nor back-references. ``format`` is checked. References may lead to other files, but not to the
    network.

    Args:
        schema: the JSON Schema.
        at: the file of the schema, for relative references.

    Attributes:
        files: further files that references led to.

    Raises:
        SchemaError: the schema is invalid.
    """

    def __init__(self, schema: Any, at: Path) -> None:
        if not isinstance(schema, dict | bool):
            raise SchemaError("is not a JSON Schema; it must be an object, true or false")
        self.files: list[Path] = []
        self.raw = schema
        try:
            validator = jsonschema_rs.validator_for(
                schema,
                validate_formats=True,
                mask=MASK,
                base_uri=at.resolve().as_uri(),
                retriever=self._referred,
                pattern_options=RegexOptions(),
            )
        except ValueError as error:
            raise SchemaError(_reason(error)) from error
        self.fits: Callable[[Any], bool] = validator.is_valid
        self._errors = validator.iter_errors

    def violations(self, value: Any) -> list[Violation]:
        """Return the violations of *value*; empty if it is valid."""
        return [found for error in self._errors(value) for found in violations(error, value)]

    def _referred(self, uri: str) -> Any:
        parts = urlsplit(uri)
        if parts.scheme != "file":
            raise ValueError(f"{uri} is not a file; schemas are never fetched from the network")
        path = Path(unquote(parts.path))
        self.files.append(path)
        try:
            return json_of(path)
        except SchemaError as error:
            raise ValueError(f"{path} {error}") from error


def json_of(path: Path) -> Any:
    """Return the JSON values in the file *path*.

    Raises:
        SchemaError: the file cannot be read, or is not JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        what = f"cannot be read: {reason}; correct the path or create the file"
        raise SchemaError(what) from error
    except orjson.JSONDecodeError as error:
        raise SchemaError(f"is not JSON: {error}") from error


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"is not a JSON Schema: {error}"
    place = "/".join(map(str, error.instance_path))
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.Referencing):
        return f"has a reference that cannot be resolved: {_cause(kind.error.message)}"
    if isinstance(kind, ValidationErrorKind.Format) and kind.format == "regex":
        what = "is not a valid pattern; look-around and back-references are not supported"
        return f"is not a JSON Schema: {place} {what}"
    found = next(violations(error))
    if place.endswith("type") and found.path == tuple(error.instance_path):
        what = 'must be "string", "number", "integer", "boolean", "object", "array" or "null"'
        return f"is not a JSON Schema: {place} {what}"
    return f"is not a JSON Schema: {'/'.join(map(str, found.path)) or 'it'} {found.what}"


def _cause(message: str) -> str:
    """Return why a reference failed, without the library's own words around it."""
    return message.partition("retrieving it failed: ")[2].removeprefix("ValueError: ") or message
