"""``gateway reload``: make the running gateway read its configuration again."""

from pathlib import Path

import click
import msgspec
from rich.text import Text

from gateway.admin.status import ReloadResult, RunningConfig
from gateway.cli.admin_client import AdminClient
from gateway.cli.options import config_option, json_option
from gateway.cli.output import console, printable, title
from gateway.cli.text import say


class ReloadReport(ReloadResult, frozen=True):
    """The result of a reload, with the warnings about the new configuration."""

    warnings: list[str]


@click.command("reload")
@config_option
@json_option("the result")
def reload(path: Path, *, as_json: bool) -> None:
    """Make the running gateway read its configuration again, and print what changed.

    Asks the gateway at the address in [admin]. Exits with 2 if the configuration is invalid; the
    gateway then goes on with the one it has. SIGHUP does the same without a report.
    """
    gateway = AdminClient(path)
    result = gateway.post("/config/reload", ReloadResult)
    config = gateway.get("/config", RunningConfig)
    if as_json:
        report = ReloadReport(**msgspec.structs.asdict(result), warnings=config.warnings)
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
        return
    out = console()
    out.print(title(f"{printable(config.path)} is in effect"), soft_wrap=True)
    changes = {"added": result.added, "changed": result.changed, "removed": result.removed}
    for what, names in changes.items():
        if names:
            say(out, 2, ", ".join(names), label=what, width=9)
    if not any(changes.values()):
        out.print("  nothing was added, changed or removed")
    if result.restart_required:
        keys = ", ".join(result.restart_required)
        say(out, 2, f"takes effect after a restart: {keys}", style="yellow")
    if config.warnings:
        out.print(title("\nWarnings"))
    for warning in config.warnings:
        out.print(Text(f"  {printable(warning)}", style="yellow"), soft_wrap=not out.is_terminal)
