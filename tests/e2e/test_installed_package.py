"""A stranger's package beside the gateway's wheel, in an environment that has nothing else."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests/example_plugins/acme"
PATIENCE = 480
"""Seconds that one command may take."""
pytestmark = pytest.mark.xdist_group("stranger")


def run(*command: str | Path, cwd: Path) -> str:
    """Return what *command* prints; it must succeed, and sees nothing of this repository."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"}
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel(source: Path, folder: Path) -> Path:
    """Return a wheel of *source*."""
    target = folder / source.name
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", target, source),
        cwd=folder,
    )
    (made,) = target.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an environment with the gateway, its kit, and Acme's package."""
    folder = tmp_path_factory.mktemp("stranger")
    plugin = shutil.copytree(
        EXAMPLE, folder / "acme-source", ignore=shutil.ignore_patterns("__pycache__", ".*")
    )
    gateway, acme = wheel(ROOT, folder), wheel(plugin, folder)
    locked = re.findall(
        r"^([\w.-]+==[^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(locked))
    venv.create(folder / "venv", with_pip=True)
    run(
        *(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--constraint"),
        *(constraints, f"{gateway}[testing]", acme),
        cwd=folder,
    )
    return folder


def test_is_found_by_its_entry_point(stranger: Path) -> None:
    """An installed package is among the vendors, with what it can do."""
    said = run(stranger / "venv/bin/gateway", "plugins", cwd=stranger)
    block = re.search(r"^acme\n((?:  .*\n?)+)", said, re.MULTILINE)
    assert block, said
    for fact in ("input, output, sandbox", "POST /v1/events", "acme.example"):
        assert fact in block[1]


def test_the_kit_runs_outside_of_the_repository(stranger: Path) -> None:
    """The stranger's tests pass on what the wheel and its extra bring, nothing more."""
    folder = stranger / "tests"
    folder.mkdir()
    shutil.copy(EXAMPLE / "test_acme.py", folder)
    shutil.copytree(EXAMPLE / "samples", folder / "samples")
    said = run(stranger / "venv/bin/python", "-m", "pytest", "-q", "test_acme.py", cwd=folder)
    assert re.search(r"\d{3} passed", said), said


def test_a_new_vendor_passes_its_own_tests(stranger: Path) -> None:
    """What `gateway new-vendor` writes passes its tests, and leaves no mutant unnoticed."""
    python = stranger / "venv/bin/python"
    run(stranger / "venv/bin/gateway", "new-vendor", "my_shop", cwd=stranger)
    folder = stranger / "my_shop"
    assert "Acme" not in "".join(path.read_text() for path in folder.rglob("*.*") if path.is_file())
    assert re.search(r"\d{3} passed", run(python, "-m", "pytest", "-q", cwd=folder))
    hunt = run(python, "-m", "pytest", "-q", "-p", "gateway.testing.mutation", cwd=folder)
    assert re.search(r"^\d+ mutants noticed, .* 0 wrong", hunt, re.MULTILINE), hunt


def test_an_extra_that_is_missing_is_named(stranger: Path) -> None:
    """Who names a collector without the libraries for it is told what to install."""
    (stranger / "gateway.toml").write_text(
        '[trace]\notlp_url = "http://127.0.0.1:4318/v1/traces"\n[sources.a]\nvendor = "chrts"\n'
        'keys = ["key"]\n[destinations.b]\nvendor = "chrts"\napi_key = "key"\n'
        '[[routes]]\nto = ["b"]\n'
    )
    done = subprocess.run(
        [stranger / "venv/bin/gateway", "check", "-c", "gateway.toml"],
        cwd=stranger, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1, said
    assert "[trace] otlp_url: needs what is not installed; pip install 'cdp-gateway[otel]'" in said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("json", "there is a Python module 'json' already"),
        ("acme", "there is already a vendor 'acme'"),
        ("class", "cannot be a module's name"),
        ("My-Shop", "cannot be a module's name"),
        ("tests", "tests is not empty"),
    ],
)
def test_a_name_that_cannot_be_is_refused(stranger: Path, name: str, why: str) -> None:
    """A name that would hide something, or a folder that would be overwritten, is refused."""
    (stranger / "tests").mkdir(exist_ok=True)
    (stranger / "tests/mine.txt").touch()
    done = subprocess.run(
        [stranger / "venv/bin/gateway", "new-vendor", name],
        cwd=stranger, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr
