"""JSON Schemas, compiled (https://json-schema.org/draft/2020-12)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema_rs
import orjson
from jsonschema_rs import RegexOptions, ValidationError, ValidationErrorKind

from gateway.tracking.violations import Violation, violations

MASK = "the value"
"""Stands in messages where the value stood."""


class SchemaError(Exception):
    """A schema cannot be used; the message says where in it, and why."""


class Schema:
    """What events of one name should look like.

    Patterns are those of an engine whose time is bounded by the length of the text, so that no
    sender can make one run away; it has neither look-around nor back-references. ``format`` is
    checked. References lead to other files at most, never to the network.

    Args:
        schema: as JSON has it.
        at: the file that it stands in, for relative references.

    Attributes:
        files: the further files that references led to.

    Raises:
        SchemaError: it is no schema.
    """

    def __init__(self, schema: Any, at: Path) -> None:
        if not isinstance(schema, dict | bool):
            raise SchemaError("is no JSON Schema; it must be an object, true or false")
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
        """Return what is wrong with *value*; nothing where it fits."""
        return [found for error in self._errors(value) for found in violations(error, value)]

    def _referred(self, uri: str) -> Any:
        parts = urlsplit(uri)
        if parts.scheme != "file":
            raise ValueError(f"{uri} is no file, and nothing is fetched from elsewhere")
        path = Path(unquote(parts.path))
        self.files.append(path)
        try:
            return json_of(path)
        except SchemaError as error:
            raise ValueError(f"{path} {error}") from error


def json_of(path: Path) -> Any:
    """Return what the JSON file *path* holds.

    Raises:
        SchemaError: it cannot be read, or is no JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise SchemaError(f"cannot be read: {reason}; mend the path, or write the file") from error
    except orjson.JSONDecodeError as error:
        raise SchemaError(f"is no JSON: {error}") from error


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"is no JSON Schema: {error}"
    place = "/".join(map(str, error.instance_path))
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.Referencing):
        return f"refers to what cannot be had: {_cause(kind.error.message)}"
    if isinstance(kind, ValidationErrorKind.Format) and kind.format == "regex":
        what = "is no pattern that can be used; look-around and back-references cannot"
        return f"is no JSON Schema: {place} {what}"
    found = next(violations(error))
    if place.endswith("type") and found.path == tuple(error.instance_path):
        what = 'must be "string", "number", "integer", "boolean", "object", "array" or "null"'
        return f"is no JSON Schema: {place} {what}"
    return f"is no JSON Schema: {'/'.join(map(str, found.path)) or 'it'} {found.what}"


def _cause(message: str) -> str:
    """Return why a reference failed, without what the library says around it."""
    return message.partition("retrieving it failed: ")[2].removeprefix("ValueError: ") or message
