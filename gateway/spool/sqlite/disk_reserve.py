"""A reserve of disk space, freed when the disk is full.

On a completely full disk nothing can be delivered either: outcomes must be recorded, and a file
that was not closed cleanly must be recovered. Then the reserve is freed, and the spool accepts no
new entries until the reserve can be allocated again.
"""

import contextlib
import os
import shutil
from pathlib import Path

FILE = "reserve"
MOST = 2 * 1024 * 1024
"""Bytes of the reserve, or an eighth of the free space if that is less."""
ROOM = 65_536
"""Bytes that must be free besides the reserve; below it the disk counts as full."""


class Reserve:
    """The disk reserve in a folder: one file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._folder = folder
        self._size = 0

    def set_aside(self) -> bool:
        """Allocate the reserve if needed; return whether there is enough room besides it.

        A new reserve has the size of the last one, so that it does not shrink each time.
        """
        with contextlib.suppress(OSError):
            if self._known():
                return self.free >= ROOM
            size = self._size or min(MOST, self.free // 8)
            if self.free < size + ROOM:
                return False
            self._allocate(max(1, size))
            self._size = size
            return True
        return False

    def _known(self) -> bool:
        """Return whether the reserve is allocated, and remember its size."""
        try:
            self._size = self._path.stat().st_size
        except FileNotFoundError:
            return False
        return True

    def _allocate(self, size: int) -> None:
        held = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(held, 0, size)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(held)

    def give_back(self) -> bool:
        """Free the reserve; return whether there was one."""
        with contextlib.suppress(OSError):
            if self._known():
                self._path.unlink()
                return True
        return False

    @property
    def free(self) -> int:
        """Return the free bytes of the disk; 0 if unknown."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return 0

    @property
    def short(self) -> bool:
        """Return whether the disk is full; False if unknown."""
        try:
            return shutil.disk_usage(self._folder).free < ROOM
        except OSError:
            return False
