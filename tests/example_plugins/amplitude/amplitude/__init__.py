"""Amplitude: product analytics; https://amplitude.com/docs/apis/analytics/http-v2.

One endpoint takes a list of events, the key in the body. Properties are free.
"""

from gateway.plugin import hookimpl

from .input import AmplitudeInput
from .output import AmplitudeOutput
from .sandbox import AmplitudeSandbox


@hookimpl
def register_inputs() -> list[type[AmplitudeInput]]:
    """Register the input."""
    return [AmplitudeInput]


@hookimpl
def register_outputs() -> list[type[AmplitudeOutput]]:
    """Register the output."""
    return [AmplitudeOutput]


@hookimpl
def register_sandboxes() -> list[type[AmplitudeSandbox]]:
    """Register the sandbox."""
    return [AmplitudeSandbox]
