"""The command line, ``gateway COMMAND``.

The module of a command is imported when the command runs, so that ``--help`` stays quick.
"""

import difflib
import importlib
import re
from keyword import iskeyword
from typing import Any

import click
from click.shell_completion import CompletionItem

from gateway.cli.errors import InvalidConfig, InvalidName
from gateway.empty_modules import empty_modules
from gateway.errors import ConfigError, GatewayError, UnknownName

COMMANDS = {
    "demo": "Start the sandbox and the gateway, and print example requests.",
    "init": "Write a first configuration, with comments and tests.",
    "run": "Accept events and deliver them.",
    "status": "Show whether the running gateway is healthy, on one screen.",
    "sandbox": "Run emulated vendor servers for trials and tests.",
    "check": "Validate a configuration and print the result.",
    "explain": "Show what the gateway would do with one request, without sending anything.",
    "test": "Run the tests in a configuration, without sending anything.",
    "reload": "Make the running gateway read its configuration again, and print what changed.",
    "schema": "Print the JSON Schema of configuration files, for editors.",
    "plugins": "List the vendors and what each supports.",
    "translate": "Translate a request from one vendor's format into another's.",
    "losses": "Show which fields are lost between vendors, by event.",
    "shadow": "Report what shadow destinations would have received and lost.",
    "trace": "Show which destinations got an event, and why others did not.",
    "tail": "Print requests and deliveries as they happen.",
    "new-vendor": "Create a plugin for a new vendor, with samples and passing tests.",
    "destinations": "List, pause, resume and drain the running gateway's destinations.",
    "dead-letters": "List, show, replay and delete dead letters.",
    "cluster": "Show the gateways, shards and NATS streams of a cluster.",
    "spool": "Move what a spool holds to another one.",
    "replay": "Deliver retained events again, to any destination.",
    "replays": "List, pause, resume and cancel replays of retained events.",
    "export": "Write retained events as lines of JSON.",
    "import": "Take exported requests in again, through a source.",
    "erase": "Erase a person from the spool, dead letters, traces, consent and deduplication.",
    "audit": "List what operators did.",
}
MODULES = {
    "demo": "sandbox",
    "schema": "check",
    "plugins": "vendors",
    "new-vendor": "vendors",
    "tail": "trace",
    "dead-letters": "dead_letters",
    "replays": "replay",
    "import": "imports",
}
"""The module of each command whose module has another name."""


class Commands(click.Group):
    """The commands by name. An error of the gateway is printed as a sentence, not a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it."""
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"There is no command {cmd_name!r}.{hint}")
        with empty_modules("rich"):  # structlog would import it to show tracebacks in colour
            importlib.import_module("structlog")
        module = importlib.import_module(f"gateway.cli.{MODULES.get(cmd_name, cmd_name)}")
        attribute = cmd_name.replace("-", "_")
        if iskeyword(attribute):
            attribute += "_"
        command: click.Command = getattr(module, attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with *incomplete*, without importing them."""
        if incomplete and not incomplete[0].isalnum():
            return click.Command.shell_complete(self, ctx, incomplete)
        names = (name for name in COMMANDS if name.startswith(incomplete))
        return [CompletionItem(name, help=COMMANDS[name]) for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print an error of the gateway as one of click's."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise InvalidConfig(error.problems) from error
        except UnknownName as error:
            raise InvalidName(_printable(error)) from error
        except click.UsageError as error:
            hint = _config_hint(error)
            if not hint:
                raise
            raise click.UsageError(f"{error.message}; {hint}", error.ctx) from error
        except GatewayError as error:
            raise click.ClickException(_printable(error)) from error


def _printable(error: GatewayError) -> str:
    """Return the message of *error*; it may quote a hostile request."""
    from gateway.cli.output import printable  # noqa: PLC0415 - the help must not wait for rich

    return printable(str(error))


def _config_hint(error: click.UsageError) -> str:
    """Return how to name a configuration file, if *error* is about one that is an argument."""
    extra = re.search(r"unexpected extra argument \((\S+\.toml)\)", error.message)
    known = error.ctx.command.params if error.ctx else ()
    if extra and any("--config" in option.opts for option in known):
        return f"name the configuration file with -c: -c {extra[1]}"
    return ""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cdp-gateway", message="%(version)s")
def main() -> None:
    """Accept customer-data events in one vendor's format, deliver them in any other's."""
