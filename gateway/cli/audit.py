"""``gateway audit``: what operators did."""

import os
import pwd
from pathlib import Path

import click
import msgspec

from gateway.admin.audit import AuditEntry, AuditLog, entry_of
from gateway.admin.caller import Caller
from gateway.cli.options import config_option, json_option
from gateway.cli.output import console, strip_control_characters, table
from gateway.config.loader.load import load_audit_retention, load_spool
from gateway.spool.dead_letters import format_time

WIDTH = 130
"""Columns of the table, so that neither time nor name is folded."""


def audit_log(path: Path) -> AuditLog:
    """Return the audit log of a configuration's spool."""
    retention = load_audit_retention(path)
    return AuditLog(load_spool(path).path, lambda: retention)


def command_entry(action: str, detail: str) -> AuditEntry:
    """Return an entry about a command, with the user of the machine who runs it."""
    number = os.getuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:  # as in a container that runs as any number
        user = f"user {number}"
    return entry_of(Caller(user, "operator", "command"), action, detail=detail)


@click.command("audit")
@config_option
@click.option("--before", type=click.IntRange(1), help="Only with a lower id: the next page.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="List at most this many.",
)
@json_option("one action per line")
def audit(path: Path, before: int | None, limit: int, *, as_json: bool) -> None:
    """List what operators did, the newest first.

    Reads the audit log in the spool's folder, whether the gateway runs or not.
    """
    found = audit_log(path).entries(before, limit + 1)
    if as_json:
        for entry in found[:limit]:
            click.echo(msgspec.json.encode(entry))
    elif not found:
        none = "no operator has done anything yet"
        click.echo(none if before is None else f"there is no action before {before}")
    else:
        columns = ("id", "at", "who", "action", "target", "result")
        out = console()
        out.width = max(out.width, WIDTH)
        out.print(table(columns, map(_row, found[:limit])))
    if len(found) > limit:
        click.echo(f"there are more; continue with --before {found[limit - 1].id}", err=True)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    result = f"failed: {entry.error}" if entry.error else entry.detail or "done"
    who = f"{entry.name} ({entry.via})" if entry.name else "anyone on this machine"
    action = entry.action.replace("_", " ")
    cells = (str(entry.id), format_time(entry.at), who, action, entry.target, result)
    return tuple(map(strip_control_characters, cells))
