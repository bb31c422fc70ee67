"""Acme: an imaginary vendor with an input only, as a starting point for your own."""

from gateway.plugin import hookimpl

from .input import AcmeInput


@hookimpl
def register_inputs() -> list[type[AcmeInput]]:
    """Register the input."""
    return [AcmeInput]
