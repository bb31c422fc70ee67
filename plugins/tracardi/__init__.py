"""Tracardi, an open-source customer data platform; https://docs.tracardi.com/events/event_tracking/.

One endpoint, ``POST /track``, for a payload of any number of events. The id of a source stands
in the body and is the credential.
"""

from gateway.plugin import hookimpl
from plugins.tracardi.input import TracardiInput
from plugins.tracardi.output import TracardiOutput
from plugins.tracardi.sandbox import TracardiSandbox


@hookimpl
def register_inputs() -> list[type[TracardiInput]]:
    """Offer the input."""
    return [TracardiInput]


@hookimpl
def register_outputs() -> list[type[TracardiOutput]]:
    """Offer the output."""
    return [TracardiOutput]


@hookimpl
def register_sandboxes() -> list[type[TracardiSandbox]]:
    """Offer the emulated server."""
    return [TracardiSandbox]
