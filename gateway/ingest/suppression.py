"""Leave out the events of people who are on the suppression list."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from gateway.config import Config
from gateway.errors import Fault, RefusalCause, Rejected
from gateway.event import Event
from gateway.person import SuppressionList
from gateway.spool.dedup import numbers_of, without
from gateway.spool.values import Deliveries

REASON = "the event is about a person who must not be tracked"
NOTHING: frozenset[int] = frozenset()


class Suppression(NamedTuple):
    """The list, and what happens to requests that are only about people on it."""

    listed: SuppressionList
    refuses: bool
    """They are refused; otherwise they are answered like others, and dropped."""

    def among(self, events: Sequence[Event]) -> frozenset[int]:
        """Return the indexes of the events that are left out."""
        names = self.listed.names
        return frozenset(index for index, event in enumerate(events) if names(event)) or NOTHING


def suppression_of(config: Config) -> Suppression | None:
    """Return whose events a configuration leaves out; None for nobody's."""
    if config.suppression is None or config.suppressed is None:
        return None
    return Suppression(config.suppressed, config.suppression.action == "refuse")


def rejection() -> Rejected:
    """Return why a request is refused whose events are all about people on the list."""
    return Rejected("$", REASON, Fault.VALUE, cause=RefusalCause.SUPPRESSED)


def blanked(events: Sequence[Event], left_out: Collection[int]) -> list[Event]:
    """Return *events* with nothing of a person in those that are left out."""
    return [
        Event(type=event.type, id=event.id, received_at=event.received_at, origin=event.origin)
        if index in left_out
        else event
        for index, event in enumerate(events)
    ]


def targets_without(
    targets: Mapping[str, Deliveries], left_out: Collection[int]
) -> Mapping[str, Deliveries]:
    """Return the deliveries of the other events."""
    return without(targets, numbers_of(targets, left_out)) if left_out else targets
