"""A disk that forgets unsynced writes in a power failure, under any program.

The program runs under strace, which logs its file operations with their data. From the log comes
what a power failure leaves: what was synced, and any part of what was not. Directories count as
synced at once, as in the disk of ``tests/gateway/test_spool_power_loss.py``.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.external_programs import program
from tests.lossy_file import LossyFile, Write

WATCHED = (
    "open", "openat", "creat", "write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate",
    "truncate", "fallocate", "copy_file_range", "fsync", "fdatasync", "sync_file_range", "lseek",
    "rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat",
)  # fmt: skip
LONGEST = 16 << 20
"""Most bytes of a write that are logged."""
PATIENCE = 20.0
POLL = 0.02

_LINE = re.compile(
    r"(?P<thread>\d+) +"
    r"(?:<\.\.\. (?P<resumed>\w+) resumed>(?P<rest>.*)|(?P<name>\w+)\((?P<args>.*))"
)
_RESULT = re.compile(r"(?P<args>.*)\) += (?P<result>-?\d+)(?:<(?P<path>[^>]*)>)?.*")
_UNFINISHED = " <unfinished ...>"
_FILE = re.compile(r"(?P<fd>\d+)<(?P<path>[^>]*)>(?:, )?(?P<rest>.*)")
_PATH = re.compile(r'(?:\w+<(?P<folder>[^>]*)>, )?"(?P<path>[^"]*)"')
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class _Call(NamedTuple):
    """A system call that began."""

    name: str
    args: str
    covered: int
    """How many unsynced writes a sync makes durable: those that ended before it began."""


@dataclass
class _Descriptor:
    position: int
    appends: bool
    syncs: bool


class LossyDisk:
    """The files in *folder*, which one program at a time changes under `command`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._log = folder.with_name(f"{folder.name}.strace")

    def command(self) -> list[str]:
        """Return the beginning of a command line that logs what the rest of it writes.

        The program keeps its process id; everything that is in the folder counts as synced.
        """
        self._before = {
            str(path): LossyFile(bytearray(path.read_bytes()))
            for path in self._folder.rglob("*")
            if path.is_file()
        }
        self._log.unlink(missing_ok=True)
        return [
            program("strace", package="strace"), "-D", "-f", "--seccomp-bpf", "-y", "-xx",
            "-s", str(LONGEST), "-e", "signal=SIGKILL", "-e", f"trace={','.join(WATCHED)}",
            "-o", str(self._log), "--",
        ]  # fmt: skip

    def lose_power(self, process: int, dice: random.Random) -> int:
        """Leave in the folder what a power failure leaves; return how many writes were unsynced.

        Args:
            process: of the program, which was killed.
            dice: choose which unsynced sectors are written nevertheless.
        """
        files = _Replay(self._before).files(self._log_of(process))
        here = {path: one for path, one in files.items() if Path(path).is_relative_to(self._folder)}
        self._check(here)
        for path, one in here.items():
            Path(path).write_bytes(one.after_power_loss(dice))
        return sum(len(one.unsynced) for one in here.values())

    def _log_of(self, process: int) -> Iterator[str]:
        """Yield the lines of the log once it is complete."""
        end = re.compile(rf"^{process} +\+\+\+ (?:killed|exited) ", re.MULTILINE)
        deadline = time.monotonic() + PATIENCE
        while not end.search(text := self._log.read_text("ascii")):
            assert time.monotonic() < deadline, f"{self._log}: the program does not end"
            time.sleep(POLL)
        yield from text.splitlines()

    def _check(self, files: Mapping[str, LossyFile]) -> None:
        """Check that the log tells all that happened: its files are those on the disk."""
        real = {str(path): path.read_bytes() for path in self._folder.rglob("*") if path.is_file()}
        told = {path: bytes(one.whole()) for path, one in files.items()}
        wrong = sorted(path for path in real.keys() | told if real.get(path) != told.get(path))
        assert not wrong, f"strace does not tell all of: {', '.join(wrong)}"


class _Replay:
    """Does the logged calls again, on files in memory."""

    def __init__(self, before: Mapping[str, LossyFile]) -> None:
        self._files = dict(before)
        self._descriptors: dict[str, _Descriptor] = {}
        self._begun: dict[str, _Call] = {}

    def files(self, lines: Iterator[str]) -> dict[str, LossyFile]:
        for line in lines:
            found = _LINE.fullmatch(line)
            if found is None:  # the end of a thread
                continue
            thread = found["thread"]
            if found["resumed"]:
                call = self._begun.pop(thread)
                call = call._replace(args=call.args + found["rest"])
            else:
                unfinished = found["args"].endswith(_UNFINISHED)
                args = found["args"].removesuffix(_UNFINISHED)
                call = _Call(found["name"], args, self._covered(args))
                if unfinished:
                    self._begun[thread] = call
                    continue
            done = _RESULT.fullmatch(call.args)
            if done and int(done["result"]) >= 0:
                self._do(call, done)
        return self._files

    def _covered(self, args: str) -> int:
        found = _FILE.match(args)
        one = self._files.get(_text(found["path"])) if found else None
        return len(one.unsynced) if one else 0

    def _do(self, call: _Call, done: re.Match[str]) -> None:
        args, result = done["args"], int(done["result"])
        match call.name:
            case "open" | "openat" | "creat":
                self._open(call.name, args, done["result"], _text(done["path"]))
            case "rename" | "renameat" | "renameat2":
                self._rename(*_paths(args))
            case "unlink" | "unlinkat":
                (path,) = _paths(args)
                self._files.pop(path, None)
            case "lseek":
                if at := self._descriptors.get(args.partition("<")[0]):
                    at.position = result
            case name:
                found = _FILE.fullmatch(args)
                if found and (one := self._files.get(_text(found["path"]))):
                    self._change(name, one, found, result, call.covered)

    def _open(self, name: str, args: str, number: str, path: str) -> None:
        flags = {"O_CREAT", "O_TRUNC"} if name == "creat" else set(re.findall(r"O_\w+", args))
        if not flags & {"O_WRONLY", "O_RDWR", "O_CREAT"}:
            self._descriptors.pop(number, None)
            return
        one = self._files.setdefault(path, LossyFile())
        if "O_TRUNC" in flags:
            one.unsynced.append(Write(0, None))
        syncs = bool(flags & {"O_SYNC", "O_DSYNC"})
        self._descriptors[number] = _Descriptor(0, "O_APPEND" in flags, syncs)

    def _rename(self, old: str, new: str) -> None:
        for path in [path for path in self._files if path == old or path.startswith(f"{old}/")]:
            self._files[new + path.removeprefix(old)] = self._files.pop(path)

    def _change(
        self, name: str, one: LossyFile, found: re.Match[str], result: int, covered: int
    ) -> None:
        at = self._descriptors.get(found["fd"])
        match name:
            case "fsync" | "fdatasync":
                one.sync(covered)
                return
            case "ftruncate":
                one.unsynced.append(Write(int(found["rest"]), None))
            case "pwrite64":
                offset = int(found["rest"].rpartition(", ")[2])
                one.unsynced.append(Write(offset, _data(found["rest"], result)))
            case "write":
                assert at is not None
                offset = len(one.whole()) if at.appends else at.position
                one.unsynced.append(Write(offset, _data(found["rest"], result)))
                at.position = offset + result
            case _:
                raise AssertionError(f"{name} of a file is not understood")
        if at is not None and at.syncs:
            one.sync()


def _text(quoted: str | None) -> str:
    return bytes.fromhex((quoted or "").replace("\\x", "")).decode()


def _paths(args: str) -> list[str]:
    """Return the paths in the arguments of a call."""
    found = [Path(_text(one["folder"])) / _text(one["path"]) for one in _PATH.finditer(args)]
    assert all(path.is_absolute() for path in found), found
    return [str(path) for path in found]


def _data(args: str, length: int) -> bytes:
    found = _TEXT.match(args)
    assert found is not None
    return bytes.fromhex(found[1].replace("\\x", ""))[:length]
