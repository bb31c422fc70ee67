"""``gateway run``."""

from pathlib import Path

import click
import structlog

from gateway.cli.output import config_option
from gateway.config.loader.load import load
from gateway.config.types import address
from gateway.observability import log
from gateway.plugin.registry import load_plugins
from gateway.server import serve


def checked_listen(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return an address to listen on as it was given.

    Raises:
        click.BadParameter: it is none.
    """
    if value is not None:
        try:
            address(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} {error}") from error
    return value


@click.command("run")
@config_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=checked_listen,
    help="Listen here instead of where the file says.",
)
@click.option("--watch", is_flag=True, help="Reload when a file of the configuration changes.")
@click.pass_context
def run(ctx: click.Context, path: Path, listen: str | None, *, watch: bool) -> None:
    """Accept events and deliver them.

    Runs until SIGTERM or Ctrl-C, then lets what is on its way arrive. Exits with 2 where the
    configuration is unusable.
    """
    registry = load_plugins()
    config = load(path, registry, listen=listen)
    log.configure()
    for warning in config.warnings:
        structlog.get_logger().warning("suspicious_configuration", where=warning)
    ctx.exit(serve(config, registry, watch=watch))
