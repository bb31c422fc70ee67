"""``gateway run``: accept and deliver events."""

from pathlib import Path

import click
import structlog

from gateway.cli.options import checked_listen, config_option
from gateway.config.loader.load import load
from gateway.observability import log
from gateway.plugin.registry import load_plugins
from gateway.server import serve


@click.command("run")
@config_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=checked_listen,
    help="Listen on this address, not on the one in the file.",
)
@click.option("--watch", is_flag=True, help="Reload when a file of the configuration changes.")
@click.pass_context
def run(ctx: click.Context, path: Path, listen: str | None, *, watch: bool) -> None:
    """Accept events and deliver them.

    Runs until SIGTERM or Ctrl-C, then finishes requests and attempts in progress. Exits with 2 if
    the configuration is invalid.
    """
    registry = load_plugins()
    config = load(path, registry, listen=listen)
    log.configure()
    for warning in config.warnings:
        structlog.get_logger().warning("suspicious_configuration", where=warning)
    ctx.exit(serve(config, registry, watch=watch))
