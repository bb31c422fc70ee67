"""``gateway replay`` and ``gateway replays``: deliver retained events again."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.admin.replays import Replay, Replays
from gateway.cli.admin_client import AdminClient
from gateway.cli.completion import complete_configured
from gateway.cli.event_options import retained_options
from gateway.cli.options import config_option, json_option
from gateway.cli.output import console, strip_control_characters, table
from gateway.plugin.quantities import rate
from gateway.spool.dead_letters import format_time

LOOK = 0.2
"""Seconds between two looks at a dry run."""


def parse_rate(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Parse a rate, such as ``200/s``, into events per second.

    Raises:
        click.BadParameter: *value* is none.
    """
    if value is None:
        return None
    try:
        found = float(str(rate(value)))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error
    if found <= 0:
        raise click.BadParameter(f'{value!r} is not above 0; write one like "200/s"')
    return found


@click.command("replay")
@config_option
@click.option(
    "--to",
    metavar="DESTINATION",
    required=True,
    shell_complete=complete_configured("destinations"),
    help="The destination that gets the events.",
)
@retained_options
@click.option(
    "--through-routes",
    is_flag=True,
    help="Only events that a route leads to the destination now, with the steps of that route. "
    "Otherwise all that match, as they came.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Also events that were routed to the destination when they arrived, or by an earlier "
    "replay.",
)
@click.option(
    "--rate", metavar="RATE", callback=parse_rate, help='At most so many events: "200/s".'
)
@click.option("--dry-run", is_flag=True, help="Count the events, and deliver nothing.")
@json_option("the replay")
def replay(path: Path, *, as_json: bool, **which: Any) -> None:
    """Deliver retained events again, to any destination.

    Needs `retain` in [spool] and a running gateway. Live events come first, and each user's events
    keep their order and ids. The replay goes on after a restart; see `gateway replays`.
    """
    gateway = AdminClient(path)
    given = {name: value for name, value in which.items() if value is not None}
    job = gateway.post("/replays", Replay, given)
    while job.selection.dry_run and job.state in {"running", "paused"}:
        time.sleep(LOOK)
        job = next(one for one in gateway.get("/replays", Replays).replays if one.id == job.id)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(job)))
    elif job.selection.dry_run:
        counts = job.counts
        click.echo(f"would deliver {_events(counts.queued)} to {job.selection.to}")
        for line in _left_out(job):
            click.echo(line)
    else:
        click.echo(f"replay {job.id} to {job.selection.to} is running; see `gateway replays list`")


@click.group("replays")
def replays() -> None:
    """List, pause, resume and cancel replays of retained events."""


@replays.command("list")
@config_option
@json_option("the list")
def list_(path: Path, *, as_json: bool) -> None:
    """List the last replays, the newest first."""
    found = AdminClient(path).get("/replays", Replays).replays
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    elif not found:
        click.echo("no replays")
    else:
        columns = ("id", "began", "destination", "state", "read", "events", "left out")
        console().print(table(columns, map(_row, found)))
        for job in found:
            if job.reason:
                reason = strip_control_characters(job.reason)
                click.echo(f"replay {job.id} cannot be resumed: {reason}")


def _row(job: Replay) -> tuple[str, ...]:
    state = f"{job.state} (dry run)" if job.selection.dry_run else job.state
    return tuple(
        map(
            strip_control_characters,
            (
                str(job.id),
                format_time(job.began),
                job.selection.to,
                state,
                f"{job.progress:.0%}",
                f"{job.counts.queued:,}",
                f"{job.counts.repeated:,}",
            ),
        )
    )


@replays.command("pause")
@config_option
@click.argument("number", metavar="ID", type=click.IntRange(1))
def pause(path: Path, number: int) -> None:
    """Pause a replay; what it gave to the destination is still delivered."""
    _operate(path, number, "pause")


@replays.command("resume")
@config_option
@click.argument("number", metavar="ID", type=click.IntRange(1))
def resume(path: Path, number: int) -> None:
    """Resume a replay where it stopped."""
    _operate(path, number, "resume")


@replays.command("cancel")
@config_option
@click.argument("number", metavar="ID", type=click.IntRange(1))
def cancel(path: Path, number: int) -> None:
    """End a replay; what it gave to the destination is still delivered."""
    _operate(path, number, "cancel")


def _operate(path: Path, number: int, verb: str) -> None:
    job = AdminClient(path).post(f"/replays/{number}/{verb}", Replay)
    to = strip_control_characters(job.selection.to)
    click.echo(f"replay {job.id} to {to} is {job.state}; {_events(job.counts.queued)} so far")


def _left_out(job: Replay) -> Iterator[str]:
    counts = job.counts
    if counts.repeated:
        yield f"leaves out {_events(counts.repeated)} that it had already; --again adds them"
    if counts.unreadable:
        one = counts.unreadable == 1
        yield f"{counts.unreadable:,} {'request' if one else 'requests'} cannot be read any more"


def _events(count: int) -> str:
    return f"{count:,} {'event' if count == 1 else 'events'}"
