"""``gateway run``."""

from pathlib import Path

import click
import structlog

from gateway import log, plugins
from gateway.cli.terminal import config_option
from gateway.config import load
from gateway.config.listening import address
from gateway.serving import serve


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
def command(ctx: click.Context, path: Path, listen: str | None, *, watch: bool) -> None:
    """Accept events and deliver them.

    Runs until SIGTERM or Ctrl-C, then lets what is on its way arrive. Exits with 2 where the
    configuration is unusable.
    """
    registry = plugins.load()
    config = load(path, registry, listen=listen)
    log.configure()
    for warning in config.warnings:
        structlog.get_logger().warning("suspicious_configuration", where=warning)
    ctx.exit(serve(config, registry, watch=watch))
