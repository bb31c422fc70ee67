"""The Debian root of all tests of deployments, and a copy of this repository."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.debian import make_root, remove_root
from tests.docs.pages import ROOT


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a minimal Debian; tests work on copies."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a root file system")
    root = tmp_path_factory.mktemp("debian") / "root"
    yield make_root(root)
    remove_root(root)


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Path]:
    """Yield an empty folder for copies; they are large, so they do not outlive the test."""
    folder = tmp_path / "roots"
    folder.mkdir()
    yield folder
    remove_root(folder)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of this repository's files, without what was built from them."""
    made = tmp_path_factory.mktemp("checkout")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout
    copy = ["cp", "--archive", "--parents", *files.decode().strip("\0").split("\0"), str(made)]
    subprocess.run(copy, cwd=ROOT, check=True)
    return made
