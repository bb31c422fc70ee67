"""Compute from the mapping tables which fields never reach a destination."""

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from gateway.config import Config, RouteConfig
from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.event_diff import MISSING, diff_events
from gateway.mapping import EventMapping
from gateway.mapping.table import Kind
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Output, Vendor
from gateway.routing.steps import StepChain
from gateway.verdict import Declined

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
SAMPLES: Mapping[type, Any] = {str: "1", float: 1.0, int: 1, bool: True, datetime: AT}
PLAUSIBLE = {
    "email": "ada@shop.example",
    "phone": "+442079460000",
    "birthday": "1990-12-10",
    "url": "https://shop.example/",
    "ip": "192.0.2.7",
    "locale": "en-GB",
    "currency": "EUR",
    "address": {"city": "London", "country": "GB", "postalCode": "NW1"},
}
"""Values of fields that need a certain format."""


@dataclass(frozen=True, slots=True)
class StaticLosses:
    """The fields that one route can never deliver to one destination."""

    route: str
    destination: str
    vendors: tuple[str, ...]
    """The vendors in whose formats its events arrive."""
    fields: tuple[str, ...] = ()
    """Fields that its events may have and that no request to the destination contains."""
    nothing: str = ""
    """Why the destination gets none of its events; empty if it gets some."""
    failed: str = ""
    """The exception of a plugin that fails on an event with every field; empty otherwise."""


def static_losses(config: Config, registry: PluginRegistry) -> Iterator[StaticLosses]:
    """Yield the losses of every route at every destination.

    Considered are the fields that the source vendor's tables can fill and that the route's steps
    set. Events in the destination's own format lose nothing.
    """
    kinds = known_kinds([*registry.inputs.values(), *registry.outputs.values()])
    for route in config.routes:
        sources = config.sources if route.sources is None else route.sources
        vendors = tuple(dict.fromkeys(config.sources[name].vendor for name in sources))
        for to in dict.fromkeys(route.to):
            destination = config.destinations[to]
            output = registry.outputs[destination.vendor](destination.settings)
            others = tuple(
                vendor for vendor in vendors if not registry.forwards(vendor, destination.vendor)
            )
            if not others or destination.credentials == "client":
                continue
            tally = _Tally(output, StepChain(route.name, route.steps))
            try:
                for vendor in others:
                    for event in _events(route, registry.inputs[vendor].endpoints.values(), kinds):
                        tally.look(event, registry.inputs[vendor].endpoints.values())
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                failed = f"{destination.vendor}: {error!r}"
                yield StaticLosses(route.name, to, others, failed=failed)
                continue
            if tally.lost or (tally.declined and not tally.taken):
                nothing = "" if tally.taken else tally.declined
                fields = tuple(tally.lost) if tally.taken else ()
                yield StaticLosses(route.name, to, others, fields, nothing)


def known_kinds(vendors: Iterable[type[Vendor]]) -> frozenset[Kind]:
    """Return all kinds of events in the tables of *vendors*."""
    return frozenset(
        kind
        for vendor in vendors
        for mapped in vendor.endpoints.values()
        for kind in mapped.kinds()
    )


class _Tally:
    """Collects the losses of one route's events at one destination.

    Attributes:
        taken: at least one event is delivered.
        declined: why an event is declined; the last reason.
    """

    def __init__(self, output: Output, steps: StepChain) -> None:
        self.taken = False
        self.declined = ""
        self._output = output
        self._steps = steps
        self._lost: dict[str, None] = {}
        self._said: set[str] = set()

    @property
    def lost(self) -> list[str]:
        """Return the fields that events have and no request contains.

        If no field of a whole part is sent, the part is listed instead of its fields.
        """
        paths = (path for path in self._lost if path not in self._said)
        return list(dict.fromkeys(self._whole(path) for path in paths))

    def _whole(self, path: str) -> str:
        """Return the largest part of the event around *path* of which no field is sent."""
        above = path.rpartition(".")[0]
        if not above or any(said.startswith(f"{above}.") or said == above for said in self._said):
            return path
        return self._whole(above)

    def look(self, event: Event, sources: Iterable[EventMapping]) -> None:
        """Add the losses of an event that has every field.

        Only the fields that the *sources* can fill count.
        """
        try:
            changed = self._steps.apply(event)
            if isinstance(request := self._output.render(changed), Declined):
                self.declined = request.reason
                return
        except Unrenderable:
            changed = event
        self.taken = True
        fillable = set(_fillable(event, sources))
        if changed is not event:
            fillable |= {
                _plain(one.path) for one in diff_events(event, changed) if one.after is not MISSING
            }
        lost = {
            _plain(loss.path): None for loss in self._output.losses(changed) if loss.how == "lost"
        }
        self._lost |= {path: None for path in lost if path in fillable}
        self._said |= fillable - lost.keys()


def _fillable(event: Event, sources: Iterable[EventMapping]) -> Iterator[str]:
    """Yield the fields that the tables of *sources* can fill in such an event."""
    nameless = msgspec.structs.replace(event, name=event.type)  # selects the table for any name
    for mapped in sources:
        table = mapped.table_for(event) or mapped.table_for(nameless)
        for row in table.said(event) if table is not None else ():
            if row.event:
                yield _plain(row.event)


def _plain(path: str) -> str:
    """Return *path* without list positions, and without free keys at its end."""
    path = path.replace("[]", "").replace("[0]", "").replace("[1:]", "")
    head, extra, _ = path.partition(".extra")
    return head + extra


def _events(
    route: RouteConfig, sources: Iterable[EventMapping], kinds: frozenset[Kind]
) -> Iterator[Event]:
    """Yield events with every field: one per kind that the *sources* have and the route takes."""
    can = {kind for mapped in sources for kind in mapped.kinds()}
    for kind, name in sorted(kinds | can, key=str):
        if (kind, name) not in can and (kind, None) not in can:
            continue
        if route.types is not None and kind not in route.types:
            continue
        named = route.names is None or any(fnmatchcase(name or "", glob) for glob in route.names)
        if named:
            yield from _variants(kind, name)
    for name in route.names or ():
        if ("track", None) in can and (route.types is None or "track" in route.types):
            yield from _variants("track", name)


def full(kind: str, name: str | None) -> Event:
    """Return an event with a value in every field."""
    return msgspec.structs.replace(_whole(), type=kind, name=name or "x")


@cache
def _whole() -> Event:
    return Event(**_filled(Event) | {"type": "track", "origin": ""})


def _variants(kind: str, name: str | None) -> Iterator[Event]:
    """Yield full events with both user ids and with one: vendors use different calls for them."""
    event = full(kind, name)
    yield event
    yield msgspec.structs.replace(event, anonymous_id=None)
    yield msgspec.structs.replace(event, user_id=None)


def _filled(struct: type) -> dict[str, Any]:
    hints = get_type_hints(struct)
    return {name: PLAUSIBLE.get(name) or _sample(hint) for name, hint in hints.items()}


def _sample(hint: Any) -> Any:
    """Return a value of a type."""
    if hint in SAMPLES:
        return SAMPLES[hint]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint(**_filled(hint))
    origin, members = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        known = [member for member in members if member is not types.NoneType]
        return _sample(str if str in known else known[0])
    if origin is tuple:
        return (_sample(members[0]),)
    return {"more": "1"} if isinstance(origin, type) and issubclass(origin, Mapping) else None
