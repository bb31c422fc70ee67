"""Send context fields of an event as properties, if a destination includes them.

A vendor whose events have only a name and free properties has no fields for time, page or
campaign. ``include = ["timestamp", "context.page.url"]`` adds them to the properties.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, get_type_hints

import msgspec
from msgspec.structs import replace

from gateway.event import EPOCH, NOTHING, Context, Event, Traits, as_json
from gateway.event_fields import is_struct
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


class Place(NamedTuple):
    """A field that can be included."""

    path: str
    name: str
    """Name of the property."""


class Included(NamedTuple):
    """An event with included fields as properties."""

    event: Event
    """The event; included fields are removed from their old places."""
    paths: Mapping[str, str]
    """Paths of the included fields, by property name."""


def _places() -> Iterator[Place]:
    yield from (Place(name, name) for name in TOP)
    for name, hint in get_type_hints(Context).items():
        if is_struct(hint):
            for field in hint.__struct_fields__:
                spelt = CAMPAIGN.get(field, "") if name == "campaign" else ""
                yield Place(f"context.{name}.{field}", spelt or f"{PREFIXES[name]}{field}")
        elif name != "extra":
            yield Place(f"context.{name}", name)
    for name in Traits.__struct_fields__:
        if name != "extra":
            yield Place(f"traits.{name}", name if name in CONTACT else f"user_{name}")


PLACES = {place.path: place for place in _places()}
FREE: Mapping[str, tuple[str, ...]] = {
    "context": Context.__struct_fields__,
    "traits": Traits.__struct_fields__,
}
"""Known names of the parts that allow any further names."""
CLOSE = 0.75
"""Similarity to a known name, from 0 to 1, above which another name counts as a typo."""
GROUPS = frozenset({"context", "traits", *(f"context.{name}" for name in PREFIXES)})


_MEMBERS = {
    group: tuple(place for path, place in PLACES.items() if path.startswith(f"{group}."))
    for group in GROUPS
}
_VALUES = {path: attrgetter(path) for path in PLACES}


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


def include(
    event: Event,
    paths: Iterable[str],
    time: Callable[[datetime], Any] = as_json,
    names: Mapping[str, str] = NOTHING,
) -> Included:
    """Return a track *event* with the fields at *paths* as properties.

    If it already has a property of that name, the field gets the prefix ``event_``, such as
    ``event_timestamp``.

    Args:
        event: a track event.
        paths: fields and groups of fields; a missing time is the arrival.
        time: converts a time.
        names: the vendor's own property names, by the usual names.
    """
    held = event.properties.extra
    told: dict[str, Any] = {}
    came: dict[str, str] = {}
    for path, name, value in _found(event, paths):
        spelt = names.get(name, name)
        if spelt in held:
            spelt = f"event_{spelt}"
        if spelt in held or path in came.values():
            continue
        told[spelt] = time(value) if path == "timestamp" else as_json(value)
        came[spelt] = path
    if not told:
        return Included(event, came)
    properties = replace(event.properties, extra={**told, **held})
    return Included(replace(_without(event, came.values()), properties=properties), came)


def _found(event: Event, paths: Iterable[str]) -> Iterator[tuple[str, str, Any]]:
    for path in paths:
        if path == "timestamp":
            if event.time != EPOCH:
                yield path, path, event.time
        elif path == "consent":
            for category, given in event.consent.items():
                yield f"consent.{category}", f"consent_{category}", given
        elif path in PLACES:
            yield from _set(event, PLACES[path])
        elif path in GROUPS:
            yield from _group(event, path)
        else:
            above, _, own = path.rpartition(".")
            value = _extra(event, above).get(own)
            if value is not None:
                yield f"{above}.extra.{own}", own, value


def _group(event: Event, path: str) -> Iterator[tuple[str, str, Any]]:
    for place in _MEMBERS[path]:
        yield from _set(event, place)
    if path in FREE:
        for key, value in _extra(event, path).items():
            yield f"{path}.extra.{key}", key, value


def _extra(event: Event, group: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(event, group).extra
    return found


def _set(event: Event, place: Place) -> Iterator[tuple[str, str, Any]]:
    value = _VALUES[place.path](event)
    if value is not None:
        yield place.path, place.name, value


def _without(event: Event, paths: Collection[str]) -> Event:
    """Return *event* without the fields at *paths*."""
    above = set[str]()
    for path in paths:
        while (path := path.rpartition(".")[0]) and path not in above:
            above.add(path)
    without: Event = _pruned(event, set(paths), above, "")
    return without


def _pruned(holder: Any, gone: set[str], parents: set[str], above: str) -> Any:
    """Return *holder*, whose prefix is *above*, without the paths *gone* below *parents*."""
    changes: dict[str, Any] = {}
    for name in holder.__struct_fields__:
        path = f"{above}{name}"
        if path in gone:
            changes[name] = None
            continue
        if path not in parents:
            continue
        held = getattr(holder, name)
        if isinstance(held, msgspec.Struct):
            changes[name] = _pruned(held, gone, parents, f"{path}.")
        elif isinstance(held, Mapping):
            kept = {key: value for key, value in held.items() if f"{path}.{key}" not in gone}
            changes[name] = kept or NOTHING
    return replace(holder, **changes) if changes else holder
