"""Any HTTP API, and files, described by the configuration (RFC 9110)."""

from gateway.plugin import Output, hookimpl
from plugins.http.file_output import FileOutput
from plugins.http.input import HttpInput
from plugins.http.output import HttpOutput
from plugins.http.sandbox import HttpSandbox


@hookimpl
def register_inputs() -> list[type[HttpInput]]:
    """Offer the input."""
    return [HttpInput]


@hookimpl
def register_outputs() -> list[type[Output]]:
    """Offer the outputs."""
    return [HttpOutput, FileOutput]


@hookimpl
def register_sandboxes() -> list[type[HttpSandbox]]:
    """Offer the emulated server."""
    return [HttpSandbox]
