"""Credentials, kept out of what commands print: a sender may have written one as a name."""

from pathlib import Path

import click

from gateway import plugins
from gateway.cli.terminal import printable
from gateway.config.hiding import load_hiding
from gateway.redact import Redactor


def redactor_of(path: Path) -> Redactor:
    """Return what hides the credentials of a configuration.

    Says on standard error which of them cannot be known here.
    """
    hiding = load_hiding(path, plugins.load())
    if hiding.missing:
        click.echo(
            f"note: what {printable(', '.join(hiding.missing))} stands for is not known here; "
            f"where a sender wrote it, it is shown",
            err=True,
        )
    if hiding.wrong:
        click.echo(
            f"note: {path} has mistakes, which `gateway check` lists; where a sender wrote a "
            f"credential of it, that may be shown",
            err=True,
        )
    return hiding.redactor
