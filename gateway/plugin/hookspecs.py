"""The hooks of a plugin: what the gateway asks it for, and what it tells it.

docs/hooks.md is made of these docstrings. A plugin marks its functions with `hookimpl`; one that
leaves out an argument does not get it.
"""

from collections.abc import Iterable
from typing import Final

from pluggy import HookimplMarker, HookspecMarker

from gateway.event import Event
from gateway.plugin.sandbox import Sandbox
from gateway.plugin.vendor import Input, Output
from gateway.verdict import Declined, Delivered, Refused

hookspec = HookspecMarker("gateway")
hookimpl: Final = HookimplMarker("gateway")
"""Mark a function of a plugin as one of the hooks."""


@hookspec
def register_inputs() -> Iterable[type[Input]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the classes of the inputs that the plugin offers; no instances.

    The gateway calls it once, at start-up. Two inputs with one name stop the start.
    """


@hookspec
def register_outputs() -> Iterable[type[Output]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the classes of the outputs that the plugin offers; no instances.

    The gateway calls it once, at start-up. Two outputs with one name stop the start.
    """


@hookspec
def register_sandboxes() -> Iterable[type[Sandbox]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the classes of the emulated vendor servers that the plugin offers; no instances.

    ``gateway sandbox`` serves each below its name. Two with one name stop the start.
    """


@hookspec
def event_accepted(event: Event, source: str) -> None:
    """Observe an event that is safe in the spool.

    It runs in the gateway's event loop, after the sender has its answer: keep it short. What it
    raises is logged.

    Args:
        event: as the input read it, before any route.
        source: the name of the source in the configuration.
    """


@hookspec
def delivery_settled(
    event: Event, destination: str, verdict: Delivered | Declined | Refused
) -> None:
    """Observe the end of one delivery: delivered, declined, or refused into the dead letters.

    It runs in the gateway's event loop: keep it short. What it raises is logged.

    Args:
        event: as it was accepted, without the changes of the route's steps.
        destination: the name of the destination in the configuration.
        verdict: the end, with the reason where there is one.
    """
