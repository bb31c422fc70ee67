"""Build the distribution, and install it into environments with nothing else."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from tests.docs.pages import ROOT

UV: Final = Path(sys.executable).with_name("uv")
PATIENCE: Final = 300
"""Seconds that one command may take; some fetch packages."""
_HIDDEN: Final = {
    "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER",
}  # fmt: skip


class Distribution(NamedTuple):
    """What a release consists of."""

    sdist: Path
    wheel: Path


def ended(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Return how *command* ended; it runs without this repository's environment variables."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return the environment variables that name no part of this repository."""
    return {name: value for name, value in os.environ.items() if name not in _HIDDEN}


def run(*command: str | Path, cwd: Path) -> str:
    """Return the output of *command*, which must succeed."""
    done = ended(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, into: Path, *options: str) -> None:
    """Build *source* as `make dist` does: the wheel from the sdist, unless *options* say else."""
    python = ("--python", sys.executable)
    run(UV, "build", "--no-build-isolation", *python, *options, "--out-dir", into, source, cwd=into)


def install(folder: Path, *packages: str | Path) -> Path:
    """Install *packages*, in the versions of the lock file, into a new environment in *folder*.

    Returns:
        The folder of its programs.
    """
    locked = re.findall(
        r"^([\w.-]+==[^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(locked))
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
    run(*_pip(folder, "install", ("--constraint", constraints, *packages)), cwd=folder)
    run(*_pip(folder, "check", ()), cwd=folder)
    return folder / "venv/bin"


def _pip(folder: Path, command: str, more: Iterable[str | Path]) -> list[str | Path]:
    return [UV, "pip", command, "--quiet", "--python", folder / "venv/bin/python", *more]
