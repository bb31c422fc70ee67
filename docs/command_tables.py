# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The command line as it describes itself: every command and every option."""

import inspect
from collections.abc import Iterator

import click

from docs.markdown import blocks, code, table
from gateway.cli import main

NAME = "gateway"


def commands() -> str:
    """Return every command with its usage, purpose and options, in Markdown."""
    return blocks(part for context in contexts() for part in _told(context))


def contexts(above: click.Context | None = None) -> Iterator[click.Context]:
    """Yield the context of each command that does something, in the order of ``--help``."""
    here = above or click.Context(main, info_name=NAME)
    group = here.command
    if not isinstance(group, click.Group):
        yield here
        return
    for name in group.list_commands(here):
        command = group.get_command(here, name)
        if command is not None:
            yield from contexts(click.Context(command, info_name=name, parent=here))


def _told(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f"## {context.command_path}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```"
    yield inspect.cleandoc(command.help or "")
    records = (option.get_help_record(context) for option in command.params)
    rows = [(code(record[0]), record[1]) for record in records if record and record[1]]
    if rows:
        yield table(("option", ""), rows)
