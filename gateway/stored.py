"""From what the spool has to events again."""

from collections.abc import Mapping

from gateway.clients import introduced
from gateway.event import Event
from gateway.plugin import Input
from gateway.spool import Entry
from gateway.tracking.amend import without


def events_of(entry: Entry, inputs: Mapping[str, Input]) -> list[Event]:
    """Return the events of a stored request, by its vendor's present plugin.

    Args:
        entry: as it is stored.
        inputs: the vendors', by name.

    Raises:
        Rejected: the plugin does not take it any more.
    """
    events = introduced(inputs[entry.vendor].parse(entry.request), entry.request)
    if not entry.dropped:
        return events
    return [without(event, entry.dropped.get(n, ())) for n, event in enumerate(events)]
