"""``gateway trace``."""

from pathlib import Path

import click
import msgspec

from gateway.cli.telling import told
from gateway.cli.terminal import config_option, printable
from gateway.config.load import load_trace
from gateway.trace.interface import Which
from gateway.trace.reading import reading


@click.command("trace")
@config_option
@click.argument("identity", metavar="ID")
@click.option("--short", is_flag=True, help="Without what was received and sent.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a trace per line.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Traces at most."
)
def command(path: Path, identity: str, limit: int, *, short: bool, as_json: bool) -> None:
    """Show where an event went, and why not elsewhere.

    ID is a request's (x-gateway-request-id), an event's, a message id, a user id or an anonymous
    id. Works while the gateway runs, and after. Several requests are shown in short, the newest
    last.
    """
    with reading(load_trace(path)) as reader:
        found = reader.show(identity, limit)
        latest = {
            to: next(iter(reader.lines(Which(destination=to), limit=1)), None)
            for trace in found
            for event in trace.events
            for decided in event.decisions
            for to in decided.gives
        }
    if not found:
        raise click.ClickException(
            f"nothing is kept under {printable(identity)!r}; it may be too old, or it was not "
            f"chosen: see [trace] successes_per_second"
        )
    for place, trace in enumerate(reversed(found)):
        if as_json:
            click.echo(msgspec.json.encode(trace))
            continue
        if place:
            click.echo()
        for line in told(trace, whole=len(found) == 1 and not short, latest=latest.get):
            click.echo(printable(line))
