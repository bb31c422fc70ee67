"""How the commands print: colours and tables on a terminal, plain text in a pipe."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.letter import Hide

WIDTH = 99
"""Columns where the output is no terminal."""
CONFIG = "config/gateway.toml"

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=CONFIG,
    show_default=True,
    help="The configuration file.",
)


class Paper(Console):
    """A console to print on, and what takes credentials out of what is printed."""

    hide: Hide = staticmethod(str)


def console(*, err: bool = False, hide: Hide = str) -> Paper:
    """Return the console to print on; what it prints is taken literally.

    Args:
        err: print on standard error.
        hide: takes credentials out of a text.
    """
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else WIDTH
    paper = Paper(file=stream, width=width, markup=False, emoji=False, highlight=False)
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


def printable(text: str) -> str:
    """Return *text* of a stranger's without what would move the cursor or change colours."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "�" for one in text)


def title(text: str) -> Text:
    """Return a heading."""
    return Text(text, style="bold")
