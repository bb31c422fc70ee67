"""Quartic: product recommendations; https://docs.quarticon.com/storeapi/documentation/.

Four endpoints that write, one profile, contact, event or product per request, a key in
``x-api-key``. Fields are fixed; bad input is answered with 405.
"""

from gateway.plugin import hookimpl
from plugins.quartic.input import QuarticInput
from plugins.quartic.output import QuarticOutput
from plugins.quartic.sandbox import QuarticSandbox


@hookimpl
def register_inputs() -> list[type[QuarticInput]]:
    """Offer the input."""
    return [QuarticInput]


@hookimpl
def register_outputs() -> list[type[QuarticOutput]]:
    """Offer the output."""
    return [QuarticOutput]


@hookimpl
def register_sandboxes() -> list[type[QuarticSandbox]]:
    """Offer the emulated server."""
    return [QuarticSandbox]
