"""The whole surface between the gateway and its plugins (docs/hooks.md)."""

from collections.abc import Iterable

from pluggy import HookspecMarker

from gateway.event import Event
from gateway.plugin.sandbox import Sandbox
from gateway.plugin.vendor import Input, Output
from gateway.verdict import Verdict

hookspec = HookspecMarker("gateway")


@hookspec
def register_inputs() -> Iterable[type[Input]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the inputs that this plugin offers; called once, at start-up."""


@hookspec
def register_outputs() -> Iterable[type[Output]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the outputs that this plugin offers; called once, at start-up."""


@hookspec
def register_sandboxes() -> Iterable[type[Sandbox]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the emulated vendor servers that this plugin offers; called by the sandbox."""


@hookspec
def event_accepted(event: Event, source: str) -> None:
    """Observe an event that is now safe in the spool; called off the answer's path."""


@hookspec
def delivery_settled(event: Event, destination: str, verdict: Verdict) -> None:
    """Observe the end of one delivery: delivered, declined, or refused into the dead letters."""
