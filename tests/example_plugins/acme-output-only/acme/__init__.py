"""Acme: an imaginary vendor with an output only, as a starting point for your own."""

from gateway.plugin import hookimpl

from .output import AcmeOutput
from .sandbox import AcmeSandbox


@hookimpl
def register_outputs() -> list[type[AcmeOutput]]:
    """Register the output."""
    return [AcmeOutput]


@hookimpl
def register_sandboxes() -> list[type[AcmeSandbox]]:
    """Register the sandbox."""
    return [AcmeSandbox]
