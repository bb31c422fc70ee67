"""The JSON Schema of the configuration file, for editors: completion, hover, red lines.

Of the drafts it takes 7 (https://json-schema.org/draft-07), which Taplo, Even Better TOML and
other editors all know.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from gateway.config.cases import ExpectedConfig
from gateway.config.key_schema import REFERENCE, REFERS, Json, key_schema, line
from gateway.config.load import NAME
from gateway.config.models import TABLES, Delivery, SourceConfig, keys_of
from gateway.config.steps import STEPS, Step
from gateway.plugins import Registry

DRAFT = "http://json-schema.org/draft-07/schema#"
SINGLE = ("server", "spool", "admin", "consent", "trace", "log")


def editor_schema(registry: Registry) -> Json:
    """Return what a configuration file may say, the settings of all vendors included."""
    steps = {"type": "array", "items": {"$ref": "#/definitions/step"}}
    single = {name: _table(TABLES[name]) for name in SINGLE if name in TABLES}
    lists = {
        name: {"type": "array", "items": _table(model)}
        for name, model in TABLES.items()
        if name not in {*SINGLE, "sources", "destinations"}
    }
    return {
        "$schema": DRAFT,
        "title": "The gateway's configuration file",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "include": {
                "description": "Further files, as paths or patterns from this file on.",
                "type": "array", "items": {"type": "string"},
            },
            **single,
            "sources": _named("Who may send, and in whose format.", _source(registry)),
            "destinations": _named("Who gets the events.", {"$ref": "#/definitions/destination"}),
            "steps": _named("Lists of steps, for routes to name.", steps),
            **lists,
        },
        "definitions": {
            "reference": {
                "description": "A reference to an environment variable.",
                "type": "string", "pattern": REFERS,
            },
            "expected": _table(ExpectedConfig),
            "step": _step(),
            **{f"step-{word}": _table(step) for word, step in STEPS.items()},
            "destination": _destination(registry),
            **{
                f"destination-{vendor}": _settings(output.Config)
                for vendor, output in registry.outputs.items()
            },
        },
    }  # fmt: skip


def _named(what: str, held: Json) -> Json:
    names = {"pattern": f"^{NAME.pattern}$"}
    return {
        "description": what,
        "type": "object",
        "propertyNames": names,
        "additionalProperties": held,
    }


def _table(model: type[BaseModel]) -> Json:
    keys = keys_of(model)
    loose = issubclass(model, Step)
    return {
        "description": line(model.__doc__),
        "type": "object",
        "additionalProperties": False,
        "required": [key for key, field in keys.items() if field.is_required()],
        "properties": {key: key_schema(field, loose=loose) for key, field in keys.items()},
    }


def _source(registry: Registry) -> Json:
    table = _table(SourceConfig)
    table["properties"]["vendor"] |= _one_of(registry.inputs)
    return table


def _destination(registry: Registry) -> Json:
    """Return what holds for every destination, and whose table decides the rest.

    The vendors' own keys stand here too, with their descriptions alone, for editors that offer
    completions without regard to conditions.
    """
    own: dict[str, list[str]] = {}
    for vendor, output in registry.outputs.items():
        for key, field in keys_of(output.Config).items():
            own.setdefault(key, []).append(f"{vendor}: {line(field.description)}")
    common = {key: key_schema(field) for key, field in keys_of(Delivery).items()}
    common["vendor"] |= _one_of(registry.outputs)
    told = {key: {"description": "\n\n".join(lines)} for key, lines in own.items()}
    chosen = (_when("vendor", vendor, f"destination-{vendor}") for vendor in registry.outputs)
    return {
        "description": line(Delivery.__doc__),
        "type": "object",
        "required": ["vendor"],
        "properties": {**told, **common},
        "allOf": list(chosen),
    }


def _settings(model: type[BaseModel]) -> Json:
    """Return a vendor's own keys; a client's credential, or a shadow, makes all optional."""
    keys = keys_of(model)
    required = [key for key, field in keys.items() if field.is_required()]
    shadow = {"required": ["shadow"], "properties": {"shadow": {"const": True}}}
    lent = {"required": ["credentials"], "properties": {"credentials": {"const": "client"}}}
    return {
        "additionalProperties": False,
        "properties": {
            **dict.fromkeys(keys_of(Delivery), True),
            **{key: key_schema(field) for key, field in keys.items()},
        },
        "if": {"anyOf": [lent, shadow]},
        "else": {"required": required},
    }


def _step() -> Json:
    """Return a step: a table that its first key names, or the name of a list of steps."""
    words = {
        word: {"description": f"{line(step.__doc__)} {line(keys_of(step)[word].description)}"}
        for word, step in STEPS.items()
    }
    return {
        "type": ["object", "string"],
        "properties": words,
        "if": {"type": "object"},
        "then": {"anyOf": [{"required": [word]} for word in STEPS]},
        "allOf": [
            {
                "if": {"type": "object", "required": [word]},
                "then": {"$ref": f"#/definitions/step-{word}"},
            }
            for word in STEPS
        ],
    }


def _when(key: str, value: str, definition: str) -> Json:
    return {
        "if": {"required": [key], "properties": {key: {"const": value}}},
        "then": {"$ref": f"#/definitions/{definition}"},
    }


def _one_of(words: Mapping[str, object]) -> Json:
    return {"type": "string", "anyOf": [{"enum": list(words)}, REFERENCE]}
