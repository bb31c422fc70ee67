"""Every hook, command and option of the code is documented, and no other."""

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pluggy import PluginManager

from docs.command_tables import contexts
from gateway.cli import main
from gateway.delivery.circuit_breaker import KEY_THRESHOLD, RECENT, THRESHOLD
from gateway.delivery.worker import ISOLATED_ATTEMPTS, MAX_ISOLATED_ATTEMPTS
from gateway.plugin import hookspecs
from gateway.plugin.registry import load_plugins
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
    """docs/hooks.md has a heading for each hook, with its name and exact arguments."""
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"## {hook}({arguments})\n" in HOOKS


def test_every_heading_names_a_hook() -> None:
    """Each hook with a heading in docs/hooks.md exists."""
    assert sorted(re.findall(r"^## (\w+)\(", HOOKS, re.MULTILINE)) == _hooks()


def test_every_command_is_described() -> None:
    """docs/commands.md has a heading for each command that does something, and no other."""
    headed = re.findall(r"^## (.+)$", COMMANDS, re.MULTILINE)
    assert headed == [context.command_path for context in contexts()]


@pytest.mark.parametrize("context", list(contexts()), ids=lambda found: found.command_path)
def test_every_option_is_described(context: click.Context) -> None:
    """Below each command are its purpose and all its options, each with a help text."""
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
    """A command in a sentence exists and has the options that follow it."""
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


LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception"})


def test_every_log_event_is_described() -> None:
    """docs/metrics.md has a row for each log event of the gateway, and no other."""
    table = (ROOT / "docs/metrics.md").read_text().partition("## Log lines")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    described = {event for row in rows for event in re.findall(r"`(\w+)`", row)}
    logged, texts = set(), set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(text)):
                    texts.add(text)
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=method),
                    args=[ast.Constant(value=str(event)), *_],
                ) if method in LOG_METHODS:
                    logged.add(event)
    assert logged
    assert sorted(logged - described) == []
    assert sorted(described - texts) == []


SECRETS = re.compile(r"^\| `gateway (\w+)` \| .*? \| (yes|no)\b", re.MULTILINE)
"""Rows of docs/testing-rules.md that say whether a command needs the credentials."""
NEEDY = """
[sources.shop]
vendor = "personaclick"
keys = ["${A_VARIABLE_THAT_IS_NOT_SET}"]
[destinations.crm]
vendor = "chrts"
api_key = "file:no-such-file"
[[routes]]
to = ["crm"]
[[tests]]
name = "a view goes to the CRM"
from = "shop"
path = "/push"
file = "view.json"
expect = ["crm"]
"""


def test_commands_need_the_credentials_where_the_page_says_so(tmp_path: Path) -> None:
    """Commands fail without a credential exactly where docs/testing-rules.md says so."""
    config, view = tmp_path / "gateway.toml", tmp_path / "view.json"
    config.write_text(NEEDY)
    view.write_bytes(load_plugins().inputs["personaclick"].example.body)
    more = {"explain": ["--from", "shop", "--path", "/push", str(view)]}
    needs_by_command = dict(SECRETS.findall((ROOT / "docs/testing-rules.md").read_text()))
    assert set(needs_by_command) == {"check", "explain", "test"}
    for command, needs in needs_by_command.items():
        ran = CliRunner().invoke(main, [command, "-c", str(config), *more.get(command, [])])
        assert ran.exit_code == (1 if needs == "yes" else 0), ran.output
        if needs == "yes":
            assert "A_VARIABLE_THAT_IS_NOT_SET" in ran.output
            assert "no-such-file" in ran.output


WORDS = {3: "three", 5: "five"}


@pytest.mark.parametrize("page", ["verdicts.md", "operations.md", "decisions/0008-delivery.md"])
def test_pages_have_the_circuit_breakers_figures(page: str) -> None:
    """Pages that explain the circuit breaker have the figures of its code."""
    text = (ROOT / "docs" / page).read_text()
    for figure in (
        f"{WORDS[THRESHOLD]} users",
        f"{WORDS[KEY_THRESHOLD]} users",
        f"for {RECENT:g} s",
        f"{MAX_ISOLATED_ATTEMPTS} attempts",
        f"{ISOLATED_ATTEMPTS['credential']} with 401 or 403",
    ):
        assert figure in text, figure
