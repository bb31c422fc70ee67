"""Space on the disk that is set aside for the day when there is none left.

A disk that is full to the last byte lets nothing be delivered either: that has to be recorded, and
a file that was not closed in order has to be recovered. What is set aside is given back then, and
nothing new is taken until it can be set aside again.
"""

import contextlib
import os
import shutil
from pathlib import Path

FILE = "reserve"
MOST = 2 * 1024 * 1024
"""Bytes that are set aside, or an eighth of what is free."""
ROOM = 65_536
"""Bytes that must be free beside them before the trouble counts as over."""


class Reserve:
    """The space that is set aside in a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._folder = folder
        self._size = 0

    def set_aside(self) -> bool:
        """Set the space aside, unless it is; say whether there is room enough beside it.

        It is as much as it was before, so that what was given back is not used up bit by bit.
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
        """Tell whether the space is set aside, and note how much it is."""
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
        """Give the space back; say whether there was any."""
        with contextlib.suppress(OSError):
            if self._known():
                self._path.unlink()
                return True
        return False

    @property
    def free(self) -> int:
        """Return how many bytes are free on the disk; none where it cannot be told."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return 0

    @property
    def short(self) -> bool:
        """Tell whether the disk is full, as far as the system says."""
        try:
            return shutil.disk_usage(self._folder).free < ROOM
        except OSError:
            return False
