"""Models of route steps, and the event fields that they accept.

The docstrings are the reference (docs/configuration.md); ``gateway.routing.steps`` applies the
steps. Every function raises ValueError with a message for the author of the configuration.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, JsonValue, SecretStr, model_validator

from gateway.config.types import FilePath
from gateway.event_fields import EventField, find_field
from gateway.json_text import LongNumber
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.quantities import Duration

Plain: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any]
"""Values that both TOML and JSON have; null is not one."""

FIXED = frozenset({"type", "id", "received_at", "origin"})
"""Fields that identify the event; steps cannot change them."""
TIMES = frozenset({"timestamp", "sent_at"})


def field_at(path: object) -> EventField:
    """Return the field at *path* if steps may change it."""
    if not isinstance(path, str) or not path:
        raise ValueError('must name a field; write "properties.total"')
    names = path.split(".")
    if not all(names):
        raise ValueError(f"{path!r} has an empty part; write a path like properties.total")
    if names[0] == "event":
        without = ".".join(names[1:]) or "the name of a field"
        raise ValueError(f"{path} must not begin with event; write {without}")
    field = find_field(names)
    if names[0] in FIXED:
        raise ValueError(f"{path} cannot be changed by a step")
    return field


def removable_field(path: object) -> EventField:
    """Return a field, or a whole part of the event, that steps may remove."""
    field = field_at(path)
    if field.names[-1:] == ("*",) and field.struct is None:
        raise ValueError(f"{path} names single items of a list; name the whole list")
    return field


def _value(path: object) -> EventField:
    field = field_at(path)
    if field.struct is not None:
        raise ValueError(f"{path} is a part of the event, not a field; name a field in it")
    if field.names[0] in TIMES:
        raise ValueError(f"{path} is a time; use the step timestamp to change it")
    return field


def textual(path: object) -> EventField:
    """Return a field that may hold text."""
    field = _value(path)
    if str not in field.classes:
        raise ValueError(f"{path} never holds text; name a field that can")
    return field


def hashable(path: object) -> EventField:
    """Return a field that may be hashed: one that may hold text."""
    return textual(path)


def source_of(path: object) -> str:
    """Return the path of a field whose value steps may read and replace."""
    return _value(path).path


def settable(path: object, value: object) -> EventField:
    """Return the field at *path* if it may hold *value*."""
    field = _value(path)
    if not fits(field, value):
        known = ", ".join(sorted(_WORDS[one] for one in field.classes))
        raise ValueError(f"{path} must be {known}, not {value!r}")
    return field


def checked_map(source: object, target: object) -> None:
    """Check that a value at *source* may be copied to *target*."""
    one, other = field_at(source), _value(target)
    if "*" in other.names:
        raise ValueError(f"{target} matches several fields; name one")
    if "*" in one.names:
        raise ValueError(f"{source} matches several fields; name one")
    if one.struct is not None or not one.classes & other.classes:
        raise ValueError(f"{source} cannot be copied to {target}: their types differ")


def category(name: object) -> None:
    """Check the name of a consent category."""
    if not isinstance(name, str) or not name:
        raise ValueError('must be a category of consent; write "advertising"')


def fits(field: EventField, value: Any) -> bool:
    """Return whether *field* may hold *value*."""
    found: type = type(value)
    if found is int or issubclass(found, LongNumber):
        found = float
    if isinstance(value, Mapping):
        found = dict
    return found in field.classes


_WORDS: Mapping[type, str] = {
    str: "text", float: "a number", bool: "true or false", list: "a list", dict: "a table",
}  # fmt: skip


def _paths(check: Any) -> Any:
    """Return a validator for a list of paths; a single path may be written without brackets."""

    def paths(value: object) -> object:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple) or not value:
            raise ValueError('must be a list of fields; write ["traits.email"]')
        for path in value:
            check(path)
        return tuple(value)

    return BeforeValidator(paths)


SHARE: dict[str, JsonValue] = {"anyOf": [
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "string", "pattern": r"^\d+(\.\d+)?%$"},
]}  # fmt: skip
"""A share in JSON Schema."""


def _share(value: object) -> object:
    if isinstance(value, str) and value.endswith("%"):
        try:
            value = float(value[:-1]) / 100
        except ValueError:
            value = -1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError('is not a share above 0 and at most 1; write 0.1 or "10%"')
    return float(value)


def _assignments(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise ValueError('must be a table of fields; write { "properties.plan" = "pro" }')
    for path, new in value.items():
        settable(path, new)
    return value


def _copies(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise ValueError('must be a table; write { "traits.email" = "properties.email" }')
    for source, target in value.items():
        checked_map(source, target)
    return value


def _names(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise ValueError('must be a table; write { "Order Completed" = "Purchase" }')
    for old, new in value.items():
        if not isinstance(new, str) or not new:
            raise ValueError(f"{old!r} must have a new name, in quotes")
        if new.count("*") > old.count("*"):
            raise ValueError(f"{new!r} has more * than {old!r}; each * must stand for one in it")
    return value


def _categories(value: object) -> object:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError('must be a category of consent; write "advertising"')
    for name in value:
        category(name)
    return tuple(value)


class StepConfig(ConfigTable):
    """Base of all steps. A step's first key, ``word``, names its kind."""

    word: ClassVar[str]


class Rename(StepConfig):
    """Renames events. Exact names are tried first, then patterns in their order."""

    word = "rename"
    rename: Annotated[Mapping[str, str], BeforeValidator(_names)]
    """Names, or patterns, with their new names. `*` matches any text; each `*` in the new name is
    replaced by the text of the `*` at the same position in the pattern."""


class Set(StepConfig):
    """Sets fields, and overwrites their values."""

    word = "set"
    set: Annotated[Mapping[str, Plain], BeforeValidator(_assignments)]
    """Fields with their values."""


class Default(StepConfig):
    """Sets fields that the event does not have."""

    word = "default"
    default: Annotated[Mapping[str, Plain], BeforeValidator(_assignments)]
    """Fields with their values."""


class Copy(StepConfig):
    """Copies fields. A value that does not fit its target (text for a total) is left out."""

    word = "copy"
    copy_: Annotated[Mapping[str, str], BeforeValidator(_copies)] = Field(alias="copy")
    """Fields with the fields that get the copy."""


class Drop(StepConfig):
    """Removes fields."""

    word = "drop"
    drop: Annotated[tuple[str, ...], _paths(removable_field)]
    """The fields, or whole parts such as `context.device`."""


class Keep(StepConfig):
    """Removes all other fields in `properties`, `traits`, `context`, `consent` and `extra`."""

    word = "keep"
    keep: Annotated[tuple[str, ...], _paths(removable_field)]
    """The fields, or whole parts, to keep. Type, name, ids and times are always kept."""


class Hash(StepConfig):
    """Replaces fields by their SHA-256 in hexadecimal digits."""

    word = "hash"
    hash: Annotated[tuple[str, ...], _paths(hashable)]
    """The fields."""
    key: SecretStr | None = None
    """Use HMAC-SHA-256 with this key, so that nobody can find the value by trying all
    candidates."""
    normalize: Literal["auto", "email", "phone", "none"] = "auto"
    """How a value is prepared: `"email"` trims it and writes it in lower case, `"phone"` converts
    it to E.164, `"auto"` chooses by the field's name."""
    phone: Literal["e164", "digits"] = "e164"
    """How phone numbers are written: `+442079460000` or `442079460000`."""

    @model_validator(mode="after")
    def _key_is_not_empty(self) -> "Hash":
        if self.key is not None and not self.key.get_secret_value():
            raise ValueError("key is empty; set it, or remove it for plain SHA-256")
        return self


class Mask(StepConfig):
    """Replaces the characters of fields by asterisks, except some at the ends."""

    word = "mask"
    mask: Annotated[tuple[str, ...], _paths(textual)]
    """The fields."""
    first: int = Field(default=0, ge=0)
    """How many characters at the beginning are kept."""
    last: int = Field(default=0, ge=0)
    """How many characters at the end are kept. A text so short that all of it would be kept is
    masked completely."""


class Map(StepConfig):
    """Replaces a field's value by its entry in a table."""

    word = "map"
    map: Annotated[str, BeforeValidator(source_of)]
    """The field."""
    to: str | None = None
    """The field that gets the result. Default: the same field."""
    table: Mapping[str, Plain] | None = None
    """Values with their results. Numbers and booleans are looked up as written in JSON."""
    file: FilePath = None
    """A file with the table: JSON with one object, or CSV with two columns and no header. The path
    is relative to the file that names it."""
    unknown: Literal["keep", "drop"] = "keep"
    """What to do with a value that is not in the table."""

    @model_validator(mode="after")
    def _one_table_that_fits(self) -> "Map":
        if (self.table is None) == (self.file is None):
            raise ValueError("needs either table or file; write one of them")
        if self.to is not None:
            source_of(self.to)
        for value in (self.table or {}).values():
            settable(self.to or self.map, value)
        return self


class SampleStep(StepConfig):
    """Lets the events of a share of the users pass. A user is always in the share, or never."""

    word = "sample"
    sample: Annotated[float, BeforeValidator(_share)] = Field(json_schema_extra=SHARE)
    """The share, such as `0.1` or `"10%"`."""
    seed: str = ""
    """Steps with the same seed select the same users."""


class Consent(StepConfig):
    """Lets only events pass whose user has given consent."""

    word = "consent"
    consent: Annotated[tuple[str, ...], BeforeValidator(_categories)]
    """The category of consent, or several, all of which are required. The event's own consent is
    used first, then the user's stored decision (`[consent]`). No recorded consent means no."""


class Timestamp(StepConfig):
    """Moves impossible times to the nearest possible time."""

    word = "timestamp"
    timestamp: Literal["clamp"]
    """What to do: `"clamp"`."""
    past: Duration | None = Field(default=None, ge=0)
    """How long before its arrival an event may have happened. Default: any time."""
    future: Duration = Field(default=0.0, ge=0)
    """How long after its arrival an event may happen."""


class TruncateIp(StepConfig):
    """Zeroes the last octet of an IPv4 address, and the last 80 bits of an IPv6 address."""

    word = "truncate_ip"
    truncate_ip: Annotated[tuple[str, ...], _paths(textual)]
    """The fields, such as `["context.ip"]`. A value that is not an IP address is removed."""


STEPS: Mapping[str, type[StepConfig]] = {
    step.word: step
    for step in (
        Rename, Set, Default, Copy, Drop, Keep, Hash, Mask, Map, SampleStep, Consent, Timestamp,
        TruncateIp,
    )
}  # fmt: skip
"""The steps by their words."""
