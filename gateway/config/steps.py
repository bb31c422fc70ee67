"""Models of route steps, and the event fields that they accept.

The docstrings are the reference (docs/configuration.md); what the steps do is in
``gateway.routing.steps``.

Every function raises ValueError, in words for the person who wrote the configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, JsonValue, SecretStr, model_validator

from gateway.config.types import ConfigTable
from gateway.event_fields import EventField, find_field
from gateway.json_text import LongNumber
from gateway.plugin.quantities import Duration

Plain: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any]
"""What TOML and JSON have in common, without null."""

FIXED = frozenset({"type", "id", "received_at", "origin"})
"""Fields that say what the event is; no step changes them."""
TIMES = frozenset({"timestamp", "sent_at"})


def field_at(path: object) -> EventField:
    """Return the field at *path*, if steps may change it."""
    if not isinstance(path, str) or not path:
        raise ValueError('must name a field; write "properties.total"')
    names = path.split(".")
    if not all(names):
        raise ValueError(f"{path!r} has an empty name; write it like properties.total")
    if names[0] == "event":
        raise ValueError(f"{path} names the event; steps write {'.'.join(names[1:]) or 'a field'}")
    field = find_field(names)
    if names[0] in FIXED:
        raise ValueError(f"{path} says what the event is, and stays as it is")
    return field


def removable_field(path: object) -> EventField:
    """Return a field, or a whole part of the event, that may be removed."""
    field = field_at(path)
    if field.names[-1:] == ("*",) and field.struct is None:
        raise ValueError(f"{path} names the members of a list; name the list")
    return field


def _value(path: object) -> EventField:
    field = field_at(path)
    if field.struct is not None:
        raise ValueError(f"{path} is a part of the event, not a field; name one in it")
    if field.names[0] in TIMES:
        raise ValueError(f"{path} is a time; the step timestamp changes it")
    return field


def textual(path: object) -> EventField:
    """Return a field that may hold text."""
    field = _value(path)
    if str not in field.classes:
        raise ValueError(f"{path} never holds text")
    return field


def hashable(path: object) -> EventField:
    """Return a field that may hold what a hash is made of."""
    return textual(path)


def source_of(path: object) -> str:
    """Return the path of a field whose value steps may read and replace."""
    return _value(path).path


def settable(path: object, value: object) -> EventField:
    """Return a field that may hold *value*."""
    field = _value(path)
    if not fits(field, value):
        known = ", ".join(sorted(_WORDS[one] for one in field.classes))
        raise ValueError(f"{path} takes {known}, not {value!r}")
    return field


def checked_map(source: object, target: object) -> None:
    """Check that the value at *source* may be put at *target*."""
    one, other = field_at(source), _value(target)
    if "*" in other.names:
        raise ValueError(f"{target} is many fields; name one")
    if "*" in one.names:
        raise ValueError(f"{source} is many fields; name one")
    if one.struct is not None or not one.classes & other.classes:
        raise ValueError(f"{source} cannot be put at {target}, which holds something else")


def category(name: object) -> None:
    """Check the name of a category of consent."""
    if not isinstance(name, str) or not name:
        raise ValueError('must be a category of consent; write "advertising"')


def fits(field: EventField, value: Any) -> bool:
    """Tell whether *field* may hold *value*."""
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
    """Return what turns a list of paths into checked ones."""

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
"""How a share is written, as JSON Schema."""


def _share(value: object) -> object:
    if isinstance(value, str) and value.endswith("%"):
        try:
            value = float(value[:-1]) / 100
        except ValueError:
            value = -1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError('is no share; write 0.1 or "10%", more than nothing and at most all')
    return float(value)


def _assignments(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise ValueError('must be a table of fields; write { "properties.plan" = "pro" }')
    for path, held in value.items():
        settable(path, held)
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
            raise ValueError(f"{old!r} must become a name, in quotes")
        if new.count("*") > old.count("*"):
            raise ValueError(f"{new!r} has more stars than {old!r}, whose texts they stand for")
    return value


def _categories(value: object) -> object:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError('must be a category of consent; write "advertising"')
    for name in value:
        category(name)
    return tuple(value)


class StepConfig(ConfigTable):
    """What every step has: a word of its own, which is its first key."""

    word: ClassVar[str]


class Rename(StepConfig):
    """Gives events other names. The first pattern that matches counts; exact names go first."""

    word = "rename"
    rename: Annotated[Mapping[str, str], BeforeValidator(_names)]
    """Names, or patterns, to new names: `*` is any text, and each `*` in a new name is what the
    `*` in the same place of the pattern stood for."""


class Set(StepConfig):
    """Sets fields, whatever was there."""

    word = "set"
    set: Annotated[Mapping[str, Plain], BeforeValidator(_assignments)]
    """Fields to values."""


class Default(StepConfig):
    """Sets fields that the event lacks."""

    word = "default"
    default: Annotated[Mapping[str, Plain], BeforeValidator(_assignments)]
    """Fields to values."""


class Copy(StepConfig):
    """Copies fields. What does not fit where it is to go, such as text for a total, stays away."""

    word = "copy"
    copy_: Annotated[Mapping[str, str], BeforeValidator(_copies)] = Field(alias="copy")
    """Fields to the fields that get a copy."""


class Drop(StepConfig):
    """Removes fields."""

    word = "drop"
    drop: Annotated[tuple[str, ...], _paths(removable_field)]
    """The fields, or whole parts such as `context.device`."""


class Keep(StepConfig):
    """Removes everything else under `properties`, `traits`, `context`, `consent` and `extra`."""

    word = "keep"
    keep: Annotated[tuple[str, ...], _paths(removable_field)]
    """The fields, or whole parts, that stay. Type, name, ids and times stay anyway."""


class Hash(StepConfig):
    """Replaces fields by their SHA-256, in hexadecimal digits."""

    word = "hash"
    hash: Annotated[tuple[str, ...], _paths(hashable)]
    """The fields."""
    key: SecretStr | None = None
    """Makes it an HMAC-SHA-256 with this key, which nobody can reverse by trying."""
    normalize: Literal["auto", "email", "phone", "none"] = "auto"
    """What is done first: an e-mail address is trimmed and written in lower case, a phone number
    brought into E.164. `"auto"` goes by the field's own name."""
    phone: Literal["e164", "digits"] = "e164"
    """How phone numbers are written: `+442079460000`, or `442079460000`."""

    @model_validator(mode="after")
    def _key_says_something(self) -> "Hash":
        if self.key is not None and not self.key.get_secret_value():
            raise ValueError("key is empty; give it a value, or leave it out for plain SHA-256")
        return self


class Mask(StepConfig):
    """Replaces the characters of fields, but for some at the ends."""

    word = "mask"
    mask: Annotated[tuple[str, ...], _paths(textual)]
    """The fields."""
    first: int = Field(default=0, ge=0)
    """How many characters at the beginning stay."""
    last: int = Field(default=0, ge=0)
    """How many characters at the end stay. A text that would stay whole is replaced whole."""


class Map(StepConfig):
    """Replaces a field's value by what a table says of it."""

    word = "map"
    map: Annotated[str, BeforeValidator(source_of)]
    """The field."""
    to: str | None = None
    """The field that gets the result; the same one where this is left out."""
    table: Mapping[str, Plain] | None = None
    """Values to results. Numbers and booleans are looked up as they are written in JSON."""
    file: Path | None = None
    """A file with the table: JSON with one object, or CSV with two columns and no heading. The
    path counts from the file that names it."""
    unknown: Literal["keep", "drop"] = "keep"
    """What becomes of a value that the table does not have."""

    @model_validator(mode="after")
    def _one_table_that_fits(self) -> "Map":
        if (self.table is None) == (self.file is None):
            raise ValueError("needs a table or a file, one of the two")
        if self.to is not None:
            source_of(self.to)
        for value in (self.table or {}).values():
            settable(self.to or self.map, value)
        return self


class SampleStep(StepConfig):
    """Lets a share of the users through: one that is in stays in."""

    word = "sample"
    sample: Annotated[float, BeforeValidator(_share)] = Field(json_schema_extra=SHARE)
    """The share, such as `0.1` or `"10%"`."""
    seed: str = ""
    """Steps with the same seed let the same users through."""


class Consent(StepConfig):
    """Lets only events through whose user has consented."""

    word = "consent"
    consent: Annotated[tuple[str, ...], BeforeValidator(_categories)]
    """The category of consent, or several that are all needed. The event's own consent counts,
    and where it is silent the last that is remembered of the user (`[consent]`)."""


class Timestamp(StepConfig):
    """Moves times that cannot be right to the nearest that can."""

    word = "timestamp"
    timestamp: Literal["clamp"]
    """What to do: `"clamp"`."""
    past: Duration | None = Field(default=None, ge=0)
    """How long before its arrival an event may have happened; any time where this is left out."""
    future: Duration = Field(default=0.0, ge=0)
    """How long after its arrival an event may happen."""


class TruncateIp(StepConfig):
    """Blanks the last octet of an IPv4 address, and the last 80 bits of an IPv6 address."""

    word = "truncate_ip"
    truncate_ip: Annotated[tuple[str, ...], _paths(textual)]
    """The fields, such as `["context.ip"]`. What is no address is removed."""


STEPS: Mapping[str, type[StepConfig]] = {
    step.word: step
    for step in (
        Rename, Set, Default, Copy, Drop, Keep, Hash, Mask, Map, SampleStep, Consent, Timestamp,
        TruncateIp,
    )
}  # fmt: skip
"""The steps by their words."""
