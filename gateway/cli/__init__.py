"""The command line. A command's module is imported when the command is called, not before."""

import difflib
import importlib
from typing import Any

import click

from gateway.cli.errors import InvalidConfig
from gateway.errors import ConfigError, GatewayError

COMMANDS = {
    "demo": "Start the sandbox and the gateway, and print what to try.",
    "run": "Accept events and deliver them.",
    "sandbox": "Serve the vendors' servers, emulated, for trials and tests.",
    "check": "Validate a configuration and print the result.",
    "explain": "Show what becomes of one request: verdicts, steps, outgoing requests, losses.",
    "test": "Run the tests of a configuration: what becomes of requests.",
    "schema": "Print the JSON Schema of configuration files, for editors.",
    "plugins": "List the vendors and what each can do.",
    "translate": "Show what one vendor's request becomes in another's format.",
    "losses": "Show which fields of which events are lost between vendors.",
    "shadow": "Say what shadow destinations would have received, and lost.",
    "trace": "Show where an event went, and why not elsewhere.",
    "tail": "Show what happens as it happens.",
    "new-vendor": "Write a plugin to start from, with samples and tests that pass.",
    "dead-letters": "Look at dead letters, replay them, delete them.",
}
MODULES = {
    "demo": "sandbox",
    "schema": "check",
    "plugins": "vendors",
    "new-vendor": "vendors",
    "tail": "trace",
    "dead-letters": "dead_letters",
}
"""Modules of commands that have none of their own name."""


class Commands(click.Group):
    """The commands, by name; what goes wrong on purpose becomes a sentence, not a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"There is no command {cmd_name!r}.{hint}")
        module = importlib.import_module(f"gateway.cli.{MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise InvalidConfig(error.problems) from error
        except GatewayError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cdp-gateway", message="%(version)s")
def main() -> None:
    """Accept customer-data events in one vendor's format, deliver them in any other's."""
