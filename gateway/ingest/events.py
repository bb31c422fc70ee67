"""Turn a request into events: read them, add client data, check the tracking plan.

The receiver, restarts, replays, ``gateway explain`` and traces all use these functions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from msgspec.structs import replace

from gateway.config.inputs import stored_input
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

log = structlog.get_logger()


def read_events(source: Source, stored: Request, payload: Any) -> list[Event]:
    """Return the events of a request, with the client's data added.

    Args:
        source: the source of the request.
        stored: the request as the spool stores it.
        payload: its body, decoded by the source's input.

    Raises:
        Rejected: the vendor would refuse the request, it has too many events, or its second key is
            not accepted.
    """
    source.check_secret(stored, payload)
    return read_trusted_events(source, stored, payload)


def read_trusted_events(source: Source, stored: Request, payload: Any) -> list[Event]:
    """Return the events of a request whose keys need no check, with the client's data added.

    Args:
        source: the source of the request.
        stored: the request as the spool stores it.
        payload: its body, decoded by the source's input.

    Raises:
        Rejected: the vendor would refuse the request, or it has too many events.
    """
    events = source.input.read(stored, payload)
    if source.max_events is not None and len(events) > source.max_events:
        what = f"more than {source.max_events} events in one request; send fewer"
        raise Rejected("$", what, Fault.TOO_LARGE)
    return events if stored.client is None else with_client(events, stored)


def plan_events(
    source: Source,
    stored: Request,
    payload: Any,
    events: list[Event],
    counter: ViolationCounter | None = None,
) -> PlannedEvents:
    """Apply the source's tracking plan; return the events and the removed fields.

    Args:
        source: the source of the request.
        stored: the request as the spool stores it.
        payload: its body, decoded by the source's input.
        events: its events.
        counter: counts violations, if given.

    Raises:
        Rejected: an event violates a plan that refuses violations.
    """
    if source.plan is None:
        return PlannedEvents(events)

    def spell(event: Event, index: int, path: Sequence[str | int]) -> str:
        mapped = source.input.endpoints[f"{stored.method} {stored.path}"]
        return wire_path(mapped, payload, event, index, path)

    return source.plan.apply(events, spell, stored.id, counter)


def with_client(events: list[Event], request: Request) -> list[Event]:
    """Return the *events* of *request* with data of the client that they lack.

    These are the address, the user agent, and the cookie's id for an event without user id and
    anonymous id. It depends only on the stored request, so the result is the same after a restart
    and in a replay.
    """
    client = request.client
    if client is None:
        return events
    agent = request.headers.get("user-agent")
    return [_with_client(event, client, agent) for event in events]


def _with_client(event: Event, client: ClientInfo, agent: str | None) -> Event:
    if event.type == "product":
        return event
    sent = event.context
    context = replace(
        sent,
        ip=sent.ip if sent.ip is not None else client.ip or None,
        user_agent=sent.user_agent if sent.user_agent is not None else agent,
    )
    nameless = client.id and _blank(event.user_id) and _blank(event.anonymous_id)
    return replace(
        event, context=context, anonymous_id=client.id if nameless else event.anonymous_id
    )


def without_unused_client_id(request: Request, events: Sequence[Event]) -> Request:
    """Return *request* without the cookie's id if none of its *events* uses it."""
    client = request.client
    if client is None or not client.id or any(e.anonymous_id == client.id for e in events):
        return request
    return replace(request, client=replace(client, id=""))


def parse_stored(entry: Entry, inputs: Mapping[str, Input]) -> list[Event]:
    """Return the events of a stored request, parsed by the current plugin of its vendor.

    Args:
        entry: the stored entry.
        inputs: as `gateway.config.inputs.stored_inputs` returns them.

    Raises:
        Rejected: the plugin rejects the request.
    """
    reads = stored_input(inputs, entry.vendor, entry.source) or inputs[entry.vendor]
    events = with_client(reads.parse(entry.request), entry.request)
    if not entry.dropped:
        return events
    return [without_fields(event, entry.dropped.get(n, ())) for n, event in enumerate(events)]


def parse_if_possible(entry: Entry, parse: Callable[[Entry], Sequence[Event]]) -> Sequence[Event]:
    """Return the events of a stored request that *parse* returns; none if it fails."""
    try:
        return parse(entry)
    except Rejected as error:
        log.warning(
            "stored_request_unparsable", request=entry.id, source=entry.source, error=str(error)
        )
    except Exception:
        log.exception("plugin_failed", vendor=entry.vendor, step="parse", request=entry.id)
    return ()
