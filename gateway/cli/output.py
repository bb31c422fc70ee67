"""What commands print: tables and colours, without credentials."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.config.loader.load import load_redactor
from gateway.plugin.registry import load_plugins
from gateway.redact import Redactor
from gateway.spool.dead_letters import Hide

WIDTH = 99
"""Columns where the output is no terminal."""
CONFIG = "config/gateway.toml"

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=CONFIG,
    show_default=True,
    envvar="GATEWAY_CONFIG",
    show_envvar=True,
    help="The configuration file.",
)


class RedactingConsole(Console):
    """A console to print on, and what takes credentials out of what is printed."""

    hide: Hide = staticmethod(str)


def console(*, err: bool = False, hide: Hide = str) -> RedactingConsole:
    """Return the console to print on; what it prints is taken literally.

    Args:
        err: print on standard error.
        hide: takes credentials out of a text.
    """
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else WIDTH
    paper = RedactingConsole(file=stream, width=width, markup=False, emoji=False, highlight=False)
    paper.hide = hide
    return paper


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Return a table without rules, indented by two, whose long cells are folded."""
    made = Table(box=None, pad_edge=True, padding=(0, 1, 0, 2), header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def strip_control_characters(text: str) -> str:
    """Return *text* of a stranger's without what would move the cursor or change colours."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "�" for one in text)


def title(text: str) -> Text:
    """Return a heading."""
    return Text(text, style="bold")


def redactor_of(path: Path) -> Redactor:
    """Return what hides the credentials of a configuration.

    Says on standard error which of them cannot be known here.
    """
    hiding = load_redactor(path, load_plugins())
    if hiding.missing:
        click.echo(
            f"note: what {strip_control_characters(', '.join(hiding.missing))} stands for is not "
            "known here; where a sender wrote it, it is shown",
            err=True,
        )
    if hiding.wrong:
        click.echo(
            f"note: {path} has mistakes, which `gateway check` lists; where a sender wrote a "
            f"credential of it, that may be shown",
            err=True,
        )
    return hiding.redactor
