"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path

import click

from gateway.config.types import address

DEFAULT_CONFIG = "config/gateway.toml"

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    envvar="GATEWAY_CONFIG",
    show_envvar=True,
    help="The configuration file.",
)


def json_option(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option ``--json``, which prints *what*, such as "the list"."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON.")


def checked_listen(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Check the value of a ``--listen`` option, and return it unchanged.

    Raises:
        click.BadParameter: it is not an address.
    """
    if value is not None:
        try:
            address(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} {error}") from error
    return value
