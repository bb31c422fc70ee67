"""The programs that measure and picture the gateway check their arguments first."""

import subprocess
import sys
from pathlib import Path

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
