"""Print tables and coloured text on the terminal, without credentials."""

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
"""Columns of the output if it is not a terminal."""


class RedactingConsole(Console):
    """A rich console, with the function that redacts what is printed on it."""

    hide: Hide = staticmethod(str)


def console(*, err: bool = False, hide: Hide = str) -> RedactingConsole:
    """Return a console for standard output; it prints text literally, without rich's markup.

    Args:
        err: print on standard error instead.
        hide: removes credentials from a text.
    """
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else WIDTH
    out = RedactingConsole(file=stream, width=width, markup=False, emoji=False, highlight=False)
    out.hide = hide
    return out


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Return a table without borders, indented by two columns; long cells wrap."""
    made = Table(box=None, pad_edge=True, padding=(0, 1, 0, 2), header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else printable(cell) for cell in row))
    return made


def strip_control_characters(text: str) -> str:
    """Replace characters in untrusted *text* that would move the cursor or change colours."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "�" for one in text)


def printable(text: str) -> str:
    """Return untrusted *text* of several lines without control characters besides line breaks."""
    return "\n".join(map(strip_control_characters, text.split("\n")))


def title(text: str) -> Text:
    """Return a heading."""
    return Text(text, style="bold")


def redactor_of(path: Path) -> Redactor:
    """Return the redactor of a configuration's credentials.

    Prints a warning on standard error about credentials that it cannot redact: those of unset
    variables and missing files, and all that stand in an invalid configuration.
    """
    loaded = load_redactor(path, load_plugins())
    if loaded.missing:
        click.echo(
            f"warning: {strip_control_characters(', '.join(loaded.missing))} is not set or cannot "
            "be read here, so its value is not redacted in the output",
            err=True,
        )
    if loaded.wrong:
        click.echo(
            f"warning: {path} is invalid (see `gateway check`), so its credentials may be visible "
            "in the output",
            err=True,
        )
    return loaded.redactor
