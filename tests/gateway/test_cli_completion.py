"""Completion in shells."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from gateway.cli import COMMANDS, main
from gateway.plugin.registry import load_plugins
from tests.gateway.test_cli import FINE
from tests.gateway.test_cli_process import ENVIRON, HEAVY

SOURCED = """
set -eu
eval "$(_GATEWAY_COMPLETE=bash_source {command})"
COMP_WORDS=({words}) COMP_CWORD={place} COMPREPLY=()
_gateway_completion {command}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(*words: str) -> list[str]:
    """Return what may stand in place of the last word."""
    shell = ShellComplete(main, {}, "gateway", "_GATEWAY_COMPLETE")
    return [found.value for found in shell.get_completions([*words[:-1]], words[-1])]


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return the path of a configuration."""
    path = tmp_path / "gateway.toml"
    path.write_text(FINE)
    return str(path)


def test_commands_are_completed() -> None:
    """Commands and subcommands are completed, and options after a dash."""
    assert completed("") == list(COMMANDS)
    assert completed("dest") == ["destinations"]
    assert completed("dead-letters", "re") == ["replay"]
    assert completed("--ver") == ["--version"]
    assert "--exit-code" in completed("shadow", "report", "--")


def test_names_of_the_configuration_are_completed(config: str) -> None:
    """Names of destinations and sources come from the file that the command names."""
    assert completed("destinations", "pause", "-c", config, "c") == ["crm"]
    assert completed("destinations", "pause", "-c", config, "crm", "") == ["crm", "idle"]
    assert completed("dead-letters", "list", "-c", config, "--destination", "") == ["crm", "idle"]
    assert completed("tail", "-c", config, "--source", "o") == ["open"]
    assert completed("explain", "-c", config, "--from", "s") == ["shop"]


def test_vendors_are_completed() -> None:
    """Vendors are completed where an option takes one."""
    registry = load_plugins()
    assert completed("init", "--from", "") == sorted(registry.inputs)
    assert completed("translate", "--to", "seg") == ["segment"]
    assert completed("losses", "--from", "q") == ["quartic"]


def test_an_unreadable_configuration_completes_nothing(tmp_path: Path) -> None:
    """A file that cannot be read gives no names and no error."""
    missing = str(tmp_path / "missing.toml")
    assert completed("destinations", "pause", "-c", missing, "") == []


def test_commands_are_completed_without_importing_them() -> None:
    """Completing a command imports none of the gateway's heavy libraries."""
    code = (
        "import sys; from click.shell_completion import ShellComplete as S\n"
        "from gateway.cli import main\n"
        "assert S(main, {}, 'gateway', '').get_completions([], 'de')\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_script_of_the_page_completes_in_bash(tmp_path: Path) -> None:
    """The line of docs/commands.md makes bash complete the command."""
    bash = shutil.which("bash")
    assert bash is not None, "bash is not installed"
    command = tmp_path / "gateway"
    start = "from gateway.__main__ import main; main()"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    command.chmod(0o755)
    script = SOURCED.format(command=command, words="gateway shadow re", place=2)
    found = subprocess.run(
        [bash, "-c", script], env=ENVIRON, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["report", "reset"]
