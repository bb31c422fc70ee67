"""``gateway export``: write what the spool retains, one line of JSON each."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import click

from gateway.cli.event_options import retained_options
from gateway.cli.options import config_option
from gateway.config.inputs import stored_inputs
from gateway.config.loader.load import load
from gateway.errors import SpoolError
from gateway.event import Event, as_json
from gateway.ingest.events import parse_if_possible, parse_stored
from gateway.ingest.suppression import suppression_of
from gateway.json_text import dumps
from gateway.plugin.registry import load_plugins
from gateway.replay.exported import exported
from gateway.replay.selector import EventFilter, given_events
from gateway.spool import Entry
from gateway.spool.sqlite.replays import RetainedReader


@click.command("export")
@config_option
@retained_options
@click.option(
    "--as-received",
    is_flag=True,
    help="Write whole requests as the spool has them, instead of neutral events: those with at "
    "least one event that matches.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write; it must not exist. Default: standard output.",
)
def export(  # noqa: PLR0913 - one parameter per option
    path: Path,
    *,
    since: float | None,
    until: float | None,
    source: str | None,
    name: str | None,
    when: str | None,
    as_received: bool,
    output: Path | None,
) -> None:
    """Write retained events as lines of JSON (NDJSON), in the order of their arrival.

    Needs `retain` in [spool]; the gateway may be running or not. Events of people on the
    suppression list are left out. The file has personal data.
    """
    try:
        wanted = EventFilter(source, name, when)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--when") from error
    registry = load_plugins()
    config = load(path, registry, stand_ins=True)
    if config.spool.url:
        raise SpoolError("[spool] url: NATS retains nothing that is delivered")
    inputs, suppression = stored_inputs(config, registry), suppression_of(config)
    with ExitStack() as stack:
        retained = stack.enter_context(RetainedReader(config.spool.path))
        out = sys.stdout.buffer if output is None else stack.enter_context(_new_file(output))
        for found in retained.between(since, until):
            entry = found.entry
            if not wanted.takes_source(entry.source):
                continue
            events = parse_if_possible(entry, lambda entry: parse_stored(entry, inputs))
            chosen = given_events(entry, events, wanted, suppression)
            if as_received and chosen:
                whole = suppression is None or not suppression.among(events)
                if whole:
                    out.write(dumps(exported(entry)) + b"\n")
                continue
            for line in _neutral(entry, events, chosen):
                out.write(dumps(line, default=str) + b"\n")


def _new_file(path: Path) -> IO[bytes]:
    """Make a file that only its owner can read."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        why = "it exists already" if isinstance(error, FileExistsError) else error.strerror
        raise click.ClickException(
            f"cannot write {path}: {why}; name another file with -o"
        ) from error


def _neutral(
    entry: Entry, events: Sequence[Event], chosen: Sequence[int]
) -> Iterator[dict[str, Any]]:
    for index in chosen:
        yield {"source": entry.source, "request": entry.id, "event": as_json(events[index])}
