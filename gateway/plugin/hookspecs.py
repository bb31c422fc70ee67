"""The hooks that a plugin can implement.

docs/hooks.md is generated from these docstrings. A plugin marks its functions with `hookimpl`; a
function may omit arguments that it does not need.
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
"""Decorator that marks a function of a plugin as a hook."""


@hookspec
def register_inputs() -> Iterable[type[Input]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the plugin's input classes (not instances).

    The gateway calls it once, at start-up. Two inputs with the same name stop the start.
    """


@hookspec
def register_outputs() -> Iterable[type[Output]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the plugin's output classes (not instances).

    The gateway calls it once, at start-up. Two outputs with the same name stop the start.
    """


@hookspec
def register_sandboxes() -> Iterable[type[Sandbox]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the plugin's classes of emulated vendor servers (not instances).

    ``gateway sandbox`` serves each under its name. Two with the same name stop the start.
    """


@hookspec
def event_accepted(event: Event, source: str) -> None:
    """Observe an event that is stored in the spool.

    It runs in the gateway's event loop, after the sender got its response: keep it short.
    Exceptions are logged.

    Args:
        event: as the input read it, before any route.
        source: the name of the source in the configuration.
    """


@hookspec
def delivery_settled(
    event: Event, destination: str, verdict: Delivered | Declined | Refused
) -> None:
    """Observe the end of a delivery: delivered, declined, or refused (a dead letter).

    It runs in the gateway's event loop: keep it short. Exceptions are logged.

    Args:
        event: as it was accepted, without the changes of the route's steps.
        destination: the name of the destination in the configuration.
        verdict: the outcome, with the reason if there is one.
    """
