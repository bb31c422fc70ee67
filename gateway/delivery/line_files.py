"""Files of whole lines in one folder: written safely, closed atomically, mended after a crash.

The file that is being written ends in ``.part``; one that is closed is never changed again.
"""

import errno
import fcntl
import gzip
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from gateway.plugin.file_rules import FileRules

PART = ".part"
LOCK = ".lock"
PRIVATE = 0o600
BLOCK = 64 * 1024
_NAME = re.compile(r"events-\d{8}T\d{6}Z-\d{6}[.]ndjson[.]part")
_CLOSED = re.compile(r"events-\d{8}T\d{6}Z-\d{6}[.]ndjson([.]gz)?")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

log = structlog.get_logger()


class LineFiles:
    """Appends lines to the newest file of a folder, in which nothing else writes.

    Every call may block; all come from one thread.

    Args:
        rules: where, and when a file is closed.
        on_closed: called with no argument when a file was closed, if given.

    Attributes:
        closed_files: how many closed files there are, as far as `closed` was asked.
        closed_bytes: their size.
    """

    def __init__(self, rules: FileRules, on_closed: Callable[[], object] | None = None) -> None:
        self.closed_files = self.closed_bytes = 0
        self._counted: dict[Path, int] = {}
        """The bytes that `closed` counted for each file: it may have been cut or taken since."""
        self._rules = rules
        self._on_closed = on_closed
        self._folder = Path(rules.folder)
        self._lock: int | None = None
        self._part: Path | None = None
        self._last = ""
        """The name of the last file, which may be gone already: names are in order of time."""
        self._file = -1
        self._size = 0

    @property
    def is_open(self) -> bool:
        """Return whether there is a file that is not closed yet."""
        return self._part is not None

    def append(self, lines: bytes) -> None:
        """Write whole *lines*; they are on the disk when it returns.

        Raises:
            OSError: they may not be; what is left of them is removed.
        """
        part = self._part or self._begin()
        try:
            self._cut()
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fdatasync(self._file)
            self._confirm(part)
        except OSError:
            with suppress(OSError):
                self._cut()
            self._drop_if_gone(part)
            raise
        self._size += len(lines)
        if self._size >= self._rules.rotate_bytes:
            self.finish()

    def finish(self) -> None:
        """Close the file that is being written. What fails is logged, and tried again later."""
        part, self._part = self._part, None
        if part is None:
            return
        try:
            with suppress(OSError):
                self._cut()
            os.close(self._file)
            self._seal(part)
        except OSError as error:
            log.warning("file_close_failed", path=str(part), error=str(error))

    def closed(self) -> list[Path]:
        """Return the closed files, the oldest first, after those that a crash left are closed.

        Raises:
            BlockingIOError: somebody else writes in the folder.
            OSError: the folder cannot be read.
        """
        found: dict[Path, int] = {}
        if self._part is not None or self._folder.exists():
            if self._part is None:
                self._take_over()
            for path in sorted(self._folder.iterdir()):
                if _CLOSED.fullmatch(path.name) and stat.S_ISREG((about := path.lstat()).st_mode):
                    found[path] = about.st_size
        self._counted = found
        self.closed_files, self.closed_bytes = len(found), sum(found.values())
        return list(found)

    def remove(self, path: Path) -> None:
        """Remove a file that `closed` returned; it may be gone already.

        Raises:
            OSError: it cannot be removed.
        """
        path.unlink(missing_ok=True)
        self.forget(path)

    def forget(self, path: Path) -> None:
        """Count a file that `closed` returned no longer: it is gone."""
        self.closed_files -= 1
        self.closed_bytes -= self._counted.pop(path)

    def close(self) -> None:
        """Close the file, and let others write in the folder."""
        self.finish()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _cut(self) -> None:
        """Remove what an append that failed left."""
        if os.fstat(self._file).st_size != self._size:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)

    def _confirm(self, part: Path) -> None:
        """Raise OSError if the open file has lost its name: nobody would find what is in it."""
        if not _is_at(part, self._file):
            raise OSError(errno.ESTALE, "the open file was moved or deleted", str(part))

    def _drop_if_gone(self, part: Path) -> None:
        """Forget the open file if it has lost its name, so that the next append begins one."""
        with suppress(OSError):
            if not _is_at(part, self._file):
                self._part = None
                os.close(self._file)

    def _begin(self) -> Path:
        """Begin a file, after those that a crash left are closed; return its path."""
        self._take_over()
        stem = time.strftime("events-%Y%m%dT%H%M%SZ", time.gmtime())
        taken = {one.name.partition(".")[0] for one in self._folder.glob(f"{stem}-*")}
        if self._last.startswith(stem):
            taken.update(f"{stem}-{number:06}" for number in range(int(self._last[-6:]) + 1))
        names = (f"{stem}-{number:06}" for number in range(10**6))
        self._last = next(name for name in names if name not in taken)
        part = self._folder / f"{self._last}.ndjson{PART}"
        self._file = os.open(part, _NEW, PRIVATE)
        self._size, self._part = 0, part
        _sync_folder(self._folder)
        return part

    def _take_over(self) -> None:
        """Lock the folder, and close the files that a crash left."""
        if self._lock is not None and not _is_at(self._folder / LOCK, self._lock):
            os.close(self._lock)
            self._lock = None
        if self._lock is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._locked()
        for left in sorted(self._folder.iterdir()):
            if _NAME.fullmatch(left.name) and stat.S_ISREG(left.lstat().st_mode):
                _cut_torn_line(left)
                self._seal(left)

    def _locked(self) -> int:
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            what = "another destination or gateway writes in this folder"
            raise OSError(error.errno, what, str(self._folder)) from error
        return lock

    def _seal(self, part: Path) -> None:
        """Give a file without torn lines its final name; remove it if it is empty."""
        if part.stat().st_size == 0:
            part.unlink()
            return
        final = part.with_suffix("")
        packed = final.with_name(f"{final.name}.gz")
        if self._rules.gzip and _compressed(part, packed):
            final = packed
        else:
            part.rename(final)
        _sync_folder(self._folder)
        self.closed_files += 1
        with suppress(OSError):  # somebody may have taken it
            self.closed_bytes += final.stat().st_size
        if self._on_closed is not None:
            self._on_closed()


def write_problem(folder: Path) -> str:
    """Return why no file can be made in *folder*, which may not exist yet; empty if one can."""
    while not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"


def _is_at(path: Path, file: int) -> bool:
    """Return whether *path* still names the open *file*."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _compressed(part: Path, final: Path) -> bool:
    """Replace *part* by a compressed file; return False, and change nothing, if it fails."""
    made = final.with_name(final.name + PART)
    try:
        made.unlink(missing_ok=True)
        file = os.open(made, _NEW, PRIVATE)
        with os.fdopen(file, "wb") as raw, part.open("rb") as lines:
            with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
                shutil.copyfileobj(lines, packed, BLOCK)
            raw.flush()
            os.fsync(raw.fileno())
        made.rename(final)
    except OSError as error:
        log.warning("file_compress_failed", path=str(part), error=str(error))
        with suppress(OSError):
            made.unlink(missing_ok=True)
        return False
    _sync_folder(final.parent)
    part.unlink()
    return True


def _cut_torn_line(path: Path) -> None:
    """Remove what follows the last end of a line."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - BLOCK)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        file.truncate(end)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
