"""Every hook, command and option is documented, compared with the code; and nothing else is."""

import inspect
import re
import shlex
from collections.abc import Iterator

import click
import pytest
from pluggy import PluginManager

from docs.command_tables import contexts
from gateway.cli import main
from gateway.delivery.circuit_breaker import KEY_THRESHOLD, RECENT, THRESHOLD
from gateway.delivery.worker import ISOLATED_ATTEMPTS, MAX_ISOLATED_ATTEMPTS
from gateway.plugin import hookspecs
from tests.docs.pages import PAGES, ROOT, name, prose

HOOKS = (ROOT / "docs/hooks.md").read_text()
COMMANDS = (ROOT / "docs/commands.md").read_text()
SAID = re.compile(r"`gateway ([^`\n]+)`")


def _hooks() -> list[str]:
    manager = PluginManager("gateway")
    manager.add_hookspecs(hookspecs)
    calls = manager.hook.__dict__
    return sorted(hook for hook in calls if not hook.startswith("_"))


@pytest.mark.parametrize("hook", _hooks())
def test_every_hook_has_a_heading(hook: str) -> None:
    """docs/hooks.md heads each hook with its name and exactly its arguments."""
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"## {hook}({arguments})\n" in HOOKS


def test_no_heading_names_a_hook_that_is_none() -> None:
    """Every hook that docs/hooks.md heads exists."""
    assert sorted(re.findall(r"^## (\w+)\(", HOOKS, re.MULTILINE)) == _hooks()


def test_every_command_is_described() -> None:
    """docs/commands.md heads each command that does something, and nothing else."""
    headed = re.findall(r"^## (.+)$", COMMANDS, re.MULTILINE)
    assert headed == [context.command_path for context in contexts()]


@pytest.mark.parametrize("context", list(contexts()), ids=lambda found: found.command_path)
def test_every_option_is_described(context: click.Context) -> None:
    """Under each command stand its purpose and all of its options, each with a meaning."""
    described = COMMANDS.partition(f"## {context.command_path}\n")[2].partition("\n## ")[0]
    assert inspect.cleandoc(context.command.help or "?") in described
    for option in context.command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{option.name} has no help"
            assert f"`{', '.join(option.opts)}" in described, option.name


def _said() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        yield from ((name(page), text) for text in SAID.findall(prose(page)))


@pytest.mark.parametrize(("page", "text"), sorted(set(_said())))
def test_commands_in_sentences_exist(page: str, text: str) -> None:
    """A command that a sentence names exists, and has the options that stand with it."""
    context = click.Context(main, info_name="gateway")
    words = shlex.split(text.replace("…", ""))
    while isinstance(context.command, click.Group) and words and not words[0].startswith("-"):
        command = context.command.get_command(context, words.pop(0))
        assert command, f"{page}: gateway {text}"
        context = click.Context(command, parent=context)
    known = {word for option in context.command.get_params(context) for word in option.opts}
    known |= {"--help", "-h"}
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in known, f"{page}: gateway {text}"


WORDS = {3: "three", 5: "five"}


@pytest.mark.parametrize("page", ["verdicts.md", "operations.md", "decisions/0008-delivery.md"])
def test_what_opens_a_circuit_and_ends_an_event_is_told_by_the_codes_figures(page: str) -> None:
    """All pages that tell when a destination is in trouble have the breaker's own figures."""
    text = (ROOT / "docs" / page).read_text()
    for told in (
        f"{WORDS[THRESHOLD]} users",
        f"{WORDS[KEY_THRESHOLD]} users",
        f"for {RECENT:g} s",
        f"{MAX_ISOLATED_ATTEMPTS} attempts",
        f"{ISOLATED_ATTEMPTS['credential']} with 401 or 403",
    ):
        assert told in text, told
