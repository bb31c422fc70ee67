"""Growlytics: customer engagement; https://docs.growlytics.in/rest-apis/tracking-users-1.

Two endpoints, one customer or event per request, a key in ``x-growlytics-key``. Attributes are
free by name and typed: string, number, boolean or date.
"""

from gateway.plugin import hookimpl
from plugins.growlytics.input import GrowlyticsInput
from plugins.growlytics.output import GrowlyticsOutput
from plugins.growlytics.sandbox import GrowlyticsSandbox


@hookimpl
def register_inputs() -> list[type[GrowlyticsInput]]:
    """Offer the input."""
    return [GrowlyticsInput]


@hookimpl
def register_outputs() -> list[type[GrowlyticsOutput]]:
    """Offer the output."""
    return [GrowlyticsOutput]


@hookimpl
def register_sandboxes() -> list[type[GrowlyticsSandbox]]:
    """Offer the emulated server."""
    return [GrowlyticsSandbox]
