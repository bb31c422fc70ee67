"""Acme: an imaginary vendor with one endpoint, to copy from."""

from gateway.plugin import hookimpl

from .input import AcmeInput
from .output import AcmeOutput
from .sandbox import AcmeSandbox


@hookimpl
def register_inputs() -> list[type[AcmeInput]]:
    """Offer the input."""
    return [AcmeInput]


@hookimpl
def register_outputs() -> list[type[AcmeOutput]]:
    """Offer the output."""
    return [AcmeOutput]


@hookimpl
def register_sandboxes() -> list[type[AcmeSandbox]]:
    """Offer the emulated server."""
    return [AcmeSandbox]
