"""chrts: product analytics; https://chrts.co/docs/api.

Three endpoints, one customer or event per request, a Bearer key. Properties are free, and may
stand loose beside the documented keys.
"""

from gateway.plugin import hookimpl
from plugins.chrts.input import ChrtsInput
from plugins.chrts.output import ChrtsOutput
from plugins.chrts.sandbox import ChrtsSandbox


@hookimpl
def register_inputs() -> list[type[ChrtsInput]]:
    """Offer the input."""
    return [ChrtsInput]


@hookimpl
def register_outputs() -> list[type[ChrtsOutput]]:
    """Offer the output."""
    return [ChrtsOutput]


@hookimpl
def register_sandboxes() -> list[type[ChrtsSandbox]]:
    """Offer the emulated server."""
    return [ChrtsSandbox]
