"""The steps of a route, as the configuration writes them: one table each, named by its first key.

The docstrings are the reference (docs/configuration.md); what the steps do is in
``gateway.routing.steps``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue, SecretStr, model_validator

from gateway.config.quantities import Duration
from gateway.config.tables import Table
from gateway.routing.targets import (
    Plain,
    category,
    checked_map,
    hashable,
    settable,
    source_of,
    textual,
    whole,
)


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


class Step(Table):
    """What every step has: a word of its own, which is its first key."""

    word: ClassVar[str]


class Rename(Step):
    """Gives events other names. The first pattern that matches counts; exact names go first."""

    word = "rename"
    rename: Annotated[Mapping[str, str], BeforeValidator(_names)]
    """Names, or patterns, to new names: `*` is any text, and each `*` in a new name is what the
    `*` in the same place of the pattern stood for."""


class Set(Step):
    """Sets fields, whatever was there."""

    word = "set"
    set: Annotated[Mapping[str, Plain], BeforeValidator(_assignments)]
    """Fields to values."""


class Default(Step):
    """Sets fields that the event lacks."""

    word = "default"
    default: Annotated[Mapping[str, Plain], BeforeValidator(_assignments)]
    """Fields to values."""


class Copy(Step):
    """Copies fields. What does not fit where it is to go, such as text for a total, stays away."""

    word = "copy"
    copy_: Annotated[Mapping[str, str], BeforeValidator(_copies)] = Field(alias="copy")
    """Fields to the fields that get a copy."""


class Drop(Step):
    """Removes fields."""

    word = "drop"
    drop: Annotated[tuple[str, ...], _paths(whole)]
    """The fields, or whole parts such as `context.device`."""


class Keep(Step):
    """Removes everything else under `properties`, `traits`, `context`, `consent` and `extra`."""

    word = "keep"
    keep: Annotated[tuple[str, ...], _paths(whole)]
    """The fields, or whole parts, that stay. Type, name, ids and times stay anyway."""


class Hash(Step):
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


class Mask(Step):
    """Replaces the characters of fields, but for some at the ends."""

    word = "mask"
    mask: Annotated[tuple[str, ...], _paths(textual)]
    """The fields."""
    first: int = Field(default=0, ge=0)
    """How many characters at the beginning stay."""
    last: int = Field(default=0, ge=0)
    """How many characters at the end stay. A text that would stay whole is replaced whole."""


class Map(Step):
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


class Sample(Step):
    """Lets a share of the users through: one that is in stays in."""

    word = "sample"
    sample: Annotated[float, BeforeValidator(_share)] = Field(json_schema_extra=SHARE)
    """The share, such as `0.1` or `"10%"`."""
    seed: str = ""
    """Steps with the same seed let the same users through."""


class Consent(Step):
    """Lets only events through whose user has consented."""

    word = "consent"
    consent: Annotated[tuple[str, ...], BeforeValidator(_categories)]
    """The category of consent, or several that are all needed. The event's own consent counts,
    and where it is silent the last that is remembered of the user (`[consent]`)."""


class Timestamp(Step):
    """Moves times that cannot be right to the nearest that can."""

    word = "timestamp"
    timestamp: Literal["clamp"]
    """What to do: `"clamp"`."""
    past: Duration | None = Field(default=None, ge=0)
    """How long before its arrival an event may have happened; any time where this is left out."""
    future: Duration = Field(default=0.0, ge=0)
    """How long after its arrival an event may happen."""


class TruncateIp(Step):
    """Blanks the last octet of an IPv4 address, and the last 80 bits of an IPv6 address."""

    word = "truncate_ip"
    truncate_ip: Annotated[tuple[str, ...], _paths(textual)]
    """The fields, such as `["context.ip"]`. What is no address is removed."""


STEPS: Mapping[str, type[Step]] = {
    step.word: step
    for step in (
        Rename, Set, Default, Copy, Drop, Keep, Hash, Mask, Map, Sample, Consent, Timestamp,
        TruncateIp,
    )
}  # fmt: skip
"""The steps by their words."""
