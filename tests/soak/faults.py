"""Faults around a gateway: a clock that jumps, a disk that is full."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.soak.wrong_clock import OFFSET

BALLAST = "ballast"
BLOCK = 64 * 1024


class Clock:
    """Sets a process's time of day from outside while it runs.

    Args:
        file: holds the offset in seconds; see `tests.soak.wrong_clock`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jumps: list[int] = []
        file.write_bytes(OFFSET.pack(0))

    def jump(self, seconds: int) -> None:
        """Set the clock to the true time plus *seconds*."""
        with self._file.open("r+b", buffering=0) as opened:
            opened.write(OFFSET.pack(seconds))
        self.jumps.append(seconds)

    @property
    def launcher(self) -> Sequence[str]:
        """Return the arguments with which Python runs a gateway by this clock."""
        return ("-m", "tests.soak.wrong_clock", str(self._file))


class SmallDisk:
    """A small file system that can be filled to the last byte and freed again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fills = 0

    def fill(self) -> None:
        """Fill it completely."""
        self.fills += 1
        with (self.folder / BALLAST).open("wb", buffering=0) as ballast:
            for size in (BLOCK, 1):
                try:
                    while ballast.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Free what `fill` took."""
        (self.folder / BALLAST).unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount a small file system on *folder*; this needs root.

    Raises:
        PermissionError: the process is not root.
    """
    if os.geteuid() != 0:
        raise PermissionError("only root can mount a small file system")
    folder.mkdir(parents=True)
    size = f"size={mebibytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "spool", folder], check=True)  # noqa: S607 - wherever the system has it
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607 - likewise
