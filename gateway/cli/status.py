"""``gateway status``: whether the running gateway is healthy, on one screen."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.text import Text

from gateway.admin.status import Status
from gateway.cli.admin_client import AdminClient
from gateway.cli.options import config_option, json_option
from gateway.cli.output import RedactingConsole, console, printable, table, title
from gateway.cli.text import say
from gateway.observability.health_model import (
    DestinationHealth,
    GatewayHealth,
    HealthFinding,
    SourceHealth,
)
from gateway.observability.health_texts import spoken

STYLES = {
    **dict.fromkeys(("healthy", "accepting", "ready"), "green"),
    **dict.fromkeys(
        ("attention", "warning", "behind", "paused", "filling", "starting", "leaving"), "yellow"
    ),
}
"""Colours of states and levels; other states are red."""
LETTERS = "dead\nletters"
MOST_DETAIL = 200
"""Characters that are shown of what a vendor said."""


class StatusReport(msgspec.Struct, frozen=True):
    """What ``gateway status`` prints."""

    status: Status
    health: GatewayHealth


@click.command("status")
@config_option
@json_option("all of it")
def status(path: Path, *, as_json: bool) -> None:
    """Show whether the running gateway is healthy, on one screen.

    Prints whether it accepts events, each problem with its cure, sources, destinations and the
    spool. Exits with 0 if it is healthy, with 1 if there is a problem or no gateway answers.
    """
    gateway = AdminClient(path)
    found = StatusReport(gateway.get("/status", Status), gateway.get("/health", GatewayHealth))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        _print(found, console())
    if found.health.state != "healthy":
        raise click.exceptions.Exit(1)


def _print(found: StatusReport, out: RedactingConsole) -> None:
    running, health = found.status, found.health
    out.print(styled(health.state), title(": "), Text(printable(health.headline)), sep="")
    accepts = "accepts events" if running.ready else f"accepts none: {running.not_ready_reason}"
    up = spoken(running.now - running.started)
    say(out, 2, f"version {running.version}, up for {up}, {running.config}; {accepts}")
    if running.restart_required:
        keys = ", ".join(running.restart_required)
        say(out, 2, f"takes effect after a restart: {keys}", style="yellow")
    if health.findings:
        out.print(title("\nProblems"))
    print_findings(health.findings, out)
    out.print(title("\nSources"))
    columns = ("name", "vendor", "state", "accepted", "refused")
    out.print(table(columns, map(_source, health.sources)))
    out.print(title("\nDestinations"))
    print_destinations(health.destinations, out)
    out.print(title("\nSpool"))
    spool = health.spool
    out.print(Text("  "), styled(spool.state), Text(f", {spool.used_share:.1%} used"), sep="")


def print_findings(findings: Sequence[HealthFinding], out: RedactingConsole) -> None:
    """Print each problem, what to do, and what the vendor said."""
    for finding in findings:
        mark = "✗" if finding.level == "error" else "!"
        about = "" if finding.name in finding.headline else f"{finding.name}: "
        style = STYLES.get(finding.level, "red")
        say(out, 2, about + finding.headline, label=mark, width=2, style=style, label_style=style)
        say(out, 4, finding.cure)
        detail = " ".join(finding.detail.split())
        if detail:
            say(out, 4, detail[:MOST_DETAIL], style="dim")


def print_destinations(found: Sequence[DestinationHealth], out: RedactingConsole) -> None:
    """Print a line for each destination."""
    columns = ("name", "vendor", "state", "delivered", "failed", "pending", "behind", LETTERS)
    made = table(columns, map(_destination, found))
    for column in made.columns[2:]:
        column.no_wrap = True  # where there is little room, names fold
    for column in made.columns[3:]:
        column.justify = "right"
    out.print(made)


def _source(one: SourceHealth) -> tuple[str | Text, ...]:
    state = styled(one.state)
    if one.cause:
        state = Text.assemble(state, f" ({one.cause})")
    return one.name, one.vendor, state, f"{one.accepted_rate:.3g}/s", f"{one.refused_rate:.3g}/s"


def _destination(one: DestinationHealth) -> tuple[str | Text, ...]:
    behind = spoken(one.behind) if one.behind >= 1 else ""
    return (
        one.name, one.vendor, styled(one.state), f"{one.delivered_rate:.3g}/s",
        f"{one.failed_share:.0%}", f"{one.pending:,}", behind, f"{one.dead_letters:,}",
    )  # fmt: skip


def styled(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=STYLES.get(state, "red"))
