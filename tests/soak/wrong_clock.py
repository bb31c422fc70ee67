"""Run ``gateway ...`` with a wrong time of day: ``python -m tests.soak.wrong_clock FILE ...``.

FILE holds the offset in seconds. Monotonic clocks are not affected, as on a machine whose clock is
set.
"""

import datetime as dt
import mmap
import struct
import sys
import time
from importlib import import_module
from pathlib import Path

OFFSET = struct.Struct("q")
"""The offset in the file, in seconds."""


def jump(file: Path) -> None:
    """Shift this process's time of day by the offset in *file*, from now on."""
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
    from gateway.cli import main as gateway  # noqa: PLC0415 - after the time of day is changed

    gateway(sys.argv[2:], prog_name="gateway")


if __name__ == "__main__":
    main()
