"""Acme: an imaginary vendor whose requests are read, to copy from."""

from gateway.plugin import hookimpl

from .input import AcmeInput


@hookimpl
def register_inputs() -> list[type[AcmeInput]]:
    """Offer the input."""
    return [AcmeInput]
