"""The disk for power failures keeps what was synced, and may lose anything else."""

import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.lossy_disk import LossyDisk

PROGRAM = """
import os
begun = os.open("synced", os.O_WRONLY | os.O_CREAT)
os.pwrite(begun, b"one", 0)
os.fsync(begun)
os.pwrite(begun, b"two", 3)
os.close(begun)
at_once = os.open("at-once", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_SYNC)
os.write(at_once, b"three")
os.write(at_once, b"four")
with open("made", "wb") as file:
    file.write(b"five")
    file.flush()
    os.fsync(file.fileno())
here = os.getcwd()
os.rename(f"{here}/made", f"{here}/renamed")
open("gone", "wb").close()
os.unlink(f"{here}/gone")
print("written", flush=True)
input()
"""


def test_it_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """Synced writes always survive; of the others, all, some or none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    disk = LossyDisk(folder)
    left = set()
    for seed in range(8):
        with subprocess.Popen(
            [*disk.command(), sys.executable, "-c", PROGRAM],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as program:  # fmt: skip
            assert program.stdout is not None
            assert program.stdout.readline() == b"written\n"
            program.send_signal(signal.SIGKILL)
        disk.lose_power(program.pid, random.Random(seed))  # noqa: S311 - repeatable
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        left.add(found.pop("synced"))
        assert found == {"old": b"old", "at-once": b"threefour", "renamed": b"five"}
        for name in ("synced", "at-once", "renamed"):
            (folder / name).unlink()
    assert left == {b"one", b"onetwo"}
