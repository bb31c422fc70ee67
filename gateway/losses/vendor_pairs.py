"""Compute the losses between every two vendors, by kind of event, from the tables alone.

For each kind of event the fullest event is written in the source vendor's format and parsed again:
the result has all fields that the vendor's clients can send. Then its losses at the target are
computed.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from gateway.errors import Rejected, Unrenderable
from gateway.event import Event
from gateway.http import Request
from gateway.losses.field_outcomes import How, field_outcomes
from gateway.losses.full_events import OTHER, full_events
from gateway.losses.reviewed import named
from gateway.mapping import filled_fields
from gateway.plugin.registry import PluginRegistry, placeholder_output
from gateway.plugin.vendor import Input, Output
from gateway.verdict import Declined

WORST: tuple[How, ...] = ("lost", "coerced", "kept")
"""If several keys count as one field, the first of these outcomes counts."""


class EventLosses(NamedTuple):
    """The losses of one kind of event between two vendors."""

    fields: Mapping[str, How]
    """The neutral fields that the source vendor can send, in the order of the event."""
    declined: str = ""
    """Why the target declines the event; there are no fields then."""

    def counts(self) -> Counter[str]:
        """Return how many fields are kept, coerced and lost."""
        return Counter(self.fields.values())


Pair = dict[str, EventLosses]
"""Losses by kind of event; kinds that the source vendor cannot send are left out."""


def pairs(
    registry: PluginRegistry, source: str | None = None, target: str | None = None
) -> dict[tuple[str, str], Pair]:
    """Return the losses between vendors, by source and target.

    Args:
        registry: the vendors.
        source: the source vendor; all if left out.
        target: the target vendor; all if left out.
    """
    both = vendors(registry)
    senders = both if source is None else [source]
    receivers = both if target is None else [target]
    outputs = {
        name: placeholder_output(registry.outputs[name], every=True)
        for name in dict.fromkeys([*senders, *receivers])
    }
    found: dict[tuple[str, str], Pair] = {}
    for name in senders:
        said = sendable_events(registry.inputs[name](), outputs[name])
        for to in receivers:
            found[name, to] = {kind: _losses_of(outputs[to], event) for kind, event in said.items()}
    return found


def vendors(registry: PluginRegistry) -> list[str]:
    """Return the vendors that have both an input and an output."""
    return sorted({*registry.formats} & registry.inputs.keys() & registry.outputs.keys())


def sendable_events(reads: Input, writes: Output) -> dict[str, Event]:
    """Return the fullest event of each kind that a vendor's own clients can send."""
    found = {}
    for kind, specimen in full_events():
        event = _sent(reads, writes, specimen)
        if event is not None and (kind == OTHER or _same(event, specimen)):
            found[kind] = event
    return found


def _sent(reads: Input, writes: Output, specimen: Event) -> Event | None:
    """Return *specimen* as the vendor's own clients would send it; None if they cannot."""
    try:
        request = writes.render(replace(specimen, origin=writes.name))
        if isinstance(request, Declined):
            return None
        path = request.url.removeprefix(writes.config.url.rstrip("/"))
        received = Request(
            method=request.method,
            url=path,
            headers=request.headers,
            body=request.body,
            id="specimen",
            received_at=specimen.received_at,
        )
        return reads.parse(received)[0]
    except (Unrenderable, Rejected):
        return None


def _same(event: Event, specimen: Event) -> bool:
    if event.type != specimen.type:
        return False
    return event.type != "track" or event.name == specimen.name


def _losses_of(output: Output, event: Event) -> EventLosses:
    try:
        sent = output.render(event)
    except Unrenderable as error:
        return EventLosses({}, f"a dead letter: {error}")
    if isinstance(sent, Declined):
        return EventLosses({}, sent.reason)
    found: dict[str, How] = {}
    has = {named(path) for path, _ in filled_fields(event) if not path.startswith("extra.")}
    for outcome in field_outcomes(output, event):
        field = named(outcome.path)
        if field not in has:
            continue
        found[field] = min(outcome.how, found.get(field, outcome.how), key=WORST.index)
    return EventLosses(found)
