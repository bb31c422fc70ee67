"""Acme: an imaginary vendor that gets events, to copy from."""

from gateway.plugin import hookimpl

from .output import AcmeOutput
from .sandbox import AcmeSandbox


@hookimpl
def register_outputs() -> list[type[AcmeOutput]]:
    """Offer the output."""
    return [AcmeOutput]


@hookimpl
def register_sandboxes() -> list[type[AcmeSandbox]]:
    """Offer the emulated server."""
    return [AcmeSandbox]
