"""Options of commands that choose events by time, source, name or condition."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import click

from gateway.cli.completion import complete_configured
from gateway.plugin.quantities import duration


def parse_time(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Parse an ISO 8601 time (UTC if it has no zone), or a duration before now, into Unix seconds.

    Raises:
        click.BadParameter: *value* is neither.
    """
    if value is None:
        return None
    with suppress(ValueError):
        return time.time() - float(str(duration(value)))
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f'{value!r} is not a time; write "2h" for two hours ago, or "2024-05-01T12:00"'
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def retained_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose retained events, by time, source, name and condition."""
    options = (
        click.option(
            "--since",
            metavar="TIME",
            callback=parse_time,
            help='Only events that arrived at this time or later: "24h" (24 hours ago), or an ISO '
            "8601 time. Default: everything that is retained.",
        ),
        click.option(
            "--until",
            metavar="TIME",
            callback=parse_time,
            help="Only events that arrived before this.",
        ),
        click.option(
            "--source", shell_complete=complete_configured("sources"), help="Only of this source."
        ),
        click.option("--name", help="Only events with this neutral name."),
        click.option("--when", metavar="EXPR", help="Only events for which this condition holds."),
    )
    for option in reversed(options):
        command = option(command)
    return command
