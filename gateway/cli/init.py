"""``gateway init``: write a first configuration, with tests."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from gateway.cli.completion import complete_inputs, complete_outputs
from gateway.cli.first_config import FirstConfig
from gateway.cli.options import config_option
from gateway.config.loader.load import load
from gateway.explain import Explainer
from gateway.plugin.registry import load_plugins
from gateway.suggestions import did_you_mean

FLAGS = "name the vendors with --from and --to to be asked nothing"


@click.command("init")
@config_option
@click.option(
    "--from",
    "inputs",
    metavar="VENDOR",
    multiple=True,
    shell_complete=complete_inputs,
    help="Accept events in this vendor's format. May be repeated.",
)
@click.option(
    "--to",
    "outputs",
    metavar="VENDOR",
    multiple=True,
    shell_complete=complete_outputs,
    help="Send events to this vendor. May be repeated.",
)
def init(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a first configuration, with comments and tests.

    Asks which vendors' formats come in and which vendors get the events, unless --from and --to
    name them. The destinations are the sandbox at first, so `gateway demo` runs it as it is. An
    existing file is never overwritten.
    """
    if os.path.lexists(path):
        raise click.ClickException(f"{path} already exists; name another file with -c")
    registry = load_plugins()
    try:
        inputs = _chosen("--from", "Which vendors' formats come in?", inputs, registry.formats)
        outputs = _chosen("--to", "Which vendors get the events?", outputs, list(registry.outputs))
    except click.Abort:
        click.echo(err=True)
        raise click.ClickException(f"nothing was written; {FLAGS}") from None
    first = FirstConfig(path, registry, inputs, outputs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(first.text())
    except OSError as error:
        why = "not a folder" if isinstance(error, FileExistsError) else error.strerror or error
        where = f"{error.filename or path}: {why}"
        raise click.ClickException(f"cannot write {where}; name another file with -c") from error
    explainer = Explainer(load(path, registry), registry)
    path.write_text(first.text(explainer), encoding="utf-8")
    click.secho(f"{path} is ready.", bold=True)
    click.echo(
        f"\n  gateway test -c {path}    run its tests; nothing is sent\n"
        f"  gateway demo -c {path}    run it with the sandbox\n"
    )
    variables = ", ".join(first.variables)
    text = (
        f"Before real use, set the keys that clients send and those of your vendors ({variables}), "
        f"and follow the file's comments."
    )
    click.echo(click.wrap_text(text))


def _chosen(option: str, question: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the vendors that *option* names, or else those that the user enters.

    Raises:
        click.Abort: the user ends the input.
        click.BadParameter: the option names an unknown vendor.
    """
    parse = _parser(known)
    if given:
        try:
            return parse(",".join(given))
        except click.UsageError as error:
            raise click.BadParameter(error.message, param_hint=option) from error
    click.echo(f"{question}\n{click.wrap_text(', '.join(known), 80, '  ', '  ')}")
    found: list[str] = click.prompt("One or more, separated by commas", value_proc=parse)
    return found


def _parser(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise click.UsageError(f"there is no vendor {name!r}; {did_you_mean(name, known)}")
        if not names:
            raise click.UsageError("name at least one vendor")
        return list(dict.fromkeys(names))

    return parse
