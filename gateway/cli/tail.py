"""``gateway tail``: what happens, as it is written to the file of traces.

It reads the file and no more, so that the gateway never waits for it, and never knows of it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from watchfiles import watch

from gateway.cli.telling import short
from gateway.cli.terminal import config_option, console
from gateway.config.load import load_trace
from gateway.errors import TraceError
from gateway.trace.interface import Line, Which
from gateway.trace.reading import reading

PAGE = 500
"""Lines that are read at once."""
PATIENCE = 1000
"""Milliseconds after which the file is looked at where the system tells of no change."""


@click.command("tail")
@config_option
@click.option("--source", help="Of this source.")
@click.option("--destination", help="Deliveries to this destination.")
@click.option("--name", help="Of events with this neutral name.")
@click.option("--user", help="Of the user with this id, or anonymous id.")
@click.option("--failed", is_flag=True, help="Only what went wrong.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a line each.")
@click.option(
    "--lines", type=click.IntRange(0, 1000), default=10, show_default=True, help="Earlier ones."
)
@click.option("--count", type=click.IntRange(1), help="End after so many.")
def command(path: Path, lines: int, count: int | None, *, as_json: bool, **which: Any) -> None:
    """Show what happens as it happens, until Ctrl-C.

    Above [trace] successes_per_second successes are sampled; failed deliveries never are.
    """
    out, left, file = console(), count, load_trace(path)
    for line in _all(file, Which(**which), lines):
        if as_json:
            click.echo(msgspec.json.encode(line))
        else:
            out.print(short(line), soft_wrap=True)
        if left is not None:
            left -= 1
            if not left:
                return


def _all(file: Path, which: Which, earlier: int) -> Iterator[Line]:
    """Yield the last lines, and then those to come, for ever; also where the file is begun anew."""
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(reading(file))
        last = reader.last()
        yield from reversed(reader.lines(which, before=last + 1, limit=earlier))
        for _ in _looks(file):
            if reader.replaced:
                try:
                    reader, last = stack.enter_context(reading(file)), 0
                except TraceError:  # it is only just being made
                    continue
            newest = reader.last()
            while page := reader.lines(
                which, after=last, before=newest + 1, limit=PAGE, newest=False
            ):
                yield from page
                last = page[-1].number
            last = newest


def _looks(file: Path) -> Iterator[object]:
    """Yield whenever it is time to look at the file."""
    return watch(
        file.parent,
        watch_filter=lambda _, name: Path(name).name.startswith(file.name),
        debounce=100,
        step=20,
        rust_timeout=PATIENCE,
        yield_on_timeout=True,
        recursive=False,
        raise_interrupt=False,
    )
