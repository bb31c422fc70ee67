"""Complete names in shells: vendors, and the sources and destinations of the configuration.

click completes commands and options by itself; docs/commands.md says how to turn it on.
"""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import click
from click.shell_completion import CompletionItem

from gateway.cli.options import DEFAULT_CONFIG
from gateway.config.loader.load import load_names
from gateway.errors import GatewayError
from gateway.plugin.registry import load_plugins

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_inputs(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the vendors whose requests the gateway reads."""
    return _matching(load_plugins().inputs, begun)


def complete_outputs(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the vendors to which the gateway sends."""
    return _matching(load_plugins().outputs, begun)


def complete_configured(kind: Literal["sources", "destinations"]) -> Complete:
    """Return a function that completes names of one kind in the configuration of the command."""

    def complete(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        path = Path(ctx.params.get("path") or DEFAULT_CONFIG)
        with contextlib.suppress(GatewayError):  # a shell shows no message
            return _matching(load_names(path, kind), begun)
        return []

    return complete


def _matching(names: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(begun)]
