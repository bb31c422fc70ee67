"""``python -m tests.soak.jumping FILE ...``: ``gateway ...`` whose time of day is wrong by FILE.

What only counts seconds goes on as ever, as it does where a machine's clock is set.
"""

import datetime as dt
import mmap
import struct
import sys
import time
from importlib import import_module
from pathlib import Path

OFFSET = struct.Struct("q")
"""Seconds, as they stand in the file."""


def jump(file: Path) -> None:
    """Let the time of day of this process follow the offset in *file*."""
    with file.open("rb") as opened:
        offset = mmap.mmap(opened.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    true_time, true_time_ns = time.time, time.time_ns

    def time_ns() -> int:
        seconds: int = OFFSET.unpack(offset[:])[0]
        return true_time_ns() + seconds * 1_000_000_000

    class Jumping(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]  # a plain moment is meant
            return dt.datetime.fromtimestamp(time.time(), tz)

    time.time = lambda: true_time() + OFFSET.unpack(offset[:])[0]
    time.time_ns = time_ns
    for name in ("gateway.ingest.receiver", "gateway.delivery.sender"):
        module = import_module(name)
        module.datetime = Jumping  # type: ignore[attr-defined]  # it imports the name


def main() -> None:
    """Run the command line after the first argument."""
    jump(Path(sys.argv[1]))
    from gateway.cli import main as gateway  # noqa: PLC0415 - it is to find the time of day changed

    gateway(sys.argv[2:], prog_name="gateway")


if __name__ == "__main__":
    main()
