"""A disk that fails on demand, for SQLite files."""

from itertools import count

import apsw


class Disk(apsw.VFS):
    """A SQLite VFS over the system's own that fails on demand."""

    _numbers = count()

    def __init__(self) -> None:
        self.vfs = f"failing-{next(self._numbers)}"
        self.writing: type[apsw.Error] | None = None
        self.syncing: type[apsw.Error] | None = None
        self.reading: type[apsw.Error] | None = None
        self.good_syncs: int | None = None
        """Number of syncs that succeed before the next fails; None for no limit."""
        self.failures = 0
        """Number of failed syncs."""
        self.plugged = 0
        """How often the disk was removed: files opened before that cannot be written."""
        super().__init__(self.vfs, base="")

    def heal(self) -> None:
        """Make the disk work again."""
        self.writing = self.syncing = self.reading = self.good_syncs = None

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file that fails when the disk fails."""
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    """One open file of a ``Disk``."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.disk, self.plugged = disk, disk.plugged
        super().__init__("", name, flags)

    def excepthook(self, *_: object) -> bool:
        """Hide expected errors from the error stream."""
        return True

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write, or fail."""
        if self.disk.writing:
            raise self.disk.writing
        if self.plugged != self.disk.plugged:
            raise apsw.IOError
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Sync, or fail after all data is written."""
        if self.disk.good_syncs is not None:
            self.disk.good_syncs -= 1
            if self.disk.good_syncs < 0:
                self.disk.syncing = apsw.IOError
        if self.disk.syncing:
            self.disk.failures += 1
            raise self.disk.syncing
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        """Read, or fail."""
        if self.disk.reading:
            raise self.disk.reading
        return super().xRead(amount, offset)
