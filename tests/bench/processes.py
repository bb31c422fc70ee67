"""Start processes and read their CPU time."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cpu(pid: int) -> float:
    """Return the CPU seconds of all threads of a process (Linux, schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@contextmanager
def started(
    *command: str, marker: str = "", stdin: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``python -m`` *command*; yield the process and its first line that contains *marker*.

    With a marker, later output is read and discarded, because a full pipe would stop the process.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = ""
        for line in process.stdout:
            if marker in line:
                break
        else:
            raise SystemExit(f"{command} ended before it said {marker!r}: {line}")
        if marker:
            threading.Thread(target=process.stdout.read, daemon=True).start()
        yield process, line.strip()
    finally:
        process.terminate()
        process.wait(timeout=30)
