"""Circumstances of an event as its properties, for destinations that ask for them.

A vendor whose events are a name and free properties has no place of its own for the time, the
page, the campaign. ``include = ["timestamp", "context.page.url"]`` puts them among the properties.
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
"""Of the names of what a part of the context holds."""
CAMPAIGN = {"name": "utm_campaign"}
"""What does not follow from its prefix: https://ga-dev-tools.google/campaign-url-builder."""
TOP = ("timestamp", "message_id", "anonymous_id", "session_id", "group_id", "consent")
"""Fields of the event itself."""
CONTACT = ("email", "phone")
"""Traits that no event has as properties of its own; of the others ``name`` could be a product's.
"""


class Place(NamedTuple):
    """A field that can be included."""

    path: str
    name: str
    """Of the property."""


class Included(NamedTuple):
    """An event with its circumstances among its properties."""

    event: Event
    """Without them where they were, so that they are told once."""
    paths: Mapping[str, str]
    """Names of properties to the fields that they came from."""


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
"""Where other names are the sender's own."""
CLOSE = 0.75
"""How much an own name may resemble one of the vocabulary, of 1, before it counts as a mistake."""
GROUPS = frozenset({"context", "traits", *(f"context.{name}" for name in PREFIXES)})


_MEMBERS = {
    group: tuple(place for path, place in PLACES.items() if path.startswith(f"{group}."))
    for group in GROUPS
}
_VALUES = {path: attrgetter(path) for path in PLACES}


def check(path: str) -> str:
    """Return *path*, which is to be included.

    Raises:
        ValueError: there is no such field.
    """
    if path in PLACES or path in GROUPS:
        return path
    above, _, own = path.rpartition(".")
    if above in FREE and own and not did_you_mean(own, FREE[above], CLOSE, only=True):
        return path
    raise ValueError(f"{path!r} is no field of an event; {did_you_mean(path, [*PLACES, *GROUPS])}")


def include(
    event: Event,
    paths: Iterable[str],
    time: Callable[[datetime], Any] = as_json,
    names: Mapping[str, str] = NOTHING,
) -> Included:
    """Return *event*, which is a track event, with what stands at *paths* among its properties.

    A property that it has already keeps its name: ``event_timestamp`` is the other one then.

    Args:
        event: not changed.
        paths: fields and groups of fields; the time is that of arrival where the sender has none.
        time: writes a time.
        names: of properties, where a vendor has its own, by the names that they have here.
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
    """Return *event* without what stands at *paths*."""
    above = set[str]()
    for path in paths:
        while (path := path.rpartition(".")[0]) and path not in above:
            above.add(path)
    without: Event = _pruned(event, set(paths), above, "")
    return without


def _pruned(holder: Any, gone: set[str], parents: set[str], above: str) -> Any:
    """Return *holder*, which stands at *above*, without *gone*; *parents* lead there."""
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
