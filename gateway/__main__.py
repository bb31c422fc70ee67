"""The command as a process: ``gateway``, and ``python -m gateway``.

A SIGHUP that comes while ``run`` or ``demo`` is being imported must not end it, so this module sees
to that before it imports anything else.
"""

import gc
import sys

from gateway import sighup

GC_THRESHOLDS = (50_000, 20, 20)
"""When Python looks for unreachable cycles: imports and events make many objects and hardly any
cycle."""

if {"run", "demo"} & set(sys.argv[1:2]):
    sighup.note()


def main() -> None:
    """Run the command."""
    gc.set_threshold(*GC_THRESHOLDS)
    from gateway.cli import main as command  # noqa: PLC0415 - it takes long to import

    command(prog_name="gateway")


if __name__ == "__main__":
    main()
