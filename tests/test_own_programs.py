"""The project's own programs check their arguments; groups of tests stay together."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ended(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return how ``python -m`` with *arguments* ended in *folder*."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_turn_is_too_few_to_compare(tmp_path: Path) -> None:
    """The console's bench refuses a single turn with a sentence."""
    done = ended(tmp_path, "tests.bench.console", "--turns", "1")
    assert done.returncode == 2
    assert "argument --turns: must be at least 2" in done.stderr


def test_help_has_no_screenshots(tmp_path: Path) -> None:
    """``--help`` of the pictures explains the folder and makes none."""
    done = ended(tmp_path, "tests.console.screenshots", "--help")
    assert (done.returncode, "folder" in done.stdout) == (0, True)
    assert list(tmp_path.iterdir()) == []


def test_a_kept_spool_is_not_written_anew(tmp_path: Path) -> None:
    """The spool that a version left is not replaced by one of later code."""
    done = ended(tmp_path, "tests.release.write_spool")
    assert done.returncode == 1
    assert "exists: it stays as that version wrote it" in done.stderr


@pytest.mark.xdist_group("group")
def test_tests_of_a_group_share_a_worker(request: pytest.FixtureRequest, worker_id: str) -> None:
    """With several workers, a group's tests carry its name, which keeps them in one worker."""
    assert worker_id == "master" or request.node.nodeid.endswith("@group")
