"""The step that moves times that cannot be right."""

from datetime import timedelta

import msgspec

from gateway.config.steps import Timestamp
from gateway.event import Event
from gateway.routing.steps.values import Change


def clamp(step: Timestamp) -> Change:
    """Return what the step does. Arrival is stored, so that a later try comes to the same."""
    past = None if step.past is None else timedelta(seconds=step.past)
    future = timedelta(seconds=step.future)

    def clamp_event(event: Event) -> Event:
        if event.timestamp is None:
            return event
        latest = event.received_at + future
        if event.timestamp > latest:
            return msgspec.structs.replace(event, timestamp=latest)
        if past is not None and event.timestamp < event.received_at - past:
            return msgspec.structs.replace(event, timestamp=event.received_at - past)
        return event

    return clamp_event
