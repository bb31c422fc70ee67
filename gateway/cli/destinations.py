"""``gateway destinations``: list, pause, resume and drain the running gateway's destinations."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import click
import msgspec

from gateway.admin.destinations import Destination
from gateway.cli.admin_client import AdminClient
from gateway.cli.completion import complete_configured
from gateway.cli.options import config_option, json_option
from gateway.cli.output import console
from gateway.cli.status import print_destinations, print_findings
from gateway.observability.health_model import GatewayHealth


@click.group("destinations")
def destinations() -> None:
    """List, pause, resume and drain the running gateway's destinations."""


@destinations.command("list")
@config_option
@json_option("the list")
def list_(path: Path, *, as_json: bool) -> None:
    """List the destinations with their states, and what to do about problems."""
    health = AdminClient(path).get("/health", GatewayHealth)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(health.destinations)))
        return
    out = console()
    print_destinations(health.destinations, out)
    problems = [one for one in health.findings if one.subject == "destination"]
    if problems:
        out.print()
    print_findings(problems, out)


def _named(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument that names destinations."""
    return click.argument(
        "names",
        metavar="NAME...",
        nargs=-1,
        required=True,
        shell_complete=complete_configured("destinations"),
    )(command)


@destinations.command("pause")
@config_option
@_named
def pause(path: Path, names: Sequence[str]) -> None:
    """Pause destinations.

    Attempts in progress finish; everything else waits in the spool until the destination is
    resumed, across reloads and restarts. The limits of the spool still apply.
    """
    for one in _operated(path, names, "pause"):
        waits = "1 delivery waits" if one.pending == 1 else f"{one.pending:,} deliveries wait"
        click.echo(f"{one.name} is paused; {waits} until `gateway destinations resume {one.name}`")


@destinations.command("resume")
@config_option
@_named
def resume(path: Path, names: Sequence[str]) -> None:
    """Resume paused destinations; delivery goes on where it stopped, in order."""
    for one in _operated(path, names, "resume"):
        click.echo(f"{one.name} is resumed; {_pending(one)}")


@destinations.command("drain")
@config_option
@_named
def drain(path: Path, names: Sequence[str]) -> None:
    """Attempt all pending deliveries now.

    Waiting retries, an open circuit and a pause that the vendor asked for are ignored; the rate
    limit still applies. Use it after a vendor's outage, or after you corrected a key.
    """
    for one in _operated(path, names, "drain"):
        click.echo(f"{one.name} is drained from now on; {_pending(one)}")


def _operated(path: Path, names: Sequence[str], verb: str) -> Iterator[Destination]:
    """Yield each destination after the operation; the first error ends it."""
    gateway = AdminClient(path)
    for name in names:
        yield gateway.post(f"/destinations/{quote(name, safe='')}/{verb}", Destination)


def _pending(one: Destination) -> str:
    many = f"{one.pending:,} deliveries are"
    return f"{'1 delivery is' if one.pending == 1 else many} pending"
