"""Send context fields of an event as properties, if a destination includes them.

A vendor whose events have only a name and free properties has no fields for time, page or
campaign. ``include = ["timestamp", "context.page.url"]`` adds them to the properties.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias, get_type_hints

from msgspec import Struct
from msgspec.structs import replace

from gateway.event import EPOCH, NOTHING, Context, Event, Traits, as_json
from gateway.event_fields import is_struct
from gateway.mapping.generated import define, indented
from gateway.suggestions import did_you_mean

PREFIXES = {"page": "page_", "device": "device_", "app": "app_", "campaign": "utm_"}
"""Prefixes of property names, by part of the context."""
CAMPAIGN = {"name": "utm_campaign"}
"""Exceptions from the prefix: https://ga-dev-tools.google/campaign-url-builder."""
TOP = ("timestamp", "message_id", "anonymous_id", "session_id", "group_id", "consent")
"""Fields of the event itself."""
CONTACT = ("email", "phone")
"""Traits without a prefix, since no event has such properties. Other names, such as ``name``, could
be a product's."""


class Included(Struct, frozen=True):
    """An event with included fields as properties."""

    event: Event
    """The event; included fields are removed from their old places, if so asked."""
    paths: Mapping[str, str]
    """Paths of the included fields, by property name."""


def _places() -> Iterator[tuple[str, str]]:
    """Yield the path of each field that can be included, and the name of its property."""
    yield from ((name, name) for name in TOP)
    for name, hint in get_type_hints(Context).items():
        if is_struct(hint):
            for field in hint.__struct_fields__:
                spelt = CAMPAIGN.get(field, "") if name == "campaign" else ""
                yield f"context.{name}.{field}", spelt or f"{PREFIXES[name]}{field}"
        elif name != "extra":
            yield f"context.{name}", name
    for name in Traits.__struct_fields__:
        if name != "extra":
            yield f"traits.{name}", name if name in CONTACT else f"user_{name}"


PLACES = dict(_places())
FREE: Mapping[str, tuple[str, ...]] = {
    "context": Context.__struct_fields__,
    "traits": Traits.__struct_fields__,
}
"""Known names of the parts that allow any further names."""
CLOSE = 0.75
"""Similarity to a known name, from 0 to 1, above which another name counts as a typo."""
GROUPS = frozenset({"context", "traits", *(f"context.{name}" for name in PREFIXES)})
TIME = "timestamp"


def check(path: str) -> str:
    """Check and return a *path* to include.

    Raises:
        ValueError: there is no such field.
    """
    if path in PLACES or path in GROUPS:
        return path
    above, _, own = path.rpartition(".")
    if above in FREE and own and not did_you_mean(own, FREE[above], CLOSE, only=True):
        return path
    hint = did_you_mean(path, [*PLACES, *GROUPS])
    raise ValueError(f"{path!r} is not a field of an event; {hint}")


class _Field(NamedTuple):
    """A field that is included, or a mapping whose keys are."""

    path: str
    name: str
    """Usual name of the property; for a mapping, what the names begin with."""
    keys: tuple[str, ...] | None = None
    """The keys of a mapping; all if empty."""


Include: TypeAlias = Callable[[Event, bool], Included]
"""Returns an event with included fields. The flag says whether they leave their old places."""


def compile_include(
    paths: Iterable[str],
    time: Callable[[datetime], Any] = as_json,
    names: Mapping[str, str] = NOTHING,
) -> Include:
    """Return a function that returns a track event with the fields at *paths* as properties.

    If there is a property of that name already, the field gets the prefix ``event_``, such as
    ``event_timestamp``.

    Args:
        paths: fields and groups of fields; a missing time is the arrival.
        time: converts a time.
        names: the vendor's own property names, by the usual names.
    """
    fields = tuple(dict.fromkeys(field for path in paths for field in _fields(path)))
    known = {
        "blank": Event(type="track"),
        "EPOCH": EPOCH, "Included": Included, "as_json": as_json, "names": names,
        "replace": replace, "spare": _spare, "take": _take, "time": time,
    }  # fmt: skip
    lines = ["def include(event, moved):", *indented(_lines(fields, names))]
    include: Include = define("include", lines, known, "properties from the context")
    return include


def _fields(path: str) -> Iterator[_Field]:
    """Yield the field, or the group of fields, at *path*."""
    above, _, own = path.rpartition(".")
    if path == "consent":
        yield _Field(path, "consent_", ())
    elif path in PLACES:
        yield _Field(path, PLACES[path])
    elif path in GROUPS:
        yield from (_Field(*place) for place in PLACES.items() if place[0].startswith(f"{path}."))
        if path in FREE:
            yield _Field(f"{path}.extra", "", ())
    else:
        yield _Field(f"{above}.extra", "", (own,))


def _lines(fields: Sequence[_Field], names: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a function that includes *fields*.

    Each field has a variable for what stays in its place: its value, and None once it became a
    property; or the keys of a mapping that did not. Fields of a part in which nothing is set are
    skipped together.
    """
    yield "properties = event.properties"
    yield "held = properties.extra"
    yield "told, came = {}, {}"
    read = set[str]()
    for part, members in groupby(fields, lambda field: field.path.rpartition(".")[0]):
        lines = list[str]()
        for field in members:
            stays, own = _stays(field.path), field.path.rpartition(".")[2]
            lines += () if stays in read else (f"{stays} = {'part' if part else 'event'}.{own}",)
            lines += _field(field, stays, names)
            read.add(stays)
        if part:
            lines = [f"if (part := event.{part}) is not blank.{part}:", *indented(lines)]
        yield from lines
    yield "if not told:"
    yield "    return Included(event, came)"
    yield "properties = replace(properties, extra={**told, **held} if held else told)"
    yield "if not moved:"
    yield "    return Included(replace(event, properties=properties), came)"
    changed = _changed("event", ["properties", *dict.fromkeys(path for path, _, _ in fields)])
    yield f"return Included({changed}, came)"


def _field(field: _Field, stays: str, names: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines that include one field, or the keys of a mapping."""
    path, usual, keys = field
    name = names.get(usual, usual)
    if keys is not None:
        yield f"{stays} = take({stays}, {path!r}, {usual!r}, {keys!r}, names, held, told, came)"
        return
    if path == TIME:
        yield f"moment = {stays} or event.received_at"
        yield "if moment != EPOCH:"
        written = "time(moment)"
    else:
        yield f"if {stays} is not None:"
        written = f"{stays} if type({stays}) is str else as_json({stays})"
    yield f"    name = {name!r}"
    yield "    if name in held or name in told:"
    yield "        name = spare(name, held, told)"
    yield "    if name is not None:"
    yield f"        told[name] = {written}"
    yield f"        came[name] = {path!r}"
    yield f"        {stays} = None"


def _stays(path: str) -> str:
    return path.replace(".", "_")


def _changed(part: str, paths: Iterable[str]) -> str:
    """Return the expression for a *part* of the event with the variables of *paths* below it.

    A part in which nothing is set stays the default of its field.
    """
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).append(rest)
    changes = []
    for name, rests in below.items():
        inner = f"{part}.{name}"
        whole = rests == [""]
        value = _stays(inner.removeprefix("event.")) if whole else _changed(inner, rests)
        changes.append(f"{name}={value}")
    changed = f"replace({part}, {', '.join(changes)})"
    if part == "event":
        return changed
    return f"{part} if {part} is blank{part.removeprefix('event')} else {changed}"


def _take(  # noqa: PLR0913, PLR0917 - what a generated function has in its variables
    mapping: Mapping[str, Any], path: str, prefix: str, keys: Collection[str],
    names: Mapping[str, str], held: Mapping[str, Any], told: dict[str, Any], came: dict[str, str],
) -> Mapping[str, Any]:  # fmt: skip
    """Add *keys* of a *mapping*, or all, to *told*; return what stays in the mapping."""
    stays = dict(mapping)
    for key in keys or mapping:
        usual = f"{prefix}{key}"
        name: str | None = names.get(usual, usual)
        if name in held or name in told:
            name = _spare(name or "", held, told)
        if name is not None and key in mapping:
            told[name] = as_json(stays.pop(key))
            came[name] = f"{path}.{key}"
    return stays or NOTHING


def _spare(name: str, held: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
    """Return another name for a property, since *name* is taken; None if that is taken too."""
    other = f"event_{name}"
    return None if other in held or other in told else other
