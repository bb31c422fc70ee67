"""A copy of the project in which mutants are tested."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CHANGED = (
    ("gateway/testing/live_gateway.py", "PATIENCE = 60.0", "PATIENCE = 20.0"),
    ("tests/conftest.py", "import settings", "import Phase, settings"),
    (
        "tests/conftest.py",
        "deadline=None",
        "deadline=None, derandomize=True, phases=[Phase.generate]",
    ),
)
"""Changes for tests of mutants: shorter timeouts, and no search for simpler examples of a failure.
Each is a file, a text and its replacement."""
LISTED = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")


class Ran(NamedTuple):
    """The result of a test run."""

    failed: bool
    timed_out: bool
    said: str


class Tree:
    """Copies the files of the repository at *root* into *folder*."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(LISTED, cwd=root, check=True, capture_output=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            source, target = root / name, folder / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        for name, before, after in CHANGED:
            text = (folder / name).read_text()
            if before not in text:
                raise ValueError(f"{before!r} is not in {name}")
            self.write(name, text.replace(before, after))

    def write(self, path: str, source: str) -> None:
        """Replace the module at *path* with *source*."""
        (self.folder / path).write_text(source)

    async def test(self, tests: Sequence[str], limit: float) -> Ran:
        """Run *tests* in the copy until one fails; give up after *limit* seconds."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests,
            cwd=self.folder, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), limit)
        except TimeoutError:
            return Ran(failed=True, timed_out=True, said="")
        finally:
            _end(process.pid)
            await process.wait()
        return Ran(bool(process.returncode), timed_out=False, said=said.decode())


def _end(group: int) -> None:
    """Kill the processes that the tests may have left running."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
