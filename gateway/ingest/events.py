"""The one way from a request to its events: read, complete, check against the plan.

The receiver goes it when a request comes; a restart, a replay, ``gateway explain`` and traces go it
again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from gateway.errors import Fault, Rejected
from gateway.event import Event
from gateway.http import ClientInfo, Request
from gateway.ingest.client import _blank
from gateway.ingest.sources import Source
from gateway.mapping import wire_path
from gateway.plugin.vendor import Input
from gateway.spool import Entry
from gateway.tracking import PlannedEvents, ViolationCounter
from gateway.tracking.field_removal import without_fields


def read_events(source: Source, stored: Request, payload: Any) -> list[Event]:
    """Return the events of a request, completed with what it says of its sender.

    Args:
        source: that it came to.
        stored: the request as the spool keeps it.
        payload: its body, decoded by the source's input.

    Raises:
        Rejected: the vendor would refuse it, there are too many of them, or its second credential
            is not accepted.
    """
    source.check_secret(stored, payload)
    events = source.input.read(stored, payload)
    if source.max_events is not None and len(events) > source.max_events:
        what = f"more than {source.max_events} events in one request"
        raise Rejected("$", what, Fault.TOO_LARGE)
    return with_client(events, stored)


def plan_events(
    source: Source,
    stored: Request,
    payload: Any,
    events: list[Event],
    counter: ViolationCounter | None = None,
) -> PlannedEvents:
    """Return which *events* the source's tracking plan lets through, and without which fields.

    Args:
        source: that they came to.
        stored: the request as the spool keeps it.
        payload: its body, decoded by the source's input.
        events: those in it.
        counter: counts violations; None where nobody counts.

    Raises:
        Rejected: an event violates the plan, and the plan refuses such.
    """
    if source.plan is None:
        return PlannedEvents(events)

    def spell(event: Event, index: int, path: Sequence[str | int]) -> str:
        mapped = source.input.endpoints[f"{stored.method} {stored.path}"]
        return wire_path(mapped, payload, event, index, path)

    return source.plan.apply(events, spell, stored.id, counter)


def with_client(events: list[Event], request: Request) -> list[Event]:
    """Return *events* of *request* with what they do not say of their sender themselves.

    That is the address and the user agent, and the id in the cookie for one that names neither a
    user nor an anonymous id. It depends on the stored request alone, so that it is the same after
    a restart and in a replay.
    """
    client = request.client
    if client is None:
        return events
    agent = request.headers.get("user-agent")
    return [_introduced(event, client, agent) for event in events]


def _introduced(event: Event, client: ClientInfo, agent: str | None) -> Event:
    if event.type == "product":
        return event
    said = event.context
    context = replace(
        said,
        ip=said.ip if said.ip is not None else client.ip or None,
        user_agent=said.user_agent if said.user_agent is not None else agent,
    )
    nameless = client.id and _blank(event.user_id) and _blank(event.anonymous_id)
    return replace(
        event, context=context, anonymous_id=client.id if nameless else event.anonymous_id
    )


def without_unused_client_id(request: Request, events: Sequence[Event]) -> Request:
    """Return *request* without the cookie's id where none of its *events* goes by it."""
    client = request.client
    if client is None or not client.id or any(e.anonymous_id == client.id for e in events):
        return request
    return replace(request, client=replace(client, id=""))


def parse_stored(entry: Entry, inputs: Mapping[str, Input]) -> list[Event]:
    """Return the events of a stored request, by its vendor's present plugin.

    Args:
        entry: as it is stored.
        inputs: the vendors', by name.

    Raises:
        Rejected: the plugin does not take it any more.
    """
    events = with_client(inputs[entry.vendor].parse(entry.request), entry.request)
    if not entry.dropped:
        return events
    return [without_fields(event, entry.dropped.get(n, ())) for n, event in enumerate(events)]
